//! Two processes on one PostgreSQL database. The first owns a queue, a timer partition, a log's shard and a consumer of
//! it, works on them under load, and is killed. The second waits for the leases, takes over when they have expired, and
//! goes on: nothing is lost, and nothing that the first had acknowledged is done again.
//!
//! The owner is this test binary itself, run again for the one ignored test. Each effect is counted in the store in the
//! transaction that acknowledges what it is the effect of, and told on stdout after the commit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use freehold_base::clock::{SharedClock, SystemClock};
use freehold_store::log::{Consumer, Log, LogOwner, Retention, Start};
use freehold_store::queue::{Message, Queue, QueueError, QueueOwner, Settings};
use freehold_store::timer::{Due, TimerOwner, Timers};
use freehold_store::{Key, Options, Part, Read, Session, Store, StoreError, Transaction, keyspace};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Tells the owner which database is its own.
const DATABASE: &str = "FREEHOLD_TEST_TAKEOVER_DATABASE";
/// How long a session lives after its last renewal, and how long a message that was received stays invisible: longer than
/// a busy machine or disk keeps the owner from renewing it.
const LEASE: Duration = Duration::from_secs(10);
/// Messages, timers and records, of each kind.
const ITEMS: u64 = 600;
/// How many of each kind the first owner has done when it is killed.
const ENOUGH: usize = 80;
/// How long all of it may take before the test gives up.
const DEADLINE: Duration = Duration::from_secs(240);
const KINDS: [&str; 3] = ["message", "timer", "record"];
const CONSUMER: &str = "follower";

fn queue() -> Queue {
    Queue::new("work").unwrap()
}

fn timers() -> Timers {
    Timers::new("work")
}

fn log(clock: &SharedClock) -> Log {
    Log::new("work", 1, clock)
}

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn effects(parts: &[Part<'_>]) -> Key {
    keyspace::TESTS.key(parts)
}

/// Counts one effect.
async fn count(tx: &Transaction, kind: &str, item: u64) -> Result<(), StoreError> {
    let key = effects(&[Part::Text(kind), Part::Number(item)]);
    let before = tx.get(&key).await?.map_or(0, |value| value[0]);
    tx.put(key, vec![before + 1]);
    Ok(())
}

fn item(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn say(word: &str, kind: &str, item: u64) {
    println!("\n{word} {kind} {item}");
}

async fn open(url: String) -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { url, blobs: Some(folder.path().join("blobs")) };
    (Store::open_with(options).await.unwrap(), folder)
}

#[test]
#[ignore = "the process that owns; run by the test below"]
fn owner_process() {
    let url = std::env::var(DATABASE).expect("run by the test below");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (store, _folder) = open(url).await;
        let session = Session::start(&store, &clock(), LEASE).await.unwrap();
        say("waits", "session", 0);
        let (_stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(work_on_queue(store.clone(), session.clone()));
        tasks.spawn(fire_timers(store.clone(), session.clone()));
        tasks.spawn(assign_positions(store.clone(), session.clone(), stopped.clone()));
        tasks.spawn(follow_log(store.clone(), session.clone()));
        tasks.spawn(async move { session.run(stopped).await.unwrap() });
        tasks.join_all().await;
    });
}

async fn work_on_queue(store: Store, session: Session) {
    let lease = session.wait_for(&queue().lease_name()).await.unwrap();
    let owner = QueueOwner::open(&store, &clock(), lease, &queue()).await.unwrap();
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (store, owner) = (store.clone(), owner.clone());
        workers.spawn(async move {
            loop {
                for received in owner.receive(3, None, DEADLINE).await.unwrap() {
                    let number = item(&received.body);
                    say("given", "message", number);
                    let (owner, receipt) = (&owner, &received.receipt);
                    let done = store.transact(|tx| async move {
                        owner.acknowledge_in(&tx, receipt).await?;
                        count(&tx, "message", number).await?;
                        Ok::<_, QueueError>(())
                    });
                    done.await.unwrap();
                    say("done", "message", number);
                }
            }
        });
    }
    workers.join_all().await;
}

async fn fire_timers(store: Store, session: Session) {
    let lease = session.wait_for(&timers().lease_name()).await.unwrap();
    let mut owner = TimerOwner::open(&store, &clock(), lease, &timers()).await.unwrap();
    loop {
        let dues = &owner.due(5).await.unwrap();
        dues.iter().for_each(|due| say("given", "timer", item(&due.payload)));
        let fire = store.transact(|tx| async move {
            let stood = Due::complete_all(&tx, dues).await?;
            for (due, stood) in dues.iter().zip(stood) {
                assert!(stood, "nobody moves these timers");
                count(&tx, "timer", item(&due.payload)).await?;
            }
            Ok::<_, StoreError>(())
        });
        fire.await.unwrap();
        dues.iter().for_each(|due| say("done", "timer", item(&due.payload)));
    }
}

async fn assign_positions(store: Store, session: Session, stopped: watch::Receiver<bool>) {
    let log = log(&clock());
    let lease = session.wait_for(&log.lease_name(0)).await.unwrap();
    let owner = LogOwner::open(&store, &clock(), lease, &log, 0).await.unwrap();
    owner.run(stopped, Retention::default()).await.unwrap();
}

