//! What is configured while events are in flight.

use std::sync::Arc;

use super::{FUNCTIONS, Simulation};
use crate::core::tests::version;

impl Simulation {
    /// Changes something now and then.
    pub(super) fn change(&mut self) {
        if !self.random.chance(2) {
            return;
        }
        let function = self.random.index(FUNCTIONS);
        match self.random.below(6) {
            0 => self.update(function),
            1 => {
                let reserved = self.random.chance(30).then(|| self.random.below(5) as u32);
                self.reserve(function, reserved);
            }
            2 | 3 => {
                let count = if self.random.chance(25) { 0 } else { self.random.below(6) as u32 };
                self.provision(function, count);
            }
            4 => {
                let version = Arc::clone(&self.functions[function].version);
                if self.functions[function].tenants == 0 {
                    self.core.prewarm(self.now, &version);
                }
            }
            _ => {
                // Somebody else on this host starts or ends something.
                self.host.others_mib = self.random.below(self.host.total_mib * 3 / 4);
            }
        }
        self.settle();
    }

    /// A new version. The old one is retired at once, as `$LATEST` is; or the alias moves away from one that stays.
    fn update(&mut self, function: usize) {
        let old = Arc::clone(&self.functions[function].version);
        let new = version(&old.name, &format!("{}-{}", old.name, self.arrived));
        self.functions[function].version = new;
        let count = self.functions[function].provisioned;
        if count > 0 {
            self.provision(function, count);
        }
        if self.random.chance(70) {
            self.retired.insert(old.key.clone());
            self.core.retire(self.now, &old.key);
            self.settle();
        }
        if self.random.chance(50) {
            // A caller that read the definition before the update.
            self.arrive(function, &old);
        }
    }

    pub(super) fn reserve(&mut self, function: usize, reserved: Option<u32>) {
        let simulated = &mut self.functions[function];
        simulated.reserved = reserved;
        self.core.set_reserved(self.now, &simulated.version.function_arn, reserved);
    }

    /// Tenants and provisioned concurrency exclude each other, as on AWS.
    fn provision(&mut self, function: usize, count: u32) {
        let simulated = &mut self.functions[function];
        if simulated.tenants > 0 {
            return;
        }
        simulated.provisioned = count;
        if count == 0 {
            self.core.unprovision(self.now, &simulated.alias);
        } else {
            self.core.provision(self.now, &simulated.alias, &simulated.version, count);
        }
        self.settle();
    }
}
