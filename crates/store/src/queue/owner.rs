//! The one owner of a queue: hands its messages out, and keeps what it knows of them in memory.
//!
//! An owner holds the queue's lease. Every write of it checks the lease in its transaction; when that finds the lease lost
//! ([`crate::StoreError::Fenced`]), or the queue or the store gone, the owner stops for good, and every call on it answers with
//! that error.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use freehold_base::clock::SharedClock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::core::{Core, Counts, Limits, Signals};
use super::descriptor::Queue;
use super::error::QueueError;
use super::following::Following;
use super::receipt::queue_digest;
use super::records::{Place, QueueRecord};
use super::settings::Settings;
use crate::lease::Lease;
use crate::store::Store;

/// Receivers that are woken at once; each wakes the next when it leaves something.
const WAKE_AT_ONCE: usize = 64;

/// Hands out the messages of one queue. Clones are the same owner; it ends when the last is dropped, and what it gave out
/// stays in flight. Its calls may be made by many tasks at once.
#[derive(Clone)]
pub struct QueueOwner {
    pub(super) shared: Arc<Shared>,
    _task: Arc<EndOnDrop>,
}

/// What the owner, its task and its receives share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) lease: Lease,
    pub(super) queue: Queue,
    /// Of the queue's name.
    pub(super) digest: u64,
    state: Mutex<State>,
    /// For receivers: there is something to pick.
    pub(super) available: Notify,
    /// For the task: there is something to do.
    pub(super) work: Notify,
    stopped: OnceLock<QueueError>,
    /// For whoever waits until it has stopped.
    stopping: Notify,
}

/// What is known of the queue.
pub(super) struct State {
    pub(super) core: Core,
    pub(super) settings: Settings,
    pub(super) incarnation: u64,
}

struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl QueueOwner {
    /// Becomes the owner of `queue`: reads where its messages stand, all of them to count them, and goes on where the last
    /// owner stopped. `lease` must be that of [`Queue::lease_name`]. Must be called within a tokio runtime.
    pub async fn open(
        store: &Store,
        clock: &SharedClock,
        lease: Lease,
        queue: &Queue,
    ) -> Result<Self, QueueError> {
        if lease.name() != queue.lease_name() {
            let (expected, lease) = (queue.lease_name(), lease.name().to_owned());
            return Err(QueueError::WrongLease { queue: queue.name().to_owned(), expected, lease });
        }
        let snapshot = store.snapshot().await?;
        lease.check(&snapshot).await?;
        let record = queue.record(&snapshot).await?;
        drop(snapshot);
        let shared = Arc::new(Shared {
            store: store.clone(),
            clock: clock.clone(),
            lease,
            queue: queue.clone(),
            digest: queue_digest(queue.name()),
            state: Mutex::new(State::new(record)),
            available: Notify::new(),
            work: Notify::new(),
            stopped: OnceLock::new(),
            stopping: Notify::new(),
        });
        let following = Following::begin(&shared).await?;
        let task = tokio::spawn(following.run(shared.clone()));
        Ok(Self { shared, _task: Arc::new(EndOnDrop(task)) })
    }

    /// The queue that it owns.
    pub fn queue(&self) -> &Queue {
        &self.shared.queue
    }

    /// The queue's settings, as last heard.
    pub fn settings(&self) -> Settings {
        self.shared.state().settings.clone()
    }

    /// How many messages there are, by what can be done with them. From memory.
    pub fn counts(&self) -> Counts {
        let now_ms = self.shared.clock.wall_ms();
        self.shared.with_core(|core| {
            core.tick(now_ms);
            core.counts()
        })
    }

    /// Waits until this owner has stopped for good, and says why.
    pub async fn stopped(&self) -> QueueError {
        loop {
            let stopping = self.shared.stopping.notified();
            if let Some(error) = self.shared.stopped.get() {
                return error.clone();
            }
            stopping.await;
        }
    }
}

impl State {
    pub(super) fn new(record: QueueRecord) -> Self {
        let QueueRecord { settings, incarnation } = record;
        let core = Core::new(settings.fifo, settings.retention_ms, Limits::default());
        Self { core, settings, incarnation }
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each change under this lock is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core, then wakes whom that concerns.
    pub(super) fn with_core<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut state = self.state();
        let result = act(&mut state.core);
        let signals = state.core.take_signals();
        drop(state);
        self.signal(&signals);
        result
    }

    pub(super) fn signal(&self, signals: &Signals) {
        for _ in 0..signals.available.min(WAKE_AT_ONCE) {
            self.available.notify_one();
        }
        if signals.work {
            self.work.notify_one();
        }
    }

    /// Where the queue's messages lie.
    pub(super) fn place(&self) -> Place {
        self.queue.place(self.state().incarnation)
    }

    /// The error that has stopped the owner, if one has.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        self.stopped.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Hears of every error of the owner's own: some stop it for good.
    pub(super) fn failed(&self, error: QueueError) -> QueueError {
        let fatal = match &error {
            QueueError::Store(store) => {
                store.is_fenced() || store.is_poisoned() || matches!(store, crate::StoreError::Closed)
            }
            QueueError::NoSuchQueue { queue } => **queue == *self.queue.name(),
            _ => false,
        };
        if fatal {
            self.stop(error.clone());
        }
        error
    }

    pub(super) fn stop(&self, error: QueueError) {
        if self.stopped.set(error).is_ok() {
            self.stopping.notify_waiters();
            self.available.notify_waiters();
            self.work.notify_one();
        }
    }
}
