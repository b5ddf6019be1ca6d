//! The log of one environment: the function's lines and the system's on their way to the sink, in the format and from the
//! level that are configured, and the tail of the current event.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use freehold_base::limits::LOG_TAIL_BYTES;

use super::system::SystemEvent;
use crate::event::{LogBatch, LogSink};
use crate::logging::{LogFormat, Logging};
use crate::telemetry::{Hub, Record, Stream, timestamp};

/// What is collected before it goes to the sink in any case, in bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// What a line costs beside its text, in bytes: many empty lines are much too.
const LINE_OVERHEAD_BYTES: usize = 48;

/// Collects lines and hands them over in batches.
pub(super) struct Journal {
    sink: Arc<dyn LogSink>,
    clock: SharedClock,
    logging: Logging,
    group: Arc<str>,
    stream: Arc<str>,
    lines: Vec<(u64, Bytes)>,
    bytes: usize,
    tail: Tail,
    /// Extensions that listen, or may come to.
    telemetry: Option<Box<Hub>>,
}

impl Journal {
    pub(super) fn new(
        sink: Arc<dyn LogSink>,
        clock: SharedClock,
        logging: Logging,
        group: &str,
        stream: &str,
    ) -> Self {
        let (group, stream) = (Arc::from(group), Arc::from(stream));
        let (lines, tail) = (Vec::new(), Tail::default());
        Self { sink, clock, logging, group, stream, lines, bytes: 0, tail, telemetry: None }
    }

    /// Adds one line that the function or an extension wrote, if its level is high enough.
    pub(super) fn line(&mut self, stream: Stream, line: Bytes) {
        if !self.logging.keeps(&line) {
            return;
        }
        if let Some(telemetry) = &mut self.telemetry {
            let is_json = self.logging.format == LogFormat::Json;
            telemetry.publish(&Record::line(stream, &timestamp(wall_ms(&self.clock)), &line, is_json));
        }
        self.add(line);
    }

    /// Remembers from here on what extensions may want to hear, unless it does already. `true`: it did not.
    pub(super) fn open_telemetry(&mut self) -> bool {
        if self.telemetry.is_some() {
            return false;
        }
        self.telemetry = Some(Box::new(Hub::new(Arc::clone(&self.clock))));
        true
    }

    /// Init is over: nobody comes to listen any more.
    pub(super) fn close_telemetry(&mut self) {
        if self.telemetry.as_mut().is_some_and(|telemetry| !telemetry.close()) {
            self.telemetry = None;
        }
    }

    /// The sandbox is gone, and who listened with it.
    pub(super) fn end_telemetry(&mut self) {
        self.telemetry = None;
    }

    /// Sends extensions what there is.
    pub(super) fn flush_telemetry(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.flush();
        }
    }

    /// Waits until extensions have what there was.
    pub(super) async fn delivered(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.delivered().await;
        }
    }

    /// Who listens.
    pub(super) fn telemetry(&mut self) -> Option<&mut Hub> {
        self.telemetry.as_deref_mut()
    }

    /// Tells extensions what the system tells, whatever of it the log keeps. `at_ms`: when it was.
    pub(super) fn tell_telemetry(&mut self, event: &SystemEvent<'_>, at_ms: u64) {
        let Some(telemetry) = &mut self.telemetry else { return };
        telemetry.publish(&Record::platform(event.kind(), event.json(&timestamp(at_ms))));
    }

    /// Adds what the system tells, if the format has a line for it and its level is high enough.
    pub(super) fn system(&mut self, event: &SystemEvent<'_>) {
        if self.telemetry.is_some() {
            self.tell_telemetry(event, wall_ms(&self.clock));
        }
        match self.logging.format {
            LogFormat::Text => {
                let Some(line) = event.text() else { return };
                // As on AWS, where the tail begins with START.
                if matches!(event, SystemEvent::InitStart { .. }) {
                    self.lines.push((wall_ms(&self.clock), line.into()));
                } else {
                    self.add(line.into());
                }
            }
            LogFormat::Json if event.is_logged() && event.level() >= self.logging.system_level => {
                self.add(event.json(&timestamp(wall_ms(&self.clock))).into());
            }
            LogFormat::Json => {}
        }
    }

    fn add(&mut self, line: Bytes) {
        self.tail.push(&line);
        self.bytes += line.len() + LINE_OVERHEAD_BYTES;
        self.lines.push((wall_ms(&self.clock), line));
        if self.bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what was collected.
    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.bytes = 0;
        self.sink.write(LogBatch {
            group: Arc::clone(&self.group),
            stream: Arc::clone(&self.stream),
            lines: std::mem::take(&mut self.lines),
        });
    }

    /// Forgets what came before: a new event begins.
    pub(super) fn begin_tail(&mut self) {
        self.tail.0.clear();
    }

    /// The last 4 KB since then, so far.
    pub(super) fn tail(&self) -> Bytes {
        let bytes = &self.tail.0;
        Bytes::copy_from_slice(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..])
    }

    /// The last 4 KB since then.
    pub(super) fn take_tail(&mut self) -> Bytes {
        self.tail.take()
    }
}

/// The end of a text.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Adds one entry of the log. Runtimes write an entry of several lines (an error with its stack) as one line with
    /// CR between its parts, as AWS's do; whoever reads the tail sees lines.
    fn push(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let kept = &line[line.len().saturating_sub(LOG_TAIL_BYTES)..];
        self.0.extend(kept.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }));
        self.0.push(b'\n');
        if self.0.len() > 2 * LOG_TAIL_BYTES {
            self.0.drain(..self.0.len() - LOG_TAIL_BYTES);
        }
    }

    fn take(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.0);
        let start = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        Bytes::from(bytes).slice(start..)
    }
}

/// Wall time, in ms since 1970.
pub(crate) fn wall_ms(clock: &SharedClock) -> u64 {
    ms_since_1970(clock.wall())
}

pub(super) fn ms_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_four_kilobytes() {
        let mut tail = Tail::default();
        tail.push(b"first");
        assert_eq!(tail.take(), "first\n");
        tail.push(b"[ERROR] one\rtwo\rthree\r");
        assert_eq!(tail.take(), "[ERROR] one\ntwo\nthree\n");
        for number in 0..10_000 {
            tail.push(format!("line {number}").as_bytes());
        }
        let text = tail.take();
        assert_eq!(text.len(), LOG_TAIL_BYTES);
        assert!(text.ends_with(b"line 9998\nline 9999\n"));
        tail.push(&vec![b'x'; 1_000_000]);
        assert_eq!(tail.take().len(), LOG_TAIL_BYTES);
    }
}
