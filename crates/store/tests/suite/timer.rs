//! Timers: due in order, once, wherever they were moved to, and over restarts and takeovers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use freehold_base::clock::{ManualClock, SharedClock};
use freehold_store::limits::{TIMER_ID_BYTES, TIMER_PAYLOAD_BYTES, TIMER_WINDOW};
use freehold_store::timer::{Due, PendingTimer, TimerOwner, Timers};
use freehold_store::{Session, Store, StoreError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Target, key, number, put_number};

const DAY_MS: u64 = 86_400_000;
const START_MS: u64 = 1_000 * DAY_MS;
const SESSION: Duration = Duration::from_secs(10);

fn clock() -> (Arc<ManualClock>, SharedClock) {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(START_MS)));
    (clock.clone(), clock)
}

async fn own(store: &Store, clock: &SharedClock, timers: &Timers) -> TimerOwner {
    let session = Session::start(store, clock, SESSION).await.unwrap();
    let lease = session.wait_for(&timers.lease_name()).await.unwrap();
    TimerOwner::open(store, clock, lease, timers).await.unwrap()
}

async fn set(store: &Store, timers: &Timers, id: &str, due_ms: u64, payload: &str) {
    let set = store.transact(|tx| async move { timers.set(&tx, id, due_ms, payload).await });
    set.await.unwrap();
}

async fn cancel(store: &Store, timers: &Timers, id: &str) -> bool {
    store.transact(|tx| async move { timers.cancel(&tx, id).await }).await.unwrap()
}

async fn complete(store: &Store, dues: &[Due]) -> Result<Vec<bool>, StoreError> {
    store.transact(|tx| async move { Due::complete_all(&tx, dues).await }).await
}

fn ids(dues: &[Due]) -> Vec<&str> {
    dues.iter().map(|due| due.id.as_str()).collect()
}

async fn timers_fall_due_in_order_after_days(target: &Target) {
    let store = target.open().await;
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    for (id, day) in [("c", 3), ("a", 1), ("late", 400), ("b", 2), ("also-b", 2)] {
        set(&store, &timers, id, START_MS + day * DAY_MS, id).await;
    }
    set(&store, &Timers::new("other"), "x", START_MS, "").await;
    let mut owner = own(&store, &clock, &timers).await;
    for expected in [vec!["a"], vec!["also-b", "b"], vec!["c"]] {
        hands.advance(Duration::from_millis(DAY_MS));
        let dues = owner.due(10).await.unwrap();
        assert_eq!(ids(&dues), expected);
        assert_eq!(dues[0].payload, dues[0].id.as_bytes());
        assert_eq!(complete(&store, &dues).await.unwrap(), vec![true; expected.len()]);
    }
    let left = timers.pending(&store.snapshot().await.unwrap(), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|timer| timer.id.as_str()).collect::<Vec<_>>(), ["late"]);
}

async fn an_owner_that_waits_hears_of_an_earlier_timer(target: &Target) {
    let store = target.open().await;
    // Where several may have the store open, another sets it.
    let other = if store.is_shared() { target.open().await } else { store.clone() };
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    set(&store, &timers, "later", START_MS + 9 * DAY_MS, "").await;
    let mut owner = own(&store, &clock, &timers).await;
    let waiting = tokio::spawn(async move { owner.due(10).await.map(|dues| ids(&dues).join(" ")) });
    set(&other, &timers, "past", 5, "").await;
    assert_eq!(waiting.await.unwrap().unwrap(), "past", "without any move of the clock");

    let mut owner = own(&other, &clock, &Timers::new("q")).await;
    let waiting = tokio::spawn(async move { owner.due(10).await.map(|dues| ids(&dues).join(" ")) });
    set(&store, &Timers::new("q"), "soon", START_MS + DAY_MS, "").await;
    hands.advance(Duration::from_millis(DAY_MS));
    assert_eq!(waiting.await.unwrap().unwrap(), "soon");
}

