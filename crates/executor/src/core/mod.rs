//! Which environment runs an event, and when one is made, frozen or dropped: a pure state machine. It does no I/O, owns
//! no task and reads no clock, so that a simulation can run hundreds of thousands of events in a second.
//!
//! - [`mod@self`]: what it is told (each method is one input) and what it asks for ([`Action`])
//! - `books`: versions and functions, what they have in flight, and whether they may have more; `bucket`: rates
//! - `model`: ids, actions and what is remembered; `time`: what happens by itself
//!
//! Policy:
//! - An event takes the most recently used idle environment of its version. Without one it waits for the first that
//!   becomes free: an environment is started for it unless one is already on its way (still starting without an event
//!   of its own, or settling, that is: it has answered and is about to ask for its next event). Whichever becomes free
//!   first takes the event that has waited longest; an environment that then finds nobody waiting goes idle.
//! - Nothing waits for capacity: over a limit an event is rejected when it arrives (or when the environment it counted
//!   on fails and no other may be started).
//! - Concurrency counts events in flight, waiting ones included. Functions with reserved concurrency have exactly that
//!   much; the others share what is left of the account's.
//! - Every input costs O(log n) in the number of environments.

mod books;
mod bucket;
mod model;
mod provisioning;
mod time;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use self::model::{Action, EnvironmentId, EventId, Fate, Init, Rejection};

