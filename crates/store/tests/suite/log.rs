//! Logs: every record that was acknowledged, once, in order, however late its transaction committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use freehold_base::clock::{ManualClock, SharedClock};
use freehold_store::limits::{LOG_DATA_BYTES, LOG_KEY_BYTES, LOG_NAME_BYTES};
use freehold_store::log::{Consumer, Ends, Log, LogError, LogOwner, LogRecord, Retention, Start};
use freehold_store::{Direction, Key, KeyRange, Read, Session, Store, Transaction, keyspace};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use super::{Target, key, number, put_number};

const START_MS: u64 = 1_000_000_000;
const SESSION: Duration = Duration::from_secs(10);

/// A log in a store, and whoever works on it.
#[derive(Clone)]
struct Place {
    store: Store,
    hands: Arc<ManualClock>,
    clock: SharedClock,
    session: Session,
    log: Log,
}

impl Place {
    async fn new(target: &Target, shards: u32) -> Self {
        Self::named(target.open().await, "l", shards).await
    }

    async fn named(store: Store, name: &str, shards: u32) -> Self {
        let hands = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(START_MS)));
        let clock: SharedClock = hands.clone();
        let session = Session::start_expiring(&store, &clock, SESSION * 1_000_000).await.unwrap();
        let log = Log::new(name, shards, &clock);
        let place = Self { store, hands, clock, session, log };
        place.create(&place.log).await.unwrap();
        place
    }

    async fn create(&self, log: &Log) -> Result<(), LogError> {
        self.store.transact(|tx| async move { log.create(&tx).await }).await
    }

    async fn owner(&self, shard: u32) -> LogOwner {
        let lease = self.session.wait_for(&self.log.lease_name(shard)).await.unwrap();
        LogOwner::open(&self.store, &self.clock, lease, &self.log, shard).await.unwrap()
    }

    async fn consumer(&self, name: &str, shard: u32, start: Start) -> Consumer {
        let lease = self.session.wait_for(&self.log.consumer_lease_name(name, shard)).await.unwrap();
        Consumer::open(&self.store, lease, &self.log, name, shard, start).await.unwrap()
    }

    async fn append(&self, key: &str, data: &str) {
        let append = self.store.transact(|tx| async move { self.log.append(&tx, key, data).await });
        append.await.unwrap();
    }

    async fn read(&self, shard: u32, from: u64) -> Result<Vec<LogRecord>, LogError> {
        self.log.read(&self.store.snapshot().await.unwrap(), shard, from, 1_000).await
    }

    async fn ends(&self, shard: u32) -> Ends {
        self.log.ends(&self.store.snapshot().await.unwrap(), shard).await.unwrap()
    }

    async fn lag(&self, consumer: &str) -> Option<u64> {
        self.log.lag(&self.store.snapshot().await.unwrap(), consumer, 0).await.unwrap()
    }

    async fn checkpoint(&self, consumer: &Consumer, position: u64) -> Result<(), LogError> {
        self.store.transact(|tx| async move { consumer.checkpoint(&tx, position).await }).await
    }
}

fn text(record: &LogRecord) -> String {
    String::from_utf8(record.data.to_vec()).unwrap()
}

fn texts(records: &[LogRecord]) -> Vec<String> {
    records.iter().map(text).collect()
}