async fn a_moved_or_cancelled_timer_never_fires_as_it_was(target: &Target) {
    let store = target.open().await;
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    for id in ["moved", "cancelled", "stays", "sooner"] {
        set(&store, &timers, id, START_MS + DAY_MS, "old").await;
    }
    let mut owner = own(&store, &clock, &timers).await;
    set(&store, &timers, "moved", START_MS + 2 * DAY_MS, "new").await;
    set(&store, &timers, "sooner", START_MS, "new").await;
    assert!(cancel(&store, &timers, "cancelled").await);
    assert!(!cancel(&store, &timers, "cancelled").await);
    assert_eq!(ids(&owner.due(10).await.unwrap()), ["sooner"]);
    hands.advance(Duration::from_millis(DAY_MS));
    let dues = owner.due(10).await.unwrap();
    assert_eq!(ids(&dues), ["sooner", "stays"], "what was dropped comes again, in order");
    complete(&store, &dues).await.unwrap();
    hands.advance(Duration::from_millis(DAY_MS));
    let dues = owner.due(10).await.unwrap();
    assert_eq!((ids(&dues), &dues[0].payload[..]), (vec!["moved"], &b"new"[..]));
    let found = timers.get(&store.snapshot().await.unwrap(), "moved").await.unwrap().unwrap();
    assert_eq!((found.due_ms, &found.payload[..]), (START_MS + 2 * DAY_MS, &b"new"[..]));
}

/// Counts effects: one for each timer, in the transaction that completes it.
async fn effect(store: &Store, due: &Due) -> Result<bool, StoreError> {
    let done = store.transact(|tx| async move {
        let complete = due.complete(&tx).await?;
        if complete {
            let effects = number(&tx, &key(&due.id)).await?;
            put_number(&tx, key(&due.id), effects + 1);
        }
        Ok(complete)
    });
    done.await
}

async fn effects(store: &Store, id: &str) -> u64 {
    store.transact(|tx| async move { number(&tx, &key(id)).await }).await.unwrap()
}

async fn completing_has_no_effect_if_the_timer_changed_meanwhile(target: &Target) {
    let store = target.open().await;
    let (_hands, clock) = clock();
    let timers = Timers::new("p");
    for id in ["again", "cancelled", "moved", "plain"] {
        set(&store, &timers, id, START_MS, "old").await;
    }
    let mut owner = own(&store, &clock, &timers).await;
    let dues = owner.due(10).await.unwrap();
    assert_eq!(ids(&dues), ["again", "cancelled", "moved", "plain"]);
    set(&store, &timers, "again", START_MS, "new").await;
    set(&store, &timers, "moved", START_MS + DAY_MS, "old").await;
    cancel(&store, &timers, "cancelled").await;
    for due in &dues {
        assert_eq!(effect(&store, due).await.unwrap(), due.id == "plain", "{}", due.id);
    }
    assert!(!effect(&store, &dues[3]).await.unwrap(), "completed already");
    let anew = owner.due(10).await.unwrap();
    assert_eq!((ids(&anew), &anew[0].payload[..], anew[0].attempt), (vec!["again"], &b"new"[..], 1));
    assert!(effect(&store, &anew[0]).await.unwrap());
    assert_eq!([effects(&store, "again").await, effects(&store, "plain").await], [1, 1]);
    assert_eq!([effects(&store, "moved").await, effects(&store, "cancelled").await], [0, 0]);
}

async fn what_is_not_completed_is_given_again(target: &Target) {
    let store = target.open().await;
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    set(&store, &timers, "a", START_MS, "").await;
    set(&store, &timers, "gone", START_MS, "").await;
    let mut owner = own(&store, &clock, &timers).await;
    let mut attempts = Vec::new();
    for wait_s in [1, 2, 4] {
        attempts.extend(owner.due(10).await.unwrap().into_iter().map(|due| (due.id.clone(), due.attempt)));
        cancel(&store, &timers, "gone").await;
        hands.advance(Duration::from_millis(wait_s * 1_000 - 1));
        assert!(owner.due_now(10).await.unwrap().is_empty(), "not before its back-off is over");
        hands.advance(Duration::from_millis(1));
    }
    let expected = [("a", 1), ("gone", 1), ("a", 2), ("a", 3)];
    assert_eq!(attempts, expected.map(|(id, attempt)| (id.to_owned(), attempt)));

    let dues = owner.due(10).await.unwrap();
    dues.into_iter().for_each(|due| due.retry_after(Duration::from_secs(60)));
    hands.advance(Duration::from_secs(59));
    assert!(owner.due_now(10).await.unwrap().is_empty());
    hands.advance(Duration::from_secs(1));
    let dues = owner.due(10).await.unwrap();
    assert_eq!((dues.len(), dues[0].attempt), (1, 5));

    // A transaction that failed completes nothing.
    let failed = store.transact(|tx| {
        let due = &dues[0];
        async move {
            assert!(due.complete(&tx).await?);
            Err::<(), _>(StoreError::Closed)
        }
    });
    failed.await.unwrap_err();
    assert!(timers.get(&store.snapshot().await.unwrap(), "a").await.unwrap().is_some());
    assert_eq!(complete(&store, &dues).await.unwrap(), [true]);
    drop(dues);
    hands.advance(Duration::from_millis(DAY_MS));
    assert!(owner.due_now(10).await.unwrap().is_empty());
}

