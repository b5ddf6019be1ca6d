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

/// Environments that are in their Init phase for provisioned concurrency at once, over all functions: few, so that events
/// find the processors free. AWS takes "a minute or two" for its own.
pub const PROVISIONING_AT_ONCE: u32 = 8;

/// How long the next attempt to provision waits after a failed one; twice as long after each further one in a row.
pub const PROVISIONING_PAUSE: Duration = Duration::from_secs(1);

/// Environments that the tenants of one function may have, busy or idle, for every 1,000 of its concurrency. Source:
/// "Troubleshooting tenant isolation".
pub const TENANT_ENVIRONMENTS_PER_THOUSAND: u32 = 2_500;

/// Memory of the host that environments leave free at least, in MiB, ...
pub const MEMORY_FLOOR_MIB: u64 = 512;
/// ... and in hundredths of all memory: whichever is more.
pub const MEMORY_FLOOR_PERCENT: u64 = 5;

/// What an environment of a function that has not run yet is taken to use, in MiB: an interpreter with small code uses
/// less.
pub const ENVIRONMENT_ESTIMATE_MIB: u64 = 16;

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
    /// Environments that may exist at once; the sandbox's own bound holds too.
    pub max_environments: usize,
    /// Environments that the tenants of one function may have for every 1,000 of its concurrency.
    pub tenant_environments_per_thousand: u32,
    /// Environments in their Init phase for provisioned concurrency at once.
    pub provisioning_at_once: u32,
    /// How long the next attempt to provision waits after a failed one; twice as long after each further one in a row.
    pub provisioning_pause: Duration,
    /// Memory of the host that environments leave free, in MiB, ...
    pub memory_floor_mib: u64,
    /// ... and in hundredths of all: whichever is more.
    pub memory_floor_percent: u64,
    /// What an environment of a function that has not run yet is taken to use, in MiB.
    pub environment_estimate_mib: u64,
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
            max_environments: usize::MAX,
            tenant_environments_per_thousand: TENANT_ENVIRONMENTS_PER_THOUSAND,
            provisioning_at_once: PROVISIONING_AT_ONCE,
            provisioning_pause: PROVISIONING_PAUSE,
            memory_floor_mib: MEMORY_FLOOR_MIB,
            memory_floor_percent: MEMORY_FLOOR_PERCENT,
            environment_estimate_mib: ENVIRONMENT_ESTIMATE_MIB,
            idle_timeout: IDLE_TIMEOUT,
            freeze_delay: FREEZE_DELAY,
            settle_grace: SETTLE_GRACE,
            init_timeout: limits::INIT_TIMEOUT,
        }
    }
}
