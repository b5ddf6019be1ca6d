//! How long an idle environment is kept, and when one is made just before the next event: a policy for each function,
//! learnt from its own past. Pure: it reads no clock and does no I/O. docs/decisions/0009-keep-alive.md says why this way.
//!
//! - [`Policy`]: what the core asks; it remembers a bounded number of functions
//! - `history`: one function's past, and what follows from it
//! - `histogram`, `regularity`: how long it was idle, and how regularly its events come
//! - `windows`: when being warm is worth its memory

mod histogram;
mod history;
mod regularity;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::history::History;
use self::windows::Windows;

/// How many functions' pasts are remembered, at some 900 bytes each, up to 4.5 KiB for one that runs many events at once; beyond
/// it those are forgotten that were used longest ago.
pub const FUNCTIONS_REMEMBERED: usize = 4_096;

/// How long an environment is kept while nothing is known of its function, and always with the fixed policy. AWS tells no
/// number; about ten minutes have been measured again and again (the paper's introduction among others).
pub const STANDARD: Duration = Duration::from_secs(600);

/// How much idle time of an environment one cold start is worth: what `cargo xtask bench warmers` found to need less memory
/// than ten fixed minutes, with fewer cold starts.
pub const WORTH: Duration = Duration::from_secs(600);
/// The same in percent of the function's mean idle time.
pub const WORTH_PERCENT: u32 = 80;

/// How long environments are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Each so long after its last event.
    Fixed(Duration),
    /// As each function's past makes it worth.
    Adaptive(Adaptive),
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::Adaptive(Adaptive::default())
    }
}

/// What the adaptive policy goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// How long an environment is kept while too little is known of its function.
    pub standard: Duration,
    /// How much idle time of an environment one cold start is worth.
    pub worth: Duration,
    /// The same in percent of the function's mean idle time, so that rare functions are not left out: the larger counts.
    pub worth_percent: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { standard: STANDARD, worth: WORTH, worth_percent: WORTH_PERCENT }
    }
}

impl Adaptive {
    /// How much idle time a cold start of a function with this mean idle time is worth.
    fn worth(&self, mean_idle: Duration) -> Duration {
        self.worth.max(mean_idle.mul_f64(f64::from(self.worth_percent) / 100.0))
    }
}

/// What to do with an environment that has just become idle, if no event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When it is dropped.
    pub drop_at: Instant,
    /// When another one is made ahead.
    pub prewarm: Option<Prewarm>,
}

/// An environment that is made just before the event that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prewarm {
    /// When it should be ready; later than the plan's `drop_at`.
    pub ready_at: Instant,
    /// Until when it is kept.
    pub until: Instant,
}

/// The pasts of functions, and what follows from them. `now` must not go back.
#[derive(Debug)]
pub struct Policy {
    setting: KeepAlive,
    /// How many functions are remembered at most.
    capacity: usize,
    functions: HashMap<Arc<str>, Entry>,
    /// Whose turn was when: the first is forgotten first.
    order: BTreeMap<u64, Arc<str>>,
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    turn: u64,
    history: Box<History>,
}

impl Policy {
    /// A policy that has seen nothing and remembers up to `capacity` functions.
    pub fn new(setting: KeepAlive, capacity: usize) -> Self {
        Self {
            setting,
            capacity: capacity.max(1),
            functions: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
        }
    }

    /// An event for this function has come; `alone`: the function had none in flight.
    pub fn event(&mut self, now: Instant, function: &Arc<str>, others: u32) {
        if matches!(self.setting, KeepAlive::Adaptive(_)) {
            self.history(function).event(now, others);
        }
    }

    /// An environment of this function has become idle, and so many events are still in flight.
    pub fn rest(&mut self, now: Instant, function: &Arc<str>, others: u32) -> Plan {
        let windows = match self.setting {
            KeepAlive::Fixed(time) => Windows::keep(time),
            KeepAlive::Adaptive(adaptive) => self.history(function).rest(now, others, &adaptive),
        };
        let prewarm = |(from, until)| Prewarm { ready_at: now + from, until: now + until };
        Plan { drop_at: now + windows.keep, prewarm: windows.prewarm.map(prewarm) }
    }

    /// How many functions are remembered.
    pub fn remembered(&self) -> usize {
        self.functions.len()
    }

    fn history(&mut self, function: &Arc<str>) -> &mut History {
        if !self.functions.contains_key(function) {
            while self.functions.len() >= self.capacity
                && let Some((_, oldest)) = self.order.pop_first()
            {
                self.functions.remove(&oldest);
            }
            self.functions.insert(Arc::clone(function), Entry { turn: 0, history: Box::new(History::new()) });
        }
        let entry = self.functions.get_mut(function).expect("it was there, or was made above");
        // The newest one stays the newest.
        if entry.turn == 0 || entry.turn != self.turn {
            self.order.remove(&entry.turn);
            self.turn += 1;
            entry.turn = self.turn;
            self.order.insert(self.turn, Arc::clone(function));
        }
        &mut entry.history
    }
}