async fn follow_log(store: Store, session: Session) {
    let log = log(&clock());
    let lease = session.wait_for(&log.consumer_lease_name(CONSUMER, 0)).await.unwrap();
    let mut consumer = Consumer::open(&store, lease, &log, CONSUMER, 0, Start::Oldest).await.unwrap();
    loop {
        let records = consumer.next(5).await.unwrap().records;
        records.iter().for_each(|record| say("given", "record", item(&record.data)));
        let (consumer, records) = (&consumer, &records);
        let consume = store.transact(|tx| async move {
            for record in records {
                count(&tx, "record", item(&record.data)).await?;
                consumer.checkpoint(&tx, record.position).await?;
            }
            Ok::<_, freehold_store::log::LogError>(())
        });
        consume.await.unwrap();
        records.iter().for_each(|record| say("done", "record", item(&record.data)));
    }
}

/// A process that owns or waits to.
struct Owner {
    process: Child,
    words: mpsc::UnboundedReceiver<String>,
    given: BTreeMap<String, BTreeSet<u64>>,
    done: BTreeMap<String, BTreeSet<u64>>,
}

impl Owner {
    /// Starts one, and waits until it wants the leases.
    async fn start(url: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "owner_process", "--nocapture"])
            .env(DATABASE, url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (tell, words) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut owner = Self { process, words, given: BTreeMap::new(), done: BTreeMap::new() };
        while owner.hear().await.expect("it goes on").first().is_none_or(|word| word != "waits") {}
        owner
    }

    /// The words of the next line; none once it has ended.
    async fn hear(&mut self) -> Option<Vec<String>> {
        let line = self.words.recv().await?;
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let told = match words.first().map(String::as_str) {
            Some("given") => &mut self.given,
            Some("done") => &mut self.done,
            _ => return Some(words),
        };
        told.entry(words[1].clone()).or_default().insert(words[2].parse().unwrap());
        Some(words)
    }

    fn has_done(&self, enough: usize) -> bool {
        KINDS.iter().all(|kind| self.done.get(*kind).is_some_and(|done| done.len() >= enough))
    }

    /// Kills it, and takes in all that it had told.
    async fn kill(&mut self) {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "it ended by itself: {status}"
        );
        while self.hear().await.is_some() {}
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn make(store: &Store) {
    let make = store.transact(|tx| async move {
        let settings = Settings {
            visibility_timeout_ms: u64::try_from(LEASE.as_millis()).unwrap(),
            ..Settings::default()
        };
        queue().create(&tx, &settings).await?;
        log(&clock()).create(&tx).await.unwrap();
        Ok::<_, QueueError>(())
    });
    make.await.unwrap();
}

/// Makes a part of the items, from several tasks at once.
async fn produce(store: &Store, items: std::ops::Range<u64>) {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (store, items) = (store.clone(), items.clone().skip(task).step_by(8));
        tasks.spawn(async move {
            for number in items {
                let clock = clock();
                let (clock, log) = (&clock, &log(&clock));
                let make = store.transact(|tx| async move {
                    let content = number.to_be_bytes();
                    queue().enqueue(&tx, &**clock, &Message::new(content.to_vec())).await?;
                    timers().set(&tx, &format!("{number}"), clock.wall_ms() + number % 500, content).await?;
                    log.append(&tx, &format!("key {}", number % 20), content).await.unwrap();
                    Ok::<_, QueueError>(())
                });
                make.await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// How often each item of a kind had its effect.
async fn counted(store: &Store, kind: &str) -> BTreeMap<u64, u8> {
    let snapshot = store.snapshot().await.unwrap();
    let mut counts = BTreeMap::new();
    for number in 0..ITEMS {
        let key = effects(&[Part::Text(kind), Part::Number(number)]);
        if let Some(value) = snapshot.get(&key).await.unwrap() {
            counts.insert(number, value[0]);
        }
    }
    counts
}

async fn wait_for_all(store: &Store) {
    let mut watch = store.watch(effects(&[]));
    for kind in KINDS {
        while counted(store, kind).await.len() < ITEMS as usize {
            watch.changed().await.expect("the store is open");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_goes_on_where_a_killed_one_was() {
    let database = cluster::shared().database();
    let (store, _folder) = open(database.url()).await;
    make(&store).await;
    produce(&store, 0..ITEMS / 3).await;

    let mut first = Owner::start(&database.url()).await;
    let producing = tokio::spawn({
        let store = store.clone();
        async move { produce(&store, ITEMS / 3..ITEMS / 3 * 2).await }
    });
    while !first.has_done(ENOUGH) {
        tokio::time::timeout(DEADLINE, first.hear()).await.expect("the first owner works").unwrap();
    }
    let mut second = Owner::start(&database.url()).await;
    first.kill().await;
    producing.await.unwrap();
    produce(&store, ITEMS / 3 * 2..ITEMS).await;
    tokio::time::timeout(DEADLINE, wait_for_all(&store)).await.expect("the second owner does the rest");
    second.kill().await;

    for kind in KINDS {
        let counts = counted(&store, kind).await;
        assert!(counts.values().all(|count| *count == 1), "done twice: {kind} {counts:?}");
        let (before, after) = (&first.done[kind], second.given.get(kind).cloned().unwrap_or_default());
        let again: Vec<_> = before.intersection(&after).collect();
        assert!(again.is_empty(), "{kind} given again after it was acknowledged: {again:?}");
        assert!(
            after.len() >= ITEMS as usize / 3,
            "what was made after the kill was not for the first: {kind}"
        );
    }
}