async fn records_get_positions_in_the_order_of_their_keys(target: &Target) {
    let place = Place::new(target, 1).await;
    let owner = place.owner(0).await;
    assert!(place.read(0, 1).await.unwrap().is_empty());
    let append = place.store.transact(|tx| {
        let log = &place.log;
        async move {
            for data in ["b1", "b2"] {
                log.append(&tx, "b", data).await?;
            }
            log.append(&tx, "a", "a1").await?;
            log.append_unkeyed(&tx, "free").await
        }
    });
    append.await.unwrap();
    assert!(place.read(0, 1).await.unwrap().is_empty(), "not before the owner has seen it");
    owner.move_all().await.unwrap();
    place.hands.advance(Duration::from_millis(7));
    place.append("b", "b3").await;
    place.append("a", "a2").await;
    owner.move_all().await.unwrap();

    let records = place.read(0, 1).await.unwrap();
    assert!(records.iter().map(|record| record.position).eq(1..=6));
    assert!(records.iter().all(|record| record.key.is_none() == (text(record) == "free")));
    let of = |key: &str| -> Vec<String> {
        records.iter().filter(|record| record.key.as_deref() == Some(key)).map(text).collect()
    };
    assert_eq!(
        (of("a"), of("b")),
        (vec!["a1".into(), "a2".into()], vec!["b1".into(), "b2".into(), "b3".into()])
    );
    let times: Vec<_> = records.iter().map(|record| record.appended_at_ms - START_MS).collect();
    assert_eq!(times, [0, 0, 0, 0, 7, 7]);
    assert_eq!(place.ends(0).await, Ends { first: 1, next: 7, bytes: 19 });
    assert_eq!(texts(&place.read(0, 6).await.unwrap()).len(), 1);
    assert!(place.read(0, 7).await.unwrap().is_empty());
}

