//! The environments, and what happens to each.
//!
//! ```text
//! Making --blank--> Blank --start--> Starting --started--> Running --exited, killed--> Ending --> (gone)
//!    \----------------\------------------\--- failed, died ------------------------------^
//! ```
//!
//! An environment is gone when its processes are reaped and its cgroups removed; only then is the server told `Failed` or
//! `Removed`, so that either means that nothing is left. This part does no waiting: [`super::events`] tells it what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use super::census::Census;
use super::entry::{Entry, Handles, Kind, Stage};
use super::maker::Plan;
use super::nursery::Nursery;
use super::pool::Pool;
use super::stage::PLAIN;
use super::{Context, capture};
use crate::cgroup::HandleKinds;
use crate::cgroup::group::{kills_for_memory, paths, peak_bytes};
use crate::message::{Answer, Command, Order, Report};
use crate::network::Internet;
use crate::options::ENVIRONMENTS_MAX;
use crate::packet::send;
use crate::spec::{Exit, Network};
use crate::system::{open_tree, restrict_tree};

/// Blanks that are being made at the same time: most of that time the kernel lets them wait for its grace periods.
const MAKERS_MAX: usize = 32;
/// The same ahead of need, while nobody waits for an environment.
const REFILLING_MAX: usize = 4;
/// The same while others are being started, which have the processors before it.
const REFILLING_BESIDE_MAX: usize = 1;

/// An order that waits for a blank.
struct Waiting {
    order: Box<Order>,
    /// The files' content, an image's memory and stub: what there is of them.
    content: Vec<OwnedFd>,
}

/// What the event loop must do after a call.
pub(crate) enum Watch {
    /// Wait for this descriptor too: an environment's socket.
    Control(usize),
    /// Wait for this descriptor too: an environment's memory event.
    Memory(usize),
    /// Wait for this descriptor too: the socket of what captures it.
    Capture(usize),
}

/// All environments.
pub(crate) struct Table {
    context: Context,
    census: Census,
    pool: Pool,
    nursery: Option<Nursery>,
    /// Each slot's user's namespace, once made: the next environment of that user gets it too.
    namespaces: BTreeMap<usize, OwnedFd>,
    /// Oldest first.
    waiting: BTreeMap<Kind, VecDeque<Waiting>>,
    waiting_ids: HashMap<u64, Kind>,
    /// Children that ended before the nursery told who they are.
    unknown: BTreeSet<i32>,
    serial: u64,
    /// The number of the next pair of interfaces.
    next_link: u32,
    ready_told: bool,
    /// Why the last blank could not be made; none are made ahead of need until an order asks again.
    pool_paused: bool,
    closing: bool,
    /// Answers to the server, in order.
    pub(crate) answers: Vec<(Answer, Vec<OwnedFd>)>,
    /// Descriptors to be waited for.
    pub(crate) watches: Vec<Watch>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(context: Context) -> Table {
        Table {
            census: Census::default(),
            pool: Pool::new(context.options.pool, context.options.max_environments),
            context,
            nursery: None,
            namespaces: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_ids: HashMap::new(),
            unknown: BTreeSet::new(),
            serial: 0,
            next_link: 0,
            ready_told: false,
            pool_paused: false,
            closing: false,
            answers: Vec::new(),
            watches: Vec::new(),
        }
    }

    /// The server wants an environment.
    pub(crate) fn start(&mut self, order: Box<Order>, content: Vec<OwnedFd>) {
        self.pool_paused = false;
        let kind = Kind::of(&order);
        let waiting = Waiting { order, content };
        if let Some(slot) = self.census.blank(kind) {
            return self.give(slot, waiting);
        }
        if kind == Kind::usual(&self.context.options) {
            self.pool.missed(Instant::now());
        }
        self.waiting_ids.insert(waiting.order.id, kind);
        self.waiting.entry(kind).or_default().push_back(waiting);
        self.make_missing();
    }

    /// The server wants something of an environment's init.
    pub(crate) fn pass_on(&mut self, id: u64, command: &Command) {
        let control = self.census.find(id).and_then(|slot| self.control(slot));
        // A full socket means that the init is frozen and has been asked often enough.
        let sent = control
            .is_some_and(|control| send(control.as_fd(), command, &[], MsgFlags::MSG_DONTWAIT).is_ok());
        if !sent && matches!(command, Command::Socket) {
            self.answers.push((Answer::Socket { id }, vec![]));
        }
    }

