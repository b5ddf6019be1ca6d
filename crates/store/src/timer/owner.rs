//! The owner of a partition's timers: waits until some are due and gives them out.
//!
//! It follows a watch of the partition, so that it hears of a timer that is set to fall due earlier than all others,
//! also from another process. Few changes are looked up one by one; many make it read that part of the order again. A
//! watch that tells nothing but "read all again" makes it read on from where it stands at once, and what lies before
//! that, where almost never something is set, a little later: reading it means passing over all that was deleted there,
//! which on some engines costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_base::clock::SharedClock;
use futures_util::FutureExt;
use futures_util::future::try_join_all;

use super::due::{Due, Shared};
use super::timers::Timers;
use super::window::{Moment, Window, back_off};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::limits::{TIMER_PAGE, TIMER_WINDOW, TIMER_WINDOW_BYTES};
use crate::store::Store;
use crate::transaction::Snapshot;
use crate::watch::{Change, Watch};

/// The wait before a timer is given out again after its first attempt; doubles with each.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait before a timer is given out again.
const BACK_OFF_LONGEST: Duration = Duration::from_secs(300);
/// Up to so many changed timers are looked up one by one.
const LOOK_UPS: usize = 32;
/// The longest wait before the wall clock is read again, since it may be set.
const WALL_CHECK: Duration = Duration::from_secs(10);
/// How much longer than the last reading of what lies before took, no other such reading is made: what share of the
/// time they take at most.
const BEFORE_SPACING: u32 = 10;

/// Gives out the timers of one partition when they are due. Holds its lease; keeps a bounded number in memory.
///
/// Once it fails with [`StoreError::Fenced`] another process owns the partition, and this owner is of no more use. After
/// other errors it may be asked again.
pub struct TimerOwner {
    store: Store,
    clock: SharedClock,
    shared: Arc<Shared>,
    watch: Watch,
    window: Window,
    /// Changes that the watch told and that are not worked in yet, so that none is lost if a call is dropped.
    changed: BTreeSet<Moment>,
    /// Up to where the order has to be read again from its beginning, and when.
    before: Option<(Moment, Instant)>,
    /// How long reading from the very beginning took the last time.
    before_took: Duration,
}

impl TimerOwner {
    /// Begins to own the partition. What was due before, and not completed, is given out first.
    ///
    /// # Panics
    ///
    /// If the lease is not the partition's ([`Timers::lease_name`]).
    pub async fn open(
        store: &Store,
        clock: &SharedClock,
        lease: Lease,
        timers: &Timers,
    ) -> Result<Self, StoreError> {
        assert_eq!(lease.name(), timers.lease_name(), "a partition is owned by its own lease");
        let mut owner = Self {
            store: store.clone(),
            clock: clock.clone(),
            watch: store.watch(timers.prefix()),
            shared: Arc::new(Shared::new(timers.clone(), lease, clock.clone())),
            window: Window::new(TIMER_WINDOW, TIMER_WINDOW_BYTES),
            changed: BTreeSet::new(),
            before: None,
            before_took: Duration::ZERO,
        };
        let began = clock.monotonic();
        let snapshot = store.snapshot().await?;
        owner.shared.check(&snapshot).await?;
        owner.read_on(&snapshot, 1).await?;
        owner.before_took = clock.monotonic().saturating_duration_since(began);
        Ok(owner)
    }

    /// Waits until something is due, then gives out up to `max` timers (at most [`TIMER_WINDOW`]) in the order in which
    /// they fell due. May be dropped at any time: what it had not returned is given out by the next call.
    ///
    /// At most [`TIMER_WINDOW`] are given out and neither completed nor given back at any time; then it waits.
    pub async fn due(&mut self, max: usize) -> Result<Vec<Due>, StoreError> {
        loop {
            let dues = self.due_now(max).await?;
            if !dues.is_empty() {
                return Ok(dues);
            }
            self.wait().await?;
        }
    }

