//! The Init phase: from the program's start until it asks for its first event.
//!
//! As on AWS: Init has 10 s of its own. If it fails or takes longer, an INIT_REPORT line says so, and the event that
//! waits runs Init again in a fresh sandbox, within the function's timeout and on its bill ("suppressed init"). If that
//! fails too, the event has failed with that error.

use std::time::Duration;

use freehold_runtimes::catalog::Installed;

use super::failure::Failure;
use super::instance::{self, Instance, Rung, StartError};
use super::invocation::{Attempt, Ended};
use super::journal::wall_ms;
use super::report::Phase;
use super::shutdown::Reason;
use super::system::{SNAP_START, SystemEvent};
use super::{Commands, Job, Task};
use crate::event::InvokeError;
use crate::runtime_api::{Call, Verdict};

/// Why what was started does not become ready.
enum NotReady {
    /// The function's fault, or its extensions'.
    Failed(Failure),
    /// Nobody's.
    Impossible(InvokeError),
}

impl From<Failure> for NotReady {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StartError> for NotReady {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Impossible(error) => Self::Impossible(error),
            StartError::Failed(failure) => Self::Failed(failure),
            StartError::Extensions(extensions) => {
                Self::Failed(extensions.failure().cloned().unwrap_or(Failure::Stopped))
            }
        }
    }
}

/// How an Init phase ended.
pub(super) enum InitEnd {
    /// The runtime asks for its first event.
    Ready(Instance),
    /// The function's fault.
    Failed { failure: Failure, instance: Option<Instance> },
    /// Not the function's fault.
    Impossible(InvokeError),
}

impl Task {
    /// Starts a sandbox and takes it through its Init phase.
    pub(super) async fn bring_up(&mut self, phase: Phase, limit: Duration) -> InitEnd {
        let is_restored = phase == Phase::Init && self.initialization_type == SNAP_START;
        let phase = if is_restored { Phase::Restore } else { phase };
        let began = self.shell.clock.monotonic();
        self.began_ms = wall_ms(&self.shell.clock);
        let mut started = self.start(phase, limit, Rung::Image).await;
        if let Ok((Some(instance), failure)) = &mut started
            && let Some(image) = failure.as_ref().and_then(|failure| instance.unusable_image(failure))
        {
            tracing::warn!(function = self.version.name, "an image cannot be used: the environment boots");
            self.shell.images.discard(&image);
            started = self.start(Phase::Invoke, limit, Rung::Boot).await;
        }
        let (instance, failure) = match started {
            Ok(started) => started,
            Err(error) => return InitEnd::Impossible(error),
        };
        let took =
            self.shell.clock.monotonic() - instance.as_ref().map_or(began, |instance| instance.started);
        match (failure, instance) {
            (None, Some(mut instance)) => {
                // What it wrote before it asked for its first event belongs to its Init.
                instance.output.pump(&mut self.journal);
                self.init = Some(took);
                self.restored = is_restored;
                self.init_ended(Some(&instance), took, phase, None);
                self.journal.close_telemetry();
                InitEnd::Ready(instance)
            }
            (failure, mut instance) => {
                let failure = failure.unwrap_or(Failure::Stopped);
                if let Some(instance) = &mut instance {
                    instance.output.pump(&mut self.journal);
                    instance.output.end_line(&mut self.journal);
                    self.measure(instance);
                }
                self.init_ended(instance.as_ref(), took, phase, Some(&failure));
                self.journal.flush();
                InitEnd::Failed { failure, instance }
            }
        }
    }

    /// Starts a sandbox and takes it to where its first event may come. An error is nobody's fault here; a failure is the
    /// function's.
    async fn start(
        &mut self,
        phase: Phase,
        limit: Duration,
        rung: Rung,
    ) -> Result<(Option<Instance>, Option<Failure>), InvokeError> {
        let mut instance = match self.start_instance(phase, rung).await {
            Err(StartError::Impossible(error)) => return Err(error),
            Err(StartError::Failed(failure)) => return Ok((None, Some(failure))),
            Err(StartError::Extensions(extensions)) => {
                self.tell_extensions(&extensions);
                return Ok((None, extensions.failure().cloned()));
            }
            Ok(instance) => instance,
        };
        match self.await_ready(&mut instance, limit).await {
            Ok(()) => Ok((Some(instance), None)),
            Err(NotReady::Failed(failure)) => Ok((Some(instance), Some(failure))),
            Err(NotReady::Impossible(error)) => {
                instance.stop().await;
                Err(error)
            }
        }
    }

