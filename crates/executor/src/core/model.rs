//! What the core speaks of: ids, what it is told, what it asks for, and what it remembers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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

/// Why an event is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Over a limit.
    Throttled(ThrottleReason),
    /// The environment that was to run it could not be made.
    Failed(EnvironmentId),
    /// The executor is stopping.
    Stopping,
}

/// How the Init phase of a made environment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// It asked for its first event.
    Succeeded,
    /// It crashed, failed or took too long. It may still get one event, within which Init is done again.
    Failed,
}

/// What became of the event of an environment that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has been answered for (or there was none).
    Ended,
    /// The environment never saw it: another one may run it.
    Untouched,
}

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
    /// It asked for its next event.
    Idle { since: Moment, frozen: bool },
}

/// One environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) version: Arc<str>,
    pub(super) state: State,
}

/// One version: its environments and the events that wait for one.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) definition: Arc<FunctionVersion>,
    pub(super) function: Arc<str>,
    /// Environments in any state.
    pub(super) environments: BTreeSet<EnvironmentId>,
    pub(super) starting: u32,
    pub(super) settling: u32,
    /// How long the last environment took from its start to the end of its Init phase.
    pub(super) start_took: Duration,
    /// By when they became idle: the last one is the most recently used.
    pub(super) idle: BTreeMap<Moment, EnvironmentId>,
    /// In order of arrival. Never more than `starting + settling`.
    pub(super) waiting: VecDeque<EventId>,
    /// Its environments end after what they are doing now.
    pub(super) retired: bool,
}

impl Version {
    /// How many environments are about to become free.
    pub(super) fn coming(&self) -> usize {
        (self.starting + self.settling) as usize
    }
}

/// One function: what its limits count.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) versions: u32,
    pub(super) in_flight: u32,
    pub(super) reserved: Option<u32>,
    pub(super) starts: Bucket,
    pub(super) requests: Bucket,
    /// When it was last left without versions.
    pub(super) unused_since: Option<Instant>,
}
