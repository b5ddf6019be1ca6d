//! What an owner knows of its queue, as a state machine: no store, no clock, no task. The shell around it tells it what it
//! read and what it wrote, and asks it what to give out, when to wake, and what to read next.
//!
//! ```text
//!            offered                     picked                    settled
//!  (store) ──────────> delayed | ready ─────────> in transit ─────────────────> in flight
//!              ▲           │      ▲                   │ returned (not written)      │
//!              │           └─time─┴───────────────────┴────────────── time ─────────┘
//!              └─ beyond the window: read when there is room         removed: acknowledged, moved, expired
//! ```
//!
//! - this file: what is known, what time and the owner's own writes do to it, and what is picked
//! - `window`: which part of the queue is known
//! - `places`: the index of each state
//!
//! **Order of news.** What was written is told after the commit, and two such tellings may arrive in the wrong order: a
//! record's version decides. While something is being read, removals are remembered, so that what was read before a
//! removal doesn't bring the message back. One task alone reads ([`Core::learn`] and [`Core::filled`]), so that each of
//! its reads sees what it has been told of before.

mod places;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub(super) use self::window::Fill;
use super::limits;
use super::records::{MessageKey, MessageRecord};

/// How much the core may hold. The numbers of [`limits`], or smaller ones in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) ready: usize,
    pub(super) delayed: usize,
    pub(super) loaded: usize,
    pub(super) group: usize,
    pub(super) in_flight: usize,
    pub(super) expired: usize,
    /// How much room there must be before more is read: a page.
    pub(super) page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ready: limits::READY,
            delayed: limits::DELAYED,
            loaded: limits::FIFO_LOADED,
            group: limits::GROUP_LOADED,
            in_flight: limits::IN_FLIGHT,
            expired: limits::EXPIRED,
            page: limits::PAGE,
        }
    }
}

/// How many messages a queue has. What lies beyond the owner's window is counted as visible (or delayed, as far as
/// known); those numbers may be off for a while and come right when the window reaches them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that can be given out, or could if their group were free.
    pub visible: usize,
    /// Messages that were received and neither acknowledged nor visible again.
    pub in_flight: usize,
    /// Messages that aren't visible yet.
    pub delayed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Delayed,
    InFlight,
    /// Picked; whether that was written isn't known yet.
    Transit,
}

#[derive(Debug)]
struct Entry {
    record: MessageRecord,
    state: State,
}

/// The loaded messages of a FIFO group.
#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<MessageKey>,
    /// Members that are in transit or in flight: while there are any, nothing else is given out.
    out: usize,
    /// Whether there are messages after the last member that aren't loaded.
    more: bool,
    /// How it is listed in `available`.
    listed: Option<(u64, MessageKey)>,
}

/// What the shell must do once it has let go of the core.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Signals {
    /// How many messages or groups became available: as many receivers may look.
    pub(super) available: usize,
    /// Whether the task behind the queue has to look: something is to be read or deleted, or the next moment is nearer.
    pub(super) work: bool,
}

/// A message that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) key: MessageKey,
    /// As it was before.
    pub(super) record: MessageRecord,
    /// Whether it was received too often, and must move instead of being given out.
    pub(super) dead: bool,
}

/// What a pick may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Messages that were received as often as this are dead.
    pub(super) max_receives: Option<u32>,
}

/// Why nothing was picked, other than that there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverLimit;

