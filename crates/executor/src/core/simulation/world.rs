//! What the core is put into: functions that are updated, environments that start slowly, fail, crash, hang and answer,
//! a host with little memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::random::Random;
use crate::core::tests::version;
use crate::core::{EventId, HostMemory, Purpose};
use crate::event::FunctionVersion;
use crate::limits::Limits;

/// The longest that an environment takes to start.
pub(super) const LONGEST_START: Duration = Duration::from_millis(200);
/// The longest that an event is run.
pub(super) const LONGEST_RUN: Duration = Duration::from_millis(100);

/// What the simulated environment does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    InitSucceeds,
    InitFails,
    StartFails,
    Answer,
    Ready,
    Die,
    Untouched,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Starting,
    Running(EventId),
    Answered,
    Idle { frozen: bool },
}

/// One environment.
pub(super) struct Modelled {
    pub(super) function: usize,
    pub(super) version: String,
    pub(super) purpose: Purpose,
    /// Whose event it ran first, if it has run one.
    pub(super) tenant: Option<Option<String>>,
    pub(super) doing: Doing,
    /// Changes with each thing it does, so that steps planned earlier are void.
    pub(super) turn: u64,
    /// What it really uses.
    pub(super) memory_mib: u64,
}

/// One event that has not ended.
pub(super) struct Open {
    pub(super) function: usize,
    pub(super) version: String,
    pub(super) tenant: Option<String>,
    /// Since when it waits for an environment.
    pub(super) since: Instant,
}

/// One function.
pub(super) struct Simulated {
    pub(super) version: Arc<FunctionVersion>,
    /// Its alias, which may have provisioned concurrency.
    pub(super) alias: String,
    pub(super) tenants: u64,
    pub(super) reserved: Option<u32>,
    pub(super) provisioned: u32,
    pub(super) in_flight: u32,
    /// What its environments use, roughly.
    pub(super) memory_mib: u64,
    /// Out of a hundred starts, how many fail.
    pub(super) failing: u64,
    pub(super) starts: [VecDeque<Instant>; 2],
}

impl Simulated {
    pub(super) fn new(number: usize, random: &mut Random, limits: &Limits) -> Self {
        let name = format!("f{number}");
        let version = version(&name, &format!("{name}-0"));
        Self {
            alias: format!("{}:PROD", version.function_arn),
            version,
            // The last two keep tenants apart.
            tenants: if number >= 5 { 1 + random.below(6) } else { 0 },
            reserved: None,
            provisioned: 0,
            in_flight: 0,
            memory_mib: 2 + random.below(limits.environment_estimate_mib - 2),
            failing: if random.chance(20) { 40 } else { 5 },
            starts: [VecDeque::new(), VecDeque::new()],
        }
    }
}

/// The host's memory.
pub(super) struct Host {
    pub(super) total_mib: u64,
    /// What others use.
    pub(super) others_mib: u64,
    /// What others used when the core last heard of it.
    pub(super) others_told_mib: u64,
    pub(super) environments_mib: u64,
    pub(super) told_at: Option<Instant>,
}

impl Host {
    pub(super) fn reading(&mut self, now: Instant) -> HostMemory {
        self.told_at = Some(now);
        self.others_told_mib = self.others_mib;
        HostMemory {
            available_mib: self.total_mib.saturating_sub(self.others_mib + self.environments_mib),
            total_mib: self.total_mib,
        }
    }
}

/// Limits that matter: small ones, different for each seed.
pub(super) fn limits(random: &mut Random) -> Limits {
    let small = |random: &mut Random, least: u64, more: u64| {
        u32::try_from(least + random.below(more)).expect("a small number")
    };
    Limits {
        account_concurrency: small(random, 10, 60),
        scaling_burst: small(random, 5, 50),
        scaling_period: Duration::from_millis(20 + random.below(200)),
        requests_per_concurrency: small(random, 100, 10_000),
        max_environments: small(random, 20, 80) as usize,
        tenant_environments_per_thousand: small(random, 200, 800),
        provisioning_at_once: small(random, 1, 5),
        memory_floor_mib: 64,
        memory_floor_percent: 5,
        environment_estimate_mib: 16,
        idle_timeout: Duration::from_millis(1 + random.below(300)),
        freeze_delay: Duration::from_micros(1 + random.below(5_000)),
        settle_grace: Duration::from_micros(1 + random.below(2_000)),
        ..Limits::default()
    }
}