/// Which keys conflict: counts how often two transactions ran that both appended before either committed.
async fn runs_of_two(place: &Place, keys: [Option<&'static str>; 2]) -> usize {
    let both = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for key in keys {
        let (place, both, runs) = (place.clone(), both.clone(), runs.clone());
        tasks.spawn(async move {
            let append = place.store.transact(|tx| {
                let (log, both, runs) = (&place.log, &both, &runs);
                async move {
                    match key {
                        Some(key) => log.append(&tx, key, "x").await?,
                        None => log.append_unkeyed(&tx, "x").await?,
                    }
                    if runs.fetch_add(1, Ordering::SeqCst) < 2 {
                        both.wait().await;
                    }
                    Ok::<_, LogError>(())
                }
            });
            append.await.unwrap();
        });
    }
    tasks.join_all().await;
    runs.load(Ordering::SeqCst)
}

async fn only_appends_of_one_key_conflict(target: &Target) {
    let place = Place::new(target, 1).await;
    // Once with an empty inbox and once with all keys in it.
    for _ in 0..2 {
        assert_eq!(runs_of_two(&place, [Some("a"), Some("b")]).await, 2);
        assert_eq!(runs_of_two(&place, [Some("a"), None]).await, 2);
        assert_eq!(runs_of_two(&place, [None, None]).await, 2);
        assert!(runs_of_two(&place, [Some("a"), Some("a")]).await > 2);
    }
    place.owner(0).await.move_all().await.unwrap();
    assert_eq!(place.ends(0).await.next - 1, 16);
}

/// What the writers of the test below do and know.
struct Writers {
    /// How many records the consumers have been given in all.
    seen: watch::Receiver<usize>,
    acknowledged: std::sync::Mutex<BTreeSet<String>>,
}

const QUICK: usize = 6;
const LATE: usize = 4;
const QUICK_APPENDS: usize = 40;
const LATE_APPENDS: usize = 5;

/// Appends a key's next number, counted in the same transaction.
async fn append_next(tx: &Transaction, log: &Log, name: &str) -> Result<String, LogError> {
    let count = number(tx, &key(name)).await? + 1;
    put_number(tx, key(name), count);
    let data = format!("{name}:{count}");
    log.append(tx, name, &data).await?;
    Ok(data)
}

impl Writers {
    async fn quick(&self, place: &Place, writer: usize) {
        for append in 0..QUICK_APPENDS {
            // Few keys, so that writers of the same one meet.
            let name = format!("key {}", (writer + append) % 4);
            let (name, log) = (&name, &place.log);
            let written = place.store.transact(|tx| async move { append_next(&tx, log, name).await });
            self.acknowledge(written.await.unwrap());
        }
    }

    /// Appends first of all, and commits when the consumers have been given many that were appended later.
    async fn late(&self, place: &Place, writer: usize) {
        let name = format!("late {writer}");
        for append in 0..LATE_APPENDS {
            let until = (append + 1) * QUICK * QUICK_APPENDS / (LATE_APPENDS + 1);
            let (name, log) = (&name, &place.log);
            let written = place.store.transact(|tx| {
                let mut seen = self.seen.clone();
                async move {
                    let data = append_next(&tx, log, name).await?;
                    seen.wait_for(|seen| *seen >= until).await.unwrap();
                    Ok::<_, LogError>(data)
                }
            });
            self.acknowledge(written.await.unwrap());
        }
    }

    fn acknowledge(&self, data: String) {
        assert!(self.acknowledged.lock().unwrap().insert(data));
    }
}

async fn a_consumer_never_skips_a_record_that_commits_late(target: &Target) {
    const SHARDS: u32 = 2;
    const TOTAL: usize = QUICK * QUICK_APPENDS + LATE * LATE_APPENDS;
    let place = Place::new(target, SHARDS).await;
    // Where several may have the store open, half of the writers are in another.
    let other = if place.store.is_shared() { target.open().await } else { place.store.clone() };
    let (count, seen) = watch::channel(0);
    let count = Arc::new(count);
    let writers = Arc::new(Writers { seen: seen.clone(), acknowledged: std::sync::Mutex::default() });
    let (stop, stopped) = watch::channel(false);
    let mut owners = JoinSet::new();
    let mut consumers = JoinSet::new();
    for shard in 0..SHARDS {
        let (owner, stopped) = (place.owner(shard).await, stopped.clone());
        owners.spawn(async move { owner.run(stopped, Retention::default()).await });
        let mut consumer = place.consumer("c", shard, Start::Oldest).await;
        let (count, mut all) = (count.clone(), seen.clone());
        consumers.spawn(async move {
            let mut records = Vec::new();
            loop {
                tokio::select! {
                    batch = consumer.next(7) => {
                        let batch = batch.unwrap();
                        assert_eq!(batch.missed, 0);
                        count.send_modify(|count| *count += batch.records.len());
                        records.extend(batch.records);
                    }
                    _ = all.wait_for(|seen| *seen >= TOTAL) => return (shard, records),
                }
            }
        });
    }
    let mut tasks = JoinSet::new();
    for writer in 0..QUICK + LATE {
        let store = if writer % 2 == 0 { place.store.clone() } else { other.clone() };
        let (place, writers) = (Place { store, ..place.clone() }, writers.clone());
        tasks.spawn(async move {
            if writer < LATE {
                writers.late(&place, writer).await
            } else {
                writers.quick(&place, writer).await
            }
        });
    }
    tasks.join_all().await;
    let mut found = BTreeSet::new();
    for (shard, records) in consumers.join_all().await {
        let mut of_keys: BTreeMap<String, usize> = BTreeMap::new();
        assert!(records.iter().map(|record| record.position).eq(1..=records.len() as u64), "no gaps");
        for record in &records {
            let name = record.key.clone().unwrap();
            assert_eq!(place.log.shard_of(&name), shard);
            let count = of_keys.entry(name.clone()).or_default();
            *count += 1;
            assert_eq!(text(record), format!("{name}:{count}"), "in the order of its key");
            assert!(found.insert(text(record)), "twice: {}", text(record));
        }
    }
    assert_eq!(found, *writers.acknowledged.lock().unwrap());
    stop.send_replace(true);
    owners.join_all().await.into_iter().for_each(|ended| ended.unwrap());
    for shard in 0..SHARDS {
        place.owner(shard).await.move_all().await.unwrap();
    }
    assert_eq!(
        place.ends(0).await.next + place.ends(1).await.next - 2,
        TOTAL as u64,
        "and nothing is left over"
    );
}

async fn a_takeover_loses_nothing_and_a_stale_owner_writes_nothing(target: &Target) {
    let place = Place::new(target, 1).await;
    let mut owners: Vec<LogOwner> = Vec::new();
    let mut expected = Vec::new();
    for round in 0..5 {
        let session = Session::start_expiring(&place.store, &place.clock, SESSION).await.unwrap();
        let lease = session.wait_for(&place.log.lease_name(0)).await.unwrap();
        let owner = LogOwner::open(&place.store, &place.clock, lease.clone(), &place.log, 0).await.unwrap();
        for name in ["a", "b"] {
            place.append(name, &format!("{name}{round}")).await;
            expected.push(format!("{name}{round}"));
        }
        for stale in &owners {
            assert!(stale.move_all().await.unwrap_err().is_fenced());
            assert!(stale.trim_before(2).await.unwrap_err().is_fenced() || place.ends(0).await.next == 1);
        }
        // Every other owner stops without having done anything.
        if round % 2 == 0 {
            owner.move_all().await.unwrap();
        }
        place.hands.advance(SESSION);
        owners.push(owner);
    }
    assert_eq!(texts(&place.read(0, 1).await.unwrap()), expected);
}

async fn consumers_go_on_after_their_own_checkpoints(target: &Target) {
    let place = Place::new(target, 1).await;
    let owner = place.owner(0).await;
    for number in 1..=6 {
        place.append("a", &number.to_string()).await;
        place.hands.advance(Duration::from_millis(10));
        owner.move_all().await.unwrap();
    }
    assert_eq!(place.lag("one").await, None);
    let mut one = place.consumer("one", 0, Start::Oldest).await;
    let mut late = place.consumer("late", 0, Start::Latest).await;
    let mut timed = place.consumer("timed", 0, Start::At(START_MS + 21)).await;
    assert_eq!(texts(&one.next(2).await.unwrap().records), ["1", "2"]);
    assert_eq!(texts(&one.next(2).await.unwrap().records), ["3", "4"]);
    assert_eq!(texts(&timed.next(9).await.unwrap().records), ["4", "5", "6"]);
    assert!(late.next_now(9).await.unwrap().records.is_empty());
    assert_eq!(
        [place.lag("one").await, place.lag("late").await, place.lag("timed").await],
        [Some(6), Some(0), Some(3)]
    );

    place.checkpoint(&one, 3).await.unwrap();
    place.checkpoint(&one, 1).await.unwrap();
    assert_eq!(place.lag("one").await, Some(3), "it never goes back");
    let ahead = place.checkpoint(&one, 5).await.unwrap_err();
    assert!(matches!(ahead, LogError::Ahead { position: 5, next: 5 }), "{ahead}");
    one.rewind().await.unwrap();
    assert_eq!(texts(&one.next(9).await.unwrap().records), ["4", "5", "6"]);

    let waiting = tokio::spawn(async move { texts(&late.next(9).await.unwrap().records) });
    place.append("a", "7").await;
    owner.move_all().await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["7"]);
    // What begins anew goes on, whatever start it asks for.
    assert_eq!(texts(&place.consumer("one", 0, Start::Latest).await.next(9).await.unwrap().records).len(), 4);
    assert_eq!(texts(&place.consumer("late", 0, Start::Oldest).await.next(9).await.unwrap().records), ["7"]);

    // Another process follows in its place; no two do at once.
    let second = Session::start_expiring(&place.store, &place.clock, SESSION).await.unwrap();
    let lease_name = place.log.consumer_lease_name("one", 0);
    assert!(second.acquire(&lease_name).await.unwrap().is_none());
    place.session.acquire(&lease_name).await.unwrap().unwrap().release().await.unwrap();
    let lease = second.acquire(&lease_name).await.unwrap().unwrap();
    let mut next = Consumer::open(&place.store, lease, &place.log, "one", 0, Start::Oldest).await.unwrap();
    assert!(place.checkpoint(&one, 6).await.unwrap_err().is_fenced());
    assert!(one.next(1).await.unwrap_err().is_fenced());
    assert_eq!(texts(&next.next(1).await.unwrap().records), ["4"]);
}

