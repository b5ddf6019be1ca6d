//! [`NamespaceSandbox`]: environments out of Linux namespaces and cgroups, made by the helper process.
//!
//! Starting and ending go through the helper. Freezing, thawing and reading the peak of memory do not: the server holds the
//! control files' descriptors, which the helper opened, so it needs no right of its own and no round trip.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::cgroup::group::number;
use crate::client::{Client, Pending, Started, State};
use crate::helper::HELPER_ARGUMENT;
use crate::image::Image;
use crate::message::{Answer, Beginning, FileEntry, FreezeKind, Order, Request};
use crate::options::{ENVIRONMENTS_MAX, Options};
use crate::packet::{Received, receive, send};
use crate::spec::{self, Channels, CompanionExits, Environment, Exit, Sandbox, SandboxError, Spec};
use crate::system::read_small;

mod check;
mod link;

use self::link::Link;

/// How long the helper may take for its preparations and its trial environment, in seconds; normally some 50 ms. It waits up to
/// 12 s for a predecessor that is still cleaning up.
const GREETING_TIME_S: i64 = 30;
/// How long an orderly end may take before the helper is left to its own end.
const SHUTDOWN_TIME: Duration = Duration::from_secs(15);
/// How long processes may take to be frozen: one that is in the kernel freezes when it leaves it.
const FREEZE_TIME: Duration = Duration::from_secs(2);
/// Between two looks whether they are.
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// How long a start waits for the place of an environment that is being removed: many times what that takes.
const PLACE_TIME: Duration = Duration::from_secs(2);

/// Makes environments through its helper process. Dropping it, with all environments, ends the helper and removes everything.
pub struct NamespaceSandbox {
    link: Arc<Link>,
    options: Options,
    permits: Arc<Semaphore>,
}

impl NamespaceSandbox {
    /// Starts the helper and has it prove, by a trial environment, that this host can do what is configured. Blocks for some
    /// 50 ms; must be called within a tokio runtime.
    pub fn start(options: Options) -> Result<Arc<NamespaceSandbox>, SandboxError> {
        if options.max_environments == 0 || options.max_environments + options.pool > ENVIRONMENTS_MAX {
            let text = format!(
                "the number of environments and of ready ones must lie between 1 and {ENVIRONMENTS_MAX}"
            );
            return Err(SandboxError::Unsupported(text));
        }
        let client = connect(&options)?;
        let permits = Arc::new(Semaphore::new(options.max_environments));
        let link = Link::new(client, options.clone());
        Ok(Arc::new(NamespaceSandbox { link, options, permits }))
    }

    /// Ends and removes every environment and the helper. Returns when nothing is left, or after 15 s.
    pub async fn shutdown(&self) {
        if tokio::time::timeout(SHUTDOWN_TIME, self.link.shutdown()).await.is_err() {
            tracing::error!("the sandbox helper did not end in time");
        }
    }

    /// Waits until no environment can be made any more: after [`shutdown`](Self::shutdown), or when the helper has died and
    /// cannot be started again.
    pub async fn ended(&self) {
        self.link.ended().await;
    }
}

/// Starts a helper, which first removes what an earlier one may have left, and waits until it is ready. Blocks.
fn connect(options: &Options) -> Result<Arc<Client>, SandboxError> {
    let failed = |step: &'static str| {
        move |error: io::Error| SandboxError::Failed {
            name: "helper".to_owned(),
            step,
            reason: error.to_string(),
        }
    };
    let (socket, mut helper) = spawn().map_err(failed("start the process of"))?;
    if let Err(error) = greet(&socket, options) {
        drop(socket);
        let _ = helper.kill();
        let _ = helper.wait();
        return Err(error);
    }
    let client = Client::new(socket, helper).map_err(failed("talk to the process of"))?;
    Ok(Arc::new(client))
}

fn spawn() -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let helper = Command::new("/proc/self/exe")
        .arg0("freehold")
        .arg(HELPER_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((ours, helper))
}

fn greet(socket: &OwnedFd, options: &Options) -> Result<(), SandboxError> {
    let gone = |error: nix::errno::Errno| SandboxError::Failed {
        name: "helper".to_owned(),
        step: "greet the process of",
        reason: error.desc().to_owned(),
    };
    setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::new(GREETING_TIME_S, 0)).map_err(gone)?;
    send(socket.as_fd(), &Request::Hello(options.clone()), &[], MsgFlags::empty()).map_err(gone)?;
    match receive::<Answer>(socket.as_fd(), MsgFlags::empty()).map_err(gone)? {
        Received::Packet(Answer::Ready, _) => Ok(()),
        Received::Packet(Answer::Refused { reason }, _) => Err(SandboxError::Unsupported(reason)),
        Received::Nothing => Err(gone(nix::errno::Errno::ETIMEDOUT)),
        Received::Packet(..) | Received::Closed => Err(SandboxError::HelperGone),
    }
}

#[async_trait]
impl Sandbox for NamespaceSandbox {
    fn has_images(&self) -> bool {
        cfg!(target_arch = "x86_64")
    }