    /// The server wants an environment, or the order for one, to be gone.
    pub(crate) fn kill(&mut self, id: u64) {
        if let Some(kind) = self.waiting_ids.remove(&id) {
            let queue = self.waiting.entry(kind).or_default();
            queue.retain(|waiting| waiting.order.id != id);
            if queue.is_empty() {
                self.waiting.remove(&kind);
            }
            self.answers.push((Answer::Removed { id }, vec![]));
        } else if let Some(slot) = self.census.find(id) {
            self.tell_exit(slot, Exit::Killed);
            self.end(slot);
        }
    }

    /// The server is gone or wants to stop: everything ends.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.waiting.clear();
        self.waiting_ids.clear();
        for slot in self.census.slots() {
            self.tell_exit(slot, Exit::Killed);
            self.end(slot);
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.census.is_empty()
    }

    /// Whether [`Self::sweep`] has something to try again soon.
    pub(crate) fn is_sweeping(&self) -> bool {
        !self.census.ended().is_empty()
    }

    /// When [`Self::refill`] has something to do even if nothing happens.
    pub(crate) fn next_review(&self) -> Option<Instant> {
        self.pool.next_review()
    }

    /// The way to the internet, if environments have one.
    pub(crate) fn internet(&self) -> Option<&Internet> {
        self.context.internet.as_ref()
    }

    /// An environment's socket.
    pub(crate) fn control(&self, slot: usize) -> Option<&OwnedFd> {
        self.census.get(slot)?.control.as_ref()
    }

    /// The socket of what captures an environment.
    pub(crate) fn capture(&self, slot: usize) -> Option<&OwnedFd> {
        self.census.get(slot)?.capture.as_ref()
    }

    /// An environment's memory event.
    pub(crate) fn memory_event(&self, slot: usize) -> Option<&OwnedFd> {
        self.census.get(slot)?.handles.as_ref()?.memory_event.as_ref()
    }