async fn timers_survive_a_restart(target: &Target) {
    let mut store = target.open().await;
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    for day in 0..6 {
        set(&store, &timers, &format!("{day}"), START_MS + day * DAY_MS, "").await;
    }
    for day in 0..6 {
        let mut owner = own(&store, &clock, &timers).await;
        assert_eq!(ids(&owner.due(10).await.unwrap()), [format!("{day}")], "given, and not completed");
        drop(owner);
        if target.keeps && !store.is_shared() {
            store.close().await;
            drop(store);
            store = target.open().await;
        } else if store.is_shared() {
            hands.advance(SESSION);
        } else {
            // The memory engine ends with its store, so another owner in the same one stands for a restart.
            let session = Session::start_expiring(&store, &clock, SESSION).await.unwrap();
            assert!(session.acquire(&timers.lease_name()).await.unwrap().is_none());
            break;
        }
        let mut owner = own(&store, &clock, &timers).await;
        let dues = owner.due(10).await.unwrap();
        assert_eq!((ids(&dues), dues[0].attempt), (vec![format!("{day}").as_str()], 1));
        complete(&store, &dues).await.unwrap();
        drop((dues, owner));
        hands.advance(Duration::from_millis(DAY_MS));
        store.close().await;
        drop(store);
        store = target.open().await;
    }
}

async fn a_stale_owner_completes_nothing(target: &Target) {
    let store = target.open().await;
    let (hands, clock) = clock();
    let timers = Timers::new("p");
    set(&store, &timers, "a", START_MS, "").await;
    set(&store, &timers, "b", START_MS, "").await;
    let first = Session::start_expiring(&store, &clock, SESSION).await.unwrap();
    let lease = first.wait_for(&timers.lease_name()).await.unwrap();
    let mut stale = TimerOwner::open(&store, &clock, lease.clone(), &timers).await.unwrap();
    let dues = stale.due(1).await.unwrap();
    hands.advance(SESSION);

    let second = Session::start_expiring(&store, &clock, SESSION).await.unwrap();
    let newer = second.wait_for(&timers.lease_name()).await.unwrap();
    let mut fresh = TimerOwner::open(&store, &clock, newer, &timers).await.unwrap();
    assert!(effect(&store, &dues[0]).await.unwrap_err().is_fenced());
    assert!(stale.due(1).await.unwrap_err().is_fenced(), "it says so from then on");
    assert!(TimerOwner::open(&store, &clock, lease, &timers).await.unwrap_err().is_fenced());
    let again = fresh.due(10).await.unwrap();
    assert_eq!(ids(&again), ["a", "b"]);
    for due in &again {
        assert!(effect(&store, due).await.unwrap());
    }
    assert_eq!([effects(&store, "a").await, effects(&store, "b").await], [1, 1]);
}

/// Sets `count` timers, one a second, and looks at what an owner makes of them.
async fn pending_ones_cost_nothing(store: &Store, count: u64) {
    const BATCH: u64 = 5_000;
    const OPENINGS: usize = 5;
    let (hands, clock) = clock();
    let timers = &Timers::new("p");
    let session = Session::start(store, &clock, SESSION).await.unwrap();
    let lease = session.wait_for(&timers.lease_name()).await.unwrap();
    let mut owner = TimerOwner::open(store, &clock, lease.clone(), timers).await.unwrap();
    for start in (0..count).step_by(BATCH as usize) {
        let fill = store.transact(|tx| async move {
            for number in start..(start + BATCH).min(count) {
                timers.set(&tx, &format!("{number:08}"), START_MS + 1_000 * (number + 1), b"").await?;
            }
            Ok::<_, StoreError>(())
        });
        fill.await.unwrap();
        assert!(owner.due_now(10).await.unwrap().is_empty());
        assert!(owner.held() <= TIMER_WINDOW);
    }
    drop(owner);
    let mut openings = Vec::new();
    for _ in 0..OPENINGS {
        let began = Instant::now();
        let owner = TimerOwner::open(store, &clock, lease.clone(), timers).await.unwrap();
        openings.push(began.elapsed());
        assert!(owner.held() <= TIMER_WINDOW);
    }
    let mut owner = TimerOwner::open(store, &clock, lease, timers).await.unwrap();
    hands.advance(Duration::from_secs(3_000));
    let mut next = 0;
    while next < 3_000 {
        let dues = owner.due(700).await.unwrap();
        for due in &dues {
            assert_eq!(due.id, format!("{next:08}"));
            next += 1;
        }
        assert!(complete(store, &dues).await.unwrap().into_iter().all(|complete| complete));
        assert!(owner.held() <= TIMER_WINDOW);
    }
    assert!(owner.due_now(10).await.unwrap().is_empty());
    let mut after: Option<PendingTimer> = None;
    let snapshot = store.snapshot().await.unwrap();
    let mut left = 0;
    let began = Instant::now();
    loop {
        let page = timers.pending(&snapshot, after.as_ref(), usize::MAX).await.unwrap();
        left += page.len();
        let Some(last) = page.into_iter().last() else { break };
        after = Some(last);
    }
    assert_eq!(left as u64, count - 3_000);
    // The shortest, and against the same machine: whatever else it does can make either longer, and hardly all openings.
    let (opening, reading) = (openings.into_iter().min().unwrap(), began.elapsed());
    let is_part = count < 20 * TIMER_WINDOW as u64 || opening * 4 < reading;
    assert!(is_part, "opening read all of them? It took {opening:?}, and reading all takes {reading:?}");
}

