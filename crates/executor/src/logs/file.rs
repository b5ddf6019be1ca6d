//! Writes log lines to files: one writer thread, a bounded queue before it, bounded segments behind it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{group_folder, segment_name, segments};
use crate::event::{LogBatch, LogSink};

/// What may wait to be written, in bytes. Beyond it lines are dropped and counted: a function that floods its log must
/// neither fill the server's memory nor hold up an answer.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// What a line costs in the queue beside its text, in bytes.
const LINE_OVERHEAD_BYTES: usize = 48;
/// How long the writer collects before it writes, so that it is woken a hundred times a second at most.
const COLLECT: Duration = Duration::from_millis(10);
/// When a group's next segment begins, in bytes.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// How many segments of a group are kept: 64 MiB a function.
const SEGMENTS: usize = 8;
/// How many groups' files stay open.
const OPEN_FILES: usize = 128;

/// A [`LogSink`] that writes to files below a folder. Dropping it writes what is queued.
#[derive(Debug)]
pub struct FileLogSink {
    queue: Arc<Queue>,
    writer: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Queued>,
    /// Something is queued, or it is closed.
    filled: Condvar,
    /// It is to be written without waiting for more.
    hurry: Condvar,
    /// All that was queued has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queued {
    batches: Vec<LogBatch>,
    bytes: usize,
    dropped: u64,
    writer_waits: bool,
    writing: bool,
    hurried: bool,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileLogSink {
    /// Writes below `folder`, which is made if it is not there.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder)?;
        let queue = Arc::new(Queue::default());
        let writer = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name("freehold-logs".into())
                .spawn(move || write_all(&queue, &folder))?
        };
        Ok(Self { queue, writer: Some(writer) })
    }

    /// Returns when everything that was handed over before has been written. Blocks.
    pub fn flush(&self) {
        let mut state = self.queue.lock();
        while !state.batches.is_empty() || state.writing {
            state.hurried = true;
            self.queue.hurry.notify_one();
            state = self.queue.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl LogSink for FileLogSink {
    fn write(&self, batch: LogBatch) {
        let bytes: usize = batch.lines.iter().map(|(_, line)| line.len() + LINE_OVERHEAD_BYTES).sum();
        let mut state = self.queue.lock();
        if state.bytes + bytes > QUEUE_BYTES {
            state.dropped += batch.lines.len() as u64;
            return;
        }
        state.bytes += bytes;
        state.batches.push(batch);
        if state.writer_waits {
            state.writer_waits = false;
            self.queue.filled.notify_one();
        }
    }
}

impl Drop for FileLogSink {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
        self.queue.hurry.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log writer has panicked");
        }
    }
}

fn write_all(queue: &Queue, folder: &Path) {
    let mut files = Files { folder: folder.to_owned(), open: HashMap::new(), text: Vec::new() };
    loop {
        let mut state = queue.lock();
        while state.batches.is_empty() && !state.closed {
            state.writer_waits = true;
            state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        if state.batches.is_empty() {
            return;
        }
        let deadline = Instant::now() + COLLECT;
        while !state.closed && !state.hurried {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = queue.hurry.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let batches = std::mem::take(&mut state.batches);
        let dropped = std::mem::take(&mut state.dropped);
        state.bytes = 0;
        state.writing = true;
        state.hurried = false;
        drop(state);
        if dropped > 0 {
            tracing::warn!(
                lines = dropped,
                "functions wrote log lines faster than they could be stored: dropped"
            );
        }
        files.write(&batches);
        queue.lock().writing = false;
        queue.written.notify_all();
    }
}

struct Files {
    folder: PathBuf,
    open: HashMap<Arc<str>, Segment>,
    /// The lines of one group, before they are written at once.
    text: Vec<u8>,
}

struct Segment {
    folder: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
}

impl Files {
    fn write(&mut self, batches: &[LogBatch]) {
        let mut groups: HashMap<&Arc<str>, Vec<&LogBatch>> = HashMap::new();
        for batch in batches {
            groups.entry(&batch.group).or_default().push(batch);
        }
        for (group, batches) in groups {
            if let Err(error) = self.write_group(group, &batches) {
                tracing::warn!(%group, %error, "log lines are lost: they cannot be written");
                self.open.remove(group);
            }
        }
    }

    fn write_group(&mut self, group: &Arc<str>, batches: &[&LogBatch]) -> io::Result<()> {
        self.text.clear();
        for batch in batches {
            for (at_ms, line) in &batch.lines {
                let at = Timestamp::from_millisecond(i64::try_from(*at_ms).unwrap_or(i64::MAX))
                    .unwrap_or(Timestamp::MAX);
                write!(self.text, "{at:.3}\t{}\t", batch.stream)?;
                // A line end within a line would look like two lines.
                self.text.extend(line.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
                self.text.push(b'\n');
            }
        }
        if self.open.len() >= OPEN_FILES && !self.open.contains_key(group) {
            self.open.clear();
        }
        if !self.open.contains_key(group) {
            let segment = Segment::latest(group_folder(&self.folder, group))?;
            self.open.insert(Arc::clone(group), segment);
        }
        let segment = self.open.get_mut(group).expect("opened above");
        segment.file.write_all(&self.text)?;
        segment.bytes += self.text.len() as u64;
        if segment.bytes >= SEGMENT_BYTES {
            segment.rotate()?;
        }
        // A flood must not keep its buffer for ever.
        self.text.shrink_to(64 * 1024);
        Ok(())
    }
}

impl Segment {
    fn latest(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let number = segments(&folder)?.last().copied().unwrap_or(1);
        Self::open(folder, number)
    }

    fn open(folder: PathBuf, number: u64) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(folder.join(segment_name(number)))?;
        let bytes = file.metadata()?.len();
        Ok(Self { folder, number, file, bytes })
    }

    /// Begins the next segment and removes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        *self = Self::open(self.folder.clone(), self.number + 1)?;
        let numbers = segments(&self.folder)?;
        for number in numbers.iter().rev().skip(SEGMENTS) {
            std::fs::remove_file(self.folder.join(segment_name(*number)))?;
        }
        Ok(())
    }
}
