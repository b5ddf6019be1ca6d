//! How long a transaction waits after a conflict before it is run again: twice as long each time, up to a limit, and a
//! random part of that, so that those who met once don't meet again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits::{RETRY_DELAY_FIRST, RETRY_DELAY_LONGEST};

/// The wait before the attempt that follows `failed` failed ones, given a random number. The first retry is immediate:
/// most conflicts are over by then.
pub(crate) fn delay(failed: u32, random: u64) -> Duration {
    let Some(doublings) = failed.checked_sub(2) else { return Duration::ZERO };
    let longest = RETRY_DELAY_FIRST.saturating_mul(1 << doublings.min(16)).min(RETRY_DELAY_LONGEST);
    let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % longest_ns.max(1))
}

/// A number that differs from call to call; nothing secret hangs on it.
pub(crate) fn random() -> u64 {
    // The standard library seeds every one of these anew; a crate of its own for jitter isn't worth its build.
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit() {
        assert_eq!(delay(1, u64::MAX), Duration::ZERO);
        for failed in 2..200 {
            assert!(delay(failed, random()) < RETRY_DELAY_LONGEST);
        }
        assert!(delay(2, random()) < RETRY_DELAY_FIRST);
        assert_ne!(random(), random());
    }
}