async fn what_is_trimmed_is_gone_and_counted(target: &Target) {
    let place = Place::new(target, 1).await;
    let owner = place.owner(0).await;
    let mut consumer = place.consumer("c", 0, Start::Oldest).await;
    for number in 0..10 {
        place.append("k", &number.to_string()).await;
        owner.move_all().await.unwrap();
        place.hands.advance(Duration::from_secs(1));
    }
    assert_eq!(texts(&consumer.next(2).await.unwrap().records), ["0", "1"]);
    assert_eq!(owner.trim_before(5).await.unwrap(), 4);
    assert_eq!(owner.trim_before(3).await.unwrap(), 0);
    let error = place.read(0, 4).await.unwrap_err();
    assert!(matches!(error, LogError::Trimmed { position: 4, first: 5 }), "{error}");
    let batch = consumer.next(1).await.unwrap();
    assert_eq!((batch.missed, texts(&batch.records)), (2, vec!["4".to_owned()]));
    assert_eq!(place.ends(0).await, Ends { first: 5, next: 11, bytes: 12 });

    assert_eq!(owner.trim_older_than(Duration::from_secs(3)).await.unwrap(), 3, "7 is three seconds old");
    assert_eq!(owner.trim_to_bytes(5).await.unwrap(), 1);
    assert_eq!(texts(&place.read(0, 9).await.unwrap()), ["8", "9"]);
    assert_eq!(owner.trim_before(u64::MAX).await.unwrap(), 2);
    assert_eq!(place.ends(0).await, Ends { first: 11, next: 11, bytes: 0 });
    let batch = consumer.next(9).await.unwrap();
    assert_eq!((batch.missed, batch.records.len()), (5, 0), "it says so at once");
    place.append("k", "10").await;
    owner.move_all().await.unwrap();
    assert_eq!(consumer.next(9).await.unwrap().records[0].position, 11, "positions never come again");
}

