//! The server's end of the helper's socket.
//!
//! One task reads answers and hands them to whoever waits; one sends requests, so that a request can be made from anywhere, also
//! from `drop`. When the last [`Client`] is dropped the socket is shut down, which ends the helper and everything it made.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{MsgFlags, Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::image::Image;
use crate::message::{Answer, EXECUTE, EXECUTE_COMPANION, FreezeKind, Request};
use crate::packet::{Received, receive, send};
use crate::spec::{CompanionExits, Exit, SandboxError, Spec};

/// What the server knows of an environment's end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    pub(crate) exit: Option<Exit>,
    pub(crate) peak_bytes: u64,
    pub(crate) companions: CompanionExits,
    /// Nothing is left of it.
    pub(crate) removed: bool,
}

/// What comes with a started environment.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) freeze_kind: FreezeKind,
    pub(crate) freeze: Vec<OwnedFd>,
    pub(crate) peak: Option<OwnedFd>,
    pub(crate) output: OwnedFd,
    pub(crate) listeners: Vec<OwnedFd>,
}

/// How the helper process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It works.
    Alive,
    /// It has removed everything and ended.
    Ended,
    /// Something ended it.
    Died,
}

struct Entry {
    name: String,
    program: PathBuf,
    companions: Vec<PathBuf>,
    started: Option<oneshot::Sender<Result<Started, SandboxError>>>,
    captured: Option<oneshot::Sender<Result<Image, String>>>,
    state: watch::Sender<State>,
    permit: OwnedSemaphorePermit,
    proceeded: Option<oneshot::Sender<Result<(), SandboxError>>>,
    /// Who waits for a socket: one is as good as another.
    sockets: VecDeque<oneshot::Sender<Option<OwnedFd>>>,
}

impl Entry {
    /// Why a start came to nothing.
    fn error(&self, step: String, reason: String) -> SandboxError {
        let name = self.name.clone();
        if step == EXECUTE {
            return SandboxError::NotExecutable { name, program: self.program.clone(), reason };
        }
        if step == EXECUTE_COMPANION
            && let Some((index, reason)) = reason.split_once(' ')
            && let Some(program) = index.parse().ok().and_then(|index: usize| self.companions.get(index))
        {
            let (program, reason) = (program.clone(), reason.to_owned());
            return SandboxError::CompanionNotExecutable { name, program, reason };
        }
        SandboxError::Failed { name, step: "start", reason: format!("{reason} ({step})") }
    }

    /// Tells that nothing is left of it. Its place is free before anybody hears of that.
    fn end(self) -> Option<oneshot::Sender<Result<Started, SandboxError>>> {
        let Entry { started, state, permit, .. } = self;
        drop(permit);
        state.send_modify(|state| {
            state.exit.get_or_insert(Exit::Killed);
            state.removed = true;
        });
        started
    }
}

type Entries = Arc<Mutex<HashMap<u64, Entry>>>;

/// Sends requests and knows who waits for which answer.
pub(crate) struct Client {
    socket: Arc<AsyncFd<OwnedFd>>,
    requests: mpsc::UnboundedSender<(Request, Vec<OwnedFd>)>,
    entries: Entries,
    next: AtomicU64,
    life: watch::Receiver<Life>,
}

/// A started or failed attempt, and what follows it.
pub(crate) struct Pending {
    pub(crate) started: oneshot::Receiver<Result<Started, SandboxError>>,
    /// The image of a template, or why there is none.
    pub(crate) captured: oneshot::Receiver<Result<Image, String>>,
    pub(crate) state: watch::Receiver<State>,
}

impl Client {
    /// Takes over a socket on which the greeting is done. Needs a tokio runtime.
    pub(crate) fn new(socket: OwnedFd, helper: Child) -> io::Result<Client> {
        // SAFETY: an owned descriptor stays the same and open for as long as it is owned, here by the registration.
        let socket = Arc::new(unsafe { AsyncFd::register(socket) }?);
        // Bounded by what makes requests: at most a handful per environment.
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (tell, life) = watch::channel(Life::Alive);
        let entries = Entries::default();
        tokio::spawn(write(socket.clone(), outgoing));
        tokio::spawn(read(socket.clone(), entries.clone(), helper, tell));
        Ok(Client { socket, requests, entries, next: AtomicU64::new(1), life })
    }

