//! Which timers an owner has in memory: the next that fall due, those that are given out, and how far it has read. Pure:
//! reads nothing, knows no time but what it is told.
//!
//! ```text
//!   the store, in order of due time:   [ given out | waiting .......... ] bound │ not read yet ..............
//!                                        returned ──> waiting again            └─ none: everything is read
//! ```
//!
//! Each timer before `bound` that stands in the store is here, once. What changes beyond it is of no interest: it will be
//! read when the window gets there. Timers and bytes are limited; what is too much is forgotten from the far end, and the
//! bound moves back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Where a timer stands in the order in which they fall due.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Moment {
    pub(super) due_ms: u64,
    pub(super) id: String,
}

impl Moment {
    pub(super) fn new(due_ms: u64, id: &str) -> Self {
        Self { due_ms, id: id.to_owned() }
    }

    /// The moment that follows this one, with none between.
    pub(super) fn successor(&self) -> Self {
        Self { due_ms: self.due_ms, id: format!("{}\0", self.id) }
    }
}

/// A timer that is being given out.
#[derive(Debug)]
pub(super) struct Taken {
    /// Names this giving out; never used again.
    pub(super) serial: u64,
    pub(super) moment: Moment,
    pub(super) payload: Bytes,
    pub(super) attempt: u32,
}

#[derive(Debug)]
struct Waiting {
    payload: Bytes,
    attempt: u32,
}

#[derive(Debug)]
struct GivenOut {
    moment: Moment,
    payload: Bytes,
    attempt: u32,
    /// When it may be given out again, once it has come back.
    again: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Window {
    waiting: BTreeMap<Moment, Waiting>,
    given: HashMap<u64, GivenOut>,
    /// The serials of what is in `given`.
    held: HashMap<Moment, u64>,
    /// What has come back, by when it may be given out again.
    returned: BTreeSet<(Instant, u64)>,
    /// Everything before this is read; all there is where there is none.
    bound: Option<Moment>,
    /// The furthest that was ever given out.
    passed: Moment,
    bytes: usize,
    serial: u64,
    limit_timers: usize,
    limit_bytes: usize,
}

impl Window {
    pub(super) fn new(limit_timers: usize, limit_bytes: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            given: HashMap::new(),
            held: HashMap::new(),
            returned: BTreeSet::new(),
            bound: Some(Moment::default()),
            passed: Moment::default(),
            bytes: 0,
            serial: 0,
            limit_timers,
            limit_bytes,
        }
    }

