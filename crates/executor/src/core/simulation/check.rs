//! The invariants.

use std::collections::HashMap;
use std::time::Duration;

use super::Simulation;
use super::world::{Doing, LONGEST_START};
use crate::core::model::{Owner, PoolId, State};
use crate::core::{EnvironmentId, EventId, Purpose};

/// Every so many steps everything is looked at, which takes time by the number of environments.
const DEEP_CHECK_STEPS: usize = 16;

/// How long an event may wait for an environment: for one that is about to be free and dies, which it waits for no longer
/// than a start takes, and then for one that starts.
const LONGEST_WAIT: Duration = LONGEST_START.saturating_mul(2);

impl Simulation {
    /// After an event of this function was admitted. `shared`: how many events shared what belongs to no function before.
    pub(super) fn check_admission(&self, function: usize, shared: u32) {
        let simulated = &self.functions[function];
        if let Some(reserved) = simulated.reserved {
            assert!(simulated.in_flight <= reserved, "over the reserved concurrency");
        }
        let account = self.limits.account_concurrency;
        assert!(self.open.len() <= account as usize, "over the account's concurrency");
        if self.core.unreserved_in_flight > shared {
            let left = account.saturating_sub(self.core.shares);
            assert!(self.core.unreserved_in_flight <= left, "over what belongs to no function");
        }
    }

    /// Before an environment of this function is started.
    pub(super) fn check_start(&mut self, function: usize, purpose: Purpose) {
        let (now, limits) = (self.now, &self.limits);
        let starts = &mut self.functions[function].starts[usize::from(purpose == Purpose::Provision)];
        starts.push_back(now);
        while starts.front().is_some_and(|at| *at + limits.scaling_period <= now) {
            starts.pop_front();
        }
        // A full bucket and what it regains within the period.
        let most = 2 * limits.scaling_burst as usize;
        assert!(starts.len() <= most, "more starts than the scaling rate allows");
        let tenants = self.functions[function].tenants > 0;
        if tenants {
            let concurrency = self.functions[function].reserved.unwrap_or(limits.account_concurrency);
            let most = concurrency * limits.tenant_environments_per_thousand / 1_000;
            let have = self.environments.values().filter(|it| it.function == function).count();
            assert!(have < most as usize, "more environments than a function's tenants may have");
        }
    }

    /// After an environment was started: as far as the core could know, the host holds it.
    pub(super) fn check_memory(&self) {
        let used = self.host.others_told_mib + self.host.environments_mib;
        assert!(used <= self.host.total_mib, "the host's memory runs out: {used} MiB");
    }

    /// An event is given to an environment.
    pub(super) fn check_dispatch(&mut self, id: EnvironmentId, event: EventId) {
        let open = self.open.get(&event).unwrap_or_else(|| panic!("{event:?} has ended already"));
        let waited = self.since(open.since);
        let modelled = self.environments.get_mut(&id).expect("known to the caller");
        assert_eq!(modelled.version, open.version, "an event runs in an environment of its version");
        let tenant = modelled.tenant.get_or_insert_with(|| open.tenant.clone());
        assert_eq!(*tenant, open.tenant, "an environment serves one tenant for life");
        assert!(waited <= LONGEST_WAIT, "an event has waited for {waited:?}");
        self.longest_wait = self.longest_wait.max(waited);
    }

    /// After every step.
    pub(super) fn check(&mut self) {
        assert_eq!(self.core.in_flight() as usize, self.open.len(), "the core counts what is in flight");
        assert_eq!(self.core.environments(), self.environments.len(), "every environment is accounted for");
        assert!(self.core.environments() <= self.limits.max_environments, "more environments than may be");
        assert!(
            self.core.provisioning <= self.limits.provisioning_at_once,
            "too many are provisioned at once"
        );
        self.steps += 1;
        if self.steps.is_multiple_of(DEEP_CHECK_STEPS) {
            self.check_pools();
            self.check_environments();
        }
    }

