//! Two tasks append to a log, each under a key of its own; one owns the log's shard and gives positions; one follows it,
//! and counts what it is given in the transaction that moves its checkpoint. Nothing appended is lost or there twice, each
//! key's records are in order, and what was followed is what the checkpoint says.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::clock::{SharedClock, SystemClock};
use freehold_store::lease::SESSION_DURATION;
use freehold_store::log::{Consumer, Log, LogError, LogOwner, Retention, Start};
use freehold_store::{Key, Part, Session, Snapshot, Store, StoreError, keyspace};
use tokio::sync::watch;

use crate::workload::{Checked, Teller, count_keys, ensure, get_number, put_number};

/// The two that append, the owner, and the one that follows.
pub(crate) const TASKS: u64 = APPENDERS + 2;
const APPENDERS: u64 = 2;
const OWNER: u64 = APPENDERS;
const FOLLOWER: u64 = APPENDERS + 1;
const NAME: &str = "crash";
const CONSUMER: &str = "follower";
/// Records of one read, and of one transaction of the follower's.
const BATCH: usize = 64;
/// The owner trims nothing here.
const KEPT: Retention = Retention { age: Some(Duration::from_secs(86_400)), bytes: None };

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn log() -> Log {
    Log::new(NAME, 1, &clock())
}

fn count(what: &str, task: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("logs"), Part::Text(what), Part::Number(task)])
}

/// What a writer meets is the store's failure; anything else is a fault of the log's.
fn of_store(error: LogError) -> StoreError {
    match error {
        LogError::Store(error) => error,
        other => panic!("{other}"),
    }
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    store.transact(|tx| async move { log().create(&tx).await }).await.map_err(of_store)?;
    let result = match teller.task() {
        OWNER => own(store).await,
        FOLLOWER => follow(store, teller).await,
        _ => append(store, teller).await,
    };
    result.map_err(of_store)
}

async fn append(store: &Store, teller: Teller) -> Result<(), LogError> {
    let task = teller.task();
    loop {
        let write = store.transact(|tx| async move {
            let number = get_number(&tx, &count("appended", task)).await? + 1;
            log().append(&tx, &task.to_string(), number.to_be_bytes()).await?;
            put_number(&tx, count("appended", task), number);
            Ok::<_, LogError>(number)
        });
        teller.acknowledge(write.await?);
    }
}

async fn own(store: &Store) -> Result<(), LogError> {
    let session = Session::start(store, &clock(), SESSION_DURATION).await?;
    let lease = session.wait_for(&log().lease_name(0)).await?;
    let owner = LogOwner::open(store, &clock(), lease, &log(), 0).await?;
    let (_stop, stopped) = watch::channel(false);
    owner.run(stopped, KEPT).await
}

async fn follow(store: &Store, teller: Teller) -> Result<(), LogError> {
    let session = Session::start(store, &clock(), SESSION_DURATION).await?;
    let lease = session.wait_for(&log().consumer_lease_name(CONSUMER, 0)).await?;
    let mut consumer = Consumer::open(store, lease, &log(), CONSUMER, 0, Start::Oldest).await?;
    loop {
        let records = consumer.next(BATCH).await?.records;
        let (consumer, records) = (&consumer, &records);
        let write = store.transact(|tx| async move {
            let mut followed = get_number(&tx, &count("followed", 0)).await?;
            for record in records {
                followed += 1;
                assert_eq!(followed, record.position, "skipped, or given again");
                consumer.checkpoint(&tx, record.position).await?;
            }
            put_number(&tx, count("followed", 0), followed);
            Ok::<_, LogError>(followed)
        });
        teller.acknowledge(write.await?);
    }
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let snapshot = store.snapshot().await.map_err(|error| error.to_string())?;
    match log().ends(&snapshot, 0).await {
        Err(LogError::NotFound { .. }) => return Ok(0),
        Err(error) => return Err(error.to_string()),
        Ok(_) => {}
    }
    check_records(&snapshot, told).await.map_err(|error| error.to_string())?
}

async fn check_records(snapshot: &Snapshot, told: impl Fn(u64) -> u64) -> Result<Checked, LogError> {
    let (mut placed, mut last, mut wrong) = (0, vec![0; APPENDERS as usize], Vec::new());
    loop {
        let page = log().read(snapshot, 0, placed + 1, BATCH).await?;
        for record in &page {
            placed += 1;
            let task: usize = record.key.as_deref().unwrap_or_default().parse().expect("keys are tasks");
            last[task] += 1;
            let number = u64::from_be_bytes(record.data[..].try_into().expect("numbers have eight bytes"));
            if record.position != placed || number != last[task] {
                wrong.push(format!("record {placed} has position {} and number {number}", record.position));
            }
        }
        if page.is_empty() {
            break;
        }
    }
    let inbox = keyspace::LOG_INBOX.key(&[Part::Text(NAME)]);
    let waiting = count_keys(snapshot, &inbox).await?;
    let followed = get_number(snapshot, &count("followed", 0)).await?;
    let lag = log().lag(snapshot, CONSUMER, 0).await?;
    let mut appended = 0;
    for task in 0..APPENDERS {
        let own = get_number(snapshot, &count("appended", task)).await?;
        if own < told(task) {
            wrong.push(format!("{} were acknowledged to task {task}, {own} are there", told(task)));
        }
        appended += own;
    }
    Ok(ensure(wrong.is_empty(), || format!("logs: {wrong:?}"))
        .and_then(|()| {
            ensure(appended == placed + waiting, || {
                format!("logs: {appended} appended, {placed} placed, {waiting} waiting")
            })
        })
        .and_then(|()| {
            ensure(followed >= told(FOLLOWER), || {
                format!("logs: {} were acknowledged as followed, {followed} are", told(FOLLOWER))
            })
        })
        .and_then(|()| {
            ensure(lag.is_none_or(|lag| followed + lag == placed), || {
                format!("logs: {placed} placed, {followed} followed, and a lag of {lag:?}")
            })
        })
        .map(|()| appended + followed))
}
