//! Provisioned concurrency: environments that are kept ready for a version or an alias.

use std::sync::Arc;
use std::time::Instant;

use super::Core;
use crate::event::{FunctionVersion, Provisioned};

impl Core {
    /// Keeps so many environments ready for events of this target.
    pub fn provision(&mut self, _now: Instant, target: &str, _version: &Arc<FunctionVersion>, count: u32) {
        self.targets.insert(Arc::from(target), Provisioned { requested: count, ..Provisioned::default() });
    }

    /// Keeps none ready.
    pub fn unprovision(&mut self, _now: Instant, target: &str) {
        self.targets.remove(target);
    }

    /// What has become of it.
    pub fn provisioned(&self, target: &str) -> Option<Provisioned> {
        self.targets.get(target).cloned()
    }
}