async fn a_running_owner_moves_and_trims_by_itself(target: &Target) {
    let place = Place::new(target, 1).await;
    let (stop, stopped) = watch::channel(false);
    let owner = place.owner(0).await;
    let retention = Retention { age: Some(Duration::from_secs(3_600)), bytes: None };
    let running = tokio::spawn(async move { owner.run(stopped, retention).await });
    let mut consumer = place.consumer("c", 0, Start::Oldest).await;
    place.append("a", "old").await;
    assert_eq!(texts(&consumer.next(1).await.unwrap().records), ["old"]);
    let mut shard = place.store.watch(keyspace::LOG_SHARDS.key(&[]));
    place.hands.advance(Duration::from_secs(2 * 3_600));
    while place.ends(0).await.first == 1 {
        shard.changed().await.unwrap();
    }
    place.append("a", "new").await;
    assert_eq!(texts(&consumer.next(1).await.unwrap().records), ["new"]);
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

/// Every key of any log.
async fn all_keys(store: &Store) -> Vec<Key> {
    let mut keys = Vec::new();
    for prefix in [
        keyspace::LOGS,
        keyspace::LOG_INBOX,
        keyspace::LOG_RECORDS,
        keyspace::LOG_SHARDS,
        keyspace::LOG_CHECKPOINTS,
    ] {
        let range = KeyRange::prefix(&prefix.key(&[]));
        let found = store.snapshot().await.unwrap().scan(range, Direction::Forward, 10_000).await.unwrap();
        keys.extend(found.into_iter().map(|(key, _)| key));
    }
    keys
}

async fn a_deleted_log_leaves_nothing(target: &Target) {
    let place = Place::new(target, 3).await;
    let before = all_keys(&place.store).await;
    let doomed = Place::named(place.store.clone(), "l2", 2).await;
    let owner = doomed.owner(0).await;
    let mut consumer = doomed.consumer("c", 0, Start::Oldest).await;
    let fill = doomed.store.transact(|tx| {
        let log = &doomed.log;
        async move {
            for number in 0..1_500 {
                log.append(&tx, &number.to_string(), "x").await?;
            }
            Ok::<_, LogError>(())
        }
    });
    fill.await.unwrap();
    owner.move_all().await.unwrap();
    assert!(!consumer.next(9).await.unwrap().records.is_empty());
    doomed.log.delete(&doomed.store).await.unwrap();
    assert_eq!(all_keys(&place.store).await, before);
    doomed.log.delete(&doomed.store).await.unwrap();

    let append = doomed.store.transact(|tx| {
        let log = &doomed.log;
        async move { log.append(&tx, "a", "x").await }
    });
    assert!(matches!(append.await, Err(LogError::NotFound { .. })));
    assert!(matches!(consumer.next(9).await, Err(LogError::NotFound { .. })));
    assert!(matches!(owner.trim_before(9).await, Ok(0) | Err(LogError::NotFound { .. })));
    let anew = Log::new("l2", 5, &doomed.clock);
    doomed.create(&anew).await.unwrap();
    let none = anew.ends(&doomed.store.snapshot().await.unwrap(), 4).await.unwrap();
    assert_eq!(none, Ends { first: 1, next: 1, bytes: 0 });
}

async fn what_does_not_fit_is_refused(target: &Target) {
    let place = Place::new(target, 2).await;
    let other = Log::new("l", 3, &place.clock);
    let error = place.create(&other).await.unwrap_err();
    assert!(matches!(error, LogError::Shards { given: 3, found: 2, .. }), "{error}");
    let append = place.store.transact(|tx| {
        let other = &other;
        async move { other.append_unkeyed(&tx, "x").await }
    });
    assert!(matches!(append.await, Err(LogError::Shards { .. })));
    assert!(matches!(place.read(2, 1).await, Err(LogError::NoShard { shard: 2, shards: 2, .. })));
    place.create(&place.log).await.unwrap();
    let long = "x".repeat(LOG_NAME_BYTES + 1);
    for refused in
        [Log::new(long, 1, &place.clock), Log::new("n", 0, &place.clock), Log::new("n", 5_000, &place.clock)]
    {
        place.create(&refused).await.unwrap_err();
    }
    for (name, data) in [("x".repeat(LOG_KEY_BYTES + 1), 0), ("x".to_owned(), LOG_DATA_BYTES + 1)] {
        let (name, data, log) = (&name, &vec![0; data], &place.log);
        let append = place.store.transact(|tx| async move { log.append(&tx, name, data).await });
        append.await.unwrap_err();
    }
    assert_eq!(all_keys(&place.store).await.len(), 1, "the one log");
}

async fn large_records_go_through_in_parts(target: &Target) {
    const COUNT: u64 = 20;
    let place = Place::new(target, 1).await;
    let data = "x".repeat(LOG_DATA_BYTES);
    for _ in 0..COUNT {
        place.append("a", &data).await;
    }
    let owner = place.owner(0).await;
    owner.move_all().await.unwrap();
    let mut consumer = place.consumer("c", 0, Start::Oldest).await;
    let mut next = 1;
    while next <= COUNT {
        for record in consumer.next(1_000).await.unwrap().records {
            assert_eq!((record.position, record.data.len()), (next, LOG_DATA_BYTES));
            next += 1;
        }
    }
    assert_eq!(owner.trim_to_bytes(0).await.unwrap(), COUNT);
}

on_every_engine! {
    records_get_positions_in_the_order_of_their_keys
    only_appends_of_one_key_conflict
    a_consumer_never_skips_a_record_that_commits_late
    a_takeover_loses_nothing_and_a_stale_owner_writes_nothing
    consumers_go_on_after_their_own_checkpoints
    what_is_trimmed_is_gone_and_counted
    a_running_owner_moves_and_trims_by_itself
    a_deleted_log_leaves_nothing
    what_does_not_fit_is_refused
    large_records_go_through_in_parts
    logs_do_what_a_list_does
}

#[derive(Clone, Debug)]
enum Step {
    /// Appends to these keys in one transaction (none for no key), which fails in the end if told so.
    Append(Vec<Option<u8>>, bool),
    Move,
    TrimBefore(u64),
    /// Takes so many, and then makes a checkpoint, goes back, or does neither.
    Consume(usize, Option<bool>),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let any_key = prop::option::weighted(0.8, 0..3_u8);
    prop_oneof![
        5 => (prop::collection::vec(any_key, 1..5), prop::bool::weighted(0.2))
            .prop_map(|(keys, fails)| Step::Append(keys, fails)),
        4 => Just(Step::Move),
        1 => (0..20_u64).prop_map(Step::TrimBefore),
        4 => (1..6_usize, prop::option::of(any::<bool>())).prop_map(|(max, then)| Step::Consume(max, then)),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    /// What was appended and has no position yet: key, data.
    inbox: Vec<(Option<u8>, String)>,
    /// What has a position, from 1 on, also what was trimmed.
    records: Vec<String>,
    first: u64,
    appended: usize,
    /// What the consumer has been given, and what it is done with: the next position of each.
    next: u64,
    done: u64,
}

async fn logs_do_what_a_list_does(target: &Target) {
    let store = target.open().await;
    let runtime = tokio::runtime::Handle::current();
    let cases = if target.keeps { 16 } else { 64 };
    let work = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let case = std::cell::Cell::new(0);
        runner.run(&prop::collection::vec(any_step(), 1..30), |steps| {
            case.set(case.get() + 1);
            let follow = async {
                let place = Place::named(store.clone(), &format!("case {}", case.get()), 1).await;
                follow(&place, &steps).await;
            };
            runtime.block_on(follow);
            Ok(())
        })
    });
    if let Err(failure) = work.await.unwrap() {
        panic!("{failure}");
    }
}

