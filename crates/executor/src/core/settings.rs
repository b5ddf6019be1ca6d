//! What is changed from outside: versions that end, reservations, environments made ahead, the end of everything.

use std::sync::Arc;
use std::time::Instant;

use super::model::{Action, EnvironmentId, Owner, Pool, PoolId, Purpose, Rejection, State};
use super::{Core, RETIRED_REMEMBERED};
use crate::event::FunctionVersion;

impl Core {
    /// Makes an environment for an event that is expected, if nothing speaks against it. It goes idle when it is ready,
    /// unless an event has come meanwhile.
    pub fn prewarm(&mut self, now: Instant, version: &Arc<FunctionVersion>) -> Option<EnvironmentId> {
        if self.stopping || self.retired.contains(version.key.as_str()) {
            return None;
        }
        let function = self.function(now, &version.function_arn);
        let pool = self.pool(version, &function, &Owner::Anyone);
        if self.may_start(now, pool, Purpose::Prewarm).is_err() {
            self.leave_pool_if_empty(now, pool);
            return None;
        }
        Some(self.start(now, pool, Purpose::Prewarm))
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
        for pool in self.pools_of(&key) {
            let provisioned = self.pools.get(&pool).is_some_and(Pool::is_provisioned);
            self.drop_free(now, pool, usize::MAX, provisioned);
        }
        self.fill(now);
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
        self.lacking.clear();
        for pool in self.all_pools() {
            let provisioned = self.pools.get(&pool).is_some_and(Pool::is_provisioned);
            self.drop_free(now, pool, usize::MAX, provisioned);
        }
    }

    /// After [`stop`](Self::stop), if waiting is over: every environment is dropped, every waiting event rejected. The
    /// shell answers for the events that were running.
    pub fn abort(&mut self, now: Instant) {
        self.stopping = true;
        self.lacking.clear();
        for pool in self.all_pools() {
            let state = self.pools.get_mut(&pool).expect("listed above");
            for event in std::mem::take(&mut state.waiting) {
                self.count(pool, -1);
                self.actions.push(Action::Reject { event, rejection: Rejection::Stopping });
            }
        }
        for id in in_order(self.environments.keys()) {
            let environment = &self.environments[&id];
            if matches!(environment.state, State::Busy(_)) {
                self.count(environment.pool, -1);
            }
            self.drop_environment(now, id);
        }
    }

    fn all_pools(&self) -> Vec<PoolId> {
        in_order(self.pools.keys())
    }

    pub(super) fn pools_of(&self, key: &str) -> Vec<PoolId> {
        self.versions.get(key).map_or_else(Vec::new, |version| in_order(version.pools.values()))
    }
}

/// In the order in which they were made, so that the same inputs lead to the same actions.
fn in_order<'a, Id: Copy + Ord + 'a>(ids: impl Iterator<Item = &'a Id>) -> Vec<Id> {
    let mut ids: Vec<_> = ids.copied().collect();
    ids.sort_unstable();
    ids
}
