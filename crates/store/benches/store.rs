//! Measures the store through its public API and prints one table. Each figure of writing stands beside this machine's
//! own limit F, measured in the same run: a lone `write` + `fdatasync`. `docs/benchmarks.md` has the figures.
//!
//! ```text
//! cargo xtask bench store [--quick] [FOLDER]     --quick: without the ten million keys
//! ```
//!
//! - `measure`: the stopwatch and the machine's own limits
//! - `primitives`: queues and timers
//! - `postgres`: the engine on PostgreSQL, beside the server's own benchmark
//! - `large`: ten million keys, in processes of their own
//! - `table`: what is printed
//! - here: the figures that every engine has; each is a function of an open store

#[path = "../tests/cluster/mod.rs"]
mod cluster;
#[path = "store/large.rs"]
mod large;
#[path = "store/measure.rs"]
mod measure;
#[path = "store/postgres.rs"]
mod postgres;
#[path = "store/primitives.rs"]
mod primitives;
#[path = "store/table.rs"]
mod table;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_store::{Direction, Key, KeyRange, Part, Read, Snapshot, Store, StoreError, keyspace};
use measure::{Latencies, Random};
use table::Column;

/// Keys that are there before anything is measured.
const KEYS: u64 = 200_000;
/// Length of a value, in bytes.
const VALUE_BYTES: usize = 1_024;
/// How long each figure is measured.
const RUN: Duration = Duration::from_secs(4);
/// Entries of one scan.
const SCAN_ENTRIES: usize = 1_000;
/// Keys of one transaction while filling.
const FILL_BATCH: u64 = 10_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // Cargo adds a word of its own.
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [step, store, keys] = &arguments[..]
        && large::STEPS.contains(&step.as_str())
    {
        return runtime.block_on(large::run(step, store, keys.parse()?));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    arguments.retain(|argument| argument != "--quick");
    let base = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix("freehold-bench-").tempdir_in(base)?;

    let mut embedded = Column::new("embedded");
    runtime.block_on(measure_embedded(folder.path(), &mut embedded))?;
    if !quick {
        large::measure(folder.path(), &mut embedded)?;
    }
    let mut database = Column::new("PostgreSQL");
    runtime.block_on(postgres::measure(folder.path(), &mut database))?;
    table::print(&[embedded, database]);
    Ok(())
}

async fn measure_embedded(folder: &Path, column: &mut Column) -> Result<(), Failure> {
    let url = format!("file:{}", folder.join("store").display());
    let store = Store::open(&url).await?;
    fill(&store, 0..KEYS, VALUE_BYTES).await?;
    measure_writers(&store, folder, column).await?;
    measure_reads(&store, column).await?;
    primitives::measure(&store, column).await?;
    store.close().await;
    drop(store);
    let started = Instant::now();
    let store = Store::open(&url).await?;
    store.snapshot().await?.get(&key(0)).await?;
    column.add("opening after a stop", "", format!("{:.0} ms", started.elapsed().as_secs_f64() * 1e3));
    let alone = measure::lone_syncs(folder, VALUE_BYTES, RUN)?;
    let one = writers(&store, 1, RUN).await?;
    let figure = format!("{:.0}/s: {:.1} x F", one.rate(), one.rate() / alone.rate());
    column.add("1 writer, right after opening", "0.7 x F", figure);
    Ok(())
}

/// One writer and 64, each beside a lone sync measured right before.
async fn measure_writers(store: &Store, folder: &Path, column: &mut Column) -> Result<(), Failure> {
    for (count, goal) in [(1, "0.7 x F"), (64, "10 x F, p99 at most 4 x")] {
        let alone = measure::lone_syncs(folder, VALUE_BYTES, RUN)?;
        let what = format!("F: lone write + fdatasync of 1 KiB, before {count} writers");
        column.add(&what, "", format!("{:.0}/s, p99 {:.2} ms", alone.rate(), alone.p99_ms()));
        let together = writers(store, count, RUN).await?;
        let (times, slower) = (together.rate() / alone.rate(), together.p99_ms() / alone.p99_ms());
        let figure = format!(
            "{:.0}/s, p99 {:.2} ms: {times:.1} x F, p99 {slower:.1} x",
            together.rate(),
            together.p99_ms()
        );
        column.add(&format!("{count} concurrent writers"), goal, figure);
    }
    Ok(())
}

async fn measure_reads(store: &Store, column: &mut Column) -> Result<(), Failure> {
    let map = measure::map_reads(KEYS, RUN / 4);
    column.add("reads of a BTreeMap of 200,000 keys", "", format!("{map:.0}/s"));
    let snapshot = store.snapshot().await?;
    let rate = point_reads(&snapshot, KEYS, RUN).await?;
    column.add("point reads, 200,000 keys of 1 KiB, one core", "500,000/s", format!("{rate:.0}/s"));
    let rate = scans(&snapshot, RUN).await?;
    column.add("scans of 1,000", "1,000,000 keys/s", format!("{rate:.0} keys/s"));
    Ok(())
}

/// The key of a number: scattered, as names and ids are.
fn key(number: u64) -> Key {
    keyspace::TESTS.key(&[Part::Number(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))])
}

/// Writes the keys of `numbers`.
async fn fill(store: &Store, numbers: Range<u64>, value_bytes: usize) -> Result<(), Failure> {
    for start in numbers.clone().step_by(FILL_BATCH as usize) {
        let end = numbers.end.min(start + FILL_BATCH);
        let fill = store.transact(|tx| async move {
            let mut random = Random::new(start + 1);
            for number in start..end {
                tx.put(key(number), random.bytes(value_bytes));
            }
            Ok::<_, StoreError>(())
        });
        fill.await?;
    }
    Ok(())
}

/// `count` tasks, each writing one key of 1 KiB a transaction, one after the other.
async fn writers(store: &Store, count: usize, run: Duration) -> Result<Latencies, Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for writer in 0..count {
        let store = store.clone();
        tasks.spawn(async move {
            let mut random = Random::new(writer as u64 + 1);
            let mut latencies = Latencies::default();
            while started.elapsed() < run {
                let (number, content) = (random.next() % (2 * KEYS), random.bytes(VALUE_BYTES));
                let begun = Instant::now();
                let write = store.transact(|tx| {
                    tx.put(key(number), content.clone());
                    async { Ok::<_, StoreError>(()) }
                });
                write.await?;
                latencies.add(begun.elapsed());
            }
            Ok::<_, StoreError>(latencies)
        });
    }
    let mut all = Latencies::default();
    while let Some(latencies) = tasks.join_next().await {
        all.merge(latencies??);
    }
    Ok(all.ended(started))
}

/// Reads per second of one task, of random keys that are there.
async fn point_reads(snapshot: &Snapshot, keys: u64, run: Duration) -> Result<f64, Failure> {
    let mut random = Random::new(7);
    let (mut reads, started) = (0_u64, Instant::now());
    while started.elapsed() < run {
        for _ in 0..1_000 {
            assert!(snapshot.get(&key(random.next() % keys)).await?.is_some());
        }
        reads += 1_000;
    }
    Ok(reads as f64 / started.elapsed().as_secs_f64())
}

/// Keys per second of one task that scans from random keys on.
async fn scans(snapshot: &Snapshot, run: Duration) -> Result<f64, Failure> {
    let mut random = Random::new(9);
    let (mut keys, started) = (0, Instant::now());
    while started.elapsed() < run {
        let range = KeyRange { start: key(random.next()), end: None };
        keys += snapshot.scan(range, Direction::Forward, SCAN_ENTRIES).await?.len();
    }
    Ok(keys as f64 / started.elapsed().as_secs_f64())
}
