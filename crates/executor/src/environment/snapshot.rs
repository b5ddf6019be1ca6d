//! A version's snapshot: its Init, run once in an environment of its own up to the gate, where it is captured.
//!
//! The function's log has it: whatever the code prints while it is loaded is printed once here, and not by the copies.

use std::sync::Arc;
use std::time::Duration;

use freehold_sandbox::image::Image;
use freehold_sandbox::spec::SandboxError;

use super::failure::Failure;
use super::instance::{self, Instance, Rung, StartError};
use super::journal::Journal;
use super::report::Phase;
use super::system::SNAP_START;
use super::{Task, identity};
use crate::core::EnvironmentId;
use crate::event::{FunctionVersion, InvokeError};
use crate::executor::Shell;

/// How long Init may take at least, where a snapshot is made of it. Source: "Lambda SnapStart", Init is limited to the function's
/// timeout or 130 s, whichever is longer.
const INIT_TIMEOUT: Duration = Duration::from_secs(130);

/// Why there is no snapshot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrepareError {
    /// The function's Init has failed: AWS's code for it, and what happened.
    #[error("{reason}")]
    Init {
        /// A `StateReasonCode`.
        code: &'static str,
        /// In words.
        reason: String,
    },
    /// What its Init has made cannot be kept: the reason.
    #[error("The snapshot cannot be made: {0}.")]
    NotCaptured(String),
    /// Nobody could have started it.
    #[error("The snapshot cannot be made: {0}")]
    Environment(#[from] InvokeError),
}

impl PrepareError {
    /// AWS's `StateReasonCode`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Init { code, .. } => code,
            Self::NotCaptured(_) => "FunctionError",
            Self::Environment(_) => "InternalError",
        }
    }
}

impl From<Failure> for PrepareError {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Timeout { .. } => "FunctionError.InitTimeout",
            Failure::Exit(_) | Failure::Stopped => "FunctionError.RuntimeExited",
            Failure::InvalidEntrypoint(_) => "FunctionError.InvalidEntrypoint",
            Failure::Init(_) | Failure::Extension { .. } | Failure::TooLarge => "FunctionError",
        };
        Self::Init { code, reason: format!("The function's Init has failed: {}.", failure.error_type()) }
    }
}

impl From<SandboxError> for PrepareError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::NotCaptured { reason, .. } => Self::NotCaptured(reason),
            other => Self::Environment(InvokeError::Environment(other.to_string())),
        }
    }
}

/// Makes the snapshot of a version. `None`: it has external extensions, with which environments boot.
pub(crate) async fn snapshot(
    shell: &Arc<Shell>,
    version: Arc<FunctionVersion>,
) -> Result<Option<Arc<Image>>, PrepareError> {
    if instance::has_external_extensions(&version).await? {
        return Ok(None);
    }
    let limit = INIT_TIMEOUT.max(version.timeout);
    let mut task = Task::new(Arc::clone(shell), EnvironmentId(0), version, SNAP_START);
    let mut instance = match task.start_instance(Phase::Init, Rung::Snapshot).await {
        Ok(instance) => instance,
        Err(StartError::Extensions(extensions)) => {
            return Err(extensions.failure().cloned().unwrap_or(Failure::Stopped).into());
        }
        Err(StartError::Failed(failure)) => return Err(failure.into()),
        Err(StartError::Impossible(error)) => return Err(error.into()),
    };
    let captured = task.until_captured(&mut instance, limit).await;
    instance.output.pump(&mut task.journal);
    instance.output.end_line(&mut task.journal);
    task.journal.flush();
    instance.stop().await;
    captured.map(Some)
}

impl Task {
    async fn until_captured(
        &mut self,
        instance: &mut Instance,
        limit: Duration,
    ) -> Result<Arc<Image>, PrepareError> {
        let environment = Arc::clone(&instance.environment);
        let captured = environment.capture();
        let timeout = tokio::time::sleep(limit);
        tokio::pin!(captured, timeout);
        loop {
            tokio::select! {
                biased;
                call = instance.api.call() => {
                    if let Some(call) = call {
                        self.init_call(instance, call)?;
                    }
                }
                captured = &mut captured => {
                    // It may have ended by itself, and have said why just before.
                    if captured.is_err() {
                        while let Some(call) = instance.last_call().await {
                            self.init_call(instance, call)?;
                        }
                    }
                    let image = captured?;
                    // What it has registered as belongs to this environment: in another one nobody would know it.
                    return match instance.extensions.kinds() {
                        (_, true) => Err(PrepareError::NotCaptured("it has an internal extension".to_owned())),
                        _ => Ok(image),
                    };
                }
                () = instance.output.readable() => {
                    instance.output.pump(&mut self.journal);
                    self.journal.flush();
                }
                () = &mut timeout => {
                    return Err(Failure::Timeout { timeout_ms: self.timeout_ms() }.into());
                }
            }
        }
    }

    /// A task that knows its version and nothing of its environment yet.
    pub(super) fn new(
        shell: Arc<Shell>,
        id: EnvironmentId,
        version: Arc<FunctionVersion>,
        initialization_type: &'static str,
    ) -> Self {
        let log_stream = identity::log_stream(&version, &shell.clock);
        Task {
            id,
            role: identity::role(&version),
            journal: Journal::new(
                Arc::clone(&shell.logs),
                Arc::clone(&shell.clock),
                version.logging,
                &version.log_group,
                &log_stream,
            ),
            log_stream,
            initialization_type,
            frozen: false,
            began_ms: 0,
            unreported: None,
            init: None,
            answered: None,
            max_memory_mib: 0,
            version,
            shell,
        }
    }
}