    async fn start(&self, spec: Spec) -> Result<(Arc<dyn Environment>, Channels), SandboxError> {
        check::check(&spec, &self.options)?;
        let client = self.link.client().await?;
        match self.start_with(&client, &spec).await {
            // Its helper died on the way.
            Err(SandboxError::HelperGone) => {
                let client = self.link.after(&client).await?;
                self.start_with(&client, &spec).await
            }
            result => result,
        }
    }

    fn most_environments(&self) -> usize {
        self.options.max_environments
    }
}

impl NamespaceSandbox {
    async fn start_with(
        &self,
        client: &Arc<Client>,
        spec: &Spec,
    ) -> Result<(Arc<dyn Environment>, Channels), SandboxError> {
        let failed = |reason: String| SandboxError::Failed { name: spec.name.clone(), step: "start", reason };
        // One that was stopped a moment ago may still be on its way out.
        let place = tokio::time::timeout(PLACE_TIME, self.permits.clone().acquire_owned()).await;
        let permit = place.ok().and_then(Result::ok).ok_or_else(|| {
            failed(format!(
                "{} environments exist already, the configured most",
                self.options.max_environments
            ))
        })?;
        let content = content(spec).map_err(|error| failed(format!("cannot pass its files on: {error}")))?;
        let (id, Pending { started, captured, state }) = client.expect(spec, permit)?;
        let guard = Guard { client: client.clone(), id, armed: true };
        client.request(Request::Start(Box::new(order(id, spec))), content);
        let started = started.await.unwrap_or(Err(SandboxError::HelperGone));
        let Started { freeze_kind, freeze, peak, output, mut listeners } = match started {
            Ok(started) => started,
            Err(error) => {
                guard.disarm();
                return Err(error);
            }
        };
        let companions = !spec.companions.programs.is_empty();
        let companions_output = if companions { listeners.pop() } else { None };
        let channels = Channels { listeners, output, companions_output };
        for file in channels.listeners.iter().chain([&channels.output]).chain(&channels.companions_output) {
            set_non_blocking(file).map_err(|error| failed(error.to_string()))?;
        }
        let environment = NamespaceEnvironment {
            name: spec.name.clone(),
            peak,
            state,
            captured: tokio::sync::Mutex::new(captured),
            freezer: tokio::sync::Mutex::new(Freezer { kind: freeze_kind, files: freeze }),
            companions,
            guard,
        };
        Ok((Arc::new(environment), channels))
    }
}

fn set_non_blocking(file: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

fn order(id: u64, spec: &Spec) -> Order {
    let files = spec.files.iter().map(|(path, content, executable)| FileEntry {
        path: path.clone(),
        length: content.len(),
        executable: *executable,
    });
    Order {
        id,
        name: spec.name.clone(),
        mounts: spec.mounts.clone(),
        files: files.collect(),
        beginning: match spec.beginning {
            spec::Beginning::Program => Beginning::Program,
            spec::Beginning::Template => Beginning::Template,
            spec::Beginning::Copy(_) => Beginning::Copy,
        },
        program: spec.program.clone(),
        arguments: spec.arguments.clone(),
        variables: spec.variables.clone(),
        working_directory: spec.working_directory.clone(),
        memory_mib: spec.memory_mib,
        tmp_mib: spec.tmp_mib,
        cpu_millis: spec.cpu_millis,
        network: spec.network,
        listeners: spec.listeners.clone(),
        companions: spec.companions.clone(),
    }
}

/// The files' content, one after the other, in memory that can be passed on; then an image's memory and stub.
fn content(spec: &Spec) -> io::Result<Vec<OwnedFd>> {
    use std::io::{Seek, Write};
    let mut descriptors = Vec::new();
    if !spec.files.is_empty() {
        let mut file = std::fs::File::from(memfd_create("files", MFdFlags::MFD_CLOEXEC)?);
        for (_, content, _) in &spec.files {
            file.write_all(content)?;
        }
        file.rewind()?;
        descriptors.push(file.into());
    }
    if let spec::Beginning::Copy(image) = &spec.beginning {
        descriptors.extend([image.memory.try_clone()?, image.stub.try_clone()?]);
    }
    Ok(descriptors)
}

/// Has an environment removed when it is dropped.
struct Guard {
    client: Arc<Client>,
    id: u64,
    armed: bool,
}

impl Guard {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.client.request(Request::Kill { id: self.id }, Vec::new());
        }
    }
}

/// One running environment.
struct NamespaceEnvironment {
    name: String,
    peak: Option<OwnedFd>,
    state: watch::Receiver<State>,
    captured: tokio::sync::Mutex<oneshot::Receiver<Result<Image, String>>>,
    freezer: tokio::sync::Mutex<Freezer>,
    companions: bool,
    guard: Guard,
}

/// The control files: `cgroup.freeze` and `cgroup.events`, or `freezer.state`.
struct Freezer {
    kind: FreezeKind,
    files: Vec<OwnedFd>,
}

