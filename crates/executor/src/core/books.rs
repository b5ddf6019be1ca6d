//! The core's books: which versions and functions there are, what they have in flight, whether they may have more.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Core;
use super::bucket::Bucket;
use super::model::{Function, Owner, Pool, PoolId, Purpose, Rejection, Version};
use crate::event::{FunctionVersion, ThrottleReason};

/// Requests are counted by the second.
pub(super) const REQUESTS_PERIOD: Duration = Duration::from_secs(1);

impl Core {
    /// Whether the function may have one more event in flight now.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        function: &Arc<str>,
        provisioned: bool,
    ) -> Result<(), ThrottleReason> {
        self.admit_concurrency(function, provisioned, 0)?;
        let account = self.limits.account_concurrency;
        let per_unit = self.limits.requests_per_concurrency;
        let state = self.functions.get_mut(function).expect("made by the caller");
        let requests = state.reserved.unwrap_or(account).saturating_mul(per_unit);
        if state.requests.take(requests, REQUESTS_PERIOD, now) {
            return Ok(());
        }
        Err(match state.reserved {
            Some(_) => ThrottleReason::ReservedFunctionRate,
            None => ThrottleReason::FunctionRate,
        })
    }

    /// Whether its concurrency allows one more. `counted`: how many events are already counted as provisioned that are
    /// about to run on demand instead.
    pub(super) fn admit_concurrency(
        &self,
        function: &Arc<str>,
        provisioned: bool,
        counted: u32,
    ) -> Result<(), ThrottleReason> {
        let (account, state) = (self.limits.account_concurrency, &self.functions[function]);
        if let Some(reserved) = state.reserved {
            let all = state.on_demand + state.provisioned - counted;
            let spare = reserved.saturating_sub(state.claimed);
            if all >= reserved || (!provisioned && state.on_demand >= spare) {
                return Err(ThrottleReason::ReservedConcurrency);
            }
        } else if !provisioned && self.unreserved_in_flight >= account.saturating_sub(self.shares) {
            return Err(ThrottleReason::Concurrency);
        }
        if self.in_flight - counted >= account { Err(ThrottleReason::Concurrency) } else { Ok(()) }
    }

    /// Whether one more environment may be started in the pool now. Makes room for it where that is possible.
    pub(super) fn may_start(
        &mut self,
        now: Instant,
        pool: PoolId,
        purpose: Purpose,
    ) -> Result<(), Rejection> {
        let function = Arc::clone(self.function_of(pool));
        let (burst, period) = (self.limits.scaling_burst, self.limits.scaling_period);
        let tenants = self.pools[&pool].is_tenants();
        let most = self.tenant_environments(&function);
        let state = self.functions.get_mut(&function).expect("a pool's function is known");
        let starts = match purpose {
            Purpose::Provision => &mut state.provisioned_starts,
            Purpose::Demand | Purpose::Prewarm => &mut state.starts,
        };
        if !starts.has(burst, period, now) || (tenants && state.tenant_environments >= most) {
            return Err(Rejection::Throttled(ThrottleReason::Concurrency));
        }
        self.make_room(now, &function, purpose != Purpose::Prewarm).map_err(Rejection::Short)?;
        let state = self.functions.get_mut(&function).expect("looked up above");
        let starts = match purpose {
            Purpose::Provision => &mut state.provisioned_starts,
            Purpose::Demand | Purpose::Prewarm => &mut state.starts,
        };
        assert!(starts.take(burst, period, now), "it was there a moment ago");
        Ok(())
    }

    /// How many environments the function's tenants may have together.
    fn tenant_environments(&self, function: &Arc<str>) -> u32 {
        let concurrency = self.functions[function].reserved.unwrap_or(self.limits.account_concurrency);
        let most = u64::from(concurrency) * u64::from(self.limits.tenant_environments_per_thousand) / 1_000;
        u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// Counts events of a pool in flight, up or down.
    pub(super) fn count(&mut self, pool: PoolId, change: i32) {
        let add = |count: u32| count.checked_add_signed(change).expect("what is counted down was counted up");
        let pool = &self.pools[&pool];
        let function = &self.versions[&pool.version].function;
        let state = self.functions.get_mut(function).expect("a version's function is known");
        self.in_flight = add(self.in_flight);
        if pool.is_provisioned() {
            state.provisioned = add(state.provisioned);
            return;
        }
        state.on_demand = add(state.on_demand);
        if state.reserved.is_none() {
            self.unreserved_in_flight = add(self.unreserved_in_flight);
        }
    }

    pub(super) fn reserve(&mut self, function: &Arc<str>, reserved: Option<u32>) {
        let state = self.functions.get_mut(function).expect("made by the caller");
        if state.reserved == reserved {
            return;
        }
        match (state.reserved, reserved) {
            (None, Some(_)) => self.unreserved_in_flight -= state.on_demand,
            (Some(_), None) => self.unreserved_in_flight += state.on_demand,
            _ => {}
        }
        let before = state.share();
        state.reserved = reserved;
        self.shares = (self.shares - before).saturating_add(state.share());
    }

    /// Adds to what the function's configurations of provisioned concurrency ask for, or takes from it.
    pub(super) fn claim(&mut self, function: &Arc<str>, less: u32, more: u32) {
        let state = self.functions.get_mut(function).expect("made by the caller");
        let before = state.share();
        state.claimed = (state.claimed - less).saturating_add(more);
        self.shares = (self.shares - before).saturating_add(state.share());
    }

    pub(super) fn function_of(&self, pool: PoolId) -> &Arc<str> {
        &self.versions[&self.pools[&pool].version].function
    }

    pub(super) fn function(&mut self, now: Instant, arn: &str) -> Arc<str> {
        if let Some((known, _)) = self.functions.get_key_value(arn) {
            return Arc::clone(known);
        }
        let arn: Arc<str> = Arc::from(arn);
        let requests = self.limits.account_concurrency.saturating_mul(self.limits.requests_per_concurrency);
        let state = Function {
            versions: 0,
            on_demand: 0,
            provisioned: 0,
            reserved: None,
            claimed: 0,
            tenant_environments: 0,
            starts: Bucket::full(self.limits.scaling_burst, now),
            provisioned_starts: Bucket::full(self.limits.scaling_burst, now),
            requests: Bucket::full(requests, now),
            memory_mib: None,
            unused_since: None,
        };
        self.functions.insert(Arc::clone(&arn), state);
        arn
    }

    /// The pool of this owner, made if there is none.
    pub(super) fn pool(
        &mut self,
        definition: &Arc<FunctionVersion>,
        function: &Arc<str>,
        owner: &Owner,
    ) -> PoolId {
        let known = self.versions.get(definition.key.as_str());
        if let Some(pool) = known.and_then(|version| version.pools.get(owner)) {
            return *pool;
        }
        let key = match self.versions.get_key_value(definition.key.as_str()) {
            Some((key, _)) => Arc::clone(key),
            None => self.new_version(definition, function),
        };
        let id = PoolId(self.new_id());
        let pool = Pool {
            version: Arc::clone(&key),
            owner: owner.clone(),
            environments: BTreeSet::new(),
            starting: 0,
            settling: 0,
            idle: BTreeMap::new(),
            waiting: VecDeque::new(),
            keep: 0,
        };
        self.pools.insert(id, pool);
        self.versions.get_mut(&key).expect("made above").pools.insert(owner.clone(), id);
        id
    }

    fn new_version(&mut self, definition: &Arc<FunctionVersion>, function: &Arc<str>) -> Arc<str> {
        let key: Arc<str> = Arc::from(definition.key.as_str());
        let version = Version {
            definition: Arc::clone(definition),
            function: Arc::clone(function),
            pools: HashMap::new(),
            start_took: Duration::ZERO,
            retired: self.retired.contains(&key),
        };
        self.versions.insert(Arc::clone(&key), version);
        let state = self.functions.get_mut(function).expect("made by the caller");
        state.versions += 1;
        state.unused_since = None;
        key
    }

    pub(super) fn leave_pool_if_empty(&mut self, now: Instant, id: PoolId) {
        let Some(pool) = self.pools.get(&id) else { return };
        if !pool.environments.is_empty() || !pool.waiting.is_empty() {
            return;
        }
        let Pool { version: key, owner, .. } = self.pools.remove(&id).expect("looked up above");
        let version = self.versions.get_mut(&key).expect("a pool's version is known");
        version.pools.remove(&owner);
        if !version.pools.is_empty() {
            return;
        }
        let function = self.versions.remove(&key).expect("looked up above").function;
        self.functions.get_mut(&function).expect("a version's function is known").versions -= 1;
        self.leave_function_if_unused(now, &function);
    }

    /// Notes that a function has no versions left. It is forgotten later, when its buckets are full again.
    pub(super) fn leave_function_if_unused(&mut self, now: Instant, function: &Arc<str>) {
        let state = self.functions.get_mut(function).expect("a version's function is known");
        if state.versions == 0 && state.unused_since.is_none() {
            state.unused_since = Some(now);
            self.unused.push_back((now, Arc::clone(function)));
        }
    }
}
