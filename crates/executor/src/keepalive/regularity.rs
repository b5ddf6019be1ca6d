//! Whether the times between a function's events hardly differ, and how much they do: exponentially weighted mean and mean
//! deviation, as TCP keeps of round-trip times (RFC 6298, whose weights and factor these are). Sixteen bytes, no bound on the
//! time: it replaces the paper's ARIMA model for times beyond the histogram, and is sharper than bins within it.

use std::time::Duration;

/// The weight of a new time in the mean, and in the deviation.
const MEAN_WEIGHT: f64 = 1.0 / 8.0;
const DEVIATION_WEIGHT: f64 = 1.0 / 4.0;
/// So many mean deviations around the mean an event is waited for.
const DEVIATIONS: f64 = 4.0;
/// A time is as expected if it differs from the mean by no more than this share of it.
const TOLERANCE: f64 = 0.2;
/// An event is waited for from a second earlier to a second later: clocks and starts are no better.
const LEAD_SECONDS: f64 = 1.0;
/// Where the mean is shorter, in seconds, an environment is kept from one event to the next anyway.
const MEAN_LEAST: f64 = 60.0;
/// Each time as expected counts up by one to this, each other down by two; from [`REGULAR`] on the function is regular.
const SCORE_MAX: u8 = 8;
const REGULAR: u8 = 3;

/// What is known about the times between events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Regularity {
    mean: f32,
    deviation: f32,
    score: u8,
}

impl Regularity {
    /// Nothing known.
    pub(super) const fn new() -> Self {
        Self { mean: 0.0, deviation: 0.0, score: 0 }
    }

    /// The time from one event to the next, in a function that was idle before both.
    pub(super) fn add(&mut self, interval: Duration) {
        let (interval, mean) = (interval.as_secs_f64(), f64::from(self.mean));
        let error = (interval - mean).abs();
        if error <= TOLERANCE * mean {
            self.score = (self.score + 1).min(SCORE_MAX);
            self.mean = (mean + MEAN_WEIGHT * (interval - mean)) as f32;
            let deviation = f64::from(self.deviation);
            self.deviation = (deviation + DEVIATION_WEIGHT * (error - deviation)) as f32;
            return;
        }
        // What is not as expected does not blur what is known, unless it happens again and again.
        self.score = self.score.saturating_sub(2);
        if self.score == 0 {
            *self = Self { mean: interval as f32, deviation: 0.0, score: 0 };
        }
    }

    /// From when to when the next event is expected after the one before, if that can be said.
    pub(super) fn expected(&self) -> Option<(Duration, Duration)> {
        let (mean, deviation) = (f64::from(self.mean), f64::from(self.deviation));
        if self.score < REGULAR || mean < MEAN_LEAST {
            return None;
        }
        let slack = DEVIATIONS * deviation + LEAD_SECONDS;
        Some((Duration::from_secs_f64((mean - slack).max(0.0)), Duration::from_secs_f64(mean + slack)))
    }
}
