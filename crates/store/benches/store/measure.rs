//! The stopwatch: latencies, the machine's own limits, memory and disk taken.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;

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

    /// Bytes that don't repeat.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// How long each of many operations took, and how long all of them together.
#[derive(Default)]
pub(crate) struct Latencies {
    each: Vec<Duration>,
    run: Duration,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.each.push(latency);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.each.extend(other.each);
    }

    /// Ends a run that began at `started`.
    pub(crate) fn ended(mut self, started: Instant) -> Self {
        self.run = started.elapsed();
        self.each.sort_unstable();
        self
    }

    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        self.each.len() as f64 / self.run.as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn p99_ms(&self) -> f64 {
        let index = (self.each.len() as f64 * 0.99) as usize;
        self.each.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    }
}

/// The machine's own limit F: appends of `size` bytes to a file, one after the other, each synced.
pub(crate) fn lone_syncs(folder: &Path, size: usize, run: Duration) -> Result<Latencies, Failure> {
    let path = folder.join("alone");
    let mut file = File::create(&path)?;
    let (content, started) = (vec![7; size], Instant::now());
    let mut latencies = Latencies::default();
    while started.elapsed() < run {
        let begun = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        latencies.add(begun.elapsed());
    }
    fs::remove_file(path)?;
    Ok(latencies.ended(started))
}

/// The machine's own limit for reads: a `BTreeMap` of `keys` keys in memory, in reads per second on one core.
pub(crate) fn map_reads(keys: u64, run: Duration) -> f64 {
    let map: BTreeMap<Vec<u8>, Vec<u8>> =
        (0..keys).map(|number| (crate::key(number).as_bytes().to_vec(), vec![7; 100])).collect();
    let mut random = Random::new(5);
    let (mut reads, started) = (0_u64, Instant::now());
    while started.elapsed() < run {
        for _ in 0..1_000 {
            std::hint::black_box(map.get(crate::key(random.next() % keys).as_bytes()).cloned());
        }
        reads += 1_000;
    }
    reads as f64 / started.elapsed().as_secs_f64()
}

/// The memory that this process holds (`VmRSS`) or has held at most (`VmHWM`), in MiB.
pub(crate) fn memory_mib(what: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(what)).ok_or("the kernel doesn't tell")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? / 1_024)
}

/// What a folder takes on disk, in MiB.
pub(crate) fn disk_mib(path: &Path) -> Result<u64, Failure> {
    Ok(blocks(path)? / 2_048)
}

fn blocks(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    let mut count = metadata.blocks();
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            count += blocks(&entry?.path())?;
        }
    }
    Ok(count)
}