    fn check_pools(&self) {
        let (mut idle, mut kept, mut shared) = (0, 0, 0);
        let mut in_flight: HashMap<&str, (u32, u32, u32)> = HashMap::new();
        for (id, pool) in &self.core.pools {
            let version = &self.core.versions[&pool.version];
            assert_eq!(version.pools[&pool.owner], *id);
            assert!(pool.waiting.len() <= pool.coming(), "an event waits for nothing");
            assert!(
                pool.idle.is_empty() || pool.waiting.is_empty(),
                "an event waits beside an idle environment"
            );
            assert!(!pool.environments.is_empty() || !pool.waiting.is_empty(), "an empty pool stays");
            let busy = |id: &&EnvironmentId| matches!(self.core.environments[*id].state, State::Busy(_));
            let running = pool.environments.iter().filter(busy).count() + pool.waiting.len();
            let running = u32::try_from(running).expect("few");
            let counts = in_flight.entry(&version.function).or_default();
            match pool.owner {
                Owner::Target(_) => {
                    counts.1 += running;
                    kept += pool.idle.len();
                    assert!(pool.idle.len() <= pool.keep as usize, "more are kept than was asked for");
                }
                Owner::Tenant(_) | Owner::Anyone => {
                    counts.0 += running;
                    idle += pool.idle.len();
                    shared +=
                        if self.core.functions[&version.function].reserved.is_none() { running } else { 0 };
                }
            }
            if matches!(pool.owner, Owner::Tenant(_)) {
                counts.2 += u32::try_from(pool.environments.len()).expect("few");
            }
        }
        assert_eq!((idle, kept), (self.core.idle.len(), self.core.kept.len()));
        assert_eq!(
            self.core.expiring.len(),
            idle,
            "what is idle on demand ages, what is provisioned does not"
        );
        assert_eq!(self.core.unreserved_in_flight, shared);
        for (arn, function) in &self.core.functions {
            let counts = in_flight.get(&**arn).copied().unwrap_or_default();
            assert_eq!((function.on_demand, function.provisioned, function.tenant_environments), counts);
        }
        let shares: u32 = self.core.functions.values().map(|function| function.share()).sum();
        assert_eq!(self.core.shares, shares);
        let due = self.core.targets.values().filter(|target| target.due.is_some()).count();
        assert!(due == self.core.lacking.len() || self.core.stopping);
    }

    fn check_environments(&self) {
        let mut starting: HashMap<PoolId, u32> = HashMap::new();
        let mut settling: HashMap<PoolId, u32> = HashMap::new();
        let (mut thawed, mut provisioning) = (0, 0);
        for (id, modelled) in &self.environments {
            let environment = &self.core.environments[id];
            let pool = &self.core.pools[&environment.pool];
            assert!(pool.environments.contains(id));
            assert_eq!(*pool.version, *modelled.version, "one version for life");
            assert_eq!(pool.is_provisioned(), modelled.purpose == Purpose::Provision);
            let idle = matches!(modelled.doing, Doing::Idle { .. });
            assert!(!(idle && self.retired.contains(&modelled.version)), "a retired environment lingers");
            match environment.state {
                State::Starting { .. } => {
                    *starting.entry(environment.pool).or_default() += 1;
                    provisioning += u32::from(pool.is_provisioned());
                }
                State::Settling { .. } => *settling.entry(environment.pool).or_default() += 1,
                State::Idle { frozen, .. } => thawed += usize::from(!frozen),
                State::Busy(_) | State::Lingering => {}
            }
        }
        assert_eq!(thawed, self.core.thawed.len());
        assert_eq!(provisioning, self.core.provisioning);
        for (id, pool) in &self.core.pools {
            let counted = |counts: &HashMap<PoolId, u32>| counts.get(id).copied().unwrap_or(0);
            assert_eq!((pool.starting, pool.settling), (counted(&starting), counted(&settling)));
        }
    }

    /// After the end.
    pub(super) fn check_nothing_left(&self) {
        let core = &self.core;
        assert!(core.functions.is_empty() && core.versions.is_empty() && core.pools.is_empty());
        assert!(core.idle.is_empty() && core.kept.is_empty() && core.expiring.is_empty());
        assert!(core.thawed.is_empty() && core.settling.is_empty());
        assert!(core.targets.is_empty() && core.lacking.is_empty());
        assert!(core.memory.is_settled(), "memory is charged for nothing");
        assert_eq!((core.provisioning, core.unreserved_in_flight, core.shares), (0, 0, 0));
    }
}
