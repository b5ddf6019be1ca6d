//! One task sets timers that are due at once, another owns them and completes each together with its effect: a count,
//! and a key of the timer's own. No timer is lost and none has its effect twice: those set are those fired and those
//! pending.

use std::sync::Arc;

use freehold_base::clock::{Clock, SharedClock, SystemClock};
use freehold_store::timer::{TimerOwner, Timers};
use freehold_store::{Key, Part, Session, Store, StoreError, keyspace};

use crate::workload::{Checked, Teller, count_keys, ensure, get_number, put_number};

/// The one that sets, and the one that fires.
pub(crate) const TASKS: u64 = 2;
/// Timers that are completed in one transaction at most.
const BATCH: usize = 8;

fn timers() -> Timers {
    Timers::new("crash")
}

fn count(what: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text("timers"), Part::Text(what)])
}

fn effect(id: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text("timer fired"), Part::Text(id)])
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    match teller.task() {
        0 => set(store, teller).await,
        _ => fire(store, teller).await,
    }
}

async fn set(store: &Store, teller: Teller) -> Result<(), StoreError> {
    loop {
        let write = store.transact(|tx| async move {
            let number = get_number(&tx, &count("set")).await? + 1;
            let due_ms = SystemClock.wall_ms();
            timers().set(&tx, &number.to_string(), due_ms, number.to_be_bytes()).await?;
            put_number(&tx, count("set"), number);
            Ok::<_, StoreError>(number)
        });
        teller.acknowledge(write.await?);
    }
}

async fn fire(store: &Store, teller: Teller) -> Result<(), StoreError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let session = Session::start(store, &clock, freehold_store::lease::SESSION_DURATION).await?;
    let lease = session.wait_for(&timers().lease_name()).await?;
    let mut owner = TimerOwner::open(store, &clock, lease, &timers()).await?;
    loop {
        let dues = owner.due(BATCH).await?;
        let dues = &dues;
        let write = store.transact(|tx| async move {
            let mut fired = get_number(&tx, &count("fired")).await?;
            for due in dues {
                if due.complete(&tx).await? {
                    tx.put(effect(&due.id), "");
                    fired += 1;
                }
            }
            put_number(&tx, count("fired"), fired);
            Ok::<_, StoreError>(fired)
        });
        teller.acknowledge(write.await?);
    }
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let failed = |error: StoreError| error.to_string();
    let snapshot = store.snapshot().await.map_err(failed)?;
    let set = get_number(&snapshot, &count("set")).await.map_err(failed)?;
    let fired = get_number(&snapshot, &count("fired")).await.map_err(failed)?;
    ensure(set >= told(0), || format!("timers: {} were acknowledged as set, {set} are", told(0)))?;
    ensure(fired >= told(1), || format!("timers: {} were acknowledged as fired, {fired} are", told(1)))?;
    let effects = keyspace::TESTS.key(&[Part::Text("timer fired")]);
    let effects = count_keys(&snapshot, &effects).await.map_err(failed)?;
    ensure(effects == fired, || format!("timers: {fired} fired, with {effects} effects"))?;
    let (mut pending, mut last) = (0, None);
    loop {
        let page = timers().pending(&snapshot, last.as_ref(), 1_000).await.map_err(failed)?;
        pending += page.len() as u64;
        let Some(timer) = page.into_iter().last() else { break };
        last = Some(timer);
    }
    ensure(set == fired + pending, || format!("timers: {set} set, {fired} fired, {pending} pending"))?;
    Ok(set + fired)
}
