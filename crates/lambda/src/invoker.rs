//! What this service needs of the executor. A trait, so that the operations can be tested without environments.

use std::sync::Arc;

use async_trait::async_trait;
use freehold_executor::PrepareError;
use freehold_executor::event::{Event, FunctionVersion, InvokeError, Outcome, Provisioned};

/// Runs events of function versions.
#[async_trait]
pub trait Invoker: Send + Sync + 'static {
    /// Runs one event. If the future is dropped, the event still runs to its end and is recorded.
    async fn invoke(&self, function: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError>;

    /// Drops the environments of a deployment: idle ones now, busy ones after their event.
    fn retire(&self, key: &str);

    /// How many events may be in flight at once, over all functions.
    fn account_concurrency(&self) -> u32;

    /// Sets how many of them belong to a function (`None`: it shares what belongs to nobody), from its next event on.
    fn reserve(&self, function_arn: &str, executions: Option<u32>);

    /// Keeps `count` environments of `version` ready, in the background. `target` is the ARN whose configuration it is: said
    /// again, it replaces what was said before, also with another version.
    fn provision(&self, target: &str, version: Arc<FunctionVersion>, count: u32);

    /// Ends it.
    fn unprovision(&self, target: &str);

    /// How far it is; `None` where nothing was asked for.
    fn provisioned(&self, target: &str) -> Option<Provisioned>;

    /// Whether versions of this runtime can be started from a snapshot.
    fn takes_snapshots(&self, runtime: &str) -> bool;

    /// Runs a version's Init phase and keeps what it has come to, from which its environments start from then on, until it is
    /// retired.
    async fn prepare(&self, version: Arc<FunctionVersion>) -> Result<(), SnapshotFailure>;
}

/// Why a version has no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SnapshotFailure {
    /// For people.
    pub reason: String,
    /// AWS's `StateReasonCode` for it.
    pub code: String,
}

#[async_trait]
impl Invoker for freehold_executor::Executor {
    async fn invoke(&self, function: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError> {
        Self::invoke(self, function, event).await
    }

    fn retire(&self, key: &str) {
        Self::retire(self, key);
    }

    fn account_concurrency(&self) -> u32 {
        Self::account_concurrency(self)
    }

    fn reserve(&self, function_arn: &str, executions: Option<u32>) {
        self.set_reserved_concurrency(function_arn, executions);
    }

    fn provision(&self, target: &str, version: Arc<FunctionVersion>, count: u32) {
        Self::provision(self, target, version, count);
    }

    fn unprovision(&self, target: &str) {
        Self::unprovision(self, target);
    }

    fn provisioned(&self, target: &str) -> Option<Provisioned> {
        Self::provisioned(self, target)
    }

    fn takes_snapshots(&self, runtime: &str) -> bool {
        Self::takes_snapshots(self, runtime)
    }

    async fn prepare(&self, version: Arc<FunctionVersion>) -> Result<(), SnapshotFailure> {
        let failed = |error: PrepareError| SnapshotFailure {
            reason: error.to_string(),
            code: error.code().to_owned(),
        };
        Self::prepare(self, version).await.map_err(failed)
    }
}