async fn follow(place: &Place, steps: &[Step]) {
    let mut model = Model { first: 1, next: 1, done: 1, ..Model::default() };
    let owner = place.owner(0).await;
    let mut consumer = place.consumer("c", 0, Start::Oldest).await;
    for step in steps {
        match step {
            Step::Append(keys, fails) => append_all(place, &mut model, keys, *fails).await,
            Step::Move => {
                owner.move_all().await.unwrap();
                take_positions(place, &mut model).await;
            }
            Step::TrimBefore(position) => {
                let first = (*position).clamp(model.first, model.records.len() as u64 + 1);
                assert_eq!(owner.trim_before(*position).await.unwrap(), first - model.first);
                model.first = first;
            }
            Step::Consume(max, then) => consume(place, &mut consumer, &mut model, *max, *then).await,
            Step::Reopen => {
                consumer = place.consumer("c", 0, Start::Latest).await;
                model.next = model.done;
            }
        }
        let ends = place.ends(0).await;
        assert_eq!((ends.first, ends.next), (model.first, model.records.len() as u64 + 1));
        let left = texts(&place.read(0, model.first).await.unwrap());
        assert_eq!(left, model.records[model.first as usize - 1..]);
    }
}

async fn append_all(place: &Place, model: &mut Model, keys: &[Option<u8>], fails: bool) {
    let entries: Vec<_> =
        keys.iter().enumerate().map(|(index, key)| (*key, (model.appended + index).to_string())).collect();
    let appended = place.store.transact(|tx| {
        let (entries, log) = (&entries, &place.log);
        async move {
            for (key, data) in entries {
                match key {
                    Some(key) => log.append(&tx, &key.to_string(), data).await?,
                    None => log.append_unkeyed(&tx, data).await?,
                }
            }
            if fails { Err(LogError::Deleting { log: String::new() }) } else { Ok(()) }
        }
    });
    assert_eq!(appended.await.is_err(), fails);
    if !fails {
        model.appended += entries.len();
        model.inbox.extend(entries);
    }
}

