//! Disks that are full, read-only, or fail to sync: the store says so, accepts nothing more, and a restart has
//! everything that was acknowledged.
//!
//! The disks are image files, mounted in a mount namespace of a process of the test's own: each test starts itself there.
//! Failing syncs are strace's work, on a writer process. Damaged files are in `engine/embedded/tests.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash/disk.rs"]
mod disk;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::Disk;
use freehold_store::{Key, KeyRange, Part, Read, Store, StoreError, keyspace};

/// Length of a value, in bytes: a memtable is full after some hundred.
const VALUE_BYTES: usize = 64 << 10;
/// Writes after which a fault must have shown.
const WRITES: u64 = 4_000;
/// Size of a small disk, in MiB.
const DISK_MIB: u64 = 160;
/// Tells a process of the test's where the store is.
const FOLDER: &str = "FREEHOLD_TEST_FAULTS_FOLDER";

fn key(number: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("fault"), Part::Number(number)])
}

fn content(number: u64) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

async fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(&format!("file:{}", folder.display())).await
}

async fn write(store: &Store, number: u64) -> Result<(), StoreError> {
    let write = store.transact(|tx| {
        tx.put(key(number), content(number));
        async { Ok(()) }
    });
    write.await
}

/// Writes from `start` on until the store refuses; gives the first number that was not acknowledged.
async fn write_until_refused(store: &Store, start: u64) -> (u64, StoreError) {
    for number in start..start + WRITES {
        if let Err(error) = write(store, number).await {
            return (number, error);
        }
    }
    panic!("{WRITES} writes, and nothing failed");
}

/// Nothing is accepted and nothing is read any more, at once.
async fn assert_poisoned(store: &Store) {
    assert!(write(store, 0).await.unwrap_err().is_poisoned());
    assert!(store.snapshot().await.is_err_and(|error| error.is_poisoned() && !error.retryable()));
}

/// Everything up to `acknowledged` is there, and of what was refused at most the one that was under way, whole.
async fn assert_kept(store: &Store, acknowledged: u64) -> bool {
    let snapshot = store.snapshot().await.unwrap();
    for number in 0..acknowledged {
        assert!(snapshot.get(&key(number)).await.unwrap().is_some_and(|value| *value == content(number)[..]));
    }
    let rest = KeyRange { start: key(acknowledged), end: None };
    let rest = snapshot.scan(rest, freehold_store::Direction::Forward, 10).await.unwrap();
    assert!(rest.len() <= 1, "what was refused is there");
    assert!(
        rest.iter().all(|(found, value)| *found == key(acknowledged) && *value == content(acknowledged)[..])
    );
    !rest.is_empty()
}

/// Runs an ignored test of this program in a mount namespace of its own; says so if that is not possible here.
fn run_private(name: &str) {
    let program = std::env::current_exe().unwrap();
    let Some(mut command) = disk::private(&program) else {
        skipped(name, "it needs root, loop devices, unshare, mkfs.ext4 and python3");
        return;
    };
    command.args(["--ignored", "--exact", name, "--nocapture"]);
    assert!(command.status().unwrap().success(), "see above");
}

/// Says, past the harness, that something was not tested.
fn skipped(name: &str, reason: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "SKIPPED {name}: {reason}").unwrap();
}

#[test]
fn a_full_disk() {
    run_private("full_disk");
}

#[tokio::test]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn full_disk() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::make(home.path(), DISK_MIB).unwrap();
    let ballast = disk.folder().with_file_name("ballast");
    std::fs::write(&ballast, vec![1; 64 << 20]).unwrap();
    let store = open(&disk.folder()).await.unwrap();
    let (acknowledged, error) = write_until_refused(&store, 0).await;
    assert!(error.is_poisoned(), "{error}");
    assert!(acknowledged > 10, "the disk was full from the start");
    assert_poisoned(&store).await;
    drop(store);

    // Opening it while the disk is full may work or not, but says why, and loses nothing.
    match open(&disk.folder()).await {
        Ok(store) => drop(store),
        Err(error) => assert!(matches!(error, StoreError::Io { .. } | StoreError::Engine { .. }), "{error}"),
    }
    std::fs::remove_file(&ballast).unwrap();
    let store = open(&disk.folder()).await.unwrap();
    assert_kept(&store, acknowledged).await;
    write(&store, acknowledged).await.unwrap();
    store.close().await;
}

#[test]
fn a_read_only_disk() {
    run_private("read_only_disk");
}

#[tokio::test]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn read_only_disk() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::make(home.path(), DISK_MIB).unwrap();
    let store = open(&disk.folder()).await.unwrap();
    for number in 0..20 {
        write(&store, number).await.unwrap();
    }
    store.close().await;
    drop(store);
    disk.set_read_only(true).unwrap();
    let error = open(&disk.folder()).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("ead-only"), "{error}");
    disk.set_read_only(false).unwrap();
    let store = open(&disk.folder()).await.unwrap();
    assert_kept(&store, 20).await;
    store.close().await;
}

#[test]
fn a_disk_that_loses_power_while_the_store_is_open() {
    run_private("cut_disk");
}

#[tokio::test]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn cut_disk() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::make(home.path(), DISK_MIB).unwrap();
    let store = open(&disk.folder()).await.unwrap();
    for number in 0..20 {
        write(&store, number).await.unwrap();
    }
    disk.cutter().unwrap().cut().unwrap();
    let (refused, error) = write_until_refused(&store, 20).await;
    assert_eq!(refused, 20, "nothing is acknowledged on a disk that is gone");
    assert!(error.is_poisoned(), "{error}");
    assert_poisoned(&store).await;
    store.close().await;
    drop(store);
    disk.start_again().unwrap();
    assert_kept(&open(&disk.folder()).await.unwrap(), 20).await;
}

/// Opens the store, writes until it refuses, and says what was acknowledged and whether it is poisoned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process whose syncs fail; run by the tests below"]
async fn writer_process() {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let store = open(&folder).await.unwrap();
    let (acknowledged, error) = write_until_refused(&store, 0).await;
    assert!(error.is_poisoned(), "{error}");
    assert_poisoned(&store).await;
    println!("\nacknowledged {acknowledged} {error}");
}

/// Lets the syncs of a writer process fail, from the `first` of a thread on.
fn fail_syncs(call: &str, first: u32) {
    if !Path::new("/usr/bin/strace").exists() {
        skipped(call, "it needs strace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // It is made beforehand, so that it is not its making that fails.
    runtime.block_on(async { open(folder.path()).await.unwrap().close().await });
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:error=EIO:when={first}+"))
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writer_process", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
    let (acknowledged, error) = line.split_once(' ').unwrap();
    let acknowledged = acknowledged.parse().unwrap();
    let there = runtime.block_on(async {
        let store = open(folder.path()).await.unwrap();
        let there = assert_kept(&store, acknowledged).await;
        write(&store, acknowledged).await.unwrap();
        there
    });
    println!("{call}: {acknowledged} acknowledged, then: {error}; the refused write is there: {there}");
}

#[test]
fn a_failed_sync_of_the_journal_poisons_the_store() {
    fail_syncs("fdatasync", 30);
}

#[test]
fn a_failed_sync_of_a_table_poisons_the_store() {
    fail_syncs("fsync", 8);
}
