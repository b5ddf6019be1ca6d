//! Measures what keeps the keys: the store itself, and the engines that the choice was between, each behind one
//! committer thread that syncs groups. `docs/decisions/0001-embedded-store-engine.md` has the figures of the choice.
//!
//! ```text
//! cargo bench -p freehold-store --bench store [-- store [folder]]
//! cargo bench -p freehold-store --bench store --features compare -- fjall|redb|redb-quick-repair [folder]
//! ```
//!
//! All figures come with this machine's own limit, measured first: a lone `write` + `fdatasync` of one value.

#[path = "store/candidates.rs"]
mod candidates;
#[path = "store/measure.rs"]
mod measure;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_store::{Direction, Key, KeyRange, Part, Read, Store, StoreError, keyspace};
use measure::{Latencies, Random};

/// Keys that are there before anything is measured.
const KEYS: u64 = 200_000;
/// Length of a value, in bytes.
const VALUE_BYTES: usize = 1_024;
/// How long each figure is measured.
const RUN: Duration = Duration::from_secs(4);
/// How many write at once.
const WRITERS: [usize; 3] = [1, 8, 64];
/// Entries of one scan.
const SCAN_ENTRIES: usize = 1_000;
/// Keys of one transaction while filling.
const FILL_BATCH: u64 = 1_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // Cargo adds a word of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let subject = arguments.next().unwrap_or_else(|| "store".to_owned());
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix("freehold-bench-").tempdir_in(base)?;
    let alone = measure::lone_syncs(folder.path(), VALUE_BYTES, RUN)?;
    println!("lone write + fdatasync: {}", alone.line(RUN));
    match subject.as_str() {
        "store" => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(measure_store(folder.path(), &alone))
        }
        name => measure_candidate(name, folder.path(), &alone),
    }
}

fn key(number: u64) -> Key {
    // Scattered, as names and ids are.
    keyspace::TESTS.key(&[Part::Number(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))])
}

fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    std::iter::repeat_with(|| random.next() as u8).take(VALUE_BYTES).collect()
}

fn measure_candidate(name: &str, folder: &Path, alone: &Latencies) -> Result<(), Failure> {
    let path = folder.join(name);
    let candidate = candidates::open(name, &path)?;
    let started = Instant::now();
    for start in (0..KEYS).step_by(FILL_BATCH as usize) {
        let batch = (start..start + FILL_BATCH).map(|number| (key(number).into_bytes(), value(number)));
        candidate.apply(batch.collect())?;
    }
    println!("{name}: filled with {KEYS} keys of {VALUE_BYTES} B in {:?}", started.elapsed());
    for writers in WRITERS {
        let latencies = measure::grouped_writers(candidate.clone(), writers, RUN, |random| {
            (key(random % (2 * KEYS)).into_bytes(), value(random))
        })?;
        report_writers(name, writers, &latencies, alone);
    }
    let reads = measure::repeat(RUN, |random| {
        candidate.get(key(random % KEYS).as_bytes()).map(|found| assert!(found))
    })?;
    println!("{name}: point reads, one thread: {}", reads.line(RUN));
    let scans =
        measure::repeat(RUN, |random| candidate.scan(key(random).as_bytes(), SCAN_ENTRIES).map(|_| ()))?;
    println!(
        "{name}: scans of {SCAN_ENTRIES}, one thread: {:.0} keys/s",
        scans.rate(RUN) * SCAN_ENTRIES as f64
    );
    println!("{name}: {} MiB on disk, {} MiB resident", measure::disk_mib(&path)?, measure::resident_mib()?);

    // As a killed process leaves it: copied while it is open and quiet.
    let killed = folder.join("killed");
    measure::copy(&path, &killed)?;
    drop(candidate);
    for (what, path) in [("a stop", &path), ("a kill", &killed)] {
        let started = Instant::now();
        let candidate = candidates::open(name, path)?;
        assert!(candidate.get(key(0).as_bytes())?);
        println!("{name}: open after {what}: {:?}", started.elapsed());
    }
    Ok(())
}

async fn measure_store(folder: &Path, alone: &Latencies) -> Result<(), Failure> {
    let url = format!("file:{}", folder.join("store").display());
    let store = Store::open(&url).await?;
    for start in (0..KEYS).step_by(FILL_BATCH as usize) {
        let fill = store.transact(|tx| async move {
            for number in start..start + FILL_BATCH {
                tx.put(key(number), value(number));
            }
            Ok::<_, StoreError>(())
        });
        fill.await?;
    }
    for writers in WRITERS {
        let latencies = store_writers(&store, writers).await?;
        report_writers("store", writers, &latencies, alone);
    }
    measure_store_reads(&store).await?;
    println!("store: {} MiB resident", measure::resident_mib()?);
    store.close().await;
    drop(store);
    let started = Instant::now();
    Store::open(&url).await?.snapshot().await?.get(&key(0)).await?;
    println!("store: open after a stop: {:?}", started.elapsed());
    Ok(())
}

async fn store_writers(store: &Store, writers: usize) -> Result<Latencies, Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    let end = Instant::now() + RUN;
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut random = Random::new(writer as u64 + 1);
            let mut latencies = Latencies::default();
            while Instant::now() < end {
                let (number, started) = (random.next(), Instant::now());
                let content: Arc<[u8]> = value(number).into();
                let write = store.transact(|tx| {
                    tx.put(key(number % (2 * KEYS)), content.to_vec());
                    async { Ok::<_, StoreError>(()) }
                });
                write.await?;
                latencies.add(started.elapsed());
            }
            Ok::<_, StoreError>(latencies)
        });
    }
    let mut all = Latencies::default();
    while let Some(latencies) = tasks.join_next().await {
        all.merge(latencies??);
    }
    Ok(all)
}

async fn measure_store_reads(store: &Store) -> Result<(), Failure> {
    let snapshot = store.snapshot().await?;
    let mut random = Random::new(7);
    let (mut reads, started) = (0_u64, Instant::now());
    while started.elapsed() < RUN {
        for _ in 0..100 {
            assert!(snapshot.get(&key(random.next() % KEYS)).await?.is_some());
            reads += 1;
        }
    }
    println!("store: point reads, one task: {:.0}/s", reads as f64 / started.elapsed().as_secs_f64());
    let (mut keys, started) = (0, Instant::now());
    while started.elapsed() < RUN {
        let range = KeyRange { start: key(random.next()), end: None };
        keys += snapshot.scan(range, Direction::Forward, SCAN_ENTRIES).await?.len();
    }
    println!(
        "store: scans of {SCAN_ENTRIES}, one task: {:.0} keys/s",
        keys as f64 / started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn report_writers(name: &str, writers: usize, latencies: &Latencies, alone: &Latencies) {
    let ratio = latencies.rate(RUN) / alone.rate(RUN);
    let slower = latencies.quantile(0.99).as_secs_f64() / alone.quantile(0.99).as_secs_f64();
    println!("{name}: {writers} writers: {}, {ratio:.2} x lone, p99 {slower:.1} x lone", latencies.line(RUN));
}