    /// A number for a new environment, whose answers are awaited from now on.
    pub(crate) fn expect(
        &self,
        spec: &Spec,
        permit: OwnedSemaphorePermit,
    ) -> Result<(u64, Pending), SandboxError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (started, is_started) = oneshot::channel();
        let (captured, is_captured) = oneshot::channel();
        let (state, states) = watch::channel(State::default());
        let (name, program) = (spec.name.clone(), spec.program.clone());
        let entry = Entry {
            name,
            program,
            companions: spec.companions.programs.clone(),
            started: Some(started),
            captured: Some(captured),
            state,
            permit,
            proceeded: None,
            sockets: VecDeque::new(),
        };
        let mut entries = lock(&self.entries);
        // Under the lock: the reader sets this before it drops what waits.
        if *self.life.borrow() != Life::Alive {
            return Err(SandboxError::HelperGone);
        }
        entries.insert(id, entry);
        Ok((id, Pending { started: is_started, captured: is_captured, state: states }))
    }

    /// Sends a request, soon. A helper that is gone is noticed by the answers.
    pub(crate) fn request(&self, request: Request, descriptors: Vec<OwnedFd>) {
        let _ = self.requests.send((request, descriptors));
    }

    /// Has an environment start its program. The answer is an error of the channel if the environment has ended.
    pub(crate) fn proceed(&self, id: u64) -> oneshot::Receiver<Result<(), SandboxError>> {
        let (tell, done) = oneshot::channel();
        if let Some(entry) = lock(&self.entries).get_mut(&id) {
            entry.proceeded = Some(tell);
        }
        self.request(Request::Proceed { id }, Vec::new());
        done
    }

    /// Has an environment make a socket. The answer is an error of the channel if the environment has ended.
    pub(crate) fn socket(&self, id: u64) -> oneshot::Receiver<Option<OwnedFd>> {
        let (tell, made) = oneshot::channel();
        if let Some(entry) = lock(&self.entries).get_mut(&id) {
            entry.sockets.push_back(tell);
        }
        self.request(Request::Socket { id }, Vec::new());
        made
    }

    /// The helper's life, to be followed.
    pub(crate) fn life(&self) -> watch::Receiver<Life> {
        self.life.clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Both);
    }
}