async fn many_pending_timers_cost_nothing_until_they_are_due(target: &Target) {
    pending_ones_cost_nothing(&target.open().await, 10_000).await;
}

async fn many_setters_at_once_lose_nothing(target: &Target) {
    const SETTERS: usize = 8;
    const EACH: usize = 40;
    let store = target.open().await;
    let (_hands, clock) = clock();
    let timers = Timers::new("p");
    let mut owner = own(&store, &clock, &timers).await;
    let mut tasks = tokio::task::JoinSet::new();
    for setter in 0..SETTERS {
        let (store, timers) = (store.clone(), timers.clone());
        tasks.spawn(async move {
            for number in 0..EACH {
                set(&store, &timers, &format!("{setter}-{number}"), START_MS - number as u64, "").await;
                // All of them fight for this one too, and it stays pending.
                set(&store, &timers, "same", START_MS + DAY_MS * (1 + setter as u64), "").await;
            }
        });
    }
    let mut seen = BTreeSet::new();
    while seen.len() < SETTERS * EACH {
        let dues = owner.due(16).await.unwrap();
        for due in &dues {
            assert!(effect(&store, due).await.unwrap());
            assert!(seen.insert(due.id.clone()), "{} was given twice", due.id);
        }
    }
    tasks.join_all().await;
    assert!(owner.due_now(10).await.unwrap().is_empty());
    let pending = timers.pending(&store.snapshot().await.unwrap(), None, 10).await.unwrap();
    assert_eq!(pending.len(), 1, "one id stands once: {pending:?}");
}

async fn what_is_too_large_is_refused(target: &Target) {
    let store = target.open().await;
    let long = "x".repeat(TIMER_ID_BYTES + 1);
    let large = vec![0; TIMER_PAYLOAD_BYTES + 1];
    for (partition, id, payload) in
        [("p", long.as_str(), &b""[..]), ("p", "a", &large), (long.as_str(), "a", b"")]
    {
        let timers = Timers::new(partition);
        let timers = &timers;
        let set = store.transact(|tx| async move { timers.set(&tx, id, 1, payload).await });
        assert!(matches!(set.await, Err(StoreError::TooLarge { .. })));
        let snapshot = store.snapshot().await.unwrap();
        assert!(timers.pending(&snapshot, None, 10).await.unwrap().is_empty());
    }
}

on_every_engine! {
    timers_fall_due_in_order_after_days
    an_owner_that_waits_hears_of_an_earlier_timer
    a_moved_or_cancelled_timer_never_fires_as_it_was
    completing_has_no_effect_if_the_timer_changed_meanwhile
    what_is_not_completed_is_given_again
    timers_survive_a_restart
    a_stale_owner_completes_nothing
    many_pending_timers_cost_nothing_until_they_are_due
    many_setters_at_once_lose_nothing
    what_is_too_large_is_refused
    timers_do_what_a_sorted_list_does
}

