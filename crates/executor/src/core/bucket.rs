//! A token bucket: so many at once, refilled continuously.

use std::time::{Duration, Instant};

/// Holds up to `capacity` tokens and regains all of them over `period`.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    updated: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(capacity: u32, now: Instant) -> Self {
        Self { tokens: f64::from(capacity), updated: now }
    }

    /// Whether there is a token to take.
    pub(super) fn has(&mut self, capacity: u32, period: Duration, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        let refill = elapsed * f64::from(capacity) / period.as_secs_f64().max(f64::MIN_POSITIVE);
        self.tokens = (self.tokens + refill).min(f64::from(capacity));
        self.updated = now;
        self.tokens >= 1.0
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, capacity: u32, period: Duration, now: Instant) -> bool {
        let taken = self.has(capacity, period, now);
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let (capacity, period) = (10, Duration::from_secs(10));
        let mut bucket = Bucket::full(capacity, start);
        let taken = (0..20).filter(|_| bucket.take(capacity, period, start)).count();
        assert_eq!(taken, 10);
        assert!(!bucket.take(capacity, period, start + Duration::from_millis(900)));
        assert!(bucket.take(capacity, period, start + Duration::from_millis(1_900)));
        let later = start + Duration::from_secs(3_600);
        let taken = (0..20).filter(|_| bucket.take(capacity, period, later)).count();
        assert_eq!(taken, 10, "it never holds more than its capacity");
    }
}
