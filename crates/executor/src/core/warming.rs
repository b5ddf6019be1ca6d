//! Keep-alive: what the policy is told of events and idle environments, when those are dropped, and environments that are
//! made just before the event that is expected.
//!
//! The policy is asked for environments that serve anyone. Those of one tenant are kept for the standard time, since the
//! function's past says nothing of when that tenant comes back; provisioned ones stay anyway.
//!
//! At most one environment is made ahead for a function: of the version that became idle last, as long as no event comes,
//! only where it has none, within the scaling rate, and never in place of another one ([`Core::prewarm`]).

use std::sync::Arc;
use std::time::Instant;

use super::Core;
use super::model::{EnvironmentId, Owner, PoolId};
use crate::event::FunctionVersion;
use crate::keepalive::{FUNCTIONS_REMEMBERED, Prewarm};

/// An environment that will be made.
#[derive(Debug)]
pub(super) struct Expected {
    version: Arc<FunctionVersion>,
    function: Arc<str>,
    /// Until when it is kept.
    until: Instant,
}

impl Core {
    /// An event is about to be taken into this pool.
    pub(super) fn event_came(&mut self, now: Instant, pool: PoolId) {
        if self.pools[&pool].owner != Owner::Anyone {
            return;
        }
        let function = Arc::clone(self.function_of(pool));
        self.expect_no_more(&function);
        let others = self.functions[&function].on_demand;
        self.policy.event(now, &function, others);
    }

    /// When an environment on demand that goes idle now is dropped, if no event comes.
    pub(super) fn expiry(&mut self, now: Instant, id: EnvironmentId) -> Instant {
        let environment = &self.environments[&id];
        let pool = &self.pools[&environment.pool];
        if pool.owner != Owner::Anyone {
            return now + self.policy.standard();
        }
        if let Some(until) = environment.awaits_until {
            return until.max(now);
        }
        let version = &self.versions[&pool.version];
        let (function, start_took) = (Arc::clone(&version.function), version.start_took);
        let ends = (self.stopping || version.retired).then_some(());
        let definition = Arc::clone(&version.definition);
        let plan = self.policy.rest(now, &function, self.functions[&function].on_demand);
        if let (Some(Prewarm { ready_at, until }), None) = (plan.prewarm, ends) {
            let start_at = ready_at.checked_sub(start_took).map_or(now, |at| at.max(now));
            self.expect(start_at, Expected { version: definition, function, until });
        }
        plan.drop_at
    }

    /// When the next environment is made ahead.
    pub(super) fn next_expected(&self) -> Option<Instant> {
        self.expected.first_key_value().map(|(due, _)| due.at)
    }

    /// Makes the environments ahead that are due.
    pub(super) fn make_expected(&mut self, now: Instant) {
        while let Some(entry) = self.expected.first_entry().filter(|entry| entry.key().at <= now) {
            let expected = entry.remove();
            self.expected_of.remove(&expected.function);
            if expected.until > now
                && !self.has_any(&expected.version.key)
                && let Some(id) = self.prewarm(now, &expected.version)
            {
                self.environments.get_mut(&id).expect("made above").awaits_until = Some(expected.until);
            }
        }
    }

    /// Nothing is expected any more.
    pub(super) fn expect_nothing(&mut self) {
        self.expected.clear();
        self.expected_of.clear();
    }

    fn expect(&mut self, start_at: Instant, expected: Expected) {
        self.expect_no_more(&expected.function);
        if self.expected.len() < FUNCTIONS_REMEMBERED {
            let due = self.moment(start_at);
            self.expected_of.insert(Arc::clone(&expected.function), due);
            self.expected.insert(due, expected);
        }
    }

    fn expect_no_more(&mut self, function: &Arc<str>) {
        if let Some(due) = self.expected_of.remove(function) {
            self.expected.remove(&due);
        }
    }

    /// Whether the version has environments that serve anyone.
    fn has_any(&self, key: &str) -> bool {
        let pool = self.versions.get(key).and_then(|version| version.pools.get(&Owner::Anyone));
        pool.is_some_and(|pool| !self.pools[pool].environments.is_empty())
    }
}
