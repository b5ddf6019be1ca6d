//! One task sends messages, another owns the queue and acknowledges each together with its effect: a count, and a key of
//! the message's own. No message is lost and none has its effect twice: those sent are those handled and those there.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::clock::{SharedClock, SystemClock};
use freehold_store::queue::{Message, Queue, QueueError, QueueOwner, Received, Settings};
use freehold_store::{Key, Part, Read, Session, Store, StoreError, keyspace};

use crate::workload::{Checked, Teller, count_keys, ensure, get_number, put_number};

/// The one that sends, and the one that receives.
pub(crate) const TASKS: u64 = 2;
/// What was in flight when the process was killed is visible again soon after.
const VISIBILITY_MS: u64 = 500;
/// Messages of one receive.
const BATCH: usize = 5;

fn queue() -> Queue {
    Queue::new("crash").expect("the name is a good one")
}

fn count(what: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text("queue"), Part::Text(what)])
}

fn effect(body: &[u8]) -> Key {
    keyspace::TESTS.key(&[Part::Text("message handled"), Part::Text(&String::from_utf8_lossy(body))])
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    let result = match teller.task() {
        0 => send(store, teller).await,
        _ => receive(store, teller).await,
    };
    result.map_err(|error| match error {
        QueueError::Store(error) => error,
        other => unreachable!("queues fail only with the store: {other}"),
    })
}

async fn create(store: &Store) -> Result<(), QueueError> {
    let create = store.transact(|tx| async move {
        if queue().settings(&tx).await?.is_none() {
            let settings = Settings { visibility_timeout_ms: VISIBILITY_MS, ..Settings::default() };
            queue().create(&tx, &settings).await?;
        }
        Ok(())
    });
    create.await
}

async fn send(store: &Store, teller: Teller) -> Result<(), QueueError> {
    create(store).await?;
    loop {
        let write = store.transact(|tx| async move {
            let number = get_number(&tx, &count("sent")).await? + 1;
            queue().enqueue(&tx, &SystemClock, &Message::new(number.to_string())).await?;
            put_number(&tx, count("sent"), number);
            Ok::<_, QueueError>(number)
        });
        teller.acknowledge(write.await?);
    }
}

async fn own(store: &Store) -> Result<(QueueOwner, Session), QueueError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let session = Session::start(store, &clock, freehold_store::lease::SESSION_DURATION).await?;
    let lease = session.wait_for(&queue().lease_name()).await?;
    Ok((QueueOwner::open(store, &clock, lease, &queue()).await?, session))
}

async fn receive(store: &Store, teller: Teller) -> Result<(), QueueError> {
    create(store).await?;
    let (owner, _session) = own(store).await?;
    loop {
        for message in owner.receive(BATCH, None, Duration::from_secs(1)).await? {
            match handle(store, &owner, &message).await {
                Ok(handled) => teller.acknowledge(handled),
                // It took so long that the message was visible again.
                Err(QueueError::ReceiptStale(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn handle(store: &Store, owner: &QueueOwner, message: &Received) -> Result<u64, QueueError> {
    let write = store.transact(|tx| async move {
        owner.acknowledge_in(&tx, &message.receipt).await?;
        let handled = get_number(&tx, &count("handled")).await? + 1;
        put_number(&tx, count("handled"), handled);
        tx.put(effect(&message.body), "");
        Ok::<_, QueueError>(handled)
    });
    write.await
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let failed = |error: StoreError| error.to_string();
    let snapshot = store.snapshot().await.map_err(failed)?;
    let sent = get_number(&snapshot, &count("sent")).await.map_err(failed)?;
    let handled = get_number(&snapshot, &count("handled")).await.map_err(failed)?;
    ensure(sent >= told(0), || format!("queue: {} were acknowledged as sent, {sent} are", told(0)))?;
    ensure(handled >= told(1), || format!("queue: {} were acknowledged as handled, {handled} are", told(1)))?;
    let effects = keyspace::TESTS.key(&[Part::Text("message handled")]);
    let effects = count_keys(&snapshot, &effects).await.map_err(failed)?;
    ensure(effects == handled, || format!("queue: {handled} handled, with {effects} effects"))?;
    if !exists(&snapshot).await? {
        return ensure(sent == 0, || "the queue is gone".to_owned()).map(|()| 0);
    }
    let (owner, session) = own(store).await.map_err(|error| error.to_string())?;
    let counts = owner.counts();
    let there = (counts.visible + counts.in_flight + counts.delayed) as u64;
    ensure(sent == handled + there, || format!("queue: {sent} sent, {handled} handled, {there} there"))?;
    drop(owner);
    session.end().await.map_err(failed)?;
    Ok(sent + handled)
}

async fn exists(read: &impl Read) -> Result<bool, String> {
    Ok(queue().settings(read).await.map_err(|error| error.to_string())?.is_some())
}
