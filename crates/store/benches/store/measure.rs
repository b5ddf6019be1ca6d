//! The stopwatch: latencies, the machine's own limit, many writers behind one committer.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Failure;
use crate::candidates::Candidate;

/// A small generator of numbers that look random (xorshift*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// How long each of many operations took.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn rate(&self, run: Duration) -> f64 {
        self.0.len() as f64 / run.as_secs_f64()
    }

    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
    }

    pub(crate) fn line(&self, run: Duration) -> String {
        format!("{:.0}/s, p50 {:?}, p99 {:?}", self.rate(run), self.quantile(0.5), self.quantile(0.99))
    }
}

/// The machine's own limit: appends of `size` bytes, each synced.
pub(crate) fn lone_syncs(folder: &Path, size: usize, run: Duration) -> Result<Latencies, Failure> {
    let mut file = File::create_new(folder.join("alone"))?;
    let (content, end) = (vec![7; size], Instant::now() + run);
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let started = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        latencies.add(started.elapsed());
    }
    Ok(latencies)
}

/// Repeats an operation on one thread.
pub(crate) fn repeat(
    run: Duration,
    mut operation: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<Latencies, Failure> {
    let mut random = Random::new(3);
    let end = Instant::now() + run;
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let started = Instant::now();
        operation(random.next())?;
        latencies.add(started.elapsed());
    }
    Ok(latencies)
}

type Answer = mpsc::Sender<()>;

/// Many threads write single keys through one committer, which takes whatever waits as one group.
pub(crate) fn grouped_writers(
    candidate: Arc<dyn Candidate>,
    writers: usize,
    run: Duration,
    entry: impl Fn(u64) -> (Bytes, Vec<u8>) + Send + Sync,
) -> Result<Latencies, Failure> {
    let (queue, waiting) = mpsc::channel::<(Bytes, Vec<u8>, Answer)>();
    let committer = std::thread::spawn(move || -> Result<(), Failure> {
        while let Ok(first) = waiting.recv() {
            let (mut batch, mut answers) = (Vec::new(), Vec::new());
            for (key, value, answer) in std::iter::once(first).chain(waiting.try_iter()) {
                batch.push((key, value));
                answers.push(answer);
            }
            candidate.apply(batch)?;
            for answer in answers {
                answer.send(())?;
            }
        }
        Ok(())
    });
    let end = Instant::now() + run;
    let mut all = Latencies::default();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let (entry, queue) = (&entry, &queue);
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || -> Result<Latencies, Failure> {
                    let mut random = Random::new(writer as u64 + 1);
                    let (answer, answered) = mpsc::channel();
                    let mut latencies = Latencies::default();
                    while Instant::now() < end {
                        let (key, value) = entry(random.next());
                        let started = Instant::now();
                        queue.send((key, value, answer.clone())).map_err(|_| "the committer ended")?;
                        answered.recv()?;
                        latencies.add(started.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        for thread in threads {
            all.merge(thread.join().map_err(|_| "a writer panicked")??);
        }
        Ok(())
    })?;
    drop(queue);
    committer.join().map_err(|_| "the committer panicked")??;
    Ok(all)
}

/// The memory that this process holds, in MiB.
pub(crate) fn resident_mib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? / 1_024)
}

/// What a folder takes on disk, in MiB.
pub(crate) fn disk_mib(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    let mut blocks = metadata.blocks() / 2_048;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            blocks += disk_mib(&entry?.path())?;
        }
    }
    Ok(blocks)
}

/// Copies a file, or a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if from.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::copy(from, to)?;
    }
    Ok(())
}
