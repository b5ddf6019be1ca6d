//! What the core speaks of: ids, what it is told, what it asks for, and what it remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use crate::event::{FunctionVersion, ThrottleReason};

/// One environment, for as long as this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentId(pub u64);

/// One event, for as long as this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub u64);

/// Something for the shell to do. Those of one environment must be done in the order in which they were given.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make an environment of this version; then [`init_ended`](super::Core::init_ended) or
    /// [`start_failed`](super::Core::start_failed).
    Start {
        /// Its id from now on.
        environment: EnvironmentId,
        /// What it runs.
        version: Arc<FunctionVersion>,
        /// Why it is made.
        purpose: Purpose,
    },
    /// Give the event to the environment, thawing it first if it is frozen; then [`answered`](super::Core::answered)
    /// or [`dead`](super::Core::dead).
    Dispatch {
        /// Which environment.
        environment: EnvironmentId,
        /// Which event.
        event: EventId,
        /// Whether the event waited for this environment's Init phase.
        waited: bool,
    },
    /// Freeze the environment.
    Freeze {
        /// Which environment.
        environment: EnvironmentId,
    },
    /// Remove the environment; the core has forgotten it already.
    Drop {
        /// Which environment.
        environment: EnvironmentId,
    },
    /// The event will not be run.
    Reject {
        /// Which event.
        event: EventId,
        /// Why.
        rejection: Rejection,
    },
}

/// Why an environment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For an event that waits.
    Demand,
    /// For an event that is expected.
    Prewarm,
    /// For provisioned concurrency.
    Provision,
}

/// What the host has not enough of for one more environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Memory.
    Memory,
    /// Places in the sandbox.
    Places,
}

/// Why an event is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Over a limit.
    Throttled(ThrottleReason),
    /// The host cannot hold the environment that it needs.
    Short(Shortage),
    /// The environment that was to run it could not be made.
    Failed(EnvironmentId),
    /// The executor is stopping.
    Stopping,
}

impl From<ThrottleReason> for Rejection {
    fn from(reason: ThrottleReason) -> Self {
        Self::Throttled(reason)
    }
}

/// How the Init phase of a made environment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// It asked for its first event.
    Succeeded,
    /// It crashed, failed or took too long; this is why. It may still get one event, within which Init is done again,
    /// unless it was provisioned.
    Failed(Arc<str>),
}

/// What became of the event of an environment that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has been answered for (or there was none).
    Ended,
    /// The environment never saw it: another one may run it.
    Untouched,
}

/// One pool, for as long as it has environments or events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PoolId(pub(super) u64);

/// A point in time that differs from all others, so that it can be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) sequence: u64,
}

/// What an environment is doing.
///
/// ```text
/// Starting --init ended--> Busy --answered--> Settling --idle--> Idle --event--> Busy …
///                                                 \--grace over--> Lingering --idle--> Idle
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Being made, or in its Init phase.
    Starting { since: Instant },
    /// Running an event.
    Busy(EventId),
    /// It has answered a moment ago and should ask for its next event at once.
    Settling { until: Moment },
    /// It has answered a while ago and has not asked for its next event.
    Lingering,
    /// It asked for its next event. `expires`: when it is dropped, unless it is kept.
    Idle { since: Moment, expires: Option<Moment>, frozen: bool },
}

/// One environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) pool: PoolId,
    pub(super) state: State,
    /// What it was charged with when it was started, in MiB.
    pub(super) charged_mib: u64,
    /// What it was seen to use, in MiB.
    pub(super) seen_mib: Option<u64>,
    /// While it is idle: what its end surely frees, in MiB.
    pub(super) frees_mib: u64,
}

/// Whom a pool's environments serve, within their version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// Any event of a function that does not keep tenants apart.
    Anyone,
    /// One tenant alone, for life.
    Tenant(Arc<str>),
    /// The events that name this target: provisioned concurrency.
    Target(Arc<str>),
}

/// Environments that are alike, and the events that wait for one of them.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) version: Arc<str>,
    pub(super) owner: Owner,
    /// Environments in any state.
    pub(super) environments: BTreeSet<EnvironmentId>,
    pub(super) starting: u32,
    pub(super) settling: u32,
    /// By when they became idle: the last one is the most recently used.
    pub(super) idle: BTreeMap<Moment, EnvironmentId>,
    /// In order of arrival. Never more than are [`coming`](Self::coming).
    pub(super) waiting: VecDeque<EventId>,
    /// How many environments a target's pool keeps; those beyond are dropped when they are free.
    pub(super) keep: u32,
}

impl Pool {
    /// How many environments are about to become free. One that is provisioned may take long to start: no event waits
    /// for it, since it may have an environment on demand.
    pub(super) fn coming(&self) -> usize {
        if self.is_provisioned() { self.settling as usize } else { (self.starting + self.settling) as usize }
    }

    pub(super) fn is_tenants(&self) -> bool {
        matches!(self.owner, Owner::Tenant(_))
    }

    pub(super) fn is_provisioned(&self) -> bool {
        matches!(self.owner, Owner::Target(_))
    }

    /// Environments that are initialised.
    pub(super) fn initialised(&self) -> u32 {
        u32::try_from(self.environments.len()).unwrap_or(u32::MAX) - self.starting
    }

    /// Whether it has more environments than it keeps.
    pub(super) fn has_surplus(&self) -> bool {
        self.is_provisioned() && self.environments.len() > self.keep as usize
    }
}

/// One version: its pools.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) definition: Arc<FunctionVersion>,
    pub(super) function: Arc<str>,
    pub(super) pools: HashMap<Owner, PoolId>,
    /// How long the last environment took from its start to the end of its Init phase.
    pub(super) start_took: Duration,
    /// Its environments end after what they are doing now.
    pub(super) retired: bool,
}

/// One function: what its limits count.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) versions: u32,
    /// Events in flight, provisioned ones apart.
    pub(super) on_demand: u32,
    /// Events in flight in provisioned environments, or waiting for one.
    pub(super) provisioned: u32,
    pub(super) reserved: Option<u32>,
    /// What is asked for by all its configurations of provisioned concurrency.
    pub(super) claimed: u32,
    /// Environments that belong to tenants.
    pub(super) tenant_environments: u32,
    pub(super) starts: Bucket,
    pub(super) provisioned_starts: Bucket,
    pub(super) requests: Bucket,
    /// What its environments were seen to use, in MiB, smoothed.
    pub(super) memory_mib: Option<u64>,
    /// When it was last left without versions.
    pub(super) unused_since: Option<Instant>,
}

impl Function {
    /// How much of the account's concurrency belongs to it alone.
    pub(super) fn share(&self) -> u32 {
        self.reserved.unwrap_or(0).max(self.claimed)
    }
}

/// One configuration of provisioned concurrency.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) version: Arc<FunctionVersion>,
    pub(super) requested: u32,
    /// The version that it had before, whose environments stay until those of this one are ready.
    pub(super) former: Option<Arc<str>>,
    /// Events beyond the rate that provisioned concurrency allows run on demand.
    pub(super) requests: Bucket,
    /// Attempts that have failed in a row, those that ran at the same time counted once.
    pub(super) failures: u32,
    pub(super) failed_at: Option<Instant>,
    pub(super) last_failure: Option<Arc<str>>,
    /// When the next environment is started, if it lacks any.
    pub(super) due: Option<Moment>,
}