/// Alone in doing so many, for the time that it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_thousand_pending_timers_cost_nothing_until_they_are_due() {
    pending_ones_cost_nothing(&Target::folder().open().await, 200_000).await;
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u64, u8),
    Cancel(u8),
    Advance(u64),
    /// Takes so many, completes them if told so, or else drops them.
    Take(usize, bool),
    NewOwner,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_u8, 0..10_000_u64, 0..2_u8).prop_map(|(id, after_ms, payload)| Step::Set(id, after_ms, payload)),
        2 => (0..8_u8).prop_map(Step::Cancel),
        3 => (0..6_000_u64).prop_map(Step::Advance),
        5 => (1..5_usize, prop::bool::weighted(0.8)).prop_map(|(max, done)| Step::Take(max, done)),
        1 => Just(Step::NewOwner),
    ]
}

/// A timer in the model: when it is due, its payload, and from when on it may be given out again, after how many
/// attempts.
type Modelled = (u64, u8, u64, u32);

async fn timers_do_what_a_sorted_list_does(target: &Target) {
    let store = target.open().await;
    let runtime = tokio::runtime::Handle::current();
    let cases = if target.keeps { 24 } else { 96 };
    let work = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let case = std::cell::Cell::new(0);
        runner.run(&prop::collection::vec(any_step(), 1..40), |steps| {
            case.set(case.get() + 1);
            runtime.block_on(follow(&store, &Timers::new(format!("case {}", case.get())), &steps));
            Ok(())
        })
    });
    if let Err(failure) = work.await.unwrap() {
        panic!("{failure}");
    }
}

async fn follow(store: &Store, timers: &Timers, steps: &[Step]) {
    let (hands, clock) = clock();
    let session = Session::start(store, &clock, Duration::from_secs(1_000_000)).await.unwrap();
    let lease = session.wait_for(&timers.lease_name()).await.unwrap();
    let mut owner = TimerOwner::open(store, &clock, lease.clone(), timers).await.unwrap();
    let mut model: BTreeMap<u8, Modelled> = BTreeMap::new();
    for step in steps {
        let now_ms = clock.wall_ms();
        match *step {
            Step::Set(id, after_ms, payload) => {
                let due_ms = now_ms + after_ms;
                set(store, timers, &id.to_string(), due_ms, &payload.to_string()).await;
                let unchanged =
                    model.get(&id).filter(|before| (before.0, before.1) == (due_ms, payload)).copied();
                model.insert(id, unchanged.unwrap_or((due_ms, payload, 0, 0)));
            }
            Step::Cancel(id) => {
                assert_eq!(cancel(store, timers, &id.to_string()).await, model.remove(&id).is_some());
            }
            Step::Advance(by_ms) => hands.advance(Duration::from_millis(by_ms)),
            Step::NewOwner => {
                owner = TimerOwner::open(store, &clock, lease.clone(), timers).await.unwrap();
                model.values_mut().for_each(|timer| (timer.2, timer.3) = (0, 0));
            }
            Step::Take(max, done) => take(store, &mut owner, &mut model, now_ms, (max, done)).await,
        }
    }
    let pending = timers.pending(&store.snapshot().await.unwrap(), None, 100).await.unwrap();
    let mut expected: Vec<_> = model.iter().map(|(id, timer)| (timer.0, id.to_string())).collect();
    expected.sort();
    assert_eq!(pending.into_iter().map(|timer| (timer.due_ms, timer.id)).collect::<Vec<_>>(), expected);
}

async fn take(
    store: &Store,
    owner: &mut TimerOwner,
    model: &mut BTreeMap<u8, Modelled>,
    now_ms: u64,
    (max, done): (usize, bool),
) {
    let may = |timer: &Modelled| timer.0 <= now_ms && timer.2 <= now_ms;
    let mut expected: Vec<_> = model
        .iter()
        .filter(|(_, timer)| may(timer))
        .map(|(id, timer)| (timer.0, *id, timer.1, timer.3 + 1))
        .collect();
    expected.sort_unstable();
    expected.truncate(max);
    if expected.is_empty() {
        assert!(owner.due_now(max).await.unwrap().is_empty());
        return;
    }
    let dues = owner.due(max).await.unwrap();
    let found = dues.iter().map(|due| {
        let payload = std::str::from_utf8(&due.payload).unwrap().parse().unwrap();
        (due.due_ms, due.id.parse().unwrap(), payload, due.attempt)
    });
    assert_eq!(found.collect::<Vec<(u64, u8, u8, u32)>>(), expected);
    if done {
        assert!(complete(store, &dues).await.unwrap().into_iter().all(|complete| complete));
    }
    for (_, id, _, attempt) in expected {
        if done {
            model.remove(&id);
        } else if let Some(timer) = model.get_mut(&id) {
            *timer = (timer.0, timer.1, now_ms + 1_000 * (1 << (attempt - 1).min(8)), attempt);
        }
    }
}