    /// Takes the oldest order of a kind.
    fn next_order(&mut self, kind: Kind) -> Option<Waiting> {
        let queue = self.waiting.get_mut(&kind)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&kind);
        }
        if let Some(waiting) = &next {
            self.waiting_ids.remove(&waiting.order.id);
        }
        next
    }

    /// Has made what orders wait for; the kind of which the fewest are being made comes first.
    fn make_missing(&mut self) {
        while self.census.making_all() < MAKERS_MAX {
            let behind =
                self.waiting.iter().map(|(kind, queue)| (self.census.making(*kind), queue.len(), *kind));
            let next = behind.filter(|(making, waiting, _)| making < waiting).min();
            let Some((_, _, kind)) = next else { return };
            if !self.has_room() {
                // A blank that nobody asked for makes room; its end comes back here.
                match self.census.any_blank() {
                    Some(surplus) => return self.end(surplus),
                    None if self.is_sweeping() => return,
                    None => {}
                }
            }
            if !self.make(kind) {
                return;
            }
        }
    }

    fn has_room(&self) -> bool {
        let limit = (self.context.options.max_environments + self.context.options.pool).min(ENVIRONMENTS_MAX);
        self.census.free_slot(limit).is_some()
    }

    /// Fills the pool, or lets go of what is surplus.
    pub(crate) fn refill(&mut self) {
        if self.closing {
            return;
        }
        let kind = Kind::usual(&self.context.options);
        self.pool.review(Instant::now(), self.census.ready(kind));
        while self.ready_told
            && self.census.ready(kind) > self.pool.target()
            && let Some(surplus) = self.census.blank(kind)
        {
            // The very first, which proves that everything works here, stays even without a pool.
            if self.pool.target() == 0 {
                break;
            }
            self.end(surplus);
        }
        if !self.waiting.is_empty() || self.pool_paused {
            return;
        }
        let wanted = if self.ready_told { self.pool.target() } else { self.pool.target().max(1) };
        let beside = match (self.ready_told, self.census.starting(), self.census.ready(kind)) {
            (false, ..) => 1,
            (_, 0, _) => REFILLING_MAX,
            (_, _, 0) => REFILLING_BESIDE_MAX,
            _ => 0,
        };
        while self.census.ready(kind) + self.census.making(kind) < wanted
            && self.census.making_all() < beside
            && self.has_room()
        {
            if !self.make(kind) {
                return;
            }
        }
    }

    /// Has a blank made. False where the host has no room for one: what waits is answered.
    fn make(&mut self, kind: Kind) -> bool {
        match self.try_make(kind) {
            Ok(()) => true,
            Err(error) => {
                self.making_failed(kind, "make".to_owned(), error.desc().to_owned());
                false
            }
        }
    }

    fn try_make(&mut self, kind: Kind) -> nix::Result<()> {
        let limit = (self.context.options.max_environments + self.context.options.pool).min(ENVIRONMENTS_MAX);
        let slot = self.census.free_slot(limit).ok_or(Errno::ENOSPC)?;
        self.serial += 1;
        let name = format!("e{}", self.serial);
        let link = match kind.network {
            Network::Isolated => None,
            Network::Internet => Some(self.free_link().ok_or(Errno::ENETUNREACH)?),
        };
        let user = self.context.users.of(slot);
        let plan = Plan { name: name.clone(), user, tmp_mib: kind.tmp_mib, link };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        self.order(&plan, theirs, slot)?;
        self.census.insert(slot, Entry::new(name, kind, link, ours));
        self.watches.push(Watch::Control(slot));
        Ok(())
    }

    /// Gives a plan to the nursery: to a new one, if it has ended.
    fn order(&mut self, plan: &Plan, control: OwnedFd, slot: usize) -> nix::Result<()> {
        let namespace = self.namespaces.get(&slot).map(AsFd::as_fd);
        if let Some(nursery) = &self.nursery
            && nursery.order(plan, control.as_fd(), namespace).is_ok()
        {
            return Ok(());
        }
        let nursery = self.nursery.insert(Nursery::start(&self.context)?);
        nursery.order(plan, control.as_fd(), namespace)
    }

    /// The number of a pair of interfaces that has not been used for long: the kernel may still be removing the last ones, and
    /// remember connections of their address.
    fn free_link(&mut self) -> Option<u32> {
        let count = self.context.internet.as_ref()?.range.environments() as u32;
        let link = (0..count)
            .map(|step| (self.next_link + step) % count)
            .find(|link| !self.census.has_link(*link))?;
        self.next_link = link + 1;
        Some(link)
    }

    /// A blank could not be made: the order that it was for fails, or the host is refused.
    fn making_failed(&mut self, kind: Kind, step: String, reason: String) {
        self.pool_paused = true;
        if !self.ready_told {
            let reason = format!("a trial environment failed: cannot {step} it: {reason}");
            self.answers.push((Answer::Refused { reason }, vec![]));
            self.ready_told = true;
        }
        if let Some(waiting) = self.next_order(kind) {
            self.answers.push((Answer::Failed { id: waiting.order.id, step, reason }, vec![]));
        }
    }

    /// Sends an order to a blank, with the mounts it names.
    fn give(&mut self, slot: usize, waiting: Waiting) {
        self.census.set_id(slot, waiting.order.id);
        if let Some(entry) = self.census.get_mut(slot) {
            entry.companions = !waiting.order.companions.programs.is_empty();
        }
        self.census.set_stage(slot, Stage::Starting);
        self.pool.observe(self.census.ready(Kind::usual(&self.context.options)));
        let mut descriptors = Vec::new();
        for wanted in &waiting.order.mounts {
            let tree =
                open_tree(&wanted.source).and_then(|tree| restrict_tree(tree.as_fd(), PLAIN).map(|()| tree));
            match tree {
                Ok(tree) => descriptors.push(tree),
                Err(error) => {
                    let reason = format!("{}: {}", wanted.source.display(), error.desc());
                    return self.fail(slot, "mount the files of".to_owned(), reason);
                }
            }
        }
        descriptors.extend(waiting.content);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let Some(control) = self.control(slot) else { return };
        let command = Command::Start(waiting.order);
        if let Err(error) = send(control.as_fd(), &command, &borrowed, MsgFlags::MSG_DONTWAIT) {
            self.fail(slot, "give its order to".to_owned(), error.desc().to_owned());
        }
    }

    fn fail(&mut self, slot: usize, step: String, reason: String) {
        if let Some(entry) = self.census.get_mut(slot) {
            entry.failure.get_or_insert((step, reason));
            self.end(slot);
        }
    }

    /// The nursery or an init has said something.
    pub(crate) fn report(&mut self, slot: usize, report: Report, descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.census.get_mut(slot) else { return };
        let (stage, id, goes_on) = (entry.stage, entry.id, entry.companions);
        if entry.unborn && !matches!(report, Report::Cloned { .. }) {
            // There is none, or a nursery died before it could tell; that one ends with its socket.
            entry.control = entry.control.take().filter(|_| stage != Stage::Ending);
            self.census.set_init(slot, None);
            if !matches!(report, Report::Failed { .. }) {
                return self.fail(slot, "complete".to_owned(), "its process is not known".to_owned());
            }
        }
        match report {
            Report::Cloned { init } => {
                let is_known_dead = self.unknown.remove(&init);
                self.census.set_init(slot, (!is_known_dead).then_some(Pid::from_raw(init)));
                if stage == Stage::Ending
                    && let Some(entry) = self.census.get_mut(slot)
                {
                    entry.kill(&self.context.tops);
                }
            }
            Report::Blank(kinds) if stage == Stage::Making => self.complete(slot, kinds, descriptors),
            Report::Started if stage == Stage::Starting => {
                self.census.set_stage(slot, Stage::Running);
                self.tell_started(slot, descriptors);
            }
            Report::Failed { step, reason } => self.fail(slot, step, reason),
            Report::Exited(exit) => {
                self.tell_exit(slot, exit);
                if !goes_on {
                    self.end(slot);
                }
            }
            Report::Proceeded { failure } => {
                self.answers.extend(id.map(|id| (Answer::Proceeded { id, failure }, vec![])));
            }
            Report::CompanionEnded { index, exit } => {
                let exit = if self.is_out_of_memory(slot) { Exit::OutOfMemory } else { exit };
                self.answers.extend(id.map(|id| (Answer::CompanionEnded { id, index, exit }, vec![])));
            }
            Report::Socket => {
                self.answers.extend(id.map(|id| (Answer::Socket { id }, descriptors)));
            }
            Report::AtGate if stage == Stage::Running => self.begin_capture(slot, &descriptors),
            Report::Captured { bytes } if stage == Stage::Running && descriptors.len() == 2 => {
                self.answers.extend(id.map(|id| (Answer::Captured { id, bytes }, descriptors)));
                self.finish_capture(slot);
            }
            Report::NotCaptured { reason } => self.not_captured(slot, reason),
            Report::Blank(_) | Report::Started | Report::AtGate | Report::Captured { .. } => {}
        }
    }

    /// A template waits at its gate. The one descriptor is its process's.
    fn begin_capture(&mut self, slot: usize, descriptors: &[OwnedFd]) {
        let capturing = descriptors.first().ok_or(Errno::EBADF).and_then(capture::start);
        match (capturing, self.census.get_mut(slot)) {
            (Ok(socket), Some(entry)) => {
                entry.capture = Some(socket);
                self.watches.push(Watch::Capture(slot));
            }
            (Err(error), _) => self.not_captured(slot, error.desc().to_owned()),
            (_, None) => {}
        }
    }

    /// A template cannot be captured: it is told, and the environment ends.
    pub(crate) fn not_captured(&mut self, slot: usize, reason: String) {
        let Some(entry) = self.census.get(slot).filter(|entry| entry.stage == Stage::Running) else {
            return;
        };
        self.answers.extend(entry.id.map(|id| (Answer::NotCaptured { id, reason }, vec![])));
        self.finish_capture(slot);
    }

    fn finish_capture(&mut self, slot: usize) {
        if let Some(entry) = self.census.get_mut(slot) {
            entry.capture = None;
        }
        self.tell_exit(slot, Exit::Killed);
        self.end(slot);
    }

    /// A blank is complete: it goes to whoever waits for one.
    fn complete(&mut self, slot: usize, kinds: HandleKinds, descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.census.get_mut(slot) else { return };
        let kind = entry.kind;
        let (handles, namespace) = match Handles::open(&self.context.tops, &entry.name, kinds, descriptors) {
            Ok(opened) => opened,
            Err(error) => return self.fail(slot, "complete".to_owned(), error.to_string()),
        };
        if handles.memory_event.is_some() {
            self.watches.push(Watch::Memory(slot));
        }
        entry.handles = Some(handles);
        namespace.map(|namespace| self.namespaces.insert(slot, namespace));
        self.census.set_stage(slot, Stage::Blank);
        if !std::mem::replace(&mut self.ready_told, true) {
            self.answers.push((Answer::Ready, vec![]));
        }
        if let Some(waiting) = self.next_order(kind) {
            self.give(slot, waiting);
        }
        self.make_missing();
    }

    fn tell_started(&mut self, slot: usize, mut descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.census.get_mut(slot) else { return };
        let (Some(id), Some(handles)) = (entry.id, entry.handles.as_mut()) else { return };
        let listeners = descriptors.split_off(1.min(descriptors.len()));
        let (freeze, peak) = handles.for_server();
        let answer = Answer::Started { id, freeze: handles.freeze_kind, has_peak: peak.is_some() };
        descriptors.extend(freeze.into_iter().chain(peak).chain(listeners));
        self.answers.push((answer, descriptors));
    }

    /// An environment's socket was closed: its last process is gone or going, or the nursery never made one.
    pub(crate) fn closed(&mut self, slot: usize) {
        let Some(entry) = self.census.get_mut(slot) else { return };
        let stage = entry.stage;
        if entry.unborn {
            entry.control = None;
            self.census.set_init(slot, None);
        }
        match stage {
            Stage::Running => {
                self.tell_exit(slot, Exit::Killed);
                self.end(slot);
            }
            Stage::Making | Stage::Blank | Stage::Starting => {
                let reason = if self.is_out_of_memory(slot) {
                    "its memory limit was reached"
                } else {
                    "it ended unexpectedly"
                };
                self.fail(slot, "complete".to_owned(), reason.to_owned());
            }
            Stage::Ending => {}
        }
    }

    /// v1: an environment's memory has run out, and the kernel is about to kill one of its processes.
    pub(crate) fn memory_ran_out(&mut self, slot: usize) {
        if self.census.get(slot).is_some_and(|entry| entry.stage == Stage::Running) {
            self.tell_exit(slot, Exit::OutOfMemory);
            self.end(slot);
        }
    }

    /// Whether the kernel has killed one of its processes for want of memory.
    fn is_out_of_memory(&self, slot: usize) -> bool {
        self.census.get(slot).is_some_and(|entry| kills_for_memory(&self.context.tops, &entry.name) > 0)
    }

    /// Tells the server once how the program ended, if it was running.
    fn tell_exit(&mut self, slot: usize, exit: Exit) {
        let Some(entry) = self.census.get_mut(slot) else { return };
        if entry.stage != Stage::Running || std::mem::replace(&mut entry.exit_told, true) {
            return;
        }
        let Some(id) = entry.id else { return };
        let peak_bytes = peak_bytes(&self.context.tops, &entry.name);
        let exit = if self.is_out_of_memory(slot) { Exit::OutOfMemory } else { exit };
        self.answers.push((Answer::Exited { id, exit, peak_bytes }, vec![]));
    }

    /// Kills an environment's processes, once; [`Self::sweep`] removes the rest.
    fn end(&mut self, slot: usize) {
        if self.census.get(slot).is_none_or(|entry| entry.stage == Stage::Ending) {
            return;
        }
        self.census.set_stage(slot, Stage::Ending);
        if let Some(entry) = self.census.get_mut(slot) {
            entry.kill(&self.context.tops);
        }
    }

    /// A child process has ended.
    pub(crate) fn reaped(&mut self, process: Pid) {
        if self.nursery.as_ref().is_some_and(|nursery| nursery.process() == process) {
            self.nursery = None;
        } else if !self.census.reaped(process) {
            self.unknown.insert(process.as_raw());
        }
    }

    /// Removes what is left of the environments whose processes are gone.
    pub(crate) fn sweep(&mut self) {
        for slot in self.census.ended().iter().copied().collect::<Vec<_>>() {
            let Some(entry) = self.census.get(slot) else { continue };
            let mut busy = false;
            for folder in paths(&self.context.tops, &entry.name) {
                match fs::remove_dir(&folder) {
                    Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => busy = true,
                    // Missing ones were never made.
                    _ => {}
                }
            }
            if !busy {
                self.forget(slot);
            }
        }
        if self.census.unborn() == 0 {
            self.unknown.clear();
        }
    }

    fn forget(&mut self, slot: usize) {
        let Some(entry) = self.census.remove(slot) else { return };
        match (entry.id, entry.failure) {
            (Some(id), Some((step, reason))) if !entry.exit_told => {
                self.answers.push((Answer::Failed { id, step, reason }, vec![]));
            }
            (Some(id), _) => self.answers.push((Answer::Removed { id }, vec![])),
            (None, Some((step, reason))) => self.making_failed(entry.kind, step, reason),
            (None, None) => {}
        }
        self.make_missing();
    }
}