/// The state machine.
#[derive(Debug)]
pub(super) struct Core {
    fifo: bool,
    retention_ms: u64,
    limits: Limits,
    entries: HashMap<MessageKey, Entry>,
    /// Standard: each ready message. FIFO: the head of each group that is free and whose head is ready. The one that
    /// has been visible longest comes first.
    available: BTreeSet<(u64, MessageKey)>,
    delayed: BTreeSet<(u64, MessageKey)>,
    in_flight: BTreeSet<(u64, MessageKey)>,
    /// All entries by when their retention began.
    ages: BTreeSet<(u64, MessageKey)>,
    groups: HashMap<Arc<str>, Group>,
    /// Groups that have more in the store and little in memory.
    hungry: BTreeSet<Arc<str>>,
    counts: Counts,
    resume: Option<MessageKey>,
    /// How far `resume` was put back while a page was being read.
    put_back: Option<MessageKey>,
    /// Whether to read although there is little room.
    forced: bool,
    /// Messages that aren't loaded: how many, of delayed ones the first due, and the first key among them.
    beyond: usize,
    delayed_beyond: Option<(u64, MessageKey, usize)>,
    /// Removed while something is being read.
    removed: Option<HashSet<MessageKey>>,
    /// Expired messages that are to be deleted.
    expired: BTreeSet<MessageKey>,
    /// The moment that the task behind the queue waits for.
    armed_ms: u64,
    signals: Signals,
}

