//! Queues and timers, as services use them. Each figure is a function of an open store, of any engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_base::clock::{Clock, SharedClock, SystemClock};
use freehold_store::lease::SESSION_DURATION;
use freehold_store::queue::{Message, Queue, QueueError, QueueOwner, Settings};
use freehold_store::timer::{Due, TimerOwner, Timers};
use freehold_store::{Session, Store, StoreError};

use crate::table::Column;
use crate::{Failure, RUN};

/// Clients of the queue, and tasks that set timers.
const CLIENTS: usize = 64;
/// Length of a message, in bytes.
const MESSAGE_BYTES: usize = 1_024;
/// Timers that are set in one transaction.
const SET_BATCH: u64 = 16;
/// Timers that are completed in one transaction at most.
const FIRE_BATCH: usize = 512;

/// Adds the figures of both.
pub(crate) async fn measure(store: &Store, column: &mut Column) -> Result<(), Failure> {
    let cycles = queue_cycles(store, RUN).await?;
    let what = "queue: send, receive, delete, each synced, 64 clients";
    column.add(what, "10,000 cycles/s", format!("{cycles:.0} cycles/s"));
    let fired = timers(store, RUN).await?;
    let what = "timers: set (16 a transaction, 64 tasks) and fired";
    column.add(what, "30,000/s", format!("{fired:.0}/s"));
    Ok(())
}

/// Whole cycles per second: each client sends a message, receives one, deletes it, one after the other.
async fn queue_cycles(store: &Store, run: Duration) -> Result<f64, Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    let session = Session::start(store, &clock, SESSION_DURATION).await?;
    let queue = Queue::new("benchmark")?;
    let create = store.transact(|tx| {
        let queue = &queue;
        async move { queue.create(&tx, &Settings::default()).await }
    });
    create.await?;
    let lease = session.wait_for(&queue.lease_name()).await?;
    let owner = Arc::new(QueueOwner::open(store, &clock, lease, &queue).await?);
    let (started, mut clients) = (Instant::now(), tokio::task::JoinSet::new());
    for _ in 0..CLIENTS {
        let (store, queue, owner) = (store.clone(), queue.clone(), owner.clone());
        clients.spawn(async move {
            let (mut cycles, message) = (0_u64, Message::new(vec![7; MESSAGE_BYTES]));
            while started.elapsed() < run {
                let send = store.transact(|tx| {
                    let (queue, message) = (&queue, &message);
                    async move { queue.enqueue(&tx, &SystemClock, message).await }
                });
                send.await?;
                for received in owner.receive(1, None, Duration::from_secs(1)).await? {
                    owner.acknowledge(&received.receipt).await?;
                    cycles += 1;
                }
            }
            Ok::<_, QueueError>(cycles)
        });
    }
    let mut cycles = 0;
    while let Some(client) = clients.join_next().await {
        cycles += client??;
    }
    let rate = cycles as f64 / started.elapsed().as_secs_f64();
    session.end().await?;
    Ok(rate)
}

/// Timers per second that were set, fell due and were completed.
async fn timers(store: &Store, run: Duration) -> Result<f64, Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    let session = Session::start(store, &clock, SESSION_DURATION).await?;
    let timers = Timers::new("benchmark");
    let lease = session.wait_for(&timers.lease_name()).await?;
    let mut owner = TimerOwner::open(store, &clock, lease, &timers).await?;
    let (started, set) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut setters = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (store, timers, set) = (store.clone(), timers.clone(), set.clone());
        setters.spawn(async move {
            while started.elapsed() < run {
                let first = set.fetch_add(SET_BATCH, Ordering::Relaxed);
                let write = store.transact(|tx| {
                    let timers = &timers;
                    async move {
                        for number in first..first + SET_BATCH {
                            timers.set(&tx, &number.to_string(), SystemClock.wall_ms(), b"payload").await?;
                        }
                        Ok::<_, StoreError>(())
                    }
                });
                write.await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    let mut fired = 0;
    while !setters.is_empty() || fired < set.load(Ordering::Relaxed) {
        while let Some(setter) = setters.try_join_next() {
            setter??;
        }
        let dues = owner.due_now(FIRE_BATCH).await?;
        if dues.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let fire = store.transact(|tx| {
            let dues = &dues;
            async move { Due::complete_all(&tx, dues).await }
        });
        fired += fire.await?.into_iter().filter(|completed| *completed).count() as u64;
    }
    let rate = fired as f64 / started.elapsed().as_secs_f64();
    session.end().await?;
    Ok(rate)
}
