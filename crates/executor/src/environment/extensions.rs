//! The extensions of one environment: who is there, what each wants and does. Pure bookkeeping: it does no I/O.
//!
//! ```text
//! Started --register--> Registered --next--> Ready --(an event)--> Running --next--> Ready
//!    \___________________\__ init/error, exit/error, its end ________/
//! ```
//!
//! External extensions are programs of `/opt/extensions`, known before they are started; internal ones register from within
//! the runtime's process and are known from then on. Registration closes when the runtime asks for its first event.
//!
//! Names, error types and messages are AWS's: "Extensions API", and its emulator.

use bytes::Bytes;
use freehold_sandbox::spec::{CompanionExits, Exit};
use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::extension::{EventKind, Extension, State, valid};
use super::failure::{Failure, signal_name};
use crate::event::FunctionVersion;
use crate::runtime_api::{Invocation, Refusal, Registered, When};

/// Extensions of one environment. Source: "Extensions API", and the error `Extension.TooManyExtensions`.
pub(super) const MAX_EXTENSIONS: usize = freehold_sandbox::options::COMPANIONS_MAX;

/// What the log says of an extension at the end of Init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) events: Vec<&'static str>,
    pub(super) error_type: Option<String>,
}

/// All extensions of an environment.
#[derive(Default)]
pub(super) struct Extensions {
    all: Vec<Extension>,
    /// The runtime has asked for its first event.
    closed: bool,
    failure: Option<Failure>,
}

impl Extensions {
    /// External ones, by their file names, in the order in which they are started.
    pub(super) fn started(names: &[String]) -> Self {
        let all = names.iter().map(|name| Extension::new(name.clone(), true)).collect();
        Self { all, closed: false, failure: None }
    }

    /// Whether there are programs beside the runtime's, and whether there are extensions within it.
    pub(super) fn kinds(&self) -> (bool, bool) {
        let external = self.all.iter().any(|extension| extension.external);
        (external, self.all.iter().any(|extension| !extension.external))
    }

    /// What has gone wrong first.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether every external one has registered: the runtime may start.
    pub(super) fn have_registered(&self) -> bool {
        self.all.iter().all(|extension| extension.state != State::Started)
    }

    /// Whether every one has asked for its first event: Init is over.
    pub(super) fn are_ready(&self) -> bool {
        self.all.iter().all(|extension| extension.state == State::Ready || extension.is_over())
    }

    /// Whether those that were told of an event have asked for the next one.
    pub(super) fn are_done(&self) -> bool {
        let told = self.all.iter().filter(|extension| extension.wants(EventKind::Invoke));
        told.into_iter().all(|extension| extension.state != State::Running)
    }

    /// Whether anybody is told of events.
    pub(super) fn follow_events(&self) -> bool {
        self.all.iter().any(|extension| extension.wants(EventKind::Invoke))
    }