fn lock(entries: &Entries) -> std::sync::MutexGuard<'_, HashMap<u64, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(
    socket: Arc<AsyncFd<OwnedFd>>,
    mut outgoing: mpsc::UnboundedReceiver<(Request, Vec<OwnedFd>)>,
) {
    while let Some((request, descriptors)) = outgoing.recv().await {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        loop {
            let Ok(mut ready) = socket.writable().await else { return };
            let result = ready
                .try_io(|socket| Ok(send(socket.as_fd(), &request, &descriptors, MsgFlags::MSG_DONTWAIT)?));
            match result {
                Ok(Ok(())) => break,
                // The reader notices that the helper is gone; a request that is too large was refused before.
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
    }
}

async fn read(socket: Arc<AsyncFd<OwnedFd>>, entries: Entries, mut helper: Child, life: watch::Sender<Life>) {
    loop {
        let Ok(mut ready) = socket.readable().await else { break };
        let result =
            ready.try_io(|socket| match receive::<Answer>(socket.as_fd(), MsgFlags::MSG_DONTWAIT)? {
                Received::Packet(answer, descriptors) => Ok(Some((answer, descriptors))),
                Received::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                Received::Closed => Ok(None),
            });
        match result {
            Ok(Ok(Some((answer, descriptors)))) => handle(&entries, answer, descriptors),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                tracing::error!(%error, "the sandbox helper cannot be understood");
                break;
            }
            Err(_) => {}
        }
    }
    // Also on an error: the helper must not go on without anybody who listens.
    let _ = shutdown(socket.get_ref().as_raw_fd(), Shutdown::Both);
    let waited = tokio::task::spawn_blocking(move || helper.wait()).await;
    tracing::debug!(status = ?waited, "the sandbox helper has ended");
    let in_order = matches!(&waited, Ok(Ok(status)) if status.success());
    let mut entries = lock(&entries);
    life.send_replace(if in_order { Life::Ended } else { Life::Died });
    for (_, entry) in entries.drain() {
        if let Some(started) = entry.end() {
            let _ = started.send(Err(SandboxError::HelperGone));
        }
    }
}

fn handle(entries: &Entries, answer: Answer, descriptors: Vec<OwnedFd>) {
    let mut entries = lock(entries);
    match answer {
        Answer::Started { id, freeze, has_peak } => {
            let Some(entry) = entries.get_mut(&id) else { return };
            let Some(started) = entry.started.take() else { return };
            let result = sort(freeze, has_peak, descriptors).ok_or_else(|| SandboxError::Failed {
                name: entry.name.clone(),
                step: "receive",
                reason: "descriptors are missing".to_owned(),
            });
            // Nobody there any more: the guard of the dropped future has asked to kill it.
            let _ = started.send(result);
        }
        Answer::Failed { id, step, reason } => {
            let Some(entry) = entries.remove(&id) else { return };
            let error = entry.error(step, reason);
            if let Some(started) = entry.end() {
                let _ = started.send(Err(error));
            }
        }
        Answer::Captured { id, bytes } => {
            let captured = entries.get_mut(&id).and_then(|entry| entry.captured.take());
            let mut descriptors = descriptors.into_iter();
            if let (Some(captured), Some(memory), Some(stub)) =
                (captured, descriptors.next(), descriptors.next())
            {
                // Nobody there any more: the image goes too.
                let _ = captured.send(Ok(Image { memory, stub, bytes }));
            }
        }
        Answer::NotCaptured { id, reason } => {
            if let Some(captured) = entries.get_mut(&id).and_then(|entry| entry.captured.take()) {
                let _ = captured.send(Err(reason));
            }
        }
        Answer::Proceeded { id, failure } => {
            let Some(entry) = entries.get_mut(&id) else { return };
            let Some(proceeded) = entry.proceeded.take() else { return };
            let result = failure.map_or(Ok(()), |(step, reason)| Err(entry.error(step, reason)));
            let _ = proceeded.send(result);
        }
        Answer::CompanionEnded { id, index, exit } => {
            if let Some(entry) = entries.get(&id) {
                entry.state.send_modify(|state| {
                    if let Some(companion) = state.companions.get_mut(index) {
                        companion.get_or_insert(exit);
                    }
                });
            }
        }
        Answer::Socket { id } => {
            let Some(entry) = entries.get_mut(&id) else { return };
            let Some(waiting) = entry.sockets.pop_front() else { return };
            let _ = waiting.send(descriptors.into_iter().next());
        }
        Answer::Exited { id, exit, peak_bytes } => {
            if let Some(entry) = entries.get(&id) {
                entry.state.send_modify(|state| {
                    state.exit.get_or_insert(exit);
                    state.peak_bytes = peak_bytes;
                });
            }
        }
        Answer::Removed { id } => {
            if let Some(entry) = entries.remove(&id) {
                entry.end();
            }
        }
        Answer::Ready | Answer::Refused { .. } => {}
    }
}

fn sort(freeze_kind: FreezeKind, has_peak: bool, descriptors: Vec<OwnedFd>) -> Option<Started> {
    let mut descriptors = descriptors.into_iter();
    let output = descriptors.next()?;
    let count = match freeze_kind {
        FreezeKind::V2 => 2,
        FreezeKind::V1 => 1,
        FreezeKind::None => 0,
    };
    let freeze: Vec<_> = descriptors.by_ref().take(count).collect();
    let peak = if has_peak { Some(descriptors.next()?) } else { None };
    (freeze.len() == count).then(|| Started {
        freeze_kind,
        freeze,
        peak,
        output,
        listeners: descriptors.collect(),
    })
}
