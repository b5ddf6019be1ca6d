//! The index of each state, and how messages move between them.

use std::sync::Arc;

use super::{Core, State};
use crate::queue::records::MessageKey;

impl Core {
    /// Forgets a message.
    pub(super) fn take(&mut self, key: &MessageKey) {
        if !self.entries.contains_key(key) {
            return;
        }
        self.leave(key);
        self.drop_entry(key);
    }

    /// Forgets a message that is in no index of its state any more.
    pub(super) fn drop_entry(&mut self, key: &MessageKey) {
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

    pub(super) fn tidy(&mut self, name: &Arc<str>) {
        if self.groups.get(name).is_some_and(|group| group.members.is_empty() && !group.more) {
            self.groups.remove(name);
        }
    }

    pub(super) fn enter(&mut self, key: &MessageKey, state: State) {
        self.leave(key);
        self.join(key, state);
    }

    pub(super) fn enter_if_room(&mut self, key: &MessageKey, state: State) {
        self.leave(key);
        self.join_if_room(key, state);
    }

    /// As `join`; but what comes back to a window of a standard queue that is full is forgotten, and read later.
    pub(super) fn join_if_room(&mut self, key: &MessageKey, state: State) {
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
    pub(super) fn leave(&mut self, key: &MessageKey) {
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
    pub(super) fn join(&mut self, key: &MessageKey, state: State) {
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
    pub(super) fn list(&mut self, name: &str) {
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