use self::model::{Environment, Function, Moment, State, Version};
use crate::event::{FunctionVersion, Provisioned, ThrottleReason};
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
    environments: HashMap<EnvironmentId, Environment>,
    /// All idle environments, by since when.
    idle: BTreeMap<Moment, EnvironmentId>,
    /// Those of them that are not frozen yet.
    thawed: BTreeMap<Moment, EnvironmentId>,
    /// All settling environments, by until when they are waited for.
    settling: BTreeMap<Moment, EnvironmentId>,
    /// Functions left without versions, by when.
    unused: VecDeque<(Instant, Arc<str>)>,
    targets: HashMap<Arc<str>, Provisioned>,
    retired: HashSet<Arc<str>>,
    retired_order: VecDeque<Arc<str>>,
    in_flight: u32,
    unreserved_in_flight: u32,
    reserved_total: u32,
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
            environments: HashMap::new(),
            idle: BTreeMap::new(),
            thawed: BTreeMap::new(),
            settling: BTreeMap::new(),
            unused: VecDeque::new(),
            targets: HashMap::new(),
            retired: HashSet::new(),
            retired_order: VecDeque::new(),
            in_flight: 0,
            unreserved_in_flight: 0,
            reserved_total: 0,
            stopping: false,
            last_id: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done since the last call, in order.
    pub fn take_actions(&mut self) -> std::vec::Drain<'_, Action> {
        self.actions.drain(..)
    }

    /// An event for `version` has arrived. If it is not rejected at once, it ends with exactly one of: a
    /// [`Action::Reject`], an [`answered`](Self::answered) or a [`dead`](Self::dead) after its [`Action::Dispatch`].
    pub fn arrive(&mut self, now: Instant, version: &Arc<FunctionVersion>) -> Result<EventId, Rejection> {
        if self.stopping {
            return Err(Rejection::Stopping);
        }
        let function = self.function(now, &version.function_arn);
        if let Err(reason) = self.admit(now, &function) {
            self.leave_function_if_unused(now, &function);
            return Err(Rejection::Throttled(reason));
        }
        let key = self.version(version, &function);
        let state = self.versions.get(&key).expect("made above");
        let idle = state.idle.last_key_value().map(|(_, environment)| *environment);
        let must_start = idle.is_none() && state.waiting.len() >= state.coming();
        if must_start && !self.may_start(now, &function) {
            self.leave_version_if_empty(now, &key);
            return Err(Rejection::Throttled(ThrottleReason::Concurrency));
        }
        let event = EventId(self.new_id());
        self.count(&function, 1);
        if let Some(environment) = idle {
            self.dispatch(environment, event, false);
            return Ok(event);
        }
        if must_start {
            self.start(now, &key);
        }
        self.versions.get_mut(&key).expect("made above").waiting.push_back(event);
        Ok(event)
    }

    /// A starting environment has ended its Init phase. After a failure it gets an event that waits, if there is one.
    pub fn init_ended(&mut self, now: Instant, id: EnvironmentId, init: Init) {
        let Some(environment) = self.environments.get_mut(&id) else { return };
        let State::Starting { since } = environment.state else { panic!("Init ends once") };
        environment.state = State::Lingering;
        let version = self.versions.get_mut(&environment.version).expect("an environment's version is known");
        version.starting -= 1;
        if init == Init::Succeeded {
            version.start_took = now.saturating_duration_since(since);
        }
        match (version.waiting.pop_front(), init) {
            (Some(event), _) => self.dispatch(id, event, true),
            (None, Init::Succeeded) => self.rest(now, id),
            (None, Init::Failed) => self.drop_environment(now, id),
        }
    }

    /// A starting environment could not be made: the event that has waited longest hears why.
    pub fn start_failed(&mut self, now: Instant, id: EnvironmentId) {
        let Some(environment) = self.environments.get(&id) else { return };
        let key = Arc::clone(&environment.version);
        let version = self.versions.get_mut(&key).expect("an environment's version is known");
        if let Some(event) = version.waiting.pop_front() {
            let function = Arc::clone(&version.function);
            self.count(&function, -1);
            self.actions.push(Action::Reject { event, rejection: Rejection::Failed(id) });
        }
        self.forget(now, id);
        self.rebalance(now, &key);
    }

    /// The environment has answered its event, and will ask for another one.
    pub fn answered(&mut self, now: Instant, id: EnvironmentId) {
        let Some(environment) = self.environments.get(&id) else { return };
        let key = Arc::clone(&environment.version);
        let version = self.versions.get_mut(&key).expect("an environment's version is known");
        let function = Arc::clone(&version.function);
        let drop = self.stopping || version.retired;
        let grace = self.limits.settle_grace.max(version.start_took);
        self.count(&function, -1);
        let until = self.moment(now + grace);
        let environment = self.environments.get_mut(&id).expect("looked up above");
        assert!(matches!(environment.state, State::Busy(_)), "only a busy environment answers");
        environment.state = State::Settling { until };
        self.settling.insert(until, id);
        self.versions.get_mut(&key).expect("looked up above").settling += 1;
        if drop {
            self.drop_environment(now, id);
        }
    }

    /// The environment that has answered asks for its next event.
    pub fn ready(&mut self, now: Instant, id: EnvironmentId) {
        let Some(environment) = self.environments.get(&id) else { return };
        assert!(
            matches!(environment.state, State::Settling { .. } | State::Lingering),
            "only an environment that has answered asks for more"
        );
        self.unsettle(id);
        let key = &self.environments.get(&id).expect("looked up above").version;
        let version = self.versions.get_mut(key).expect("an environment's version is known");
        match version.waiting.pop_front() {
            Some(event) => self.dispatch(id, event, false),
            None => self.rest(now, id),
        }
    }

    /// The environment is gone (or about to be). If it ran an event, `fate` says what became of it.
    pub fn dead(&mut self, now: Instant, id: EnvironmentId, fate: Fate) {
        let Some(environment) = self.environments.get(&id) else { return };
        let key = Arc::clone(&environment.version);
        if matches!(environment.state, State::Starting { .. }) {
            return self.start_failed(now, id);
        }
        if let State::Busy(event) = environment.state {
            let version = self.versions.get_mut(&key).expect("an environment's version is known");
            let function = Arc::clone(&version.function);
            match fate {
                Fate::Untouched => version.waiting.push_front(event),
                Fate::Ended => self.count(&function, -1),
            }
        }
        self.forget(now, id);
        self.rebalance(now, &key);
    }

    /// The version's definition has changed or gone: idle environments are dropped now, the others after their event.
    pub fn retire(&mut self, now: Instant, key: &str) {
        let key: Arc<str> = Arc::from(key);
        if self.retired.insert(Arc::clone(&key)) {
            self.retired_order.push_back(Arc::clone(&key));
            if self.retired_order.len() > RETIRED_REMEMBERED
                && let Some(oldest) = self.retired_order.pop_front()
            {
                self.retired.remove(&oldest);
            }
        }
        let Some(version) = self.versions.get_mut(&key) else { return };
        version.retired = true;
        self.drop_free(now, &key);
        self.rebalance(now, &key);
    }

    /// Sets a function's reserved concurrency (`None`: it shares the account's), from the next event on; environments stay.
    pub fn set_reserved(&mut self, now: Instant, function_arn: &str, reserved: Option<u32>) {
        let function = self.function(now, function_arn);
        self.reserve(&function, reserved);
        self.leave_function_if_unused(now, &function);
    }

    /// No new events; environments are dropped as they become free. Events that are waiting still run.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        let keys: Vec<_> = self.versions.keys().cloned().collect();
        for key in keys {
            self.drop_free(now, &key);
            self.rebalance(now, &key);
        }
    }

    /// After [`stop`](Self::stop), if waiting is over: every environment is dropped, every waiting event rejected. The
    /// shell answers for the events that were running.
    pub fn abort(&mut self, now: Instant) {
        self.stopping = true;
        let keys: Vec<_> = self.versions.keys().cloned().collect();
        for key in keys {
            let version = self.versions.get_mut(&key).expect("listed above");
            let function = Arc::clone(&version.function);
            for event in std::mem::take(&mut version.waiting) {
                self.count(&function, -1);
                self.actions.push(Action::Reject { event, rejection: Rejection::Stopping });
            }
        }
        let environments: Vec<_> = self.environments.keys().copied().collect();
        for id in environments {
            if matches!(self.environments[&id].state, State::Busy(_)) {
                let function = Arc::clone(&self.versions[&self.environments[&id].version].function);
                self.count(&function, -1);
            }
            self.drop_environment(now, id);
        }
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

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn moment(&mut self, at: Instant) -> Moment {
        Moment { at, sequence: self.new_id() }
    }

    fn start(&mut self, now: Instant, key: &Arc<str>) {
        let id = EnvironmentId(self.new_id());
        let version = self.versions.get_mut(key).expect("made by the caller");
        version.environments.insert(id);
        version.starting += 1;
        let definition = Arc::clone(&version.definition);
        let state = State::Starting { since: now };
        self.environments.insert(id, Environment { version: Arc::clone(key), state });
        self.actions.push(Action::Start { environment: id, version: definition });
    }

    fn dispatch(&mut self, id: EnvironmentId, event: EventId, waited: bool) {
        self.wake(id);
        self.environments.get_mut(&id).expect("known to the caller").state = State::Busy(event);
        self.actions.push(Action::Dispatch { environment: id, event, waited });
    }

    /// The environment has nothing to do.
    fn rest(&mut self, now: Instant, id: EnvironmentId) {
        let since = self.moment(now);
        let environment = self.environments.get_mut(&id).expect("known to the caller");
        let version = self.versions.get_mut(&environment.version).expect("an environment's version is known");
        let drop = self.stopping || version.retired;
        environment.state = State::Idle { since, frozen: false };
        version.idle.insert(since, id);
        self.idle.insert(since, id);
        self.thawed.insert(since, id);
        if drop {
            self.drop_environment(now, id);
        }
    }

    /// Takes an environment off the lists of idle ones, if it is on them.
    fn wake(&mut self, id: EnvironmentId) {
        let environment = self.environments.get(&id).expect("known to the caller");
        if let State::Idle { since, .. } = environment.state {
            self.versions.get_mut(&environment.version).expect("known").idle.remove(&since);
            self.idle.remove(&since);
            self.thawed.remove(&since);
        }
    }

    /// Takes an environment off the lists of settling ones, if it is on them.
    fn unsettle(&mut self, id: EnvironmentId) {
        let environment = self.environments.get_mut(&id).expect("known to the caller");
        if let State::Settling { until } = environment.state {
            environment.state = State::Lingering;
            self.settling.remove(&until);
            self.versions.get_mut(&environment.version).expect("known").settling -= 1;
        }
    }

    /// Drops the version's environments that have no event.
    fn drop_free(&mut self, now: Instant, key: &Arc<str>) {
        let Some(version) = self.versions.get(key) else { return };
        let free = |id: &&EnvironmentId| {
            !matches!(self.environments[*id].state, State::Starting { .. } | State::Busy(_))
        };
        let ids: Vec<_> = version.environments.iter().filter(free).copied().collect();
        for id in ids {
            self.drop_environment(now, id);
        }
    }

    fn drop_environment(&mut self, now: Instant, id: EnvironmentId) {
        self.forget(now, id);
        self.actions.push(Action::Drop { environment: id });
    }

    /// Strikes an environment off every list.
    fn forget(&mut self, now: Instant, id: EnvironmentId) {
        self.wake(id);
        self.unsettle(id);
        let environment = self.environments.remove(&id).expect("known to the caller");
        let version = self.versions.get_mut(&environment.version).expect("an environment's version is known");
        version.environments.remove(&id);
        if matches!(environment.state, State::Starting { .. }) {
            version.starting -= 1;
        }
        self.leave_version_if_empty(now, &environment.version);
    }

    /// Gives waiting events to idle environments, starts environments for those that nothing is on its way for, and
    /// rejects the newest where that is not allowed.
    fn rebalance(&mut self, now: Instant, key: &Arc<str>) {
        loop {
            let Some(version) = self.versions.get_mut(key) else { return };
            if let Some((_, id)) = version.idle.last_key_value()
                && let Some(event) = version.waiting.pop_front()
            {
                let id = *id;
                self.dispatch(id, event, false);
                continue;
            }
            if version.waiting.len() <= version.coming() {
                break;
            }
            let function = Arc::clone(&version.function);
            if self.may_start(now, &function) {
                self.start(now, key);
                continue;
            }
            let version = self.versions.get_mut(key).expect("looked up above");
            let event = version.waiting.pop_back().expect("more wait than none");
            self.count(&function, -1);
            let rejection = Rejection::Throttled(ThrottleReason::Concurrency);
            self.actions.push(Action::Reject { event, rejection });
        }
        self.leave_version_if_empty(now, key);
    }
}
