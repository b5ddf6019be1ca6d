//! How far a long command has come, on stderr: one line that changes on a terminal, else a line now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use freehold_store::transfer::{Phase, Progress};

/// How often the line changes on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is added elsewhere.
const LINES_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress until it is dropped.
pub(crate) struct ProgressLine {
    terminal: bool,
    shown_at: Instant,
}

impl ProgressLine {
    /// Shows nothing yet.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown_at: Instant::now() }
    }

    /// Shows this, if it is time to.
    pub(crate) fn show(&mut self, progress: Progress) {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LINES_INTERVAL };
        if self.shown_at.elapsed() < interval {
            return;
        }
        self.shown_at = Instant::now();
        let text = text_of(progress);
        // What cannot be shown is not missed.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r{text}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn text_of(progress: Progress) -> String {
    let Progress { phase, keys, bytes, blobs, blob_bytes } = progress;
    match phase {
        Phase::Blobs => format!("blobs: {blobs} ({})", size(blob_bytes)),
        Phase::Keys => format!("keys: {keys} ({}), blobs: {blobs} ({})", size(bytes), size(blob_bytes)),
        Phase::Verifying => format!("reading back: {keys} keys ({})", size(bytes)),
    }
}

/// A size that a person can read.
pub(crate) fn size(bytes: u64) -> String {
    const STEP: f64 = 1024.0;
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < STEP {
            return if unit == "B" { format!("{amount:.0} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= STEP;
    }
    format!("{amount:.1} TiB")
}
