//! What is remembered of one function, and what follows from it.
//!
//! Which environment an event takes is known without them: the one that became idle last. So a stack of the moments at which
//! environments became idle tells how long each would have been idle until it was needed, also where it was dropped long
//! before. The first, which every event needs, has a histogram of its own; those that are needed only when two or three
//! events run at once share one, then those for four to seven, and so on.
//!
//! Of the first, in order of trust:
//! 1. Regular: the times between events hardly differ, as a timer's do. A window around their mean, as wide as they
//!    differ: seconds, also where the time is days, far beyond the histogram.
//! 2. Too little seen, or a histogram that tells nothing: the standard keep-alive.
//! 3. The histogram's best windows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Adaptive;
use super::histogram::Histogram;
use super::regularity::Regularity;
use super::windows::{self, Windows};

/// So many idle times are seen before a histogram is asked.
const SEEN_LEAST: f32 = 8.0;
/// Below this coefficient of variation of the bins' counts, the histogram tells nothing. Source: the paper's evaluation.
const VARIATION_LEAST: f64 = 1.0;
/// The windows are chosen anew when the histogram has grown by this share.
const RENEWED: f32 = 16.0;
/// Of so many environments that are idle at once it is known since when.
const IDLE_KNOWN: usize = 32;
/// Environments beside the first are told apart in so many classes: the last is for 16 events at once and more.
const CLASSES: usize = 4;
/// The weight of a new time in the mean idle time.
const MEAN_WEIGHT: f64 = 1.0 / 8.0;

/// What is remembered of one function.
#[derive(Clone, Debug)]
pub(super) struct History {
    first: Learnt,
    /// For 2 to 3 events at once, 4 to 7, …
    further: Vec<Learnt>,
    regularity: Regularity,
    /// When the event came that ended the last idle time of the function.
    began: Option<Instant>,
    /// When environments became idle, in order.
    rested: VecDeque<Instant>,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            first: Learnt::new(),
            further: Vec::new(),
            regularity: Regularity::new(),
            began: None,
            rested: VecDeque::new(),
        }
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self)
            + self.further.capacity() * size_of::<Learnt>()
            + self.rested.capacity() * size_of::<Instant>()
    }

    /// An event has come, beside so many others in flight.
    pub(super) fn event(&mut self, now: Instant, others: u32) {
        let idle = self.rested.pop_back().map(|since| now.saturating_duration_since(since));
        if let Some(idle) = idle {
            self.learnt(others).add(now, idle);
        }
        if others > 0 {
            return;
        }
        if let (Some(_), Some(began)) = (idle, self.began) {
            self.regularity.add(now.saturating_duration_since(began));
        }
        self.began = Some(now);
    }

    /// An environment has become idle, and so many events are still in flight. What to do with it.
    pub(super) fn rest(&mut self, now: Instant, others: u32, settings: &Adaptive) -> Windows {
        if self.rested.len() == IDLE_KNOWN {
            self.rested.pop_front();
        }
        self.rested.push_back(now);
        if others == 0
            && let Some(windows) = self.regular(now, settings)
        {
            return windows;
        }
        let windows = self.learnt(others).windows(settings);
        // Only the first is made again: who needs more will say so.
        if others == 0 { windows } else { Windows::keep(windows.keep) }
    }

    fn learnt(&mut self, others: u32) -> &mut Learnt {
        let class = (others.saturating_add(1).ilog2() as usize).min(CLASSES);
        let Some(further) = class.checked_sub(1) else { return &mut self.first };
        if self.further.len() <= further {
            self.further.reserve_exact(further + 1 - self.further.len());
            self.further.resize_with(further + 1, Learnt::new);
        }
        &mut self.further[further]
    }

    fn regular(&self, now: Instant, settings: &Adaptive) -> Option<Windows> {
        let (from, until) = self.regularity.expected()?;
        let ran = now.saturating_duration_since(self.began?);
        let (from, until) = (from.saturating_sub(ran), until.checked_sub(ran)?);
        let pays = until - from <= settings.worth(self.first.mean());
        pays.then(|| Windows::new(Duration::ZERO, from, until))
    }
}

/// Idle times, and the windows that follow from them.
#[derive(Clone, Debug)]
struct Learnt {
    histogram: Histogram,
    /// The mean idle time, in seconds, those beyond the histogram included.
    mean: f32,
    windows: Option<Windows>,
    /// How many times were added since the windows were chosen.
    added: f32,
}

impl Learnt {
    const fn new() -> Self {
        Self { histogram: Histogram::new(), mean: 0.0, windows: None, added: 0.0 }
    }

    fn add(&mut self, now: Instant, idle: Duration) {
        let weight = if self.histogram.total() == 0.0 { 1.0 } else { MEAN_WEIGHT };
        self.mean += (weight * (idle.as_secs_f64() - f64::from(self.mean))) as f32;
        self.histogram.add(now, idle);
        self.added += 1.0;
    }

    fn mean(&self) -> Duration {
        Duration::from_secs_f32(self.mean)
    }

    fn windows(&mut self, settings: &Adaptive) -> Windows {
        let total = self.histogram.total();
        match self.windows {
            Some(windows) if self.added * RENEWED <= total => windows,
            _ => {
                self.added = 0.0;
                let tells = total >= SEEN_LEAST && self.histogram.variation() >= VARIATION_LEAST;
                let windows = match tells {
                    true => windows::best(&self.histogram, settings.worth(self.mean())),
                    false => Windows::keep(settings.standard),
                };
                *self.windows.insert(windows)
            }
        }
    }
}
