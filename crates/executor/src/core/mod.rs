//! Which environment runs an event, and when one is made, frozen or dropped: a pure state machine. It does no I/O, owns
//! no task and reads no clock, so that a simulation can run a million events within a minute.
//!
//! - [`mod@self`]: [`Core`] and what can be asked of it; `inputs`: what it is told; `settings`: what is changed from outside
//! - `pools`: environments that are alike, and the events that wait for one of them
//! - `books`: versions and functions, what they have in flight, and whether they may have more; `bucket`: rates
//! - `provisioning`: environments that are kept ready; `memory`: what the host can hold
//! - `model`: ids, [`Action`]s and what is remembered; `time`: what happens by itself
//!
//! Policy:
//! - An environment belongs to one pool for life: of a version, and within it of anyone, of one tenant, or of one
//!   configuration of provisioned concurrency.
//! - An event takes the most recently used idle environment of its pool. Without one it waits for the first that
//!   becomes free: an environment is started for it unless one is already on its way (still starting without an event
//!   of its own, or settling, that is: it has answered and is about to ask for its next event). Whichever becomes free
//!   first takes the event that has waited longest; an environment that then finds nobody waiting goes idle.
//! - An event whose target has provisioned environments takes one of those, if one is free or settling, and otherwise
//!   runs on demand.
//! - Nothing waits for capacity: over a limit, or where the host can hold no more, an event is rejected when it arrives
//!   (or when the environment it counted on fails and no other may be started).
//! - Concurrency counts events in flight, waiting ones included. Functions with reserved or provisioned concurrency have
//!   that much for themselves; the others, and what spills over of provisioned concurrency, share what is left.
//! - Every input costs O(log n) in the number of environments, beside those that it drops.

mod books;
mod bucket;
mod inputs;
mod memory;
mod model;
mod pools;
mod provisioning;
mod settings;
mod time;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use self::inputs::Arrival;
pub use self::memory::HostMemory;
pub use self::model::{Action, EnvironmentId, EventId, Fate, Init, Purpose, Rejection, Shortage};

use self::memory::Memory;
use self::model::{Environment, Function, Moment, Pool, PoolId, Target, Version};
use crate::limits::Limits;

/// How many retired versions are remembered, so that an event that comes late (its caller read the definition just
/// before the update) does not leave an environment of old code behind.
const RETIRED_REMEMBERED: usize = 4_096;

/// The state machine. `now` must not go back.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    versions: HashMap<Arc<str>, Version>,
    functions: HashMap<Arc<str>, Function>,
    pools: HashMap<PoolId, Pool>,
    environments: HashMap<EnvironmentId, Environment>,
    /// All idle environments that are not provisioned, by since when.
    idle: BTreeMap<Moment, EnvironmentId>,
    /// The provisioned ones.
    kept: BTreeMap<Moment, EnvironmentId>,
    /// Idle environments by when they are dropped.
    expiring: BTreeMap<Moment, EnvironmentId>,
    /// All idle environments that are not frozen yet.
    thawed: BTreeMap<Moment, EnvironmentId>,
    /// All settling environments, by until when they are waited for.
    settling: BTreeMap<Moment, EnvironmentId>,
    /// Functions left without versions, by when.
    unused: VecDeque<(Instant, Arc<str>)>,
    targets: HashMap<Arc<str>, Target>,
    /// Targets that lack environments, by when the next one is started.
    lacking: BTreeMap<Moment, Arc<str>>,
    /// Environments in their Init phase for some target.
    provisioning: u32,
    /// Changes to what [`provisioned`](Self::provisioned) says.
    provisioned_changes: u64,
    memory: Memory,
    retired: HashSet<Arc<str>>,
    retired_order: VecDeque<Arc<str>>,
    in_flight: u32,
    /// Events in flight that share what belongs to no function.
    unreserved_in_flight: u32,
    /// What belongs to functions.
    shares: u32,
    stopping: bool,
    last_id: u64,
    actions: Vec<Action>,
}

impl Core {
    /// A core that knows no function yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            versions: HashMap::new(),
            functions: HashMap::new(),
            pools: HashMap::new(),
            environments: HashMap::new(),
            idle: BTreeMap::new(),
            kept: BTreeMap::new(),
            expiring: BTreeMap::new(),
            thawed: BTreeMap::new(),
            settling: BTreeMap::new(),
            unused: VecDeque::new(),
            targets: HashMap::new(),
            lacking: BTreeMap::new(),
            provisioning: 0,
            provisioned_changes: 0,
            memory: Memory::default(),
            retired: HashSet::new(),
            retired_order: VecDeque::new(),
            in_flight: 0,
            unreserved_in_flight: 0,
            shares: 0,
            stopping: false,
            last_id: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done since the last call, in order.
    pub fn take_actions(&mut self) -> std::vec::Drain<'_, Action> {
        self.actions.drain(..)
    }

    /// How many events are in flight, waiting ones included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether there is such an environment.
    pub fn has(&self, id: EnvironmentId) -> bool {
        self.environments.contains_key(&id)
    }

    /// How many environments there are, starting ones included.
    pub fn environments(&self) -> usize {
        self.environments.len()
    }

    /// How often what [`provisioned`](Self::provisioned) says has changed, other than by events that come and go.
    pub fn provisioned_changes(&self) -> u64 {
        self.provisioned_changes
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn moment(&mut self, at: Instant) -> Moment {
        Moment { at, sequence: self.new_id() }
    }
}
