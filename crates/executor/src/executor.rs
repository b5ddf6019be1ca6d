//! The handle: [`Executor`]. Behind it a shell that asks the core what to do and has environments' tasks do it.
//!
//! The core stands behind one lock that is held for a microsecond at a time: an input goes in, its actions are handed to
//! environments' tasks (never waiting for one), the lock is released. Actions of one environment so reach it in the order
//! in which the core gave them, and an invocation costs no hop to a task of the core's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use freehold_base::clock::SharedClock;
use freehold_ledger::Ledger;
use freehold_runtimes::catalog::Catalog;
use freehold_sandbox::spec::{Network, Sandbox};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::core::{Action, Core, EnvironmentId, EventId, Fate, Init, Rejection};
use crate::environment::{self, ATTEMPTS, Command, Job};
use crate::event::{Event, FunctionVersion, InvokeError, LogSink, Outcome, PlatformEndpoint, Provisioned};
use crate::limits::Limits;

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
        let Options { sandbox, catalog, ledger, logs, endpoint, clock, network, limits } = options;
        let state = State {
            core: Core::new(limits.clone()),
            environments: HashMap::new(),
            jobs: HashMap::new(),
            wake_at: None,
        };
        let shell = Arc::new(Shell {
            sandbox,
            catalog,
            ledger,
            logs,
            endpoint,
            clock,
            network,
            limits,
            state: Mutex::new(state),
            earlier: Arc::new(Notify::new()),
            tasks: watch::Sender::new(0),
            provisioned_changes: watch::Sender::new(0),
        });
        tokio::spawn(tick(Arc::downgrade(&shell), Arc::clone(&shell.earlier)));
        Self(Arc::new(Handle(shell)))
    }

    /// Runs one event. It goes on to its end, and is recorded, even if the returned future is dropped.
    pub async fn invoke(&self, version: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError> {
        let outcome = self.0.0.submit(&version, event)?;
        outcome.await.unwrap_or_else(|_| Err(ended_unexpectedly()))
    }

    /// Drops the environments of the version with this key: idle ones now, the others after their event.
    pub fn retire(&self, key: &str) {
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
        self.0.0.provisioned_changes.subscribe()
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
        let mut tasks = shell.tasks.subscribe();
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

/// What environments' tasks share.
pub(crate) struct Shell {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) endpoint: Arc<dyn PlatformEndpoint>,
    pub(crate) clock: SharedClock,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    state: Mutex<State>,
    /// The core wants to be ticked earlier than planned.
    earlier: Arc<Notify>,
    /// How many environments' tasks there are.
    tasks: watch::Sender<usize>,
    /// The core's count of changes to what is provisioned.
    provisioned_changes: watch::Sender<u64>,
}

struct State {
    core: Core,
    environments: HashMap<EnvironmentId, mpsc::Sender<Command>>,
    /// Events that wait for an environment.
    jobs: HashMap<EventId, Box<Job>>,
    /// When the ticker will wake by itself.
    wake_at: Option<Instant>,
}

impl Shell {
    /// A starting environment has ended its Init phase.
    pub(crate) fn init_ended(self: &Arc<Self>, id: EnvironmentId, init: Init) {
        self.input(|core, now| core.init_ended(now, id, init));
    }

    /// An environment could not be made: an event hears why.
    pub(crate) fn start_failed(self: &Arc<Self>, id: EnvironmentId, error: InvokeError) {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        state.core.start_failed(now, id);
        self.carry_out(&mut state, now, Some(error));
    }

    /// An environment has answered its event.
    pub(crate) fn answered(self: &Arc<Self>, id: EnvironmentId) {
        self.input(|core, now| core.answered(now, id));
    }

    /// An environment that has answered asks for its next event.
    pub(crate) fn ready(self: &Arc<Self>, id: EnvironmentId) {
        self.input(|core, now| core.ready(now, id));
    }

    /// An environment has ended or is about to, with the event that it was given but has not seen. May be told twice.
    pub(crate) fn gone(self: &Arc<Self>, id: EnvironmentId, unseen: Option<Box<Job>>) {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        state.lost(now, id, unseen);
        state.environments.remove(&id);
        self.carry_out(&mut state, now, None);
    }

    /// Counts an environment's task for as long as the guard lives.
    pub(crate) fn count_task(self: &Arc<Self>) -> TaskGuard {
        self.tasks.send_modify(|count| *count += 1);
        TaskGuard(Arc::clone(self))
    }

    fn submit(
        self: &Arc<Self>,
        version: &Arc<FunctionVersion>,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<Outcome, InvokeError>>, InvokeError> {
        let (reply, outcome) = oneshot::channel();
        let mut state = self.lock();
        let now = self.clock.monotonic();
        let arrived = state.core.arrive(now, version);
        if let Ok(id) = arrived {
            state.jobs.insert(id, Box::new(Job { id, event, reply, waited: false, attempts: 0 }));
        }
        self.carry_out(&mut state, now, None);
        drop(state);
        arrived.map(|_| outcome).map_err(|rejection| refusal(rejection, None))
    }

    fn input(self: &Arc<Self>, input: impl FnOnce(&mut Core, Instant)) {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        input(&mut state.core, now);
        self.carry_out(&mut state, now, None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the core is one input's; what it left behind is used on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the core asks for. Nothing here waits.
    fn carry_out(self: &Arc<Self>, state: &mut State, now: Instant, error: Option<InvokeError>) {
        loop {
            // Environments that ended before they got what was for them: told to the core afterwards.
            let mut lost = Vec::new();
            let State { core, environments, jobs, .. } = &mut *state;
            for action in core.take_actions() {
                match action {
                    Action::Start { environment, version } => {
                        environments.insert(environment, environment::spawn(self, environment, version));
                    }
                    Action::Dispatch { environment, event, waited } => {
                        let Some(mut job) = jobs.remove(&event) else { continue };
                        job.waited = waited;
                        if let Some(job) = send(environments, environment, Command::Run(job)) {
                            lost.push((environment, job));
                        }
                    }
                    Action::Freeze { environment } => {
                        send(environments, environment, Command::Freeze);
                    }
                    Action::Drop { environment } => {
                        send(environments, environment, Command::Drop);
                        environments.remove(&environment);
                    }
                    Action::Reject { event, rejection } => {
                        let Some(job) = jobs.remove(&event) else { continue };
                        // A caller that has gone does not wait for the error.
                        let _ = job.reply.send(Err(refusal(rejection, error.clone())));
                    }
                }
            }
            if lost.is_empty() {
                break;
            }
            for (environment, job) in lost {
                state.lost(now, environment, Some(job));
            }
        }
        let next = state.core.next_tick();
        if next.is_some_and(|next| state.wake_at.is_none_or(|planned| next < planned)) {
            state.wake_at = next;
            self.earlier.notify_one();
        }
    }
}

impl State {
    /// An environment has ended; `unseen` goes to another one, unless it has been passed on too often.
    fn lost(&mut self, now: Instant, id: EnvironmentId, unseen: Option<Box<Job>>) {
        match unseen {
            Some(mut job) if job.attempts < ATTEMPTS && self.core.has(id) => {
                job.attempts += 1;
                self.jobs.insert(job.id, job);
                self.core.dead(now, id, Fate::Untouched);
            }
            Some(job) => {
                self.core.dead(now, id, Fate::Ended);
                let _ = job.reply.send(Err(ended_unexpectedly()));
            }
            None => self.core.dead(now, id, Fate::Ended),
        }
    }
}

/// Sends a command. Gives an event back if the environment has ended.
fn send(
    environments: &HashMap<EnvironmentId, mpsc::Sender<Command>>,
    id: EnvironmentId,
    command: Command,
) -> Option<Box<Job>> {
    let refused = match environments.get(&id) {
        Some(sender) => sender.try_send(command).err()?.into_inner(),
        None => command,
    };
    match refused {
        Command::Run(job) => Some(job),
        Command::Freeze | Command::Drop => None,
    }
}

fn refusal(rejection: Rejection, error: Option<InvokeError>) -> InvokeError {
    match rejection {
        Rejection::Throttled(reason) => InvokeError::Throttled(reason),
        Rejection::Stopping => InvokeError::Stopping,
        Rejection::Failed(_) => error.unwrap_or_else(ended_unexpectedly),
    }
}

fn ended_unexpectedly() -> InvokeError {
    InvokeError::Environment("it ended unexpectedly".to_owned())
}

/// Counts one environment's task.
pub(crate) struct TaskGuard(Arc<Shell>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|count| *count -= 1);
    }
}

/// Ticks the core when it has something to do, until the shell is gone.
async fn tick(shell: Weak<Shell>, earlier: Arc<Notify>) {
    loop {
        let wait = {
            let Some(shell) = shell.upgrade() else { return };
            let mut state = shell.lock();
            let now = shell.clock.monotonic();
            state.core.tick(now);
            state.wake_at = state.core.next_tick();
            shell.carry_out(&mut state, now, None);
            state.wake_at.map(|at| at.saturating_duration_since(now))
        };
        match wait {
            Some(wait) => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = earlier.notified() => {}
                }
            }
            None => earlier.notified().await,
        }
    }
}
