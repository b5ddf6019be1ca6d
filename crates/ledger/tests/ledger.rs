//! The ledger on a real store and real files, through crashes at each step.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use freehold_base::id::RequestId;
use freehold_ledger::{Ledger, LedgerError, Totals, UsageRecord};
use freehold_store::Store;

const HELLO: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello";
const OTHER: &str = "arn:aws:lambda:us-east-1:000000000000:function:other";

fn record(function_arn: &str, billed_ms: u64, failed: bool) -> UsageRecord {
    UsageRecord {
        request_id: RequestId::random(),
        function_arn: function_arn.to_owned(),
        version: "$LATEST".to_owned(),
        at_ms: 1_800_000_000_000,
        duration_us: billed_ms * 1_000 - 300,
        billed_ms,
        init_us: None,
        memory_mib: 512,
        max_memory_mib: 40,
        failed,
    }
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    async fn open(&self) -> (Store, Ledger) {
        let store = Store::open(&format!("file:{}", self.0.path().join("data").display())).await.unwrap();
        let ledger = Ledger::open(&self.folder(), store.clone()).await.unwrap();
        (store, ledger)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "usage")).collect();
        paths.sort();
        paths
    }
}

#[tokio::test]
async fn what_is_appended_is_in_the_totals_once_folded() {
    let home = Home::new();
    let (_store, ledger) = home.open().await;
    assert_eq!(ledger.totals(HELLO).await.unwrap(), Totals::default());
    for billed_ms in 1..=4 {
        ledger.append(&record(HELLO, billed_ms, billed_ms == 3)).unwrap();
    }
    ledger.append(&record(OTHER, 100, false)).unwrap();
    ledger.sync().await.unwrap();
    ledger.sync().await.unwrap();
    for _ in 0..2 {
        ledger.fold().await.unwrap();
        let totals = ledger.totals(HELLO).await.unwrap();
        let expected = Totals { invocations: 4, errors: 1, duration_us: 8_800, billed_ms: 10, mib_ms: 5_120 };
        assert_eq!(totals, expected);
        assert_eq!(totals.gb_ms(), 5);
        assert_eq!(ledger.totals(OTHER).await.unwrap().billed_ms, 100);
    }
    ledger.append(&record(HELLO, 1, false)).unwrap();
    ledger.fold().await.unwrap();
    assert_eq!(ledger.totals(HELLO).await.unwrap().invocations, 5);
    assert!(home.segments().is_empty());
}

#[tokio::test]
async fn a_segment_that_comes_back_after_its_fold_is_not_counted_again() {
    // As after a crash between the transaction and the deletion of the file.
    let home = Home::new();
    let (store, ledger) = home.open().await;
    ledger.append(&record(HELLO, 7, false)).unwrap();
    let segment = home.segments().remove(0);
    let bytes = fs::read(&segment).unwrap();
    ledger.fold().await.unwrap();
    fs::write(&segment, &bytes).unwrap();
    ledger.fold().await.unwrap();
    assert_eq!(ledger.totals(HELLO).await.unwrap().invocations, 1);
    fs::write(&segment, &bytes).unwrap();
    drop((ledger, store));

    let (_store, ledger) = home.open().await;
    assert!(home.segments().is_empty());
    ledger.append(&record(HELLO, 7, false)).unwrap();
    assert!(home.segments()[0] > segment, "a number is never used again");
    ledger.fold().await.unwrap();
    assert_eq!(ledger.totals(HELLO).await.unwrap().invocations, 2);
}

#[tokio::test]
async fn a_torn_tail_costs_the_torn_record_alone() {
    let home = Home::new();
    let (store, ledger) = home.open().await;
    for billed_ms in 1..=3 {
        ledger.append(&record(HELLO, billed_ms, false)).unwrap();
    }
    drop((ledger, store));
    let segment = home.segments().remove(0);
    let length = fs::metadata(&segment).unwrap().len();
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 9).unwrap();
    let (_store, ledger) = home.open().await;
    assert_eq!(ledger.totals(HELLO).await.unwrap().billed_ms, 3);
}

#[tokio::test]
async fn two_ledgers_of_one_store_are_told_apart() {
    let home = Home::new();
    let (store, ledger) = home.open().await;
    let other = Ledger::open(&home.0.path().join("second"), store.clone()).await.unwrap();
    let opened_twice = Ledger::open(&home.folder(), store).await.map(drop);
    assert!(matches!(opened_twice, Err(LedgerError::Locked { .. })));
    for ledger in [&ledger, &other] {
        ledger.append(&record(HELLO, 1, false)).unwrap();
        ledger.fold().await.unwrap();
    }
    assert_eq!(ledger.totals(HELLO).await.unwrap().invocations, 2);
}

#[tokio::test]
async fn many_threads_append_while_it_folds_and_rotates() {
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    let home = Home::new();
    let (_store, ledger) = home.open().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.run(stopped).await }
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                (0..EACH).for_each(|_| ledger.append(&record(HELLO, 2, false)).unwrap())
            })
        })
        .collect();
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        ledger.fold().await.unwrap();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    stop.send(true).unwrap();
    running.await.unwrap();
    let totals = ledger.totals(HELLO).await.unwrap();
    assert_eq!((totals.invocations, totals.billed_ms), (THREADS * EACH, 2 * THREADS * EACH));
    assert!(home.segments().is_empty(), "stopping folds what is left");
}

const FOLDER: &str = "FREEHOLD_TEST_LEDGER_FOLDER";
const COUNT: u64 = 500;

#[tokio::test]
#[ignore = "the process that is killed; run by the test below"]
async fn appending_process() {
    let home = PathBuf::from(std::env::var(FOLDER).expect("run by the test below"));
    let store = Store::open(&format!("file:{}", home.join("data").display())).await.unwrap();
    let ledger = Ledger::open(&home.join("ledger"), store).await.unwrap();
    (0..COUNT).for_each(|_| ledger.append(&record(HELLO, 1, false)).unwrap());
    println!("\nappended");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

fn append_and_be_killed(home: &Path) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "appending_process", "--nocapture"])
        .env(FOLDER, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let appended = output.lines().map_while(Result::ok).any(|line| line == "appended");
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(appended);
}

#[tokio::test]
async fn a_killed_process_loses_no_record() {
    let home = Home::new();
    for round in 1..=3 {
        append_and_be_killed(home.0.path());
        let (_store, ledger) = home.open().await;
        assert_eq!(ledger.totals(HELLO).await.unwrap().invocations, round * COUNT);
    }
}