    /// Timers in memory.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.given.len()
    }

    /// Whether a change at this moment is of interest now.
    pub(super) fn is_concerned(&self, moment: &Moment) -> bool {
        self.covers(moment) || self.held.contains_key(moment)
    }

    /// Where to read on so that `wanted` timers that are due at `now_ms` are here; `None` if they are, or nothing is
    /// left to read, or there is no room.
    pub(super) fn read_on_from(&self, wanted: usize, now_ms: u64) -> Option<&Moment> {
        let enough = self.waiting.len() >= wanted
            || self.waiting.last_key_value().is_some_and(|(last, _)| last.due_ms > now_ms);
        let room = self.len() < self.limit_timers && self.bytes < self.limit_bytes;
        self.bound.as_ref().filter(|_| room && !enough)
    }

    /// Takes in what was read from where [`Window::read_on_from`] said; `more` if there may be more after it.
    pub(super) fn read(&mut self, timers: Vec<(Moment, Bytes)>, more: bool) {
        self.bound = match timers.last() {
            Some((last, _)) if more => Some(last.successor()),
            _ => None,
        };
        for (moment, payload) in timers {
            self.stands(moment, payload);
        }
    }

    /// Takes in that a timer stands at this moment.
    pub(super) fn stands(&mut self, moment: Moment, payload: Bytes) {
        if let Some(&serial) = self.held.get(&moment) {
            if self.given.get(&serial).is_some_and(|given| given.payload == payload) {
                return;
            }
            // Set anew with another payload while it was out: what is out no longer counts.
            self.settle(serial);
        }
        if self.covers(&moment) {
            self.wait(moment, Waiting { payload, attempt: 0 });
        }
    }

    /// Takes in that no timer stands at this moment.
    pub(super) fn gone(&mut self, moment: &Moment) {
        if let Some(waiting) = self.waiting.remove(moment) {
            self.bytes -= size(moment, &waiting.payload);
        }
        if let Some(&serial) = self.held.get(moment) {
            self.settle(serial);
        }
    }

    /// When the first of those that wait falls due.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(moment, _)| moment.due_ms)
    }

    /// Gives out up to `max` timers that are due, in order.
    pub(super) fn take(&mut self, now_ms: u64, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max && self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((moment, Waiting { payload, attempt })) = self.waiting.pop_first() else { break };
            self.serial += 1;
            let (serial, attempt) = (self.serial, attempt.saturating_add(1));
            if moment > self.passed {
                self.passed = moment.clone();
            }
            self.held.insert(moment.clone(), serial);
            let given = GivenOut { moment: moment.clone(), payload: payload.clone(), attempt, again: None };
            self.given.insert(serial, given);
            taken.push(Taken { serial, moment, payload, attempt });
        }
        taken
    }

    /// A timer that was given out is over and done with.
    pub(super) fn settle(&mut self, serial: u64) {
        if let Some(given) = self.given.remove(&serial) {
            self.bytes -= size(&given.moment, &given.payload);
            self.held.remove(&given.moment);
            if let Some(again) = given.again {
                self.returned.remove(&(again, serial));
            }
        }
    }

    /// A timer that was given out has come back; `again` is told its attempts and says when it may be given out again.
    pub(super) fn come_back(&mut self, serial: u64, again: impl FnOnce(u32) -> Instant) {
        if let Some(given) = self.given.get_mut(&serial)
            && given.again.is_none()
        {
            let again = again(given.attempt);
            given.again = Some(again);
            self.returned.insert((again, serial));
        }
    }

    /// When the first that has come back may be given out again.
    pub(super) fn next_again(&self) -> Option<Instant> {
        self.returned.first().map(|(again, _)| *again)
    }

    /// One that may be given out again by now, to be looked up and then told to [`Window::again`].
    pub(super) fn may_be_given_again(&self, now: Instant) -> Option<(u64, &Moment)> {
        let (again, serial) = self.returned.first()?;
        (*again <= now).then_some(())?;
        Some((*serial, &self.given.get(serial)?.moment))
    }

    /// What [`Window::may_be_given_again`] named stands with this payload, or no longer.
    pub(super) fn again(&mut self, serial: u64, payload: Option<Bytes>) {
        let Some(given) = self.given.get(&serial) else { return };
        let (moment, attempt) = (given.moment.clone(), given.attempt);
        self.settle(serial);
        if let Some(payload) = payload
            && self.covers(&moment)
        {
            self.wait(moment, Waiting { payload, attempt });
        }
    }

    /// Forgets what waits from `moment` on, so that it is read again.
    pub(super) fn forget_from(&mut self, moment: &Moment) {
        for (moment, waiting) in self.waiting.split_off(moment) {
            self.bytes -= size(&moment, &waiting.payload);
        }
        if self.covers(moment) {
            self.bound = Some(moment.clone());
        }
    }

    /// Forgets all that waits. Returns where reading goes on: before that nothing waited, as far as was known.
    pub(super) fn forget_all(&mut self) -> Moment {
        let first = self.waiting.first_key_value().map(|(moment, _)| moment.clone());
        let from = first.or_else(|| self.bound.clone()).unwrap_or_else(|| self.passed.successor());
        self.forget_from(&from);
        from
    }

    fn covers(&self, moment: &Moment) -> bool {
        self.bound.as_ref().is_none_or(|bound| moment < bound)
    }

    fn wait(&mut self, moment: Moment, waiting: Waiting) {
        self.bytes += size(&moment, &waiting.payload);
        if let Some(before) = self.waiting.insert(moment.clone(), waiting) {
            self.bytes -= size(&moment, &before.payload);
        }
        while self.len() > self.limit_timers || self.bytes > self.limit_bytes {
            let Some((last, waiting)) = self.waiting.pop_last() else { break };
            self.bytes -= size(&last, &waiting.payload);
            self.bound = Some(last);
        }
    }
}

/// What a timer takes in memory, about.
fn size(moment: &Moment, payload: &Bytes) -> usize {
    moment.id.len() + payload.len()
}

/// The wait after an attempt that failed.
pub(super) fn back_off(attempt: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
