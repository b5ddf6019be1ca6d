//! The Init phase: from the program's start until it asks for its first event.
//!
//! As on AWS: Init has 10 s of its own. If it fails or takes longer, an INIT_REPORT line says so, and the event that
//! waits runs Init again in a fresh sandbox, within the function's timeout and on its bill ("suppressed init"). If that
//! fails too, the event has failed with that error.

use std::time::Duration;

use super::failure::Failure;
use super::instance::{self, Instance, StartError};
use super::invocation::{Attempt, Ended};
use super::report::Phase;
use super::system::SystemEvent;
use super::{Commands, Job, Task};
use crate::event::InvokeError;
use crate::runtime_api::{Call, Verdict};

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
        let began = self.shell.clock.monotonic();
        let (journal, shell) = (&mut self.journal, &self.shell);
        let (version, log_stream) = (&self.version, self.log_stream.as_str());
        let initialization_type = self.initialization_type;
        let started =
            instance::start(shell, version, &self.role, log_stream, initialization_type, |installed| {
                if phase == Phase::Init {
                    journal.system(&SystemEvent::InitStart {
                        initialization_type,
                        installed,
                        version,
                        log_stream,
                    });
                    journal.flush();
                }
            })
            .await;
        let (mut instance, failure) = match started {
            Err(StartError::Impossible(error)) => return InitEnd::Impossible(error),
            Err(StartError::Failed(failure)) => (None, Some(failure)),
            Ok(mut instance) => {
                let failure = self.await_first_call(&mut instance, limit).await.err();
                (Some(instance), failure)
            }
        };
        let took =
            self.shell.clock.monotonic() - instance.as_ref().map_or(began, |instance| instance.started);
        match (failure, instance.take()) {
            (None, Some(instance)) => {
                self.init = Some(took);
                self.init_ended(took, phase, None);
                InitEnd::Ready(instance)
            }
            (failure, mut instance) => {
                let failure = failure.unwrap_or(Failure::Stopped);
                if let Some(instance) = &mut instance {
                    instance.output.pump(&mut self.journal);
                    instance.output.end_line(&mut self.journal);
                    self.measure(instance);
                }
                self.init_ended(took, phase, Some(&failure));
                self.journal.flush();
                InitEnd::Failed { failure, instance }
            }
        }
    }

    fn init_ended(&mut self, took: Duration, phase: Phase, failure: Option<&Failure>) {
        let initialization_type = self.initialization_type;
        self.journal.system(&SystemEvent::InitRuntimeDone { initialization_type, phase, failure });
        self.journal.system(&SystemEvent::InitReport { initialization_type, took, phase, failure });
    }

    async fn await_first_call(&mut self, instance: &mut Instance, limit: Duration) -> Result<(), Failure> {
        let timeout = tokio::time::sleep(limit);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                biased;
                call = instance.api.call() => {
                    if let Some(call) = call && self.init_call(instance, call)? {
                        return Ok(());
                    }
                }
                exit = instance.process.exit() => {
                    // It may have said why just before.
                    while let Some(call) = instance.last_call().await {
                        self.init_call(instance, call)?;
                    }
                    return Err(Failure::Exit(exit));
                }
                () = instance.output.readable() => {
                    instance.output.pump(&mut self.journal);
                    self.journal.flush();
                }
                () = &mut timeout => {
                    return Err(Failure::Timeout { timeout_ms: self.timeout_ms() });
                }
            }
        }
    }

    /// Whether Init has succeeded.
    fn init_call(&mut self, instance: &mut Instance, call: Call) -> Result<bool, Failure> {
        match call {
            Call::Next { reply } => {
                instance.asks(reply);
                Ok(true)
            }
            Call::InitError { error, reply } => {
                // If the runtime has gone meanwhile, it does not want to know.
                let _ = reply.send(Verdict::Accepted);
                Err(Failure::Init(error))
            }
            Call::Answer { reply, .. } => {
                let _ = reply.send(Verdict::InvalidRequestId);
                Ok(false)
            }
        }
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
                self.shell.gone(self.id, None);
                instance.stop().await;
            }
            InitEnd::Failed { failure, mut instance } => {
                self.start_line(&job);
                self.conclude(instance.as_mut(), job, &attempt, Ended::Failed(failure));
                if let Some(instance) = instance {
                    instance.stop().await;
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
