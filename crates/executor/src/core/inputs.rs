//! What the core is told of events and environments: each method is one input.

use std::sync::Arc;
use std::time::Instant;

use super::Core;
use super::model::{Action, EnvironmentId, EventId, Fate, Init, Owner, PoolId, Purpose, Rejection, State};
use crate::event::FunctionVersion;

/// What decides where an event may run.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The version that runs it.
    pub version: &'a Arc<FunctionVersion>,
    /// The ARN that its caller named, which may have provisioned environments.
    pub target: &'a str,
    /// The tenant for whom it is, where the function keeps tenants apart.
    pub tenant: Option<&'a str>,
}

impl Core {
    /// An event has arrived. If it is not rejected at once, it ends with exactly one of: a [`Action::Reject`], an
    /// [`answered`](Self::answered) or a [`dead`](Self::dead) after its [`Action::Dispatch`].
    pub fn arrive(&mut self, now: Instant, arrival: Arrival<'_>) -> Result<EventId, Rejection> {
        if self.stopping {
            return Err(Rejection::Stopping);
        }
        let function = self.function(now, &arrival.version.function_arn);
        let placed = self.place(now, arrival, &function);
        if placed.is_err() {
            self.leave_function_if_unused(now, &function);
        }
        placed
    }

    fn place(
        &mut self,
        now: Instant,
        arrival: Arrival<'_>,
        function: &Arc<str>,
    ) -> Result<EventId, Rejection> {
        let provisioned = match arrival.tenant {
            None => self.provisioned_pool(now, arrival.target, &arrival.version.key),
            Some(_) => None,
        };
        self.admit(now, function, provisioned.is_some())?;
        if let Some(pool) = provisioned {
            let event = EventId(self.new_id());
            self.take_in(pool, event);
            return Ok(event);
        }
        let owner = arrival.tenant.map_or(Owner::Anyone, |tenant| Owner::Tenant(Arc::from(tenant)));
        let pool = self.pool(arrival.version, function, &owner);
        self.make_way(now, pool)?;
        let event = EventId(self.new_id());
        self.take_in(pool, event);
        Ok(event)
    }

    /// Sees to it that one more event finds an environment in this pool, or one that it may wait for.
    pub(super) fn make_way(&mut self, now: Instant, pool: PoolId) -> Result<(), Rejection> {
        let state = &self.pools[&pool];
        if state.idle.is_empty() && state.waiting.len() >= state.coming() {
            if let Err(rejection) = self.may_start(now, pool, Purpose::Demand) {
                self.leave_pool_if_empty(now, pool);
                return Err(rejection);
            }
            self.start(now, pool, Purpose::Demand);
        }
        Ok(())
    }

    /// A starting environment has ended its Init phase. After a failure it gets an event that waits, if there is one.
    pub fn init_ended(&mut self, now: Instant, id: EnvironmentId, init: Init) {
        let Some(environment) = self.environments.get_mut(&id) else { return };
        let State::Starting { since } = environment.state else { panic!("Init ends once") };
        let (pool, charged_mib) = (environment.pool, environment.charged_mib);
        environment.state = State::Lingering;
        self.memory.initialised(charged_mib);
        let state = self.pools.get_mut(&pool).expect("an environment's pool is known");
        state.starting -= 1;
        if init == Init::Succeeded {
            let key = Arc::clone(&state.version);
            let version = self.versions.get_mut(&key).expect("a pool's version is known");
            version.start_took = now.saturating_duration_since(since);
        }
        if self.pools[&pool].is_provisioned() {
            return self.provisioned_init_ended(now, id, pool, since, init);
        }
        let state = self.pools.get_mut(&pool).expect("looked up above");
        match (state.waiting.pop_front(), init) {
            (Some(event), _) => self.dispatch(id, event, true),
            (None, Init::Succeeded) => self.rest(now, id),
            (None, Init::Failed(_)) => self.drop_environment(now, id),
        }
    }

    /// A starting environment could not be made, for this reason: the event that has waited longest hears it.
    pub fn start_failed(&mut self, now: Instant, id: EnvironmentId, reason: &str) {
        let Some(environment) = self.environments.get(&id) else { return };
        let State::Starting { since } = environment.state else { panic!("only what starts fails to") };
        let pool = environment.pool;
        let state = self.pools.get_mut(&pool).expect("an environment's pool is known");
        if state.is_provisioned() {
            self.provisioning_failed(now, pool, since, &Arc::from(reason));
        } else {
            if let Some(event) = state.waiting.pop_front() {
                self.count(pool, -1);
                self.actions.push(Action::Reject { event, rejection: Rejection::Failed(id) });
            }
        }
        self.forget(now, id);
        self.rebalance(now, pool);
        self.leave_pool_if_empty(now, pool);
        self.fill(now);
    }

    /// The environment has answered its event, and will ask for another one.
    pub fn answered(&mut self, now: Instant, id: EnvironmentId) {
        let Some(environment) = self.environments.get(&id) else { return };
        assert!(matches!(environment.state, State::Busy(_)), "only a busy environment answers");
        let pool = environment.pool;
        self.count(pool, -1);
        let state = &self.pools[&pool];
        let version = &self.versions[&state.version];
        let drop = self.stopping || version.retired || state.has_surplus();
        let grace = self.limits.settle_grace.max(version.start_took);
        let until = self.moment(now + grace);
        self.environments.get_mut(&id).expect("looked up above").state = State::Settling { until };
        self.settling.insert(until, id);
        self.pools.get_mut(&pool).expect("looked up above").settling += 1;
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
        let pool = environment.pool;
        self.unsettle(id);
        let state = self.pools.get_mut(&pool).expect("an environment's pool is known");
        match state.waiting.pop_front() {
            Some(event) => self.dispatch(id, event, false),
            None => self.rest(now, id),
        }
    }

    /// The environment was seen to use so much memory.
    pub fn used(&mut self, id: EnvironmentId, memory_mib: u64) {
        let Some(environment) = self.environments.get_mut(&id) else { return };
        environment.seen_mib = Some(memory_mib);
        let pool = environment.pool;
        let function = Arc::clone(self.function_of(pool));
        self.learn_memory(&function, memory_mib);
    }

    /// The environment is gone (or about to be). If it ran an event, `fate` says what became of it.
    pub fn dead(&mut self, now: Instant, id: EnvironmentId, fate: Fate) {
        let Some(environment) = self.environments.get(&id) else { return };
        let (pool, state) = (environment.pool, environment.state);
        match state {
            State::Starting { .. } => return self.start_failed(now, id, "it ended while it started"),
            State::Busy(event) => match fate {
                Fate::Untouched => {
                    let pool = self.pools.get_mut(&pool).expect("an environment's pool is known");
                    pool.waiting.push_front(event);
                }
                Fate::Ended => self.count(pool, -1),
            },
            _ => {}
        }
        if !matches!(state, State::Busy(_)) {
            self.provisioned_died(now, pool);
        }
        self.forget(now, id);
        self.rebalance(now, pool);
        self.leave_pool_if_empty(now, pool);
        self.fill(now);
    }
}
