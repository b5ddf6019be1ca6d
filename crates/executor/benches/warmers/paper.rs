//! The hybrid histogram policy as it was published, to compare with: one-minute bins up to four hours; from the 5th to the
//! 99th percentile, with a margin of a tenth; the whole range where the bins' coefficient of variation is below 2; and, where
//! most times are beyond the range, a forecast with a margin of 15 % (an exponentially weighted mean in place of ARIMA).

use std::time::{Duration, Instant};

use freehold_executor::keepalive::{Plan, Prewarm};

const BINS: usize = 240;
const BIN: f64 = 60.0;
const HEAD: f64 = 0.05;
const TAIL: f64 = 0.99;
const MARGIN: f64 = 0.1;
const VARIATION_LEAST: f64 = 2.0;
const BEYOND_MOST: f64 = 0.5;
const FORECAST_MARGIN: f64 = 0.15;
const FORECAST_WEIGHT: f64 = 0.25;
/// Kept beside the last one (the paper knows one environment for each application).
const SURPLUS: Duration = Duration::from_secs(600);

/// One function's policy.
pub(crate) struct Paper {
    counts: [u32; BINS],
    squares: f64,
    total: u32,
    beyond: u32,
    forecast: f64,
    idle_since: Option<Instant>,
    windows: (f64, f64),
    changed: u32,
}

impl Paper {
    pub(crate) fn new() -> Self {
        Self {
            counts: [0; BINS],
            squares: 0.0,
            total: 0,
            beyond: 0,
            forecast: 0.0,
            idle_since: None,
            windows: (0.0, BINS as f64 * BIN),
            changed: 1,
        }
    }

    pub(crate) fn event(&mut self, now: Instant, others: u32) {
        if others > 0 {
            return;
        }
        let Some(since) = self.idle_since.take() else { return };
        let idle = (now - since).as_secs_f64();
        self.changed += 1;
        let bin = (idle / BIN) as usize;
        if bin < BINS {
            self.squares += 2.0 * f64::from(self.counts[bin]) + 1.0;
            self.counts[bin] += 1;
            self.total += 1;
        } else {
            self.beyond += 1;
            let weight = if self.forecast == 0.0 { 1.0 } else { FORECAST_WEIGHT };
            self.forecast += weight * (idle - self.forecast);
        }
    }

    pub(crate) fn rest(&mut self, now: Instant, others: u32) -> Plan {
        if others > 0 {
            return Plan { drop_at: now + SURPLUS, prewarm: None };
        }
        self.idle_since = Some(now);
        // Chosen anew when a sixty-fourth has been added: a popular function's windows do not change with each event.
        if self.changed * 64 > self.total + self.beyond {
            self.windows = self.choose();
            self.changed = 0;
        }
        let (from, until) = self.windows;
        let (from, until) = (now + Duration::from_secs_f64(from), now + Duration::from_secs_f64(until));
        match from == now {
            true => Plan { drop_at: until, prewarm: None },
            false => Plan { drop_at: now, prewarm: Some(Prewarm { ready_at: from, until }) },
        }
    }

    fn choose(&self) -> (f64, f64) {
        let range = BINS as f64 * BIN;
        let seen = f64::from(self.total + self.beyond);
        if f64::from(self.beyond) > BEYOND_MOST * seen {
            return (self.forecast * (1.0 - FORECAST_MARGIN), self.forecast * (1.0 + FORECAST_MARGIN));
        }
        let mean = f64::from(self.total) / BINS as f64;
        let variance = self.squares / BINS as f64 - mean * mean;
        if mean == 0.0 || variance.sqrt() / mean < VARIATION_LEAST {
            return (0.0, range);
        }
        let percentile = |share: f64| {
            let mut left = share * f64::from(self.total);
            let found = self.counts.iter().position(|count| {
                left -= f64::from(*count);
                left <= 0.0
            });
            found.unwrap_or(BINS - 1) as f64
        };
        // The head is rounded down to its bin's begin, the tail up to its end.
        (percentile(HEAD) * BIN * (1.0 - MARGIN), (percentile(TAIL) + 1.0) * BIN * (1.0 + MARGIN))
    }
}
