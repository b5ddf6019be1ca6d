//! The executor's settings: AWS's quotas by default, each of which a configuration may change.

use std::time::Duration;

use freehold_base::limits;

/// How long an environment that asked for its next event stays unfrozen. Freezing and thawing cost a round trip to the
/// sandbox each; an environment that gets its next event within this time pays neither.
pub const FREEZE_DELAY: Duration = Duration::from_millis(10);

/// How long a new event waits at least for an environment that has answered but not yet asked for its next event. A
/// runtime asks within tens of microseconds, within milliseconds on a machine that is busy, while a cold start takes some
/// ten milliseconds of computing: starting another one would be the slower way, and make a busy machine busier. Where
/// starts take longer, for whatever reason, it waits as long as the version's last start took: at worst twice what the
/// start alone would have been.
pub const SETTLE_GRACE: Duration = Duration::from_millis(20);

/// How long an environment without events is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Requests per second that each unit of concurrency allows. Source: "Lambda quotas", invocation requests per second.
pub const REQUESTS_PER_CONCURRENCY: u32 = 10;

/// What the executor goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events in flight at once, over all functions.
    pub account_concurrency: u32,
    /// New environments that one function may start within [`scaling_period`](Self::scaling_period).
    pub scaling_burst: u32,
    /// The time in which [`scaling_burst`](Self::scaling_burst) is replenished, continuously.
    pub scaling_period: Duration,
    /// Events per second that each unit of a function's concurrency allows.
    pub requests_per_concurrency: u32,
    /// How long an environment without events is kept.
    pub idle_timeout: Duration,
    /// How long an idle environment stays unfrozen.
    pub freeze_delay: Duration,
    /// How long a new event waits at least for an environment that has answered but not yet asked for its next event.
    pub settle_grace: Duration,
    /// How long the Init phase may take before it is done again inside the invocation.
    pub init_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            account_concurrency: limits::ACCOUNT_CONCURRENCY,
            scaling_burst: limits::SCALING_BURST,
            scaling_period: limits::SCALING_PERIOD,
            requests_per_concurrency: REQUESTS_PER_CONCURRENCY,
            idle_timeout: IDLE_TIMEOUT,
            freeze_delay: FREEZE_DELAY,
            settle_grace: SETTLE_GRACE,
            init_timeout: limits::INIT_TIMEOUT,
        }
    }
}
