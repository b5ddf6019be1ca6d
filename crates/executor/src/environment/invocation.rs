//! One event in one environment: from dispatch to the answer, with its log lines, its bill and its record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use freehold_base::id::RequestId;
use freehold_ledger::UsageRecord;
use freehold_sandbox::spec::Exit;

use super::failure::{self, Failure};
use super::instance::Instance;
use super::journal::{ms_since_1970, wall_ms};
use super::shutdown::Reason;
use super::system::SystemEvent;
use super::{Commands, Job, Task, identity, report};
use crate::event::{Answer, InvokeError, Outcome, Usage};
use crate::runtime_api::{Call, Invocation, Posted, Verdict};

/// What is left of an environment after an event.
pub(super) enum After {
    /// It has answered, and must ask for its next event before this.
    Answered { deadline: tokio::time::Instant },
    /// It has ended, or must be ended.
    Gone(Reason),
}

/// How an event ended.
pub(super) enum Ended {
    /// The function answered.
    Posted(Posted),
    /// It did not.
    Failed(Failure),
    /// The runtime never saw it.
    Untouched,
}

/// What is reported of an event.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) event: &'a RequestId,
    pub(super) tenant_id: Option<&'a str>,
    pub(super) duration: Duration,
    /// The caller gets an error.
    pub(super) is_error: bool,
    pub(super) failure: Option<&'a Failure>,
    /// What extensions took beyond the runtime's answer: since when, in ms since 1970, and how long.
    pub(super) overhead: Option<(u64, Duration)>,
}

/// The time that an event has.
pub(super) struct Attempt {
    began: Instant,
    began_wall: SystemTime,
    deadline: tokio::time::Instant,
}

impl Attempt {
    pub(super) fn begin(clock: &SharedClock, timeout: Duration) -> Self {
        Self {
            began: clock.monotonic(),
            began_wall: clock.wall(),
            deadline: tokio::time::Instant::now() + timeout,
        }
    }
}

impl Task {
    /// Runs an event in a running sandbox.
    pub(super) async fn run_event(
        &mut self,
        commands: &mut Commands,
        instance: &mut Instance,
        mut job: Job,
    ) -> After {
        if !self.thaw(instance).await {
            self.shell.gone(self.id, Some(Box::new(job)));
            return After::Gone(Reason::Failure);
        }
        if !std::mem::take(&mut job.waited) {
            self.init = None;
            self.journal.begin_tail();
        }
        let attempt = Attempt::begin(&self.shell.clock, self.version.timeout);
        match self.serve(commands, instance, &job, &attempt).await {
            Ended::Untouched => {
                self.shell.gone(self.id, Some(Box::new(job)));
                After::Gone(Reason::Failure)
            }
            Ended::Failed(failure) => {
                let reason = Reason::from(&failure);
                self.conclude(Some(instance), job, &attempt, Ended::Failed(failure));
                After::Gone(reason)
            }
            posted => {
                self.conclude(Some(instance), job, &attempt, posted);
                After::Answered { deadline: attempt.deadline }
            }
        }
    }

