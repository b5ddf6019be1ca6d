//! The shell: asks the core what to do and has environments' tasks do it.
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

use crate::core::{Action, Arrival, Core, EnvironmentId, EventId, Fate, Init, Rejection, Shortage};
use crate::environment::{self, ATTEMPTS, Command, Job};
use crate::event::{Event, FunctionVersion, InvokeError, LogSink, Outcome, PlatformEndpoint, ThrottleReason};
use crate::executor::Options;
use crate::host::ReadMemory;
use crate::images::Images;
use crate::limits::Limits;

/// How old what is known of the host's memory may be when an event arrives, and how often it is looked at while there are
/// environments. Reading it takes some 30 microseconds.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// How often at most the log says that the host is short of something.
const SHORTAGE_INTERVAL: Duration = Duration::from_secs(10);

/// What environments' tasks share.
pub(crate) struct Shell {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) images: Arc<Images>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) endpoint: Arc<dyn PlatformEndpoint>,
    pub(crate) clock: SharedClock,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    memory: ReadMemory,
    state: Mutex<State>,
    /// The core wants to be ticked earlier than planned.
    earlier: Arc<Notify>,
    /// How many environments' tasks there are.
    tasks: watch::Sender<usize>,
    /// The core's count of changes to what is provisioned.
    provisioned_changes: watch::Sender<u64>,
}

pub(crate) struct State {
    pub(crate) core: Core,
    environments: HashMap<EnvironmentId, mpsc::Sender<Command>>,
    /// Events that wait for an environment.
    jobs: HashMap<EventId, Box<Job>>,
    /// When the ticker will wake by itself.
    wake_at: Option<Instant>,
    /// When the host's memory was last looked at.
    memory_read_at: Option<Instant>,
    /// When it was last told that the host is short of something.
    shortage_told_at: Option<Instant>,
}

impl Shell {
    pub(crate) fn start(options: Options) -> Arc<Self> {
        let Options { sandbox, catalog, ledger, logs, endpoint, clock, network, limits, memory } = options;
        let places = limits.max_environments.min(sandbox.most_environments());
        let limits = Limits { max_environments: places, ..limits };
        let state = State {
            core: Core::new(limits.clone()),
            environments: HashMap::new(),
            jobs: HashMap::new(),
            wake_at: None,
            memory_read_at: None,
            shortage_told_at: None,
        };
        let shell = Arc::new(Self {
            images: Images::new(Arc::clone(&sandbox)),
            sandbox,
            catalog,
            ledger,
            logs,
            endpoint,
            clock,
            network,
            limits,
            memory,
            state: Mutex::new(state),
            earlier: Arc::new(Notify::new()),
            tasks: watch::Sender::new(0),
            provisioned_changes: watch::Sender::new(0),
        });
        tokio::spawn(tick(Arc::downgrade(&shell), Arc::clone(&shell.earlier)));
        shell
    }

    /// How many environments' tasks there are.
    pub(crate) fn tasks(&self) -> watch::Receiver<usize> {
        self.tasks.subscribe()
    }

    /// The core's count of changes to what is provisioned.
    pub(crate) fn provisioned_changes(&self) -> watch::Receiver<u64> {
        self.provisioned_changes.subscribe()
    }

    /// A starting environment has ended its Init phase.
    pub(crate) fn init_ended(self: &Arc<Self>, id: EnvironmentId, init: Init) {
        self.input(|core, now| core.init_ended(now, id, init));
    }

    /// An environment could not be made: an event hears why.
    pub(crate) fn start_failed(self: &Arc<Self>, id: EnvironmentId, error: InvokeError) {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        state.core.start_failed(now, id, &error.to_string());
        self.carry_out(&mut state, now, Some(error));
    }

