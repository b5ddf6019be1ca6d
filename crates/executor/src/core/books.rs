//! The core's books: which versions and functions there are, what they have in flight, whether they may have more.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Core;
use super::bucket::Bucket;
use super::model::{Function, Version};
use crate::event::{FunctionVersion, ThrottleReason};

impl Core {
    /// Whether the function may have one more event in flight now.
    pub(super) fn admit(&mut self, now: Instant, function: &Arc<str>) -> Result<(), ThrottleReason> {
        let (account, reserved_total) = (self.limits.account_concurrency, self.reserved_total);
        let per_unit = self.limits.requests_per_concurrency;
        let state = self.functions.get_mut(function).expect("made by the caller");
        match state.reserved {
            Some(reserved) if state.in_flight >= reserved => return Err(ThrottleReason::ReservedConcurrency),
            None if self.unreserved_in_flight >= account.saturating_sub(reserved_total) => {
                return Err(ThrottleReason::Concurrency);
            }
            _ if self.in_flight >= account => return Err(ThrottleReason::Concurrency),
            _ => {}
        }
        let requests = state.reserved.unwrap_or(account).saturating_mul(per_unit);
        if !state.requests.take(requests, Duration::from_secs(1), now) {
            return Err(ThrottleReason::FunctionRate);
        }
        Ok(())
    }

    pub(super) fn may_start(&mut self, now: Instant, function: &Arc<str>) -> bool {
        let state = self.functions.get_mut(function).expect("a version's function is known");
        state.starts.take(self.limits.scaling_burst, self.limits.scaling_period, now)
    }

    /// Counts events in flight, up or down.
    pub(super) fn count(&mut self, function: &Arc<str>, change: i32) {
        let state = self.functions.get_mut(function).expect("a version's function is known");
        let add = |count: u32| count.checked_add_signed(change).expect("what is counted down was counted up");
        state.in_flight = add(state.in_flight);
        self.in_flight = add(self.in_flight);
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
            (None, Some(_)) => self.unreserved_in_flight -= state.in_flight,
            (Some(_), None) => self.unreserved_in_flight += state.in_flight,
            _ => {}
        }
        self.reserved_total -= state.reserved.unwrap_or(0);
        self.reserved_total = self.reserved_total.saturating_add(reserved.unwrap_or(0));
        state.reserved = reserved;
    }

    pub(super) fn function(&mut self, now: Instant, arn: &str) -> Arc<str> {
        if let Some((known, _)) = self.functions.get_key_value(arn) {
            return Arc::clone(known);
        }
        let arn: Arc<str> = Arc::from(arn);
        let requests = self.limits.account_concurrency.saturating_mul(self.limits.requests_per_concurrency);
        let state = Function {
            versions: 0,
            in_flight: 0,
            reserved: None,
            starts: Bucket::full(self.limits.scaling_burst, now),
            requests: Bucket::full(requests, now),
            unused_since: None,
        };
        self.functions.insert(Arc::clone(&arn), state);
        arn
    }

    pub(super) fn version(&mut self, definition: &Arc<FunctionVersion>, function: &Arc<str>) -> Arc<str> {
        if let Some((known, _)) = self.versions.get_key_value(definition.key.as_str()) {
            return Arc::clone(known);
        }
        let key: Arc<str> = Arc::from(definition.key.as_str());
        let version = Version {
            definition: Arc::clone(definition),
            function: Arc::clone(function),
            environments: BTreeSet::new(),
            starting: 0,
            settling: 0,
            start_took: Duration::ZERO,
            idle: BTreeMap::new(),
            waiting: VecDeque::new(),
            retired: self.retired.contains(&key),
        };
        self.versions.insert(Arc::clone(&key), version);
        let state = self.functions.get_mut(function).expect("made by the caller");
        state.versions += 1;
        state.unused_since = None;
        key
    }

    pub(super) fn leave_version_if_empty(&mut self, now: Instant, key: &Arc<str>) {
        let Entry::Occupied(entry) = self.versions.entry(Arc::clone(key)) else { return };
        if !entry.get().environments.is_empty() || !entry.get().waiting.is_empty() {
            return;
        }
        let function = entry.remove().function;
        let state = self.functions.get_mut(&function).expect("a version's function is known");
        state.versions -= 1;
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