impl Freezer {
    fn set(&self, frozen: bool) -> io::Result<()> {
        let (file, value): (_, &[u8]) = match (self.kind, frozen) {
            (FreezeKind::V2, true) => (self.files.first(), b"1"),
            (FreezeKind::V2, false) => (self.files.first(), b"0"),
            (FreezeKind::V1, true) => (self.files.first(), b"FROZEN"),
            (FreezeKind::V1, false) => (self.files.first(), b"THAWED"),
            // Done without, as was said by name: without that the helper had refused.
            (FreezeKind::None, _) => return Ok(()),
        };
        let file = file.ok_or_else(|| io::Error::other("this host has no freezer"))?;
        nix::unistd::write(file, value)?;
        Ok(())
    }

    fn is_frozen(&self) -> io::Result<bool> {
        let Some(file) = self.files.last() else { return Ok(true) };
        let text = read_small(file.as_fd())?;
        Ok(text.lines().any(|line| line == "frozen 1" || line == "FROZEN"))
    }
}

impl NamespaceEnvironment {
    fn has_exited(&self) -> bool {
        self.state.borrow().exit.is_some()
    }

    fn failed(&self, step: &'static str, error: &dyn std::fmt::Display) -> SandboxError {
        SandboxError::Failed { name: self.name.clone(), step, reason: error.to_string() }
    }

    async fn wait_for(&self, wanted: impl FnMut(&State) -> bool) -> State {
        // The sender sets both fields before it goes.
        let mut state = self.state.clone();
        match state.wait_for(wanted).await {
            Ok(state) => *state,
            Err(_) => State { exit: Some(Exit::Killed), removed: true, ..State::default() },
        }
    }
}

#[async_trait]
impl Environment for NamespaceEnvironment {
    async fn freeze(&self) -> Result<(), SandboxError> {
        let freezer = self.freezer.lock().await;
        let deadline = tokio::time::Instant::now() + FREEZE_TIME;
        let mut result = freezer.set(true);
        while result.is_ok() {
            match freezer.is_frozen() {
                Ok(true) => return Ok(()),
                Ok(false) if tokio::time::Instant::now() < deadline => tokio::time::sleep(FREEZE_PAUSE).await,
                Ok(false) => result = Err(io::ErrorKind::TimedOut.into()),
                Err(error) => result = Err(error),
            }
            if self.has_exited() {
                return Ok(());
            }
        }
        match result {
            Err(error) if !self.has_exited() => Err(self.failed("freeze", &error)),
            _ => Ok(()),
        }
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        match self.freezer.lock().await.set(false) {
            Err(error) if !self.has_exited() => Err(self.failed("thaw", &error)),
            _ => Ok(()),
        }
    }

    async fn capture(&self) -> Result<Arc<Image>, SandboxError> {
        let refused = |reason: String| SandboxError::NotCaptured { name: self.name.clone(), reason };
        match (&mut *self.captured.lock().await).await {
            Ok(captured) => captured.map(Arc::new).map_err(refused),
            Err(_) => Err(refused("it ended before it was at its gate".to_owned())),
        }
    }

    fn memory_peak_bytes(&self) -> u64 {
        let state = *self.state.borrow();
        match &self.peak {
            Some(peak) if state.exit.is_none() => number(peak.as_fd()),
            _ => state.peak_bytes,
        }
    }

    async fn stop(&self, grace: Duration) {
        if !self.has_exited() && !grace.is_zero() {
            // A frozen program could not hear of it.
            let _ = self.thaw().await;
            self.guard.client.request(Request::Terminate { id: self.guard.id }, Vec::new());
            let _ = tokio::time::timeout(grace, self.wait_for(|state| state.exit.is_some())).await;
        }
        self.guard.client.request(Request::Kill { id: self.guard.id }, Vec::new());
        self.wait_for(|state| state.removed).await;
    }

    async fn exited(&self) -> Exit {
        self.wait_for(|state| state.exit.is_some()).await.exit.unwrap_or(Exit::Killed)
    }

    async fn proceed(&self) -> Result<(), SandboxError> {
        if !self.companions {
            return Ok(());
        }
        let done = self.guard.client.proceed(self.guard.id);
        done.await.unwrap_or(Err(SandboxError::HelperGone))
    }

    async fn companions_ended(&self, known: usize) -> CompanionExits {
        let ended = |state: &State| state.companions.iter().flatten().count() > known || state.removed;
        self.wait_for(ended).await.companions
    }

    fn terminate(&self) {
        self.guard.client.request(Request::Terminate { id: self.guard.id }, Vec::new());
    }

    async fn socket(&self) -> Result<OwnedFd, SandboxError> {
        let made = self.guard.client.socket(self.guard.id);
        match made.await {
            Ok(Some(socket)) => Ok(socket),
            Ok(None) => Err(self.failed("make a socket of", &"it was refused")),
            Err(_) => Err(self.failed("make a socket of", &"it has ended")),
        }
    }
}
