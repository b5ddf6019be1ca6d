//! What waits for one subscriber: bounded, sent by number, size or age, whichever comes first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::subscription::Buffering;
use super::{dropped, timestamp};
use crate::environment::wall_ms;

/// How many batches may wait behind the one that is under way. A program's output is read up to 1 MiB at a time, which
/// has to find room while the subscriber is quick.
const BATCHES: usize = 4;

/// What waits.
pub(super) struct Queue {
    buffering: Buffering,
    events: VecDeque<Bytes>,
    bytes: usize,
    /// When the oldest has come.
    since: Option<Instant>,
    flush: bool,
    /// A batch is under way.
    is_under_way: bool,
    dropped_records: u64,
    dropped_bytes: u64,
}

/// When a batch is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    /// When something comes.
    Never,
}

impl Queue {
    pub(super) fn new(buffering: Buffering) -> Self {
        Self {
            buffering,
            events: VecDeque::new(),
            bytes: 0,
            since: None,
            flush: false,
            is_under_way: false,
            dropped_records: 0,
            dropped_bytes: 0,
        }
    }

    /// Adds an event, or drops it where there is no room.
    pub(super) fn push(&mut self, now: Instant, event: Bytes) {
        let is_full = self.events.len() >= BATCHES * self.buffering.items
            || self.bytes + event.len() > BATCHES * self.buffering.bytes;
        if is_full && !self.events.is_empty() {
            self.dropped_records += 1;
            self.dropped_bytes += event.len() as u64;
            return;
        }
        self.since.get_or_insert(now);
        self.bytes += event.len();
        self.events.push_back(event);
    }

    pub(super) fn due(&self) -> Due {
        let Some(since) = self.since else { return Due::Never };
        let is_full = self.events.len() >= self.buffering.items || self.bytes >= self.buffering.bytes;
        if is_full || self.flush { Due::Now } else { Due::At(since + self.buffering.timeout) }
    }

    /// The oldest, up to a batch of them. It begins with what was dropped since the last one.
    pub(super) fn take(&mut self, now: Instant, time: &str) -> Vec<Bytes> {
        let mut batch = Vec::new();
        if self.dropped_records > 0 {
            batch.push(dropped(time, self.dropped_records, self.dropped_bytes));
            (self.dropped_records, self.dropped_bytes) = (0, 0);
        }
        let mut bytes = 0;
        while batch.len() < self.buffering.items
            && bytes < self.buffering.bytes
            && let Some(event) = self.events.pop_front()
        {
            bytes += event.len();
            batch.push(event);
        }
        self.bytes -= bytes;
        self.since = (!self.events.is_empty()).then_some(now);
        self.flush &= !self.events.is_empty();
        self.is_under_way = true;
        batch
    }

    /// Whether everything has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.events.is_empty() && !self.is_under_way
    }
}

/// A queue between the environment's task, which fills it, and the one that delivers.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
    /// A batch has arrived.
    arrived: Notify,
    clock: SharedClock,
}

impl Shared {
    pub(super) fn new(buffering: Buffering, clock: SharedClock) -> Self {
        Self {
            queue: Mutex::new(Queue::new(buffering)),
            changed: Notify::new(),
            arrived: Notify::new(),
            clock,
        }
    }

    pub(super) fn push(&self, event: Bytes) {
        let mut queue = self.lock();
        let before = queue.due();
        queue.push(Instant::now(), event);
        if queue.due() != before {
            self.changed.notify_one();
        }
    }

    /// What there is becomes due.
    pub(super) fn flush(&self) {
        self.lock().flush = true;
        self.changed.notify_one();
    }

    /// Waits until a batch is due.
    pub(super) async fn due(&self) {
        loop {
            let due = self.lock().due();
            match due {
                Due::Now => return,
                Due::At(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => return,
                    () = self.changed.notified() => {}
                },
                Due::Never => self.changed.notified().await,
            }
        }
    }

    pub(super) fn take(&self) -> Vec<Bytes> {
        let time = timestamp(wall_ms(&self.clock));
        self.lock().take(Instant::now(), &time)
    }

    /// The batch that was taken last has arrived.
    pub(super) fn done(&self) {
        self.lock().is_under_way = false;
        self.arrived.notify_waiters();
    }

    /// Waits until everything has arrived.
    pub(super) async fn idle(&self) {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if self.lock().is_idle() {
                return;
            }
            arrived.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
