//! Provisioned concurrency: environments that are kept ready for a target, which is a version or an alias.
//!
//! ```text
//! provision ──> lacking ──due, allowed──> starting ──ok──> ready ──> (died: lacking again)
//!                  ▲                         │failed
//!                  └── later and later ──────┘  (after several in a row the failure is told; attempts go on)
//! ```
//!
//! - What a target asks for is its function's alone, whether it is there yet or not.
//! - They start a few at a time, beside the function's rate of starts on demand and at the same rate (AWS: "6,000
//!   environments per minute" for both, stated apart), so that events do not wait for them.
//! - A ready one serves at once; AWS holds them back until all are ready.
//! - When a target moves to another version, those of the former one stay until the new ones are ready.
//! - A pool with more environments than it keeps drops those that are free, and the others after their event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Core;
use super::books::REQUESTS_PERIOD;
use super::bucket::Bucket;
use super::model::{EnvironmentId, EventId, Init, Owner, PoolId, Purpose, Rejection, State, Target};
use crate::event::{FunctionVersion, Provisioned};

/// Attempts in a row that fail before the failure is told.
const ATTEMPTS: u32 = 3;
/// The longest that an attempt waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an attempt waits when the host has no room.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

impl Core {
    /// Keeps so many environments of the version ready for events whose target is this, instead of what was asked for
    /// it before.
    pub fn provision(&mut self, now: Instant, target: &str, version: &Arc<FunctionVersion>, count: u32) {
        let other = |known: &Target| known.version.function_arn != version.function_arn;
        if count == 0 || self.targets.get(target).is_some_and(other) {
            self.unprovision(now, target);
        }
        if count == 0 || self.stopping {
            return;
        }
        let function = self.function(now, &version.function_arn);
        let (name, before) = match self.targets.get_key_value(target) {
            Some((name, known)) => (Arc::clone(name), known.requested),
            None => (Arc::from(target), 0),
        };
        self.claim(&function, before, count);
        self.set_target(now, &name, version, count);
        self.provisioned_changes += 1;
        self.shrink(now, &name);
        self.finish_move(now, &name);
        self.lack(now, &name);
        self.fill(now);
    }

    fn set_target(&mut self, now: Instant, name: &Arc<str>, version: &Arc<FunctionVersion>, count: u32) {
        self.forget_due(name);
        let per_unit = self.limits.requests_per_concurrency;
        let mut fresh = Target {
            version: Arc::clone(version),
            requested: count,
            former: None,
            requests: Bucket::full(count.saturating_mul(per_unit), now),
            failures: 0,
            failed_at: None,
            last_failure: None,
            due: None,
        };
        let Some(known) = self.targets.remove(name) else {
            self.targets.insert(Arc::clone(name), fresh);
            return;
        };
        (fresh.former, fresh.requests) = (known.former, known.requests);
        let mut released = None;
        if known.version.key != version.key {
            let old: Arc<str> = Arc::from(known.version.key.as_str());
            if fresh.former.is_some() {
                // It had not come to replace its own predecessor.
                released = Some(old);
            } else {
                fresh.former = Some(old);
            }
        }
        if fresh.former.as_deref() == Some(version.key.as_str()) {
            fresh.former = None;
        }
        self.targets.insert(Arc::clone(name), fresh);
        if let Some(key) = released {
            self.release(now, name, &key);
        }
    }

    /// Keeps none ready for this target any more.
    pub fn unprovision(&mut self, now: Instant, target: &str) {
        let Some((name, _)) = self.targets.get_key_value(target) else { return };
        let name = Arc::clone(name);
        self.forget_due(&name);
        let gone = self.targets.remove(&name).expect("looked up above");
        let function = self.function(now, &gone.version.function_arn);
        self.claim(&function, gone.requested, 0);
        self.provisioned_changes += 1;
        self.release(now, &name, &gone.version.key);
        if let Some(former) = gone.former {
            self.release(now, &name, &former);
        }
        self.leave_function_if_unused(now, &function);
        self.fill(now);
    }

    /// What has become of what was asked for this target.
    pub fn provisioned(&self, target: &str) -> Option<Provisioned> {
        let (name, target) = self.targets.get_key_value(target)?;
        let pool = self.target_pool(name, &target.version.key).map(|pool| &self.pools[&pool]);
        let busy = |id: &&EnvironmentId| matches!(self.environments[*id].state, State::Busy(_));
        let allocated = pool.map_or(0, |pool| pool.initialised().min(target.requested));
        let busy = pool.map_or(0, |pool| pool.environments.iter().filter(busy).count());
        let told = target.failures >= ATTEMPTS;
        Some(Provisioned {
            requested: target.requested,
            allocated,
            available: allocated.saturating_sub(u32::try_from(busy).unwrap_or(u32::MAX)),
            failure: target.last_failure.as_deref().filter(|_| told).map(str::to_owned),
        })
    }