    /// Starts a sandbox, and says so in the log where this is its Init phase.
    pub(super) async fn start_instance(&mut self, phase: Phase, rung: Rung) -> Result<Instance, StartError> {
        let (journal, shell) = (&mut self.journal, &self.shell);
        let (version, log_stream) = (&self.version, self.log_stream.as_str());
        let initialization_type = self.initialization_type;
        let origin = instance::Origin { role: &self.role, log_stream, initialization_type, rung };
        let begun = |installed: &Installed, has_extensions: bool| {
            if has_extensions {
                journal.open_telemetry();
            }
            if phase != Phase::Invoke {
                let event =
                    SystemEvent::InitStart { initialization_type, phase, installed, version, log_stream };
                journal.system(&event);
                journal.flush();
            }
        };
        instance::start(shell, version, origin, begun).await
    }

    fn init_ended(
        &mut self,
        instance: Option<&Instance>,
        took: Duration,
        phase: Phase,
        failure: Option<&Failure>,
    ) {
        let initialization_type = self.initialization_type;
        self.journal.system(&SystemEvent::InitRuntimeDone { initialization_type, phase, failure });
        if let Some(instance) = instance {
            self.tell_extensions(&instance.extensions);
        }
        self.journal.system(&SystemEvent::InitReport { initialization_type, took, phase, failure });
    }

    /// Waits until the runtime and all extensions ask for their first event. The runtime is started when the external
    /// ones have registered.
    async fn await_ready(&mut self, instance: &mut Instance, limit: Duration) -> Result<(), NotReady> {
        let timeout = tokio::time::sleep(limit);
        tokio::pin!(timeout);
        let (mut is_held, mut asks) = (!instance.companions.is_empty(), false);
        loop {
            if let Some(failure) = instance.extensions.failure() {
                return Err(failure.clone().into());
            }
            if is_held && instance.extensions.have_registered() {
                instance.proceed().await?;
                is_held = false;
            }
            if asks && instance.extensions.are_ready() {
                return Ok(());
            }
            tokio::select! {
                biased;
                call = instance.api.call() => {
                    if let Some(call) = call && self.init_call(instance, call)? {
                        instance.extensions.close();
                        asks = true;
                    }
                }
                exit = instance.process.exit() => {
                    // It may have said why just before.
                    while let Some(call) = instance.last_call().await {
                        self.init_call(instance, call)?;
                    }
                    return Err(Failure::Exit(exit).into());
                }
                exits = instance.companions.ended() => instance.extensions.have_exited(exits),
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

    /// Whether the runtime asks for its first event.
    pub(super) fn init_call(&mut self, instance: &mut Instance, call: Call) -> Result<bool, Failure> {
        match call {
            Call::Next { reply } => {
                instance.asks(reply);
                return Ok(true);
            }
            Call::InitError { error, reply } => {
                // If the runtime has gone meanwhile, it does not want to know.
                let _ = reply.send(Verdict::Accepted);
                return Err(Failure::Init(error));
            }
            Call::Answer { reply, .. } => {
                let _ = reply.send(Verdict::InvalidRequestId);
            }
            Call::Extension(call) => self.extension_call(instance, *call),
        }
        Ok(false)
    }

    /// Init has failed once. This event runs it again, within its own time.
    pub(super) async fn init_again(&mut self, commands: &mut Commands, job: Job) {
        let attempt = Attempt::begin(&self.shell.clock, self.version.timeout);
        let brought_up = tokio::select! {
            biased;
            () = commands.dropped() => InitEnd::Failed { failure: Failure::Stopped, instance: None },
            brought_up = self.bring_up(Phase::Invoke, self.version.timeout) => brought_up,
        };
        match brought_up {
            InitEnd::Ready(mut instance) => {
                // The bill of the first attempt was Init's; this one is the event's own.
                self.init = None;
                let ended = self.serve(commands, &mut instance, &job, &attempt).await;
                self.conclude(Some(&mut instance), job, &attempt, ended);
                // One that started so badly is not kept.
                self.report_late(&mut instance, None);
                self.shell.gone(self.id, None);
                self.shut_down(instance, Reason::Failure).await;
            }
            InitEnd::Failed { failure, mut instance } => {
                self.start_line(&job);
                let reason = Reason::from(&failure);
                self.conclude(instance.as_mut(), job, &attempt, Ended::Failed(failure));
                if let Some(instance) = instance {
                    self.shut_down(instance, reason).await;
                }
            }
            InitEnd::Impossible(error) => {
                self.shell.gone(self.id, None);
                // A caller that has gone does not wait for the error.
                let _ = job.reply.send(Err(error));
            }
        }
    }

    pub(super) fn timeout_ms(&self) -> u64 {
        u64::try_from(self.version.timeout.as_millis()).unwrap_or(u64::MAX)
    }
}
