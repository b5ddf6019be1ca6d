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
}

#[async_trait]
impl Invoker for freehold_executor::Executor {
    async fn invoke(&self, function: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError> {
        Self::invoke(self, function, event).await
    }

    fn retire(&self, key: &str) {
        Self::retire(self, key);
    }
}
