//! Pools: environments that are alike, the events that wait for one of them, and an environment's way between the lists.

use std::sync::Arc;
use std::time::Instant;

use super::Core;
use super::model::{Action, Environment, EnvironmentId, EventId, PoolId, Purpose, Rejection, State};

impl Core {
    /// Starts an environment, as [`may_start`](Self::may_start) has allowed.
    pub(super) fn start(&mut self, now: Instant, pool: PoolId, purpose: Purpose) -> EnvironmentId {
        let id = EnvironmentId(self.new_id());
        let function = Arc::clone(self.function_of(pool));
        let charged_mib = self.estimate(&function);
        let state = self.pools.get_mut(&pool).expect("made by the caller");
        state.environments.insert(id);
        state.starting += 1;
        let (tenant, provisioned) = (state.is_tenants(), state.is_provisioned());
        let version = Arc::clone(&self.versions[&state.version].definition);
        if tenant {
            self.functions.get_mut(&function).expect("a pool's function is known").tenant_environments += 1;
        }
        self.provisioning += u32::from(provisioned);
        self.memory.starts(charged_mib);
        let state = State::Starting { since: now };
        self.environments.insert(id, Environment { pool, state, charged_mib, seen_mib: None, frees_mib: 0 });
        self.actions.push(Action::Start { environment: id, version, purpose });
        id
    }

    /// Counts an event and gives it to an idle environment of the pool, or has it wait for one.
    pub(super) fn take_in(&mut self, pool: PoolId, event: EventId) {
        self.count(pool, 1);
        let state = self.pools.get_mut(&pool).expect("made by the caller");
        match state.idle.last_key_value() {
            Some((_, id)) => {
                let id = *id;
                self.dispatch(id, event, false);
            }
            None => state.waiting.push_back(event),
        }
    }

    pub(super) fn dispatch(&mut self, id: EnvironmentId, event: EventId, waited: bool) {
        self.wake(id);
        self.environments.get_mut(&id).expect("known to the caller").state = State::Busy(event);
        self.actions.push(Action::Dispatch { environment: id, event, waited });
    }

    /// The environment has nothing to do.
    pub(super) fn rest(&mut self, now: Instant, id: EnvironmentId) {
        let since = self.moment(now);
        let pool = self.environments[&id].pool;
        let state = &self.pools[&pool];
        let drop = self.stopping || state.has_surplus() || self.versions[&state.version].retired;
        let provisioned = state.is_provisioned();
        let expires = if provisioned {
            None
        } else {
            let at = self.expiry(now, pool);
            Some(self.moment(at))
        };
        let frees_mib = self.freed_by(id);
        let environment = self.environments.get_mut(&id).expect("looked up above");
        environment.state = State::Idle { since, expires, frozen: false };
        environment.frees_mib = frees_mib;
        self.pools.get_mut(&pool).expect("looked up above").idle.insert(since, id);
        self.thawed.insert(since, id);
        match expires {
            Some(expires) => {
                self.idle.insert(since, id);
                self.expiring.insert(expires, id);
                self.memory.rests(frees_mib);
            }
            None => {
                self.kept.insert(since, id);
            }
        }
        if drop {
            self.drop_environment(now, id);
        }
    }

    /// Takes an environment off the lists of idle ones, if it is on them.
    pub(super) fn wake(&mut self, id: EnvironmentId) {
        let environment = &self.environments[&id];
        let State::Idle { since, expires, .. } = environment.state else { return };
        self.pools.get_mut(&environment.pool).expect("an environment's pool is known").idle.remove(&since);
        self.thawed.remove(&since);
        match expires {
            Some(expires) => {
                self.idle.remove(&since);
                self.expiring.remove(&expires);
                self.memory.wakes(environment.frees_mib);
            }
            None => {
                self.kept.remove(&since);
            }
        }
    }

    /// Takes an environment off the lists of settling ones, if it is on them.
    pub(super) fn unsettle(&mut self, id: EnvironmentId) {
        let environment = self.environments.get_mut(&id).expect("known to the caller");
        if let State::Settling { until } = environment.state {
            environment.state = State::Lingering;
            self.settling.remove(&until);
            self.pools.get_mut(&environment.pool).expect("an environment's pool is known").settling -= 1;
        }
    }

    /// Drops the pool's environments that have no event: all of them, or as many as it has too many. Those that are
    /// starting go only if `starting` says so.
    pub(super) fn drop_free(&mut self, now: Instant, pool: PoolId, most: usize, starting: bool) {
        let Some(state) = self.pools.get(&pool) else { return };
        let free = |id: &&EnvironmentId| match self.environments[*id].state {
            State::Starting { .. } => starting,
            State::Busy(_) => false,
            _ => true,
        };
        // The youngest first, so that those that are still starting go before those that are ready.
        let ids: Vec<_> = state.environments.iter().rev().filter(free).take(most).copied().collect();
        for id in ids {
            self.drop_environment(now, id);
        }
        self.rebalance(now, pool);
        self.leave_pool_if_empty(now, pool);
    }

    pub(super) fn drop_environment(&mut self, now: Instant, id: EnvironmentId) {
        let pool = self.environments[&id].pool;
        self.forget(now, id);
        self.actions.push(Action::Drop { environment: id });
        self.leave_pool_if_empty(now, pool);
    }

    /// Strikes an environment off every list. Its pool stays.
    pub(super) fn forget(&mut self, now: Instant, id: EnvironmentId) {
        self.wake(id);
        self.unsettle(id);
        let environment = self.environments.remove(&id).expect("known to the caller");
        let function = Arc::clone(self.function_of(environment.pool));
        let state = self.pools.get_mut(&environment.pool).expect("an environment's pool is known");
        state.environments.remove(&id);
        let (tenant, provisioned) = (state.is_tenants(), state.is_provisioned());
        if matches!(environment.state, State::Starting { .. }) {
            state.starting -= 1;
            self.memory.starts_no_more(environment.charged_mib);
            self.provisioning -= u32::from(provisioned);
        }
        if tenant {
            self.functions.get_mut(&function).expect("a pool's function is known").tenant_environments -= 1;
        }
        if provisioned {
            self.provisioned_lost(now, environment.pool);
        }
    }

    /// Gives waiting events to idle environments, starts environments for those that nothing is on its way for, and
    /// rejects the newest where that is not allowed. Events that wait for a provisioned environment go on demand instead.
    pub(super) fn rebalance(&mut self, now: Instant, pool: PoolId) {
        loop {
            let Some(state) = self.pools.get_mut(&pool) else { return };
            if let Some((_, id)) = state.idle.last_key_value()
                && let Some(event) = state.waiting.pop_front()
            {
                let id = *id;
                self.dispatch(id, event, false);
                continue;
            }
            if state.waiting.len() <= state.coming() {
                return;
            }
            if state.is_provisioned() {
                let event = state.waiting.pop_front().expect("more wait than none");
                self.spill(now, pool, event);
                continue;
            }
            match self.may_start(now, pool, Purpose::Demand) {
                Ok(()) => {
                    self.start(now, pool, Purpose::Demand);
                }
                Err(rejection) => {
                    let state = self.pools.get_mut(&pool).expect("looked up above");
                    let event = state.waiting.pop_back().expect("more wait than none");
                    self.reject(pool, event, rejection);
                }
            }
        }
    }

    pub(super) fn reject(&mut self, pool: PoolId, event: EventId, rejection: Rejection) {
        self.count(pool, -1);
        self.actions.push(Action::Reject { event, rejection });
    }
}
