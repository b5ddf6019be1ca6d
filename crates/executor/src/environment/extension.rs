//! One extension: what it wants, and where it is in its life.

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::runtime_api::Refusal;

/// What an extension can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Invoke,
    Shutdown,
}

impl EventKind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "INVOKE" => Some(Self::Invoke),
            "SHUTDOWN" => Some(Self::Shutdown),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

/// Where an extension is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
    Exited,
    LaunchError,
}

impl State {
    /// AWS's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
            Self::Exited => "Exited",
            Self::LaunchError => "LaunchError",
        }
    }
}

pub(super) struct Extension {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) external: bool,
    pub(super) state: State,
    pub(super) events: Vec<EventKind>,
    pub(super) error_type: Option<String>,
    /// Its long poll.
    pub(super) asking: Option<oneshot::Sender<Result<Bytes, Refusal>>>,
    /// An event that it has not asked for yet.
    pub(super) pending: Option<Bytes>,
}

impl Extension {
    pub(super) fn new(name: String, external: bool) -> Self {
        Self {
            name,
            id: Uuid::new_v4(),
            external,
            state: State::Started,
            events: Vec::new(),
            error_type: None,
            asking: None,
            pending: None,
        }
    }

    pub(super) fn wants(&self, event: EventKind) -> bool {
        self.events.contains(&event)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::InitError | State::ExitError | State::Exited | State::LaunchError)
    }

    /// Gives it an event, now or when it asks.
    pub(super) fn offer(&mut self, event: &Bytes) {
        if self.is_over() {
            return;
        }
        self.state = State::Running;
        self.pending = match self.asking.take() {
            Some(asking) => asking.send(Ok(event.clone())).err().and_then(Result::ok),
            None => Some(event.clone()),
        };
    }

    /// It asks for its next event.
    pub(super) fn next(&mut self, reply: oneshot::Sender<Result<Bytes, Refusal>>) {
        let is_waiting = self.asking.as_ref().is_some_and(|asking| !asking.is_closed());
        match (self.state, self.pending.take()) {
            (State::Registered | State::Running, Some(event)) => {
                self.pending = reply.send(Ok(event)).err().and_then(Result::ok);
            }
            (State::Registered | State::Running, None) => {
                self.state = State::Ready;
                self.asking = Some(reply);
            }
            // A long poll that was given up makes room for another.
            (State::Ready, _) if !is_waiting => self.asking = Some(reply),
            // If it has gone meanwhile, it does not want to know.
            _ => drop(reply.send(Err(self.invalid_state("Ready", &self.id.to_string())))),
        }
    }

    /// 403: it is not in a state to do this.
    pub(super) fn invalid_state(&self, to: &str, who: &str) -> Refusal {
        let from = self.state.name();
        Refusal::forbidden(
            "Extension.InvalidExtensionState",
            format!(
                "State transition from {from} to {to} failed for extension {who}. Error: State transition is not \
                 allowed"
            ),
        )
    }
}

/// Whether one can ask to be told of this.
pub(super) fn valid(event: &str, external: bool) -> Result<EventKind, Refusal> {
    let refuse = |why: &str| Refusal::forbidden("Extension.InvalidEventType", format!("{event}: {why}"));
    match EventKind::named(event) {
        None => Err(refuse("ErrorInvalidEventType")),
        Some(EventKind::Shutdown) if !external => {
            Err(refuse("ShutdownEventNotSupportedForInternalExtension"))
        }
        Some(kind) => Ok(kind),
    }
}
