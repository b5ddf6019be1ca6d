//! What the host can hold: memory, and places in the sandbox.
//!
//! The shell tells what is available; what has been started since, and has not shown in that figure yet, is charged by
//! an estimate: what environments of the function were seen to use. So a burst of starts between two readings cannot use
//! more than there is. Where room lacks, environments that have been idle longest make it; where none is left, no other is
//! started. Provisioned ones are promised: they go last, and only when memory really runs out.

use std::sync::Arc;
use std::time::Instant;

use super::Core;
use super::model::{EnvironmentId, Shortage};

/// How much a new figure counts against what was seen before: 1 in so many.
const SMOOTHING: u64 = 4;

/// On a small host no more than one in so many parts of all memory is kept free.
const SMALL_HOST: u64 = 4;

/// The memory of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// What can still be used without swapping, in MiB.
    pub available_mib: u64,
    /// All there is, in MiB.
    pub total_mib: u64,
}

/// What is known of the host's memory, and what has been promised of it since. All in MiB.
#[derive(Debug, Default)]
pub(super) struct Memory {
    host: Option<HostMemory>,
    /// What environments that are starting are taken to use.
    starting: u64,
    /// The same of those that have been started since the last reading.
    unseen: u64,
    /// What dropping every idle environment on demand surely frees.
    idle: u64,
}

impl Memory {
    pub(super) fn starts(&mut self, mib: u64) {
        self.starting += mib;
    }

    pub(super) fn starts_no_more(&mut self, mib: u64) {
        self.starting -= mib;
    }

    pub(super) fn initialised(&mut self, mib: u64) {
        self.starting -= mib;
        self.unseen += mib;
    }

    pub(super) fn rests(&mut self, mib: u64) {
        self.idle += mib;
    }

    pub(super) fn wakes(&mut self, mib: u64) {
        self.idle -= mib;
    }

    /// Nothing is charged any more.
    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        self.starting == 0 && self.idle == 0
    }
}

impl Core {
    /// What the host's memory is like now. If it runs out, idle environments are dropped.
    pub fn memory(&mut self, now: Instant, host: HostMemory) {
        self.memory.host = Some(host);
        self.memory.unseen = 0;
        let mut short = self.floor(host).saturating_sub(host.available_mib);
        while short > 0 {
            let longest = self.idle.first_key_value().or_else(|| self.kept.first_key_value());
            let Some((_, id)) = longest else { break };
            let id = *id;
            short = short.saturating_sub(self.environments[&id].frees_mib.max(1));
            self.drop_environment(now, id);
        }
        self.fill(now);
    }

    /// Makes room for one more environment of the function: by dropping others that are idle, if `evict` says so.
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        function: &Arc<str>,
        evict: bool,
    ) -> Result<(), Shortage> {
        let need = self.estimate(function);
        let evictable = if evict { self.memory.idle } else { 0 };
        if self.room().is_some_and(|room| room.saturating_add(evictable) < need) {
            return Err(Shortage::Memory);
        }
        if self.environments.len() >= self.limits.max_environments && !(evict && self.evict(now)) {
            return Err(Shortage::Places);
        }
        while self.room().is_some_and(|room| room < need) {
            if !self.evict(now) {
                return Err(Shortage::Memory);
            }
        }
        Ok(())
    }

    /// Drops the environment on demand that has been idle longest.
    fn evict(&mut self, now: Instant) -> bool {
        let Some((_, id)) = self.idle.first_key_value() else { return false };
        let id = *id;
        let freed = self.environments[&id].frees_mib;
        self.drop_environment(now, id);
        if let Some(host) = &mut self.memory.host {
            host.available_mib = host.available_mib.saturating_add(freed).min(host.total_mib);
        }
        true
    }

    /// What the end of an environment surely frees: half of what it was seen to use, since the rest may be shared or given
    /// back already. What it frees beyond that shows in the next reading.
    pub(super) fn freed_by(&self, id: EnvironmentId) -> u64 {
        let environment = &self.environments[&id];
        let known = self.estimate(self.function_of(environment.pool));
        environment.seen_mib.map_or(0, |seen| seen.min(known) / 2)
    }

    /// What may still be used. `None`: the host does not say.
    fn room(&self) -> Option<u64> {
        let host = self.memory.host?;
        let promised = self.floor(host) + self.memory.starting + self.memory.unseen;
        Some(host.available_mib.saturating_sub(promised))
    }

    fn floor(&self, host: HostMemory) -> u64 {
        let share = host.total_mib.saturating_mul(self.limits.memory_floor_percent) / 100;
        share.max(self.limits.memory_floor_mib.min(host.total_mib / SMALL_HOST))
    }

    /// What an environment of the function is taken to use.
    pub(super) fn estimate(&self, function: &Arc<str>) -> u64 {
        self.functions[function].memory_mib.unwrap_or(self.limits.environment_estimate_mib)
    }

    /// One environment of the function was seen to use this much.
    pub(super) fn learn_memory(&mut self, function: &Arc<str>, seen: u64) {
        let state = self.functions.get_mut(function).expect("an environment's function is known");
        let known = state.memory_mib.unwrap_or(seen);
        // Rounded towards what is seen, so that it gets there.
        let step = seen.abs_diff(known).div_ceil(SMOOTHING);
        state.memory_mib = Some(if seen > known { known + step } else { known - step });
    }
}
