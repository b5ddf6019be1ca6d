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
//! **The window.** Memory is bounded, a queue isn't. `resume` is the first message that was refused for want of room:
//! whatever lies at or after it is read later, in order. A standard queue's window is its oldest ready messages and those
//! delayed ones that are due first (`delayed_beyond` remembers the others). A FIFO queue's window is the beginning of each
//! group: one that has `more` is read on from its last loaded message, so a long group doesn't keep the others out.
//!
//! All that is before `resume` is loaded or of such a group, which is what keeps a group's order.
//!
//! **Order of news.** What was written is told after the commit, and two such tellings may arrive in the wrong order: a
//! record's version decides. While something is being read, removals are remembered, so that what was read before a
//! removal doesn't bring the message back. One task alone reads ([`Core::learn`] and [`Core::filled`]), so that each of
//! its reads sees what it has been told of before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

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

/// What to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    /// From this message on.
    pub(super) from: MessageKey,
    /// Only this group.
    pub(super) group: Option<Arc<str>>,
}

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

    fn resume_at(&mut self, key: MessageKey) {
        let earlier = |than: Option<MessageKey>| Some(than.map_or(key.clone(), |than| than.min(key.clone())));
        self.resume = earlier(self.resume.take());
        self.put_back = earlier(self.put_back.take());
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

    /// A message that nobody knew was found to be there, by word of the store.
    pub(super) fn learn(&mut self, now_ms: u64, key: &MessageKey, record: MessageRecord) {
        if self.knows(key) || self.removed.as_ref().is_some_and(|removed| removed.contains(key)) {
            return;
        }
        if self.resume.as_ref().is_some_and(|resume| key >= resume) {
            self.beyond += 1;
            return;
        }
        if self.offer(now_ms, key, record) {
            return;
        }
        self.beyond += 1;
        self.resume_at(key.clone());
    }

    /// Everything may have changed: all is to be read again, as far as it isn't known.
    pub(super) fn read_again(&mut self) {
        self.resume_at(MessageKey::first());
        self.forced = true;
    }

    /// What is to be read, if there is room for it.
    pub(super) fn wants(&self) -> Option<Fill> {
        let room = if self.fifo {
            self.limits.loaded.saturating_sub(self.entries.len())
        } else {
            self.limits.ready.saturating_sub(self.counts.visible)
        };
        // What has expired must be deleted first, or it would be found again and again.
        if room == 0 || self.expired.len() >= self.limits.expired {
            return None;
        }
        if let Some(group) = self.hungry.first() {
            let last = self.groups.get(group).and_then(|group| group.members.last());
            let start = MessageKey { group: group.clone(), order: 0, tie: 0 };
            return Some(Fill { from: last.cloned().unwrap_or(start), group: Some(group.clone()) });
        }
        let from = self.resume.clone().filter(|_| self.forced || room >= self.limits.page)?;
        Some(Fill { from, group: None })
    }

    /// Something is about to be read: what is removed from now on is remembered until [`Core::end_reading`].
    pub(super) fn begin_reading(&mut self) {
        self.removed = Some(HashSet::new());
        self.put_back = None;
    }

    /// What was read has been told.
    pub(super) fn end_reading(&mut self) {
        self.removed = None;
    }

    /// What was read, and whether there is nothing after it.
    pub(super) fn filled(
        &mut self,
        now_ms: u64,
        fill: &Fill,
        page: Vec<(MessageKey, MessageRecord)>,
        end: bool,
    ) {
        if let Some(name) = &fill.group {
            self.hungry.remove(name);
            if let Some(group) = self.groups.get_mut(name) {
                group.more = false;
            }
        }
        let last = page.last().map(|(key, _)| key.clone());
        let mut refused = None;
        for (key, record) in page {
            let gone = self.removed.as_ref().is_some_and(|removed| removed.contains(&key));
            if gone || self.knows(&key) {
                continue;
            }
            if !self.offer(now_ms, &key, record) {
                refused = Some(key);
                break;
            }
            self.beyond = self.beyond.saturating_sub(1);
        }
        match &fill.group {
            Some(name) if refused.is_some() || !end => self.mark_more(name),
            Some(name) => self.tidy(name),
            None => self.resume_after(refused, last, end),
        }
        if let Some(key) = self.put_back.take() {
            self.resume_at(key);
        }
        if self.is_whole() {
            self.beyond = 0;
        }
    }

    fn resume_after(&mut self, refused: Option<MessageKey>, last: Option<MessageKey>, end: bool) {
        self.forced &= refused.is_none() && !end;
        self.resume = match (refused, last) {
            (Some(key), _) => Some(key),
            (None, _) if end => None,
            (None, Some(last)) if self.groups.get(&last.group).is_some_and(|group| group.more) => {
                Some(MessageKey::last_of(last.group))
            }
            (None, last) => last,
        };
    }

    /// How many messages there are in all, as counted.
    pub(super) fn counted(&mut self, total: usize) {
        let delayed_beyond = self.delayed_beyond.as_ref().map_or(0, |(_, _, count)| *count);
        self.beyond = total.saturating_sub(self.entries.len() + self.expired.len() + delayed_beyond);
    }

    /// Whether every message is loaded.
    pub(super) fn is_whole(&self) -> bool {
        self.resume.is_none()
            && self.delayed_beyond.is_none()
            && self.groups.values().all(|group| !group.more)
    }

    /// Takes a message in; `false` if there is no room for it.
    fn offer(&mut self, now_ms: u64, key: &MessageKey, record: MessageRecord) -> bool {
        if record.kept_since_ms.saturating_add(self.retention_ms) <= now_ms {
            self.expire(key.clone());
            return true;
        }
        let state = state_of(&record, now_ms);
        if self.fifo {
            let group = self.groups.get(&key.group);
            if group.is_some_and(|group| group.more) {
                self.beyond += 1;
                return true;
            }
            if group.is_some_and(|group| group.members.len() >= self.limits.group) {
                self.beyond += 1;
                self.mark_more(&key.group.clone());
                return true;
            }
            if self.entries.len() >= self.limits.loaded {
                return false;
            }
        } else if state == State::Ready && self.counts.visible >= self.limits.ready {
            return false;
        } else if state == State::Delayed && !self.make_room_for_delayed(key, &record) {
            return true;
        }
        self.ages.insert((record.kept_since_ms, key.clone()));
        self.entries.insert(key.clone(), Entry { record, state });
        if self.fifo {
            self.groups.entry(key.group.clone()).or_default().members.insert(key.clone());
        }
        self.join(key, state);
        true
    }

    /// Keeps the delayed messages that are due first; `false` if this isn't one of them.
    fn make_room_for_delayed(&mut self, key: &MessageKey, record: &MessageRecord) -> bool {
        if self.counts.delayed < self.limits.delayed {
            return true;
        }
        let last = self.delayed.last().cloned();
        match last.filter(|(at, _)| *at > record.visible_at_ms) {
            Some((at, evicted)) => {
                self.take(&evicted);
                self.note_delayed_beyond(at, evicted);
                true
            }
            None => {
                self.note_delayed_beyond(record.visible_at_ms, key.clone());
                false
            }
        }
    }

    fn note_delayed_beyond(&mut self, at_ms: u64, key: MessageKey) {
        self.delayed_beyond = Some(match self.delayed_beyond.take() {
            None => (at_ms, key, 1),
            Some((first, lowest, count)) => (first.min(at_ms), lowest.min(key), count + 1),
        });
    }

    fn mark_more(&mut self, name: &Arc<str>) {
        let group = self.groups.entry(name.clone()).or_default();
        group.more = true;
        if group.members.len() <= self.limits.group / 2 {
            self.hungry.insert(name.clone());
        }
    }

    /// Forgets a message.
    fn take(&mut self, key: &MessageKey) {
        if !self.entries.contains_key(key) {
            return;
        }
        self.leave(key);
        self.drop_entry(key);
    }

    /// Forgets a message that is in no index of its state any more.
    fn drop_entry(&mut self, key: &MessageKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.ages.remove(&(entry.record.kept_since_ms, key.clone()));
        if self.fifo {
            if let Some(group) = self.groups.get_mut(&key.group) {
                group.members.remove(key);
                if group.more && group.members.len() <= self.limits.group / 2 {
                    self.hungry.insert(key.group.clone());
                }
            }
            self.list(&key.group);
            self.tidy(&key.group);
        }
    }

    fn tidy(&mut self, name: &Arc<str>) {
        if self.groups.get(name).is_some_and(|group| group.members.is_empty() && !group.more) {
            self.groups.remove(name);
        }
    }

    fn enter(&mut self, key: &MessageKey, state: State) {
        self.leave(key);
        self.join(key, state);
    }

    fn enter_if_room(&mut self, key: &MessageKey, state: State) {
        self.leave(key);
        self.join_if_room(key, state);
    }

    /// As `join`; but what comes back to a window of a standard queue that is full is forgotten, and read later.
    fn join_if_room(&mut self, key: &MessageKey, state: State) {
        let Some(entry) = self.entries.get(key) else { return };
        let record = entry.record.clone();
        if self.fifo {
            self.join(key, state);
        } else if state == State::Ready && self.counts.visible >= self.limits.ready {
            self.drop_entry(key);
            self.beyond += 1;
            self.resume_at(key.clone());
        } else if state == State::Delayed && !self.make_room_for_delayed(key, &record) {
            self.drop_entry(key);
        } else {
            self.join(key, state);
        }
    }

    /// Takes an entry out of the index of its state.
    fn leave(&mut self, key: &MessageKey) {
        let Some(entry) = self.entries.get(key) else { return };
        let (at, state) = (entry.record.visible_at_ms, entry.state);
        match state {
            State::Ready => self.counts.visible -= 1,
            State::Delayed => {
                self.counts.delayed -= 1;
                self.delayed.remove(&(at, key.clone()));
            }
            State::InFlight | State::Transit => {
                if self.counts.in_flight == self.limits.in_flight {
                    self.signals.available += 1;
                }
                self.counts.in_flight -= 1;
                self.in_flight.remove(&(at, key.clone()));
            }
        }
        if self.fifo {
            if matches!(state, State::InFlight | State::Transit)
                && let Some(group) = self.groups.get_mut(&key.group)
            {
                group.out -= 1;
            }
        } else if state == State::Ready {
            self.available.remove(&(at, key.clone()));
        }
    }

    /// Puts an entry into the index of its new state.
    fn join(&mut self, key: &MessageKey, state: State) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.state = state;
        let at = entry.record.visible_at_ms;
        match state {
            State::Ready => self.counts.visible += 1,
            State::Delayed => {
                self.counts.delayed += 1;
                self.delayed.insert((at, key.clone()));
            }
            State::InFlight => {
                self.counts.in_flight += 1;
                self.in_flight.insert((at, key.clone()));
            }
            State::Transit => self.counts.in_flight += 1,
        }
        if self.fifo {
            if matches!(state, State::InFlight | State::Transit)
                && let Some(group) = self.groups.get_mut(&key.group)
            {
                group.out += 1;
            }
            self.list(&key.group);
        } else if state == State::Ready {
            self.available.insert((at, key.clone()));
            self.signals.available += 1;
        }
    }

    /// Lists a FIFO group as available if nothing of it is out and its first message is ready.
    fn list(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let head = group.members.first().filter(|_| group.out == 0);
        let listed = head.and_then(|key| {
            let entry = self.entries.get(key)?;
            (entry.state == State::Ready).then(|| (entry.record.visible_at_ms, key.clone()))
        });
        if group.listed == listed {
            return;
        }
        if let Some(old) = std::mem::replace(&mut group.listed, listed.clone()) {
            self.available.remove(&old);
        }
        if let Some(new) = listed {
            self.available.insert(new);
            self.signals.available += 1;
        }
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
