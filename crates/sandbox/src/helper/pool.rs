//! How many blanks are kept ready: as many as are configured, and more while orders come faster than blanks are made.
//!
//! An order that finds none doubles the number, up to a bound and only while memory is not short. What stood ready all through a
//! window was not needed: half of it goes, window by window, until the configured number is left. At that number nothing here
//! asks to be waked.

use std::fs;
use std::time::{Duration, Instant};

/// Blanks that are kept ready at most, unless more are configured: each takes some hundred KiB.
const GROWN_MAX: usize = 32;
/// The time after which blanks that nobody needed are thought surplus.
const WINDOW: Duration = Duration::from_secs(5);
/// No more than the configured number is kept when less than this part of memory is available: one in so many.
const SHORT_PART: u64 = 10;

/// The wanted number.
pub(crate) struct Pool {
    base: usize,
    most: usize,
    target: usize,
    /// The fewest that stood ready in this window.
    lowest: usize,
    /// When this window ends; none while only the configured number is kept.
    review: Option<Instant>,
}

impl Pool {
    /// Keeps `base` ready. Without any it never grows: somebody does not want it.
    pub(crate) fn new(base: usize, max_environments: usize) -> Pool {
        let most = if base == 0 { 0 } else { GROWN_MAX.min(max_environments).max(base) };
        Pool { base, most, target: base, lowest: base, review: None }
    }

    /// How many are to stand ready.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// An order came, and none stood ready.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.lowest = 0;
        if self.target < self.most && !is_memory_short() {
            self.target = (self.target * 2).min(self.most);
            self.review.get_or_insert(now + WINDOW);
        }
    }

    /// So many stand ready now.
    pub(crate) fn observe(&mut self, ready: usize) {
        self.lowest = self.lowest.min(ready);
    }

    /// Takes note of the end of a window.
    pub(crate) fn review(&mut self, now: Instant, ready: usize) {
        if self.review.is_none_or(|review| now < review) {
            return;
        }
        let surplus = if is_memory_short() { self.target } else { self.lowest.div_ceil(2) };
        self.target = self.target.saturating_sub(surplus).max(self.base);
        self.lowest = ready;
        self.review = (self.target > self.base).then_some(now + WINDOW);
    }

    /// When [`Self::review`] has something to do.
    pub(crate) fn next_review(&self) -> Option<Instant> {
        self.review
    }
}

/// Whether the host has better uses for its memory. Not where it cannot be told.
fn is_memory_short() -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    match (number("MemTotal:"), number("MemAvailable:")) {
        (Some(total), Some(available)) => available < total / SHORT_PART,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_what_was_missed_and_shrinks_by_what_was_not_needed() {
        let mut now = Instant::now();
        let mut pool = Pool::new(2, 1000);
        assert_eq!((pool.target(), pool.next_review()), (2, None));
        for _ in 0..8 {
            pool.missed(now);
        }
        // The machine that this runs on may be short of memory itself.
        if pool.target() == 2 {
            return;
        }
        assert_eq!(pool.target(), GROWN_MAX);
        // All were used in this window: nothing is surplus.
        now += WINDOW;
        pool.review(now, GROWN_MAX);
        assert_eq!(pool.target(), GROWN_MAX);
        // Four were never needed in the next.
        pool.observe(4);
        pool.observe(9);
        now += WINDOW;
        pool.review(now, GROWN_MAX);
        assert!(pool.target() <= GROWN_MAX - 2 && pool.target() > 2);
        // Then nobody comes any more.
        for _ in 0..10 {
            now += WINDOW;
            pool.review(now, pool.target());
        }
        assert_eq!((pool.target(), pool.next_review()), (2, None));
    }

    #[test]
    fn who_wants_none_gets_none() {
        let mut pool = Pool::new(0, 1000);
        pool.missed(Instant::now());
        assert_eq!((pool.target(), pool.next_review()), (0, None));
    }
}
