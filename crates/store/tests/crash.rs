//! A process that writes under load is killed, again and again: every acknowledged write is there, nothing is
//! half-applied.
//!
//! The writer is this test binary itself, run again for the one ignored test. Each of its tasks writes transactions
//! numbered 1, 2, 3, …: two entries and the task's own count, and adds one to a count that all share (so they conflict).
//! It prints what was acknowledged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use freehold_store::{Direction, Key, KeyRange, Part, Read, Store, StoreError, Transaction, keyspace};

const KILLS: u64 = 20;
const TASKS: u64 = 8;
/// Tells the writer which folder is its own.
const FOLDER: &str = "FREEHOLD_TEST_CRASH_FOLDER";
const ACKNOWLEDGED: &str = "acknowledged ";

fn entry(task: u64, number: u64, half: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text("entry"), Part::Number(task), Part::Number(number), Part::Text(half)])
}

fn count(task: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("count"), Part::Number(task)])
}

fn shared() -> Key {
    keyspace::TESTS.key(&[Part::Text("shared")])
}

/// A value that tells whose it is, of a length from a few bytes to several pages.
fn content(task: u64, number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(7) { 9_000 } else { 20 + (number % 50) as usize };
    format!("{task}/{number} ").bytes().cycle().take(length).collect()
}

async fn get_number(from: &impl Read, key: &Key) -> Result<u64, StoreError> {
    Ok(from.get(key).await?.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap())))
}

fn put_number(tx: &Transaction, key: Key, number: u64) {
    tx.put(key, number.to_be_bytes().to_vec());
}

async fn write_next(store: &Store, task: u64) -> Result<u64, StoreError> {
    let write = store.transact(|tx| async move {
        let number = get_number(&tx, &count(task)).await? + 1;
        tx.put(entry(task, number, "left"), content(task, number));
        tx.put(entry(task, number, "right"), content(task, number));
        put_number(&tx, count(task), number);
        if number.is_multiple_of(5) {
            put_number(&tx, shared(), get_number(&tx, &shared()).await? + 5);
        }
        Ok(number)
    });
    write.await
}

#[test]
#[ignore = "the process that is killed; run by the test below"]
fn writer_process() {
    let folder = std::env::var(FOLDER).expect("run by the test below");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(&format!("file:{folder}")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let store = store.clone();
            tasks.spawn(async move {
                loop {
                    let number = write_next(&store, task).await.unwrap();
                    println!("\n{ACKNOWLEDGED}{task} {number}");
                }
            });
        }
        tasks.join_all().await;
    });
}

fn start_writer(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writer_process", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a writer go on until it has acknowledged `enough`, kills it, and gives the last number of each task that it
/// acknowledged.
fn write_and_kill(folder: &Path, enough: u64) -> BTreeMap<u64, u64> {
    let mut writer = start_writer(folder);
    let mut acknowledged = BTreeMap::new();
    let mut seen = 0;
    let output = BufReader::new(writer.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        let Some(rest) = line.strip_prefix(ACKNOWLEDGED) else { continue };
        // The last line may be cut short by the kill; then it was cut before its end.
        let Some((task, number)) = rest.split_once(' ') else { continue };
        let (Ok(task), Ok(number)) = (task.parse(), number.parse::<u64>()) else { continue };
        acknowledged.entry(task).and_modify(|last: &mut u64| *last = number.max(*last)).or_insert(number);
        seen += 1;
        if seen == enough {
            writer.kill().unwrap();
        }
    }
    let status = writer.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "it ended by itself: {status}"
    );
    acknowledged
}

/// Checks that nothing acknowledged is missing and nothing is half there; gives the number of transactions found.
async fn check(folder: &Path, acknowledged: &BTreeMap<u64, u64>) -> u64 {
    let store = Store::open(&format!("file:{}", folder.display())).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let (mut found, mut shared_count) = (0, 0);
    for task in 0..TASKS {
        let written = get_number(&snapshot, &count(task)).await.unwrap();
        let told = acknowledged.get(&task).copied().unwrap_or(0);
        assert!(written >= told, "task {task}: {told} was acknowledged and {written} is there");
        for number in 1..=written {
            for half in ["left", "right"] {
                let value = snapshot.get(&entry(task, number, half)).await.unwrap();
                assert_eq!(
                    value.as_deref(),
                    Some(&content(task, number)[..]),
                    "task {task}, {number}, {half}"
                );
            }
        }
        found += written;
        shared_count += written / 5 * 5;
    }
    assert_eq!(get_number(&snapshot, &shared()).await.unwrap(), shared_count, "half-applied");
    let entries = KeyRange::prefix(&keyspace::TESTS.key(&[Part::Text("entry")]));
    let mut rest = entries;
    let mut stored = 0;
    loop {
        let page = snapshot.scan(rest.clone(), Direction::Forward, 1_000).await.unwrap();
        stored += page.len() as u64;
        let Some((last, _)) = page.last() else { break };
        rest.start = last.successor();
    }
    assert_eq!(stored, 2 * found, "an entry that no count knows of");
    found
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = 0x5EED_u64;
    let mut found = 0;
    for round in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acknowledged = write_and_kill(folder.path(), 1 + (random >> 33) % 120);
        let now = runtime.block_on(check(folder.path(), &acknowledged));
        assert!(now > found, "round {round} wrote nothing");
        found = now;
    }
    println!("{KILLS} kills, {found} transactions, none lost, none half-applied");
}