    /// The pool of provisioned environments that an event may use: one is free, or about to be.
    pub(super) fn provisioned_pool(&mut self, now: Instant, target: &str, key: &str) -> Option<PoolId> {
        let name = Arc::clone(self.targets.get_key_value(target)?.0);
        let id = self.target_pool(&name, key)?;
        let pool = &self.pools[&id];
        if pool.idle.is_empty() && pool.waiting.len() >= pool.coming() {
            return None;
        }
        let per_unit = self.limits.requests_per_concurrency;
        let target = self.targets.get_mut(&name).expect("looked up above");
        let capacity = target.requested.saturating_mul(per_unit);
        target.requests.take(capacity, REQUESTS_PERIOD, now).then_some(id)
    }

    /// An event that waited for a provisioned environment runs on demand.
    pub(super) fn spill(&mut self, now: Instant, pool: PoolId, event: EventId) {
        let function = Arc::clone(self.function_of(pool));
        let version = Arc::clone(&self.versions[&self.pools[&pool].version].definition);
        let admitted = self.admit_concurrency(&function, false, 1).map_err(Rejection::from);
        let placed = admitted.and_then(|()| {
            let on_demand = self.pool(&version, &function, &Owner::Anyone);
            self.make_way(now, on_demand).map(|()| on_demand)
        });
        match placed {
            Ok(on_demand) => {
                self.count(pool, -1);
                self.take_in(on_demand, event);
            }
            Err(rejection) => self.reject(pool, event, rejection),
        }
    }

    /// The Init phase of a provisioned environment has ended.
    pub(super) fn provisioned_init_ended(
        &mut self,
        now: Instant,
        id: EnvironmentId,
        pool: PoolId,
        since: Instant,
        init: Init,
    ) {
        self.provisioning -= 1;
        match init {
            Init::Succeeded => {
                self.provisioned_changes += 1;
                let name = self.target_of(pool);
                if let Some(target) = name.as_ref().and_then(|name| self.targets.get_mut(name)) {
                    (target.failures, target.failed_at, target.last_failure) = (0, None, None);
                }
                match self.pools.get_mut(&pool).expect("known to the caller").waiting.pop_front() {
                    Some(event) => self.dispatch(id, event, false),
                    None => self.rest(now, id),
                }
                if let Some(name) = name {
                    self.finish_move(now, &name);
                    self.lack(now, &name);
                }
            }
            Init::Failed(reason) => {
                self.provisioning_failed(now, pool, since, &reason);
                self.drop_environment(now, id);
            }
        }
        self.fill(now);
    }

    /// A provisioned environment, started at `since`, is of no use. Told before it is forgotten.
    pub(super) fn provisioning_failed(
        &mut self,
        now: Instant,
        pool: PoolId,
        since: Instant,
        reason: &Arc<str>,
    ) {
        let Some(name) = self.target_of(pool) else { return };
        self.forget_due(&name);
        let target = self.targets.get_mut(&name).expect("looked up above");
        target.last_failure = Some(Arc::clone(reason));
        if target.failed_at.is_none_or(|failed_at| since >= failed_at) {
            target.failures = target.failures.saturating_add(1);
            target.failed_at = Some(now);
        }
        self.provisioned_changes += 1;
    }

    /// A provisioned environment without an event has died. Told before it is forgotten.
    pub(super) fn provisioned_died(&mut self, now: Instant, pool: PoolId) {
        if self.pools[&pool].is_provisioned() {
            self.provisioning_failed(now, pool, now, &Arc::from("it ended while it had no event"));
        }
    }

    /// A provisioned environment has been forgotten.
    pub(super) fn provisioned_lost(&mut self, now: Instant, pool: PoolId) {
        self.provisioned_changes += 1;
        if let Some(name) = self.target_of(pool) {
            self.lack(now, &name);
        }
    }

