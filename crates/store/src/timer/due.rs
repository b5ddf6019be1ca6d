//! A timer that was given out, until it is completed or given back; and what it tells its owner of that.
//!
//! ```text
//! given out ── complete, committed ──> settled: forgotten
//!     └─────── dropped ─────────────> returned: given out again after a while, if it still stands
//! ```

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::timers::Timers;
use super::window::{Moment, Taken};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::transaction::Transaction;

/// A timer that is due, given out by its owner and to nobody else meanwhile.
///
/// Complete it in the transaction that has its effect. One that is dropped without that is given out again: after a
/// back-off that grows with each attempt (from 1 s to 5 min), or after [`Due::retry_after`]. A new owner, after a restart
/// or a takeover, gives out all that was not completed, as a first attempt.
#[derive(Debug)]
pub struct Due {
    /// Its name in its partition.
    pub id: String,
    /// When it fell due, in milliseconds since 1970.
    pub due_ms: u64,
    /// What it was set with.
    pub payload: Bytes,
    /// How often this owner has given it out, this time included.
    pub attempt: u32,
    given: Given,
}

impl Due {
    pub(super) fn new(taken: Taken, owner: &Arc<Shared>) -> Self {
        Self {
            id: taken.moment.id,
            due_ms: taken.moment.due_ms,
            payload: taken.payload,
            attempt: taken.attempt,
            given: Given { owner: owner.clone(), serial: taken.serial, delay: None },
        }
    }

    /// Deletes the timer when the transaction commits. `false`, and nothing is deleted, if it no longer stands as it was
    /// given out: moved, cancelled, set anew with another payload, or completed already; then leave its effect away.
    /// [`StoreError::Fenced`] if its owner has lost the lease.
    pub async fn complete(&self, tx: &Transaction) -> Result<bool, StoreError> {
        Ok(Self::complete_all(tx, std::slice::from_ref(self)).await? == [true])
    }

    /// As [`Due::complete`] for many in one transaction: one answer for each, in the same order.
    pub async fn complete_all(tx: &Transaction, dues: &[Self]) -> Result<Vec<bool>, StoreError> {
        let mut owners: Vec<&Arc<Shared>> = Vec::new();
        for due in dues {
            if !owners.iter().any(|owner| Arc::ptr_eq(owner, &due.given.owner)) {
                due.given.owner.check(tx).await?;
                owners.push(&due.given.owner);
            }
        }
        // At once, so that a store across the network answers them together.
        let standing = try_join_all(dues.iter().map(|due| due.stands(tx))).await?;
        for due in dues.iter().zip(&standing).filter_map(|(due, stands)| stands.then_some(due)) {
            due.given.owner.timers.remove(tx, due.due_ms, &due.id);
        }
        let settled: Vec<_> = dues.iter().map(|due| (due.given.owner.clone(), due.given.serial)).collect();
        tx.on_commit(move || {
            for (owner, serial) in settled {
                owner.lock().settled.insert(serial);
                owner.wake.notify_one();
            }
        });
        Ok(standing)
    }

    /// Gives the timer back, to be given out again after `delay` if it still stands then. To put it off for certain,
    /// also over a restart, set it to a later time instead.
    pub fn retry_after(mut self, delay: Duration) {
        self.given.delay = Some(delay);
    }

    async fn stands(&self, tx: &Transaction) -> Result<bool, StoreError> {
        let moment = Moment::new(self.due_ms, &self.id);
        Ok(self.given.owner.timers.payload(tx, &moment).await?.as_ref() == Some(&self.payload))
    }
}

/// What returns a timer when it is dropped.
#[derive(Debug)]
struct Given {
    owner: Arc<Shared>,
    serial: u64,
    delay: Option<Duration>,
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut outcomes = self.owner.lock();
        if !outcomes.settled.contains(&self.serial) {
            let dropped =
                Returned { serial: self.serial, at: self.owner.clock.monotonic(), delay: self.delay };
            outcomes.returned.push(dropped);
            drop(outcomes);
            self.owner.wake.notify_one();
        }
    }
}

/// What an owner and the timers that it gave out have in common.
pub(super) struct Shared {
    pub(super) timers: Timers,
    pub(super) lease: Lease,
    clock: SharedClock,
    outcomes: Mutex<Outcomes>,
    /// Woken when a timer is returned or the lease turns out to be lost.
    pub(super) wake: Notify,
}

/// What became of timers since the owner last looked; no more than it has given out.
#[derive(Default)]
pub(super) struct Outcomes {
    /// Over and done with, by serial.
    pub(super) settled: HashSet<u64>,
    /// Dropped before they were settled.
    pub(super) returned: Vec<Returned>,
    /// Whether a transaction found that the lease is lost.
    pub(super) fenced: bool,
}

/// A timer that was dropped before it was settled.
pub(super) struct Returned {
    pub(super) serial: u64,
    pub(super) at: Instant,
    /// The delay that was asked for.
    pub(super) delay: Option<Duration>,
}

impl Shared {
    pub(super) fn new(timers: Timers, lease: Lease, clock: SharedClock) -> Self {
        Self { timers, lease, clock, outcomes: Mutex::default(), wake: Notify::new() }
    }

    /// What has happened since the last call.
    pub(super) fn outcomes(&self) -> Outcomes {
        let mut outcomes = self.lock();
        let fenced = outcomes.fenced;
        let happened = std::mem::take(&mut *outcomes);
        outcomes.fenced = fenced;
        happened
    }

    /// The lease's check; a lease that is lost ends the owner.
    pub(super) async fn check(&self, read: &impl crate::transaction::Read) -> Result<(), StoreError> {
        let checked = self.lease.check(read).await;
        if checked.as_ref().is_err_and(StoreError::is_fenced) {
            self.lock().fenced = true;
            self.wake.notify_one();
        }
        checked
    }

    fn lock(&self) -> MutexGuard<'_, Outcomes> {
        // Each change under this lock is whole before anything can panic.
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("timers", &self.timers).finish_non_exhaustive()
    }
}
