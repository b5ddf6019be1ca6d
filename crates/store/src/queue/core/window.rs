//! Which part of a queue is in memory.
//!
//! **The window.** Memory is bounded, a queue isn't. `resume` is the first message that was refused for want of room:
//! whatever lies at or after it is read later, in order. A standard queue's window is its oldest ready messages and those
//! delayed ones that are due first (`delayed_beyond` remembers the others). A FIFO queue's window is the beginning of each
//! group: one that has `more` is read on from its last loaded message, so a long group doesn't keep the others out.
//! All that is before `resume` is loaded or of such a group, which is what keeps a group's order.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Core, Entry, State, state_of};
use crate::queue::records::{MessageKey, MessageRecord};

/// What to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) struct Fill {
    /// From this message on.
    pub(in crate::queue) from: MessageKey,
    /// Only this group.
    pub(in crate::queue) group: Option<Arc<str>>,
}

impl Core {
    /// A message that nobody knew was found to be there, by word of the store.
    pub(in crate::queue) fn learn(&mut self, now_ms: u64, key: &MessageKey, record: MessageRecord) {
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
    pub(in crate::queue) fn read_again(&mut self) {
        self.resume_at(MessageKey::first());
        self.forced = true;
    }

    /// What is to be read, if there is room for it.
    pub(in crate::queue) fn wants(&self) -> Option<Fill> {
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
    pub(in crate::queue) fn begin_reading(&mut self) {
        self.removed = Some(HashSet::new());
        self.put_back = None;
    }

    /// What was read has been told.
    pub(in crate::queue) fn end_reading(&mut self) {
        self.removed = None;
    }

    /// What was read, and whether there is nothing after it.
    pub(in crate::queue) fn filled(
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
    pub(in crate::queue) fn counted(&mut self, total: usize) {
        let delayed_beyond = self.delayed_beyond.as_ref().map_or(0, |(_, _, count)| *count);
        self.beyond = total.saturating_sub(self.entries.len() + self.expired.len() + delayed_beyond);
    }

    /// Whether every message is loaded.
    pub(in crate::queue) fn is_whole(&self) -> bool {
        self.resume.is_none()
            && self.delayed_beyond.is_none()
            && self.groups.values().all(|group| !group.more)
    }

    pub(super) fn resume_at(&mut self, key: MessageKey) {
        let earlier = |than: Option<MessageKey>| Some(than.map_or(key.clone(), |than| than.min(key.clone())));
        self.resume = earlier(self.resume.take());
        self.put_back = earlier(self.put_back.take());
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
    pub(super) fn make_room_for_delayed(&mut self, key: &MessageKey, record: &MessageRecord) -> bool {
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
}