impl Core {
    /// A core that knows nothing yet, and wants to read everything.
    pub(super) fn new(fifo: bool, retention_ms: u64, limits: Limits) -> Self {
        Self {
            fifo,
            retention_ms,
            limits,
            entries: HashMap::new(),
            available: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            ages: BTreeSet::new(),
            groups: HashMap::new(),
            hungry: BTreeSet::new(),
            counts: Counts::default(),
            resume: Some(MessageKey::first()),
            put_back: None,
            forced: true,
            beyond: 0,
            delayed_beyond: None,
            removed: None,
            expired: BTreeSet::new(),
            armed_ms: u64::MAX,
            signals: Signals { available: 0, work: true },
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let delayed_beyond = self.delayed_beyond.as_ref().map_or(0, |(_, _, count)| *count);
        Counts {
            visible: self.counts.visible + self.beyond,
            in_flight: self.counts.in_flight,
            delayed: self.counts.delayed + delayed_beyond,
        }
    }

    pub(super) fn is_fifo(&self) -> bool {
        self.fifo
    }

    #[cfg(test)]
    pub(super) fn loaded(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn knows(&self, key: &MessageKey) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn set_retention(&mut self, retention_ms: u64) {
        self.retention_ms = retention_ms;
        self.signals.work = true;
    }

    /// What is to be done since this was last asked.
    pub(super) fn take_signals(&mut self) -> Signals {
        let nearer = self.next_ms().is_some_and(|next| next < self.armed_ms);
        self.signals.work |= nearer || self.wants().is_some();
        std::mem::take(&mut self.signals)
    }

    /// The next moment at which [`Core::tick`] changes something. Also remembers that somebody waits for it.
    pub(super) fn arm(&mut self) -> Option<u64> {
        let next = self.next_ms();
        self.armed_ms = next.unwrap_or(u64::MAX);
        next
    }

    fn next_ms(&self) -> Option<u64> {
        let first = |set: &BTreeSet<(u64, MessageKey)>| set.first().map(|(at, _)| *at);
        let expiry = first(&self.ages).map(|since| since.saturating_add(self.retention_ms));
        let beyond = self.delayed_beyond.as_ref().map(|(at, _, _)| *at);
        [first(&self.delayed), first(&self.in_flight), expiry, beyond].into_iter().flatten().min()
    }

    /// Does what is due: messages become visible, and the expired ones are forgotten here, to be deleted.
    pub(super) fn tick(&mut self, now_ms: u64) {
        while let Some((since, key)) = self.ages.first()
            && since.saturating_add(self.retention_ms) <= now_ms
        {
            let key = key.clone();
            self.take(&key);
            self.expire(key);
        }
        for in_flight in [false, true] {
            loop {
                let due = if in_flight { &self.in_flight } else { &self.delayed };
                let Some((_, key)) = due.first().filter(|(at, _)| *at <= now_ms) else { break };
                let key = key.clone();
                self.enter_if_room(&key, State::Ready);
            }
        }
        if let Some((_, key, count)) = self.delayed_beyond.take_if(|(at, _, _)| *at <= now_ms) {
            self.beyond += count;
            self.resume_at(key);
            self.forced = true;
        }
    }

    fn expire(&mut self, key: MessageKey) {
        // What doesn't fit is still in the store, and is found when it is read again.
        if self.expired.len() < self.limits.expired {
            self.expired.insert(key);
        } else {
            self.resume_at(key);
        }
        self.signals.work = true;
    }

    /// Expired messages, up to `limit`, for the shell to delete.
    pub(super) fn take_expired(&mut self, limit: usize) -> Vec<MessageKey> {
        std::iter::from_fn(|| self.expired.pop_first()).take(limit).collect()
    }

    /// Takes up to what is wanted of the messages that are available. Each is in transit until it is settled, returned or
    /// removed. In a FIFO queue as many as possible of one group are taken, in order, then of others.
    pub(super) fn pick(&mut self, now_ms: u64, wanted: Wanted) -> Result<Vec<Picked>, OverLimit> {
        self.tick(now_ms);
        let mut picked: Vec<Picked> = Vec::new();
        let mut bytes = 0;
        while let Some((_, first)) = self.available.first() {
            if self.counts.in_flight >= self.limits.in_flight {
                let refused = picked.is_empty() && !self.fifo;
                return if refused { Err(OverLimit) } else { Ok(picked) };
            }
            let group = first.group.clone();
            let mut next = Some(first.clone());
            while let Some(key) = next.take() {
                let record = self.entries[&key].record.clone();
                bytes += record.size_bytes;
                if picked.len() == wanted.messages || (bytes > wanted.bytes && !picked.is_empty()) {
                    return Ok(picked);
                }
                let dead = wanted.max_receives.is_some_and(|max| record.receives >= max);
                self.enter(&key, State::Transit);
                // What follows a dead one waits until that has really moved.
                if self.fifo && !dead && self.counts.in_flight < self.limits.in_flight {
                    next = self.follower(&group, &key);
                }
                picked.push(Picked { key, record, dead });
            }
        }
        Ok(picked)
    }

    /// The next message of a group, if it is ready.
    fn follower(&self, group: &str, key: &MessageKey) -> Option<MessageKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let next = self.groups.get(group)?.members.range((Excluded(key), Unbounded)).next()?;
        (self.entries[next].state == State::Ready).then(|| next.clone())
    }

    /// Whether another receiver may find something.
    pub(super) fn has_available(&self) -> bool {
        !self.available.is_empty() && self.counts.in_flight < self.limits.in_flight
    }

    /// A message was written as `record`. Ignored if it is gone or a later version of it is known.
    pub(super) fn update(&mut self, now_ms: u64, key: &MessageKey, record: MessageRecord) {
        let Some(entry) = self.entries.get(key) else { return };
        if entry.record.version >= record.version {
            return;
        }
        let state = state_of(&record, now_ms);
        // Left first: the indices hold the old moment.
        self.leave(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.record = record;
        }
        self.join_if_room(key, state);
    }

    /// A picked message was not written: it is as it was.
    pub(super) fn put_back(&mut self, now_ms: u64, key: &MessageKey) {
        if let Some(entry) = self.entries.get(key)
            && entry.state == State::Transit
        {
            let state = state_of(&entry.record, now_ms);
            self.enter_if_room(key, state);
        }
    }

    /// A message was deleted.
    pub(super) fn remove(&mut self, key: &MessageKey) {
        if let Some(removed) = &mut self.removed {
            removed.insert(key.clone());
        }
        self.take(key);
    }
}

fn state_of(record: &MessageRecord, now_ms: u64) -> State {
    if record.visible_at_ms <= now_ms {
        State::Ready
    } else if record.nonce.is_some() {
        State::InFlight
    } else {
        State::Delayed
    }
}