/// Takes over the order that the records were given, if it is one of those that they may be given.
async fn take_positions(place: &Place, model: &mut Model) {
    let all = place.read(0, model.first).await.unwrap();
    let new = &all[model.records.len() + 1 - model.first as usize..];
    assert_eq!(new.len(), model.inbox.len());
    for record in new {
        let named = |key: &Option<u8>| key.map(|key| key.to_string()) == record.key;
        let of_key = |entry: &(Option<u8>, String)| match record.key {
            // Without a key there is no order.
            None => entry.1 == text(record),
            Some(_) => named(&entry.0),
        };
        let oldest = model.inbox.iter().position(of_key).unwrap();
        assert_eq!(model.inbox.remove(oldest).1, text(record));
        model.records.push(text(record));
    }
}

async fn consume(place: &Place, consumer: &mut Consumer, model: &mut Model, max: usize, then: Option<bool>) {
    let from = model.next.max(model.first);
    let expected: Vec<_> = model.records.iter().skip(from as usize - 1).take(max).cloned().collect();
    let batch = consumer.next_now(max).await.unwrap();
    assert_eq!((batch.missed, texts(&batch.records)), (from - model.next, expected));
    model.next = from + batch.records.len() as u64;
    match then {
        Some(true) => {
            place.checkpoint(consumer, model.next - 1).await.unwrap();
            model.done = model.done.max(model.next);
        }
        Some(false) => {
            consumer.rewind().await.unwrap();
            model.next = model.done;
        }
        None => {}
    }
}