    /// Starts provisioned environments that are due, as many at a time as may be.
    pub(super) fn fill(&mut self, now: Instant) {
        while self.provisioning < self.limits.provisioning_at_once {
            let Some((due, name)) = self.lacking.first_key_value().filter(|(due, _)| due.at <= now) else {
                return;
            };
            let (due, name) = (*due, Arc::clone(name));
            self.lacking.remove(&due);
            self.targets.get_mut(&name).expect("what lacks is known").due = None;
            self.provide(now, &name);
        }
    }

    fn provide(&mut self, now: Instant, name: &Arc<str>) {
        let target = &self.targets[name];
        let (version, requested, failures) = (Arc::clone(&target.version), target.requested, target.failures);
        if self.retired.contains(version.key.as_str()) {
            return;
        }
        let function = self.function(now, &version.function_arn);
        let pool = self.pool(&version, &function, &Owner::Target(Arc::clone(name)));
        let state = self.pools.get_mut(&pool).expect("made above");
        state.keep = requested;
        // After a failure one at a time tries whether it is over; how it ends decides on the next one.
        if state.environments.len() >= requested as usize || (failures > 0 && state.starting > 0) {
            return self.leave_pool_if_empty(now, pool);
        }
        match self.may_start(now, pool, Purpose::Provision) {
            Ok(()) => {
                self.start(now, pool, Purpose::Provision);
                if failures == 0 {
                    self.lack(now, name);
                }
            }
            Err(rejection) => {
                self.leave_pool_if_empty(now, pool);
                let pause = match rejection {
                    Rejection::Short(_) => ROOM_PAUSE,
                    _ => self.limits.scaling_period / self.limits.scaling_burst.max(1),
                };
                self.set_due(name, now + pause);
            }
        }
    }

    /// Notes that the target lacks environments, if it does.
    fn lack(&mut self, now: Instant, name: &Arc<str>) {
        let Some(target) = self.targets.get(name) else { return };
        let pool = self.target_pool(name, &target.version.key);
        let have = pool.map_or(0, |pool| self.pools[&pool].environments.len());
        if have >= target.requested as usize || target.due.is_some() || self.stopping {
            return;
        }
        let pause = pause(self.limits.provisioning_pause, target.failures);
        let due = target.failed_at.map_or(now, |failed_at| now.max(failed_at + pause));
        self.set_due(name, due);
    }

    fn set_due(&mut self, name: &Arc<str>, at: Instant) {
        let due = self.moment(at);
        self.targets.get_mut(name).expect("known to the caller").due = Some(due);
        self.lacking.insert(due, Arc::clone(name));
    }

    fn forget_due(&mut self, name: &Arc<str>) {
        if let Some(due) = self.targets.get_mut(name).and_then(|target| target.due.take()) {
            self.lacking.remove(&due);
        }
    }

    /// Drops what the target has too many.
    fn shrink(&mut self, now: Instant, name: &Arc<str>) {
        let target = &self.targets[name];
        let requested = target.requested;
        let Some(pool) = self.target_pool(name, &target.version.key) else { return };
        let state = self.pools.get_mut(&pool).expect("looked up above");
        state.keep = requested;
        let surplus = state.environments.len().saturating_sub(requested as usize);
        self.drop_free(now, pool, surplus, true);
    }

    /// If the target's environments are all ready, those of its former version go.
    fn finish_move(&mut self, now: Instant, name: &Arc<str>) {
        let target = &self.targets[name];
        let pool = self.target_pool(name, &target.version.key);
        let ready = pool.map_or(0, |pool| self.pools[&pool].initialised());
        if ready < target.requested {
            return;
        }
        let target = self.targets.get_mut(name).expect("looked up above");
        if let Some(former) = target.former.take() {
            self.release(now, name, &former);
        }
    }

    /// Keeps nothing of this version ready for the target.
    fn release(&mut self, now: Instant, name: &Arc<str>, key: &str) {
        let Some(pool) = self.target_pool(name, key) else { return };
        self.pools.get_mut(&pool).expect("looked up above").keep = 0;
        self.drop_free(now, pool, usize::MAX, true);
    }

    fn target_pool(&self, name: &Arc<str>, key: &str) -> Option<PoolId> {
        self.versions.get(key)?.pools.get(&Owner::Target(Arc::clone(name))).copied()
    }

    /// The target for which the pool's environments are, unless it has moved on to another version.
    fn target_of(&self, pool: PoolId) -> Option<Arc<str>> {
        let pool = &self.pools[&pool];
        let Owner::Target(name) = &pool.owner else { return None };
        let target = self.targets.get(name)?;
        (target.version.key == *pool.version).then(|| Arc::clone(name))
    }
}

fn pause(first: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    first.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}
