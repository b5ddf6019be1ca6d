//! The handle: [`Executor`]. What it does is done by the shell behind it.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::clock::SharedClock;
use freehold_ledger::Ledger;
use freehold_runtimes::catalog::Catalog;
use freehold_runtimes::template::has_snapshots;
use freehold_sandbox::spec::{Network, Sandbox};
use tokio::sync::watch;

use crate::core::Core;
use crate::environment::{self, PrepareError};
use crate::event::{Event, FunctionVersion, InvokeError, LogSink, Outcome, PlatformEndpoint, Provisioned};
use crate::host::ReadMemory;
use crate::limits::Limits;
pub(crate) use crate::shell::Shell;
use crate::shell::ended_unexpectedly;

/// How long sandboxes may take to be gone after they were told to, before a shutdown stops waiting for them.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What an executor is made of.
pub struct Options {
    /// Makes environments.
    pub sandbox: Arc<dyn Sandbox>,
    /// The runtimes of this host.
    pub catalog: Arc<Catalog>,
    /// Where usage is recorded.
    pub ledger: Option<Ledger>,
    /// Where functions' log lines go.
    pub logs: Arc<dyn LogSink>,
    /// The platform's own endpoint inside each environment.
    pub endpoint: Arc<dyn PlatformEndpoint>,
    /// The time.
    pub clock: SharedClock,
    /// What environments reach.
    pub network: Network,
    /// Concurrency, rates, times.
    pub limits: Limits,
    /// Tells how much memory the host has left; [`host::memory`](crate::host::memory) reads the system's own account.
    pub memory: ReadMemory,
}

/// Runs events in environments. Clones share everything; when the last one is dropped, so are the environments.
#[derive(Clone)]
pub struct Executor(Arc<Handle>);

struct Handle(Arc<Shell>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.input(Core::abort);
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.0.lock();
        formatter
            .debug_struct("Executor")
            .field("environments", &state.core.environments())
            .field("in_flight", &state.core.in_flight())
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// Starts an executor. Must be called within a tokio runtime.
    pub fn start(options: Options) -> Self {
        let shell = Shell::start(options);
        Self(Arc::new(Handle(shell)))
    }

    /// Runs one event. It goes on to its end, and is recorded, even if the returned future is dropped.
    pub async fn invoke(&self, version: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError> {
        let outcome = self.0.0.submit(&version, event)?;
        outcome.await.unwrap_or_else(|_| Err(ended_unexpectedly()))
    }

    /// Whether images of this runtime's versions can be made here.
    pub fn takes_snapshots(&self, runtime: &str) -> bool {
        self.0.0.sandbox.has_images() && has_snapshots(runtime)
    }

    /// Runs the version's Init once and keeps an image of it, from which its environments begin from then on. As long as there is
    /// none, they do their own Init; so do those with external extensions always. To be called again after a restart.
    pub async fn prepare(&self, version: Arc<FunctionVersion>) -> Result<(), PrepareError> {
        let key = version.key.clone();
        let shell = &self.0.0;
        if let Some(image) = environment::snapshot(shell, version).await? {
            shell.images.keep(&key, image);
        }
        Ok(())
    }

    /// Drops the environments of the version with this key: idle ones now, the others after their event.
    pub fn retire(&self, key: &str) {
        self.0.0.images.forget(key);
        self.0.0.input(|core, now| core.retire(now, key));
    }

    /// How many events may be in flight at once, over all functions.
    pub fn account_concurrency(&self) -> u32 {
        self.0.0.limits.account_concurrency
    }

    /// Sets a function's reserved concurrency (`None`: it shares the account's), from its next event on. Environments stay.
    pub fn set_reserved_concurrency(&self, function_arn: &str, reserved: Option<u32>) {
        self.0.0.input(|core, now| core.set_reserved(now, function_arn, reserved));
    }

    /// Keeps `count` initialised environments of `version` ready for events whose invoked ARN is `target` (a qualified
    /// ARN), from now on and for ever. Replaces what was asked for this target before: the environments of another version
    /// stay until the new ones are ready.
    pub fn provision(&self, target: &str, version: Arc<FunctionVersion>, count: u32) {
        self.0.0.input(|core, now| core.provision(now, target, &version, count));
    }

    /// Keeps nothing ready for this target any more: idle environments are dropped, busy ones after their event.
    pub fn unprovision(&self, target: &str) {
        self.0.0.input(|core, now| core.unprovision(now, target));
    }

    /// What has become of what was asked for this target.
    pub fn provisioned(&self, target: &str) -> Option<Provisioned> {
        self.0.0.lock().core.provisioned(target)
    }

    /// Changes its value whenever [`provisioned`](Self::provisioned) may have changed for some target, other than by events
    /// that come and go.
    pub fn provisioned_changes(&self) -> watch::Receiver<u64> {
        self.0.0.provisioned_changes()
    }

    /// How many environments there are, starting ones included.
    pub fn environments(&self) -> usize {
        self.0.0.lock().core.environments()
    }

    /// How many events are in flight.
    pub fn in_flight(&self) -> u32 {
        self.0.0.lock().core.in_flight()
    }

    /// Takes no new events, waits up to `deadline` for those in flight, then ends them. Returns when no environment is
    /// left.
    pub async fn shutdown(&self, deadline: Duration) {
        let shell = &self.0.0;
        shell.input(Core::stop);
        let mut tasks = shell.tasks();
        if tokio::time::timeout(deadline, tasks.wait_for(|count| *count == 0)).await.is_ok() {
            return;
        }
        tracing::warn!(in_flight = self.in_flight(), "the deadline has passed: events in flight are ended");
        shell.input(Core::abort);
        if tokio::time::timeout(KILL_GRACE, tasks.wait_for(|count| *count == 0)).await.is_err() {
            tracing::error!(environments = *tasks.borrow(), "environments are still being removed");
        }
    }
}
