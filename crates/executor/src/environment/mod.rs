//! One environment's task: the life of one sandbox from start to end, for one version.
//!
//! ```text
//! start ──> Init ──ok──> idle <──> running an event ──timeout, exit──> gone
//!             \─failed─> (waits for an event; Init again within it) ──failed──> gone
//! ```
//!
//! - [`mod@self`]: [`spawn`], the life cycle, what happens between events
//! - `invocation`: one event from dispatch to answer; `init`: the Init phase
//! - `extensions`, each an `extension`: who of them is there and does what; `companions`: their programs;
//!   `listening`: what they ask; `late`: events that they outlast
//! - `shutdown`: how an environment ends
//! - `snapshot`: Init alone, for an image that later environments begin from
//! - `instance`: the running sandbox and what hangs on it; `identity`: its names and credentials
//! - `journal`, `output`, `system`, `report`: its log; `failure`: AWS's words for what went wrong
//!
//! The task owns all of its environment's state; others reach it by [`Command`]s alone. If it panics, its environment
//! dies with it and no other notices. After a timeout or a crash the sandbox is removed and the task ends.

mod companions;
mod extension;
mod extensions;
mod failure;
mod identity;
mod init;
mod instance;
mod invocation;
mod journal;
mod late;
mod listening;
mod output;
mod report;
mod shutdown;
mod snapshot;
mod system;

use std::sync::Arc;
use std::time::Duration;

use freehold_sandbox::spec::CompanionExits;
use tokio::sync::{mpsc, oneshot};

use self::init::InitEnd;
use self::instance::Instance;
use self::invocation::After;
use self::journal::Journal;
pub(crate) use self::journal::wall_ms;
use self::late::Unreported;
use self::report::Phase;
use self::shutdown::Reason;
use crate::core::{EnvironmentId, EventId, Init, Purpose};
use crate::event::{Event, FunctionVersion, InvokeError, Outcome, RoleIdentity};
use crate::executor::Shell;
use crate::runtime_api::{Call, Verdict};

pub(crate) use self::identity::sandbox_name;
pub use self::snapshot::PrepareError;
pub(crate) use self::snapshot::snapshot;

/// Commands that may wait for an environment: the core gives it at most a freeze, an event and a drop at once.
const COMMANDS: usize = 8;

/// How often an event is given to another environment because the one it was for had ended before it saw it. A function
/// that always ends between events would pass events on for ever.
pub(crate) const ATTEMPTS: u32 = 3;

/// How long an idle environment waits to be frozen for those who listen to take what was said. On AWS what they have not
/// taken by then waits for the next event, as it does here when this has passed.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// What the executor tells an environment.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run this event.
    Run(Box<Job>),
    /// Stop all its processes.
    Freeze,
    /// End, now.
    Drop,
}

/// One event on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: EventId,
    pub(crate) event: Event,
    pub(crate) reply: oneshot::Sender<Result<Outcome, InvokeError>>,
    /// It has waited for the Init phase of the environment that it is given to.
    pub(crate) waited: bool,
    /// Environments that ended before they saw it.
    pub(crate) attempts: u32,
}

/// Starts an environment's task.
pub(crate) fn spawn(
    shell: &Arc<Shell>,
    id: EnvironmentId,
    version: Arc<FunctionVersion>,
    purpose: Purpose,
) -> mpsc::Sender<Command> {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    let commands = Commands { shell: Arc::clone(shell), id, receiver };
    let alive = shell.count_task();
    tokio::spawn(async move {
        // Dropped last: whoever waits for the tasks to end then knows that the sandbox is gone.
        let _alive = alive;
        run(commands, version, purpose).await;
    });
    sender
}

/// The receiving end of an environment's commands. Dropping it, even in a panic, tells the executor that the environment
/// is gone, and gives back an event that it has not seen.
struct Commands {
    shell: Arc<Shell>,
    id: EnvironmentId,
    receiver: mpsc::Receiver<Command>,
}

impl Commands {
    /// Waits for the order to end. While an environment starts or runs an event there is no other.
    async fn dropped(&mut self) {
        while !matches!(self.receiver.recv().await, Some(Command::Drop) | None) {}
    }
}