    /// An environment has answered its event, and was seen to use so much memory.
    pub(crate) fn answered(self: &Arc<Self>, id: EnvironmentId, memory_mib: u32) {
        self.input(|core, now| {
            if memory_mib > 0 {
                core.used(id, u64::from(memory_mib));
            }
            core.answered(now, id);
        });
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

    /// Takes an event in; its outcome comes later, unless it is refused at once.
    pub(crate) fn submit(
        self: &Arc<Self>,
        version: &Arc<FunctionVersion>,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<Outcome, InvokeError>>, InvokeError> {
        let (reply, outcome) = oneshot::channel();
        let mut state = self.lock();
        let now = self.clock.monotonic();
        self.look_at_memory(&mut state, now);
        let target = event.invoked_arn.as_str();
        let arrival = Arrival { version, target, tenant: event.tenant_id.as_deref() };
        let arrived = state.core.arrive(now, arrival);
        if let Ok(id) = arrived {
            state.jobs.insert(id, Box::new(Job { id, event, reply, waited: false, attempts: 0 }));
        }
        self.carry_out(&mut state, now, None);
        arrived.map(|_| outcome).map_err(|rejection| state.refusal(now, rejection, None))
    }

    /// Tells the core what memory there is, if the last look was some time ago.
    fn look_at_memory(&self, state: &mut State, now: Instant) {
        let fresh = |at: Instant| now.saturating_duration_since(at) < MEMORY_INTERVAL;
        if state.memory_read_at.is_some_and(fresh) {
            return;
        }
        state.memory_read_at = Some(now);
        if let Some(memory) = (self.memory)() {
            state.core.memory(now, memory);
        }
    }

    /// Tells the core something.
    pub(crate) fn input(self: &Arc<Self>, input: impl FnOnce(&mut Core, Instant)) {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        input(&mut state.core, now);
        self.carry_out(&mut state, now, None);
    }

    /// What the core knows. Held for a moment at a time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the core is one input's; what it left behind is used on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the core asks for. Nothing here waits.
    fn carry_out(self: &Arc<Self>, state: &mut State, now: Instant, error: Option<InvokeError>) {
        loop {
            // Environments that ended before they got what was for them: told to the core afterwards.
            let (mut lost, mut rejected) = (Vec::new(), Vec::new());
            let State { core, environments, jobs, .. } = &mut *state;
            for action in core.take_actions() {
                match action {
                    Action::Start { environment, version, purpose } => {
                        let sender = environment::spawn(self, environment, version, purpose);
                        environments.insert(environment, sender);
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
                        if let Some(job) = jobs.remove(&event) {
                            rejected.push((job, rejection));
                        }
                    }
                }
            }
            for (job, rejection) in rejected {
                // A caller that has gone does not wait for the error.
                let _ = job.reply.send(Err(state.refusal(now, rejection, error.clone())));
            }
            if lost.is_empty() {
                break;
            }
            for (environment, job) in lost {
                state.lost(now, environment, Some(job));
            }
        }
        self.provisioned_changes.send_if_modified(|told| {
            let changes = state.core.provisioned_changes();
            std::mem::replace(told, changes) != changes
        });
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

    fn refusal(&mut self, now: Instant, rejection: Rejection, error: Option<InvokeError>) -> InvokeError {
        match rejection {
            Rejection::Throttled(reason) => InvokeError::Throttled(reason),
            Rejection::Short(shortage) => {
                self.tell(now, shortage);
                // AWS never runs out of machines; to its clients this is a limit like that of the account.
                InvokeError::Throttled(ThrottleReason::Concurrency)
            }
            Rejection::Stopping => InvokeError::Stopping,
            Rejection::Failed(_) => error.unwrap_or_else(ended_unexpectedly),
        }
    }

    /// Says why events are throttled, not for each of them.
    fn tell(&mut self, now: Instant, shortage: Shortage) {
        let lately = |at: Instant| now.saturating_duration_since(at) < SHORTAGE_INTERVAL;
        if self.shortage_told_at.is_some_and(lately) {
            return;
        }
        self.shortage_told_at = Some(now);
        let environments = self.core.environments();
        match shortage {
            Shortage::Memory => tracing::warn!(
                environments,
                "events are throttled: this host is short of memory for more environments, and none is idle"
            ),
            Shortage::Places => tracing::warn!(
                environments,
                "events are throttled: there are as many environments as may be, and none is idle"
            ),
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

pub(crate) fn ended_unexpectedly() -> InvokeError {
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
            if state.core.environments() > 0 {
                shell.look_at_memory(&mut state, now);
            }
            state.core.tick(now);
            // While there are environments, memory is looked at every now and then.
            let look = (state.core.environments() > 0).then(|| now + MEMORY_INTERVAL);
            state.wake_at = [state.core.next_tick(), look].into_iter().flatten().min();
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
