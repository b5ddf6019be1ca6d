//! How long environments were idle each time: counts in bins whose width grows with the time they stand for.
//!
//! Up to [`FINE`] seconds a bin is one second wide; from there each doubling of the time is divided into as many bins, so
//! that a bin is never wider than a sixteenth of the time it stands for. The windows drawn from it have a margin that is a
//! share of the time too, so finer bins would gain nothing; coarser ones near zero, as the paper's minutes, would cost
//! memory where an environment is needed for seconds.
//!
//! Old times fade: when so many are counted that the newest would weigh little, all counts are halved.

use std::time::{Duration, Instant};

/// Bins for each doubling of the time, and the seconds up to which a bin is one second wide.
const FINE: u64 = 16;
/// Idle times from here on are beyond the histogram, in seconds: the paper's four hours, up to the next doubling.
pub(super) const RANGE_SECONDS: u64 = 1 << 14;
/// How many bins reach that far.
pub(super) const BINS: usize = (FINE * (RANGE_SECONDS.ilog2() - FINE.ilog2() + 1) as u64) as usize;
/// All counts are halved once a day, where there are enough of them: a function that has changed its ways is believed soon.
const HALVED_AFTER: Duration = Duration::from_secs(86_400);
const COUNTED_LEAST: f32 = 256.0;
/// And whenever there are so many, far below what an `f32` counts exactly.
const COUNTED_MOST: f32 = 1_000_000.0;

/// The counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    counts: [f32; BINS],
    /// Times beyond the last bin.
    beyond: f32,
    total: f32,
    /// When they were halved last.
    halved: Option<Instant>,
}

impl Histogram {
    /// Nothing counted.
    pub(super) const fn new() -> Self {
        Self { counts: [0.0; BINS], beyond: 0.0, total: 0.0, halved: None }
    }

    /// Counts one idle time.
    pub(super) fn add(&mut self, now: Instant, idle: Duration) {
        match bin(idle.as_secs()) {
            Some(bin) => self.counts[bin] += 1.0,
            None => self.beyond += 1.0,
        }
        self.total += 1.0;
        let old = self.halved.is_none_or(|halved| now.saturating_duration_since(halved) >= HALVED_AFTER);
        if (old && self.total >= COUNTED_LEAST) || self.total >= COUNTED_MOST {
            self.counts.iter_mut().chain([&mut self.beyond, &mut self.total]).for_each(|count| *count /= 2.0);
            self.halved = Some(now);
        }
    }

    /// How many are counted.
    pub(super) fn total(&self) -> f32 {
        self.total
    }

    /// How many were beyond the last bin.
    pub(super) fn beyond(&self) -> f32 {
        self.beyond
    }

    /// The counts, shortest times first.
    pub(super) fn counts(&self) -> &[f32; BINS] {
        &self.counts
    }

    /// The coefficient of variation of the bins' counts: near 0 where every bin has the same count, which tells nothing;
    /// high where few bins have most of it.
    pub(super) fn variation(&self) -> f64 {
        let bins = BINS as f64;
        let counts = || self.counts.iter().map(|count| f64::from(*count));
        let mean = counts().sum::<f64>() / bins;
        if mean == 0.0 {
            return 0.0;
        }
        let variance = counts().map(|count| (count - mean).powi(2)).sum::<f64>() / bins;
        variance.sqrt() / mean
    }
}

/// The bin of an idle time, if it is not beyond them.
fn bin(seconds: u64) -> Option<usize> {
    if seconds >= RANGE_SECONDS {
        return None;
    }
    // How often the width has doubled: not at all in the first two rows of bins.
    let doublings = (seconds | FINE).ilog2() - FINE.ilog2();
    Some((u64::from(doublings) * FINE + (seconds >> doublings)) as usize)
}

/// The first second of a bin; of the one after the last, the end of the range.
pub(super) fn begins(bin: usize) -> u64 {
    let bin = bin as u64;
    match bin / FINE {
        0 => bin,
        row => (bin % FINE + FINE) << (row - 1),
    }
}