impl Commands {
    /// Takes no more. From here on the executor gives this environment nothing, and what it had given is given back.
    fn end(&mut self) {
        self.receiver.close();
        let mut unseen = None;
        while let Ok(command) = self.receiver.try_recv() {
            if let Command::Run(job) = command {
                unseen = Some(job);
            }
        }
        self.shell.gone(self.id, unseen);
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a task knows of its environment, whether its sandbox runs or not.
struct Task {
    shell: Arc<Shell>,
    id: EnvironmentId,
    version: Arc<FunctionVersion>,
    role: RoleIdentity,
    log_stream: String,
    /// AWS's word for how it came to be.
    initialization_type: &'static str,
    journal: Journal,
    frozen: bool,
    /// When the sandbox was asked for last, in ms since 1970.
    began_ms: u64,
    /// The event that was answered, while extensions are still at it.
    unreported: Option<Box<Unreported>>,
    /// How long the successful Init phase took.
    init: Option<Duration>,
    /// It was not an Init phase, but what follows on the snapshot of one.
    restored: bool,
    /// The event that was answered last.
    answered: Option<String>,
    /// The largest memory use seen, in MiB.
    max_memory_mib: u32,
}

async fn run(mut commands: Commands, version: Arc<FunctionVersion>, purpose: Purpose) {
    let shell = Arc::clone(&commands.shell);
    let initialization_type = match shell.images.of_version(&version.key) {
        Some(_) => system::SNAP_START,
        None => system::initialization_type(purpose),
    };
    let mut task = Task::new(shell, commands.id, version, initialization_type);
    let brought_up = tokio::select! {
        biased;
        () = commands.dropped() => return,
        brought_up = task.bring_up(Phase::Init, task.shell.limits.init_timeout) => brought_up,
    };
    match brought_up {
        InitEnd::Ready(instance) => {
            task.shell.init_ended(task.id, Init::Succeeded);
            task.live(&mut commands, instance).await;
        }
        InitEnd::Failed { failure, instance } => {
            tracing::debug!(function = task.version.name, ?failure, "Init has failed");
            if let Some(instance) = instance {
                task.shut_down(instance, Reason::from(&failure)).await;
            }
            task.shell.init_ended(task.id, Init::Failed(failure.text().into()));
            if let Some(Command::Run(job)) = commands.receiver.recv().await {
                task.init_again(&mut commands, *job).await;
            }
        }
        InitEnd::Impossible(error) => task.shell.start_failed(task.id, error),
    }
}

/// What an environment does next.
enum Next {
    Command(Option<Command>),
    Call(Option<Call>),
    Exit,
    Companions(CompanionExits),
    Output,
    Overdue,
    Freeze,
}

/// An environment that has answered, and is waited for.
#[derive(Clone, Copy)]
struct Settling {
    /// Until when the runtime must ask for its next event, and the extensions too.
    deadline: tokio::time::Instant,
    /// The runtime has.
    asked: bool,
}

impl Task {
    /// From the first event to the last.
    async fn live(&mut self, commands: &mut Commands, mut instance: Instance) {
        let mut settling: Option<Settling> = None;
        let mut reason = Reason::Spindown;
        // It is to be frozen when subscribers have what was said, or at this time.
        let mut freezing: Option<tokio::time::Instant> = None;
        while !instance.process.has_ended() {
            let next = tokio::select! {
                biased;
                command = commands.receiver.recv() => Next::Command(command),
                call = instance.api.call() => Next::Call(call),
                _ = instance.process.exit() => Next::Exit,
                exits = instance.companions.ended() => Next::Companions(exits),
                () = instance.output.readable() => Next::Output,
                () = until(settling.map(|settling| settling.deadline)) => Next::Overdue,
                () = self.journal.delivered(), if freezing.is_some() => Next::Freeze,
                () = until(freezing) => Next::Freeze,
            };
            match next {
                Next::Command(Some(Command::Run(job))) => {
                    freezing = None;
                    match self.run_event(commands, &mut instance, *job).await {
                        After::Answered { deadline } => settling = Some(Settling { deadline, asked: false }),
                        After::Gone(why) => {
                            reason = why;
                            break;
                        }
                    }
                }
                Next::Command(Some(Command::Freeze)) => {
                    self.journal.flush_telemetry();
                    freezing = Some(tokio::time::Instant::now() + DELIVERY_GRACE);
                }
                Next::Freeze => {
                    freezing = None;
                    if !self.freeze(&mut instance).await {
                        break;
                    }
                }
                Next::Call(Some(Call::Next { reply })) => {
                    instance.asks(reply);
                    settling.iter_mut().for_each(|settling| settling.asked = true);
                }
                Next::Call(Some(Call::Extension(call))) => self.extension_call(&mut instance, *call),
                Next::Call(Some(call)) => self.refuse(call),
                Next::Companions(exits) => instance.extensions.have_exited(exits),
                Next::Output => {
                    instance.output.pump(&mut self.journal);
                    self.journal.flush();
                }
                Next::Overdue => {
                    reason = Reason::Timeout;
                    break;
                }
                Next::Exit => reason = Reason::Failure,
                Next::Command(Some(Command::Drop) | None) | Next::Call(None) => break,
            }
            if instance.extensions.failure().is_some() {
                reason = Reason::Failure;
                break;
            }
            if settling.is_some_and(|settling| settling.asked) && instance.extensions.are_done() {
                settling = None;
                self.report_late(&mut instance, None);
                self.shell.ready(self.id);
            }
        }
        let failure = self.failure_of(&instance, reason);
        self.report_late(&mut instance, failure.as_ref());
        // Told before the sandbox is gone, which takes a while: no event may count on this environment any more.
        commands.end();
        self.shut_down(instance, reason).await;
    }

    /// Stops all processes. `false`: that is not possible, and the sandbox must go.
    async fn freeze(&mut self, instance: &mut Instance) -> bool {
        if !instance.freeze().await {
            return false;
        }
        self.frozen = true;
        if let Some(telemetry) = self.journal.telemetry() {
            telemetry.set_frozen(true);
        }
        true
    }

    /// What may not be done between events.
    fn refuse(&self, call: Call) {
        let (reply, verdict) = match call {
            // Dropping the reply refuses it.
            Call::Next { .. } | Call::Extension(_) => return,
            Call::Answer { request_id, reply, .. } if self.answered.as_deref() == Some(&request_id) => {
                (reply, Verdict::InvalidState { from: "ResponseSent", to: "InvocationResponse" })
            }
            Call::Answer { reply, .. } => (reply, Verdict::InvalidRequestId),
            Call::InitError { reply, .. } => {
                (reply, Verdict::InvalidState { from: "Ready", to: "InitError" })
            }
        };
        // If the runtime has gone meanwhile, it does not want to know.
        let _ = reply.send(verdict);
    }

    /// Looks at the memory that the environment has used.
    fn measure(&mut self, instance: &Instance) {
        let mib = instance.environment.memory_peak_bytes().div_ceil(1024 * 1024);
        let mib = u32::try_from(mib).unwrap_or(u32::MAX).min(self.version.memory_mib);
        self.max_memory_mib = self.max_memory_mib.max(mib);
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
