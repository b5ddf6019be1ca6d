//! What this service needs of the executor. A trait, so that the operations can be tested without environments.

use std::sync::Arc;

use async_trait::async_trait;
use freehold_executor::event::{Event, FunctionVersion, InvokeError, Outcome};

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
}