    /// As [`TimerOwner::due`], without waiting: nothing if nothing is due.
    pub async fn due_now(&mut self, max: usize) -> Result<Vec<Due>, StoreError> {
        let max = max.clamp(1, TIMER_WINDOW);
        let snapshot = self.catch_up(max).await?;
        let now_ms = self.clock.wall_ms();
        if self.window.next_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(Vec::new());
        }
        // Not needed for safety, which is in `complete`; but who has lost the lease should not begin anything.
        self.shared.check(&snapshot).await?;
        let taken = self.window.take(now_ms, max);
        Ok(taken.into_iter().map(|taken| Due::new(taken, &self.shared)).collect())
    }

    /// How many timers are in memory now: never more than [`TIMER_WINDOW`], however many there are.
    pub fn held(&self) -> usize {
        self.window.len()
    }

    /// Works in all that has happened; returns a view of the store that is as new as what it has worked in.
    async fn catch_up(&mut self, wanted: usize) -> Result<Snapshot, StoreError> {
        if let Some(change) = self.watch.changed().now_or_never() {
            self.note(change)?;
        }
        let outcomes = self.shared.outcomes();
        let now = self.clock.monotonic();
        for serial in &outcomes.settled {
            self.window.settle(*serial);
        }
        for returned in outcomes.returned {
            let wait = |attempt| {
                let by_itself = back_off(attempt, BACK_OFF_FIRST, BACK_OFF_LONGEST);
                returned.at + returned.delay.unwrap_or(by_itself)
            };
            self.window.come_back(returned.serial, wait);
        }
        if outcomes.fenced {
            return Err(StoreError::Fenced { lease: self.shared.lease.name().to_owned() });
        }
        let snapshot = self.store.snapshot().await?;
        self.look_up(&snapshot).await?;
        while let Some((serial, moment)) = self.window.may_be_given_again(now) {
            let payload = self.shared.timers.payload(&snapshot, moment).await?;
            self.window.again(serial, payload);
        }
        self.read_before(&snapshot).await?;
        self.read_on(&snapshot, wanted).await?;
        Ok(snapshot)
    }

    /// Remembers what the watch told, to be worked in.
    fn note(&mut self, change: Option<Change>) -> Result<(), StoreError> {
        match change {
            None => return Err(StoreError::Closed),
            Some(Change::Keys(keys)) => {
                let moments = keys.iter().filter_map(|key| self.shared.timers.moment(key));
                self.changed.extend(moments.filter(|moment| self.window.is_concerned(moment)));
            }
            Some(Change::Reset) => {
                self.changed.clear();
                let floor = self.window.forget_all();
                let at = self.clock.monotonic() + self.before_took * BEFORE_SPACING;
                self.before = match self.before.take() {
                    Some((before, at)) => Some((before.max(floor), at)),
                    None => Some((floor, at)),
                };
            }
        }
        if self.changed.len() > LOOK_UPS
            && let Some(first) = self.changed.pop_first()
        {
            self.window.forget_from(&first);
            self.changed.clear();
        }
        Ok(())
    }

    async fn look_up(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let timers = &self.shared.timers;
        let payloads =
            try_join_all(self.changed.iter().map(|moment| timers.payload(snapshot, moment))).await?;
        for (moment, payload) in std::mem::take(&mut self.changed).into_iter().zip(payloads) {
            match payload {
                Some(payload) => self.window.stands(moment, payload),
                None => self.window.gone(&moment),
            }
        }
        Ok(())
    }

    /// Reads what lies before the place where reading went on after the watch was lost, once it is time.
    async fn read_before(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let began = self.clock.monotonic();
        let Some((floor, _)) = self.before.as_ref().filter(|(_, at)| *at <= began) else { return Ok(()) };
        let found = self.shared.timers.scan(snapshot, None, Some(floor), TIMER_PAGE).await?;
        self.before = None;
        if let Some((last, _)) = found.last()
            && found.len() == TIMER_PAGE
        {
            self.window.forget_from(&last.successor());
        }
        for (moment, payload) in found {
            self.window.stands(moment, payload);
        }
        self.before_took = self.clock.monotonic().saturating_duration_since(began);
        Ok(())
    }

    async fn read_on(&mut self, snapshot: &Snapshot, wanted: usize) -> Result<(), StoreError> {
        let now_ms = self.clock.wall_ms();
        while let Some(from) = self.window.read_on_from(wanted, now_ms) {
            let found = self.shared.timers.scan(snapshot, Some(from), None, TIMER_PAGE).await?;
            let more = found.len() == TIMER_PAGE;
            self.window.read(found, more);
        }
        Ok(())
    }

    /// Waits until something may have to be done.
    async fn wait(&mut self) -> Result<(), StoreError> {
        let now = self.clock.monotonic();
        let now_ms = self.clock.wall_ms();
        let until_due =
            self.window.next_due_ms().map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
        let next = now + until_due.unwrap_or(WALL_CHECK).min(WALL_CHECK);
        let again = self.window.next_again().unwrap_or(next);
        let before = self.before.as_ref().map_or(next, |(_, at)| *at);
        let change = tokio::select! {
            change = self.watch.changed() => change,
            () = self.shared.wake.notified() => return Ok(()),
            () = self.clock.until(next.min(again).min(before)) => return Ok(()),
        };
        self.note(change)
    }
}

impl std::fmt::Debug for TimerOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TimerOwner").field("timers", &self.shared.timers).finish_non_exhaustive()
    }
}