    /// Gives the event to the runtime and waits for what comes of it.
    pub(super) async fn serve(
        &mut self,
        commands: &mut Commands,
        instance: &mut Instance,
        job: &Job,
        attempt: &Attempt,
    ) -> Ended {
        let invocation = Arc::new(self.invocation(job, attempt));
        let mut handed = instance.hand(&invocation);
        if handed {
            self.has_begun(instance, &invocation, job);
        }
        let timeout = tokio::time::sleep_until(attempt.deadline);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                biased;
                call = instance.api.call() => {
                    if let Some(call) = call
                        && let Some(posted) = self.call(instance, call, &invocation, job, &mut handed)
                    {
                        return Ended::Posted(posted);
                    }
                }
                () = commands.dropped() => return Ended::Failed(Failure::Stopped),
                exit = instance.process.exit() => {
                    return self.exited(instance, exit, &invocation, job, handed).await;
                }
                exits = instance.companions.ended() => instance.extensions.have_exited(exits),
                () = instance.output.readable() => {
                    instance.output.pump(&mut self.journal);
                    self.journal.flush();
                }
                () = &mut timeout => {
                    if !handed {
                        self.start_line(job);
                    }
                    return Ended::Failed(Failure::Timeout { timeout_ms: self.timeout_ms() });
                }
            }
            if let Some(failure) = instance.extensions.failure() {
                if !handed {
                    self.start_line(job);
                }
                return Ended::Failed(failure.clone());
            }
        }
    }

    /// The program has ended. It may have answered just before.
    async fn exited(
        &mut self,
        instance: &mut Instance,
        exit: Exit,
        invocation: &Arc<Invocation>,
        job: &Job,
        mut handed: bool,
    ) -> Ended {
        if !handed {
            return Ended::Untouched;
        }
        while let Some(call) = instance.last_call().await {
            if let Some(posted) = self.call(instance, call, invocation, job, &mut handed) {
                return Ended::Posted(posted);
            }
        }
        Ended::Failed(Failure::Exit(exit))
    }

    /// What the runtime wants while an event is running. `Some`: it has answered.
    fn call(
        &mut self,
        instance: &mut Instance,
        call: Call,
        invocation: &Arc<Invocation>,
        job: &Job,
        handed: &mut bool,
    ) -> Option<Posted> {
        match call {
            Call::Next { reply } if !*handed => {
                if reply.send(Arc::clone(invocation)).is_ok() {
                    *handed = true;
                    self.has_begun(instance, invocation, job);
                }
                None
            }
            Call::Extension(call) => {
                self.extension_call(instance, *call);
                None
            }
            // Dropping the reply refuses it: the event that is running has to be answered first.
            Call::Next { .. } => None,
            Call::Answer { request_id, answer, reply } if *handed && request_id == invocation.request_id => {
                let verdict = match &answer {
                    Posted::TooLarge => Verdict::TooLarge,
                    _ => Verdict::Accepted,
                };
                // Told at once: the runtime goes on to ask for its next event while this one is written up.
                let _ = reply.send(verdict);
                self.answered = Some(request_id);
                Some(answer)
            }
            Call::Answer { reply, .. } => {
                let _ = reply.send(Verdict::InvalidRequestId);
                None
            }
            Call::InitError { reply, .. } => {
                let _ = reply.send(Verdict::InvalidState { from: "Running", to: "InitError" });
                None
            }
        }
    }

    /// Writes up what came of an event, and only then tells the caller. Where extensions follow events, the rest is done
    /// when they are done too: see `late`.
    pub(super) fn conclude(
        &mut self,
        mut instance: Option<&mut Instance>,
        job: Job,
        attempt: &Attempt,
        ended: Ended,
    ) {
        let mut duration = self.shell.clock.monotonic().saturating_duration_since(attempt.began);
        let id = job.event.request_id.as_str();
        let (answer, failure, reusable) = match ended {
            Ended::Posted(Posted::Response(body)) => (Answer::Payload(body), None, true),
            Ended::Posted(Posted::Error(error)) => {
                (Answer::Error(failure::error_payload(&error)), None, true)
            }
            Ended::Posted(Posted::TooLarge) => failed(Failure::TooLarge, id, true),
            Ended::Failed(failure) => failed(failure, id, false),
            Ended::Untouched => failed(Failure::Exit(Exit::Killed), id, false),
        };
        if let Some(Failure::Timeout { .. }) = failure {
            // As AWS reports it; what killing it took longer is not the function's.
            duration = self.version.timeout;
        }
        if let Some(instance) = &mut instance {
            instance.output.pump(&mut self.journal);
            instance.output.end_line(&mut self.journal);
        }
        let produced_bytes = if failure.is_none() { answer.bytes().len() } else { 0 };
        self.journal.system(&SystemEvent::RuntimeDone {
            request_id: id,
            duration,
            produced_bytes,
            failure: failure.as_ref(),
        });
        let is_followed = instance.as_ref().is_some_and(|instance| instance.extensions.follow_events());
        let instance = instance.as_deref();
        if reusable && is_followed {
            self.answer_early(instance, job, attempt.began, answer, failure);
            self.shell.answered(self.id, self.max_memory_mib);
            return;
        }
        let (event, tenant_id) = (&job.event.request_id, job.event.tenant_id.as_deref());
        let is_error = matches!(answer, Answer::Error(_));
        let end = End { event, tenant_id, duration, is_error, failure: failure.as_ref(), overhead: None };
        let usage = self.report(instance, &end);
        let log_tail = self.journal.take_tail();
        if reusable {
            self.shell.answered(self.id, self.max_memory_mib);
        } else {
            self.shell.gone(self.id, None);
        }
        let outcome = match failure {
            Some(Failure::Stopped) => Err(InvokeError::Stopping),
            _ => Ok(Outcome { answer, log_tail, usage }),
        };
        // A caller that has gone does not wait for the answer; it is recorded all the same.
        let _ = job.reply.send(outcome);
    }

    /// The last lines of an event and its record. Gives what it consumed.
    pub(super) fn report(&mut self, instance: Option<&Instance>, end: &End<'_>) -> Usage {
        let End { event, tenant_id, duration, is_error, failure, overhead } = *end;
        let request_id = event.as_str();
        let usage = self.usage(instance, duration, failure);
        if let Some(failure) = failure.filter(|failure| !matches!(failure, Failure::TooLarge)) {
            self.journal.system(&SystemEvent::Fault { request_id, failure });
        }
        self.journal.system(&SystemEvent::End { request_id });
        self.journal.system(&SystemEvent::Report { request_id, tenant_id, usage: &usage, failure, overhead });
        self.journal.flush();
        self.init = None;
        self.record(event, &usage, is_error);
        usage
    }

    /// What an event has consumed so far.
    pub(super) fn usage(
        &mut self,
        instance: Option<&Instance>,
        duration: Duration,
        failure: Option<&Failure>,
    ) -> Usage {
        if let Some(instance) = instance {
            self.measure(instance);
        }
        if let Some(Failure::Exit(Exit::OutOfMemory)) = failure {
            self.max_memory_mib = self.version.memory_mib;
        }
        Usage {
            duration,
            billed_ms: report::billed_ms(duration, self.init),
            memory_mib: self.version.memory_mib,
            max_memory_mib: self.max_memory_mib,
            init: self.init,
        }
    }

    /// The runtime has the event: so the extensions hear of it.
    fn has_begun(&mut self, instance: &mut Instance, invocation: &Invocation, job: &Job) {
        self.start_line(job);
        instance.extensions.tell_invoke(invocation);
    }

    pub(super) fn start_line(&mut self, job: &Job) {
        let request_id = job.event.request_id.as_str();
        self.journal.system(&SystemEvent::Start {
            request_id,
            tenant_id: job.event.tenant_id.as_deref(),
            version: &self.version,
        });
    }

    fn invocation(&self, job: &Job, attempt: &Attempt) -> Invocation {
        let event = &job.event;
        Invocation {
            request_id: event.request_id.as_str().to_owned(),
            deadline_ms: ms_since_1970(attempt.began_wall + self.version.timeout),
            invoked_arn: event.invoked_arn.clone(),
            trace_header: event
                .trace_header
                .clone()
                .unwrap_or_else(|| identity::trace_header(&self.shell.clock)),
            client_context: event.client_context.clone(),
            tenant_id: event.tenant_id.clone(),
            payload: event.payload.clone(),
        }
    }

    /// Hands the usage record to the ledger: before the answer is given, so that a killed server loses none.
    fn record(&self, event: &RequestId, usage: &Usage, failed: bool) {
        let Some(ledger) = &self.shell.ledger else { return };
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let record = UsageRecord {
            request_id: event.clone(),
            function_arn: self.version.function_arn.clone(),
            version: self.version.version.clone(),
            at_ms: wall_ms(&self.shell.clock),
            duration_us: micros(usage.duration),
            billed_ms: usage.billed_ms,
            init_us: usage.init.map(micros),
            memory_mib: usage.memory_mib,
            max_memory_mib: usage.max_memory_mib,
            failed,
        };
        if let Err(error) = ledger.append(&record) {
            tracing::error!(%error, request_id = %record.request_id, "a usage record is lost");
        }
    }
}

fn failed(failure: Failure, request_id: &str, reusable: bool) -> (Answer, Option<Failure>, bool) {
    let payload: Bytes = failure.payload(request_id);
    (Answer::Error(payload), Some(failure), reusable)
}