    /// Takes no more of them.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn register(
        &mut self,
        name: &str,
        events: &[String],
        wants_account: bool,
        version: &FunctionVersion,
    ) -> Result<Registered, Refusal> {
        let external = self.all.iter().position(|extension| extension.external && extension.name == name);
        let events = events.iter().map(|event| valid(event, external.is_some())).collect::<Result<_, _>>()?;
        let index = match external {
            Some(index) => index,
            None => self.admit(name)?,
        };
        let extension = &mut self.all[index];
        if extension.state != State::Started {
            return Err(extension.invalid_state("Registered", &extension.name));
        }
        extension.state = State::Registered;
        extension.events = events;
        let mut body = json!({
            "functionName": version.name,
            "functionVersion": version.version,
            "handler": version.handler,
        });
        if wants_account {
            body["accountId"] = version.function_arn.split(':').nth(4).unwrap_or_default().into();
        }
        Ok(Registered { id: extension.id, body: body.to_string().into() })
    }

    /// An internal one has come.
    fn admit(&mut self, name: &str) -> Result<usize, Refusal> {
        if self.closed {
            let message = "Extension registration closed already";
            return Err(Refusal::forbidden("Extension.RegistrationClosed", message));
        }
        if self.all.iter().any(|extension| extension.name == name) {
            let message = "Extension with this name already registered";
            return Err(Refusal::forbidden("Extension.InvalidExtensionState", message));
        }
        if self.all.len() >= MAX_EXTENSIONS {
            let message = format!("Extension limit ({MAX_EXTENSIONS}) reached");
            return Err(Refusal::forbidden("Extension.TooManyExtensions", message));
        }
        self.all.push(Extension::new(name.to_owned(), false));
        Ok(self.all.len() - 1)
    }

    /// It asks for its next event. The reply is kept until there is one.
    pub(super) fn next(&mut self, id: Uuid, reply: oneshot::Sender<Result<Bytes, Refusal>>) {
        match self.find(id) {
            Some(extension) => extension.next(reply),
            // If it has gone meanwhile, it does not want to know.
            None => drop(reply.send(Err(unknown(format!("Unknown extension {id}"))))),
        }
    }

    /// It says that it has failed.
    pub(super) fn fail(&mut self, id: Uuid, when: When, error_type: String) -> Result<(), Refusal> {
        let Some(extension) = self.find(id) else {
            return Err(unknown("Unknown Lambda-Extension-Identifier".to_owned()));
        };
        let (state, failure_type) = match when {
            When::Init => (State::InitError, "Extension.InitError"),
            When::Exit => (State::ExitError, "Extension.ExitError"),
        };
        let allowed = match when {
            When::Init => matches!(extension.state, State::Registered | State::InitError),
            When::Exit => !matches!(extension.state, State::Started | State::InitError | State::Exited),
        };
        if !allowed {
            return Err(extension.invalid_state(state.name(), &id.to_string()));
        }
        if extension.state == state {
            return Ok(());
        }
        extension.state = state;
        extension.error_type = Some(error_type.clone());
        let failure = Failure::Extension { error_type: failure_type, message: error_type };
        self.failure.get_or_insert(failure);
        Ok(())
    }

    /// The program of an external one cannot be started.
    pub(super) fn not_started(&mut self, index: usize, message: &str) {
        let Some(extension) = self.all.get_mut(index) else { return };
        let error_type = match message {
            "ErrTooManyExtensions" => "TooManyExtensions",
            message if message.ends_with("permission denied") => "PermissionDenied",
            _ => "UnknownError",
        };
        extension.state = State::LaunchError;
        extension.error_type = Some(error_type.to_owned());
        let (error_type, message) = ("Extension.LaunchError", message.to_owned());
        self.failure.get_or_insert(Failure::Extension { error_type, message });
    }

    /// The programs of external ones, those that have ended so far.
    pub(super) fn have_exited(&mut self, exits: CompanionExits) {
        for (index, exit) in exits.into_iter().enumerate() {
            if let Some(exit) = exit {
                self.exited(index, exit);
            }
        }
    }

    fn exited(&mut self, index: usize, exit: Exit) {
        let Some(extension) = self.all.get_mut(index) else { return };
        if extension.state == State::Exited {
            return;
        }
        extension.asking = None;
        // One that has said so has said why.
        if !extension.is_over() {
            extension.error_type = Some("Extension.Crash".to_owned());
        }
        extension.state = State::Exited;
        let failure = match exit {
            Exit::OutOfMemory => Failure::Exit(exit),
            exit => Failure::Extension { error_type: "Extension.Crash", message: describe(exit) },
        };
        self.failure.get_or_insert(failure);
    }

    /// Tells of an event that the runtime is given.
    pub(super) fn tell_invoke(&mut self, invocation: &Invocation) {
        if !self.follow_events() {
            return;
        }
        let event = json!({
            "eventType": "INVOKE",
            "deadlineMs": invocation.deadline_ms,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.invoked_arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_header},
        });
        self.tell(EventKind::Invoke, &event.to_string().into());
    }

    /// Tells external ones that the environment ends.
    pub(super) fn tell_shutdown(&mut self, reason: &str, deadline_ms: u64) {
        let event = json!({"eventType": "SHUTDOWN", "deadlineMs": deadline_ms, "shutdownReason": reason});
        self.tell(EventKind::Shutdown, &event.to_string().into());
    }

    /// Whether one that was told of the end has not ended yet.
    pub(super) fn are_ending(&self) -> bool {
        self.all
            .iter()
            .any(|extension| extension.wants(EventKind::Shutdown) && extension.state != State::Exited)
    }

    /// How each is.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let status = |extension: &Extension| Status {
            name: extension.name.clone(),
            state: extension.state.name(),
            events: extension.events.iter().map(|event| event.name()).collect(),
            error_type: extension.error_type.clone(),
        };
        self.all.iter().map(status).collect()
    }

    /// The name of the one with this id, if it may subscribe.
    pub(super) fn name_of(&mut self, id: Uuid) -> Result<String, Refusal> {
        match self.find(id) {
            Some(extension) if extension.state != State::Started => Ok(extension.name.clone()),
            _ => Err(unknown(format!("Unknown extension {id}"))),
        }
    }

    fn tell(&mut self, kind: EventKind, event: &Bytes) {
        for extension in self.all.iter_mut().filter(|extension| extension.wants(kind)) {
            extension.offer(event);
        }
    }

    fn find(&mut self, id: Uuid) -> Option<&mut Extension> {
        self.all.iter_mut().find(|extension| extension.id == id)
    }
}

fn unknown(message: String) -> Refusal {
    Refusal::forbidden("Extension.UnknownExtensionIdentifier", message)
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Status(0) => "exit code 0".to_owned(),
        Exit::Status(status) => format!("exit status {status}"),
        Exit::Signal(signal) => format!("signal: {}", signal_name(signal)),
        Exit::OutOfMemory | Exit::Killed => "signal: killed".to_owned(),
    }
}
