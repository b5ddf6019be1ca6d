//! Events that extensions outlast.
//!
//! ```text
//! runtime answers --> caller has its answer --> the runtime and the extensions ask for the next event --> END, REPORT, record
//! ```
//!
//! As on AWS the caller does not wait for extensions, while the duration, and with it the bill, ends with the last of them.
//! So here the record is handed to the ledger after the answer: a server that is killed in between loses it. A caller that
//! asked for the end of the log waits, because REPORT is part of it.

use std::time::Instant;

use freehold_base::id::RequestId;
use tokio::sync::oneshot;

use super::failure::Failure;
use super::instance::Instance;
use super::invocation::End;
use super::journal::wall_ms;
use super::shutdown::Reason;
use super::{Job, Task};
use crate::event::{Answer, InvokeError, Outcome};

/// An event that the runtime has answered, and extensions have not.
pub(super) struct Unreported {
    event: RequestId,
    tenant_id: Option<String>,
    began: Instant,
    /// When the runtime answered.
    answered: Instant,
    answered_ms: u64,
    is_error: bool,
    /// What came of it already, apart from extensions.
    failure: Option<Failure>,
    /// A caller that waits for the end of the log.
    waiting: Option<(oneshot::Sender<Result<Outcome, InvokeError>>, Answer)>,
}

impl Task {
    /// Answers an event that extensions are still at.
    pub(super) fn answer_early(
        &mut self,
        instance: Option<&Instance>,
        job: Job,
        began: Instant,
        answer: Answer,
        failure: Option<Failure>,
    ) {
        let answered = self.shell.clock.monotonic();
        let is_error = matches!(answer, Answer::Error(_));
        let waiting = if job.event.wants_tail {
            Some((job.reply, answer))
        } else {
            let usage = self.usage(instance, answered.saturating_duration_since(began), failure.as_ref());
            let log_tail = self.journal.tail();
            // A caller that has gone does not wait for the answer; it is recorded all the same.
            let _ = job.reply.send(Ok(Outcome { answer, log_tail, usage }));
            None
        };
        self.journal.flush();
        self.unreported = Some(Box::new(Unreported {
            event: job.event.request_id,
            tenant_id: job.event.tenant_id,
            began,
            answered,
            answered_ms: wall_ms(&self.shell.clock),
            is_error,
            failure,
            waiting,
        }));
    }

    /// Writes up an event that has been answered, if there is one, now that extensions are done, or have failed.
    pub(super) fn report_late(&mut self, instance: &mut Instance, failure: Option<&Failure>) {
        let Some(unreported) = self.unreported.take() else { return };
        let Unreported {
            event,
            tenant_id,
            began,
            answered,
            answered_ms,
            is_error,
            failure: earlier,
            waiting,
        } = *unreported;
        instance.output.pump(&mut self.journal);
        let now = self.shell.clock.monotonic();
        let (mut duration, overhead) =
            (now.saturating_duration_since(began), now.saturating_duration_since(answered));
        if let Some(Failure::Timeout { .. }) = failure {
            duration = self.version.timeout;
        }
        let failure = earlier.as_ref().or(failure);
        let overhead = Some((answered_ms, overhead));
        let tenant_id = tenant_id.as_deref();
        let end = End { event: &event, tenant_id, duration, is_error, failure, overhead };
        let usage = self.report(Some(instance), &end);
        let log_tail = self.journal.take_tail();
        if let Some((reply, answer)) = waiting {
            let _ = reply.send(Ok(Outcome { answer, log_tail, usage }));
        }
    }

    /// What has failed, where an environment ends for this reason after it has answered.
    pub(super) fn failure_of(&self, instance: &Instance, reason: Reason) -> Option<Failure> {
        match reason {
            Reason::Spindown => None,
            Reason::Timeout => Some(Failure::Timeout { timeout_ms: self.timeout_ms() }),
            Reason::Failure => {
                let exit = || instance.process.ended().map(Failure::Exit);
                instance.extensions.failure().cloned().or_else(exit)
            }
        }
    }
}
