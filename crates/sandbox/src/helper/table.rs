//! The environments, and what happens to each.
//!
//! ```text
//! Making --blank--> Blank --start--> Starting --started--> Running --exited, killed--> Ending --> (gone)
//!    \----------------\------------------\--- failed, died ------------------------------^
//! ```
//!
//! An environment is gone when its processes are reaped and its cgroups removed; only then is the server told `Failed` or
//! `Removed`, so that either means that nothing is left. This part does no waiting: [`super::events`] tells it what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, getpid};

use super::Context;
use super::entry::{Entry, Handles, Kind, Stage};
use super::maker::{self, Plan};
use super::stage::PLAIN;
use crate::cgroup::group::paths;
use crate::message::{Answer, Command, Order, Report};
use crate::network::Internet;
use crate::options::ENVIRONMENTS_MAX;
use crate::packet::send;
use crate::spec::{Exit, Network};
use crate::system::{Forked, fork, open_tree, restrict_tree};

/// Blanks that are being made at the same time: more would only take the processors from each other.
const MAKERS_MAX: usize = 4;

/// An order that waits for a blank.
struct Waiting {
    order: Box<Order>,
    content: Option<OwnedFd>,
}

/// What the event loop must do after a call.
pub(crate) enum Watch {
    /// Wait for this descriptor too: an environment's socket.
    Control(usize),
    /// Wait for this descriptor too: an environment's memory event.
    Memory(usize),
}

/// All environments.
pub(crate) struct Table {
    context: Context,
    entries: BTreeMap<usize, Entry>,
    waiting: VecDeque<Waiting>,
    /// Children that ended before their maker told who they are.
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
            context,
            entries: BTreeMap::new(),
            waiting: VecDeque::new(),
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
    pub(crate) fn start(&mut self, order: Box<Order>, content: Option<OwnedFd>) {
        self.pool_paused = false;
        self.waiting.push_back(Waiting { order, content });
        self.serve();
    }

    /// The server wants something of an environment's init.
    pub(crate) fn pass_on(&mut self, id: u64, command: &Command) {
        let control = self.find(id).and_then(|slot| self.entries[&slot].control.as_ref());
        // A full socket means that the init is frozen and has been asked often enough.
        let sent = control
            .is_some_and(|control| send(control.as_fd(), command, &[], MsgFlags::MSG_DONTWAIT).is_ok());
        if !sent && matches!(command, Command::Socket) {
            self.answers.push((Answer::Socket { id }, vec![]));
        }
    }

    /// The server wants an environment, or the order for one, to be gone.
    pub(crate) fn kill(&mut self, id: u64) {
        if let Some(position) = self.waiting.iter().position(|waiting| waiting.order.id == id) {
            self.waiting.remove(position);
            self.answers.push((Answer::Removed { id }, vec![]));
        } else if let Some(slot) = self.find(id) {
            self.tell_exit(slot, Exit::Killed);
            self.end(slot);
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.entries.iter().find(|(_, entry)| entry.id == Some(id)).map(|(slot, _)| *slot)
    }

    /// The server is gone or wants to stop: everything ends.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.waiting.clear();
        for slot in self.entries.keys().copied().collect::<Vec<_>>() {
            self.tell_exit(slot, Exit::Killed);
            self.end(slot);
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether [`Self::sweep`] has something to try again soon.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.entries
            .values()
            .any(|entry| entry.stage == Stage::Ending && entry.maker.is_none() && entry.init.is_none())
    }

    /// The way to the internet, if environments have one.
    pub(crate) fn internet(&self) -> Option<&Internet> {
        self.context.internet.as_ref()
    }

    /// An environment's socket.
    pub(crate) fn control(&self, slot: usize) -> Option<&OwnedFd> {
        self.entries.get(&slot)?.control.as_ref()
    }

    /// An environment's memory event.
    pub(crate) fn memory_event(&self, slot: usize) -> Option<&OwnedFd> {
        self.entries.get(&slot)?.handles.as_ref()?.memory_event.as_ref()
    }

    /// Gives orders to blanks, oldest first, and has missing ones made.
    fn serve(&mut self) {
        let mut left = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let blank = self
                .entries
                .iter()
                .find(|(_, entry)| entry.stage == Stage::Blank && entry.kind == Kind::of(&waiting.order))
                .map(|(slot, _)| *slot);
            match blank {
                Some(slot) => self.give(slot, waiting),
                None => left.push_back(waiting),
            }
        }
        self.waiting = left;
        let mut wanted: BTreeMap<Kind, usize> = BTreeMap::new();
        for waiting in &self.waiting {
            *wanted.entry(Kind::of(&waiting.order)).or_default() += 1;
        }
        for (kind, count) in wanted {
            while self.making(Some(kind)) < count && self.making(None) < MAKERS_MAX {
                if !self.make(kind) {
                    return;
                }
            }
        }
    }

    /// How many blanks are being made, of one kind or of all.
    fn making(&self, kind: Option<Kind>) -> usize {
        self.count(|entry| entry.stage == Stage::Making && kind.is_none_or(|kind| entry.kind == kind))
    }

    fn count(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| wanted(entry)).count()
    }

    /// Fills the pool, one blank at a time and only while no order is being carried out.
    pub(crate) fn refill(&mut self) {
        let busy = !self.waiting.is_empty() || self.count(|entry| entry.stage == Stage::Starting) > 0;
        if busy || self.closing || self.pool_paused || self.making(None) > 0 {
            return;
        }
        // The first one also proves that everything works here, so it is made even without a pool.
        let wanted =
            if self.ready_told { self.context.options.pool } else { self.context.options.pool.max(1) };
        let kind = Kind::usual(&self.context.options);
        let ready = self.count(|entry| entry.stage == Stage::Blank && entry.kind == kind);
        if ready < wanted {
            self.make(kind);
        }
    }

    /// Forks a maker. False where the host has no room for one: what waits is answered.
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
        let slot = (0..limit).find(|slot| !self.entries.contains_key(slot)).ok_or(Errno::ENOSPC)?;
        self.serial += 1;
        let name = format!("e{}", self.serial);
        let link = match kind.network {
            Network::Isolated => None,
            Network::Internet => Some(self.free_link().ok_or(Errno::ENETUNREACH)?),
        };
        let plan = Plan {
            name: name.clone(),
            user: self.context.users.of(slot),
            tmp_mib: kind.tmp_mib,
            link,
            helper: getpid(),
        };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let maker = match fork()? {
            Forked::Child => maker::run(&self.context, &plan, theirs),
            Forked::Parent(maker) => maker,
        };
        self.entries.insert(slot, Entry::new(name, kind, link, ours, maker));
        self.watches.push(Watch::Control(slot));
        Ok(())
    }

    /// The number of a pair of interfaces that has not been used for long: the kernel may still be removing the last ones, and
    /// remember connections of their address.
    fn free_link(&mut self) -> Option<u32> {
        let count = self.context.internet.as_ref()?.range.environments() as u32;
        let used: BTreeSet<u32> = self.entries.values().filter_map(|entry| entry.link).collect();
        let link =
            (0..count).map(|step| (self.next_link + step) % count).find(|link| !used.contains(link))?;
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
        if let Some(position) = self.waiting.iter().position(|waiting| Kind::of(&waiting.order) == kind)
            && let Some(waiting) = self.waiting.remove(position)
        {
            self.answers.push((Answer::Failed { id: waiting.order.id, step, reason }, vec![]));
        }
    }

    /// Sends an order to a blank, with the mounts it names.
    fn give(&mut self, slot: usize, waiting: Waiting) {
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.id = Some(waiting.order.id);
            entry.companions = !waiting.order.companions.programs.is_empty();
            entry.stage = Stage::Starting;
        }
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
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.failure.get_or_insert((step, reason));
            self.end(slot);
        }
    }

    /// A maker or an init has said something.
    pub(crate) fn report(&mut self, slot: usize, report: Report, descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        match report {
            Report::Cloned { init } => {
                if !self.unknown.remove(&init) {
                    entry.init = Some(Pid::from_raw(init));
                }
            }
            Report::Blank(kinds) if entry.stage == Stage::Making => {
                entry.handles = Handles::sort(kinds, descriptors);
                entry.stage = Stage::Blank;
                if entry.handles.is_none() {
                    return self.fail(slot, "complete".to_owned(), "descriptors are missing".to_owned());
                }
                if kinds.has_memory_event {
                    self.watches.push(Watch::Memory(slot));
                }
                if !std::mem::replace(&mut self.ready_told, true) {
                    self.answers.push((Answer::Ready, vec![]));
                }
                self.serve();
            }
            Report::Started if entry.stage == Stage::Starting => {
                entry.stage = Stage::Running;
                self.tell_started(slot, descriptors);
            }
            Report::Failed { step, reason } => self.fail(slot, step, reason),
            Report::Exited(exit) => {
                let goes_on = entry.companions;
                self.tell_exit(slot, exit);
                if !goes_on {
                    self.end(slot);
                }
            }
            Report::Proceeded { failure } => {
                let Some(id) = entry.id else { return };
                self.answers.push((Answer::Proceeded { id, failure }, vec![]));
            }
            Report::CompanionEnded { index, exit } => {
                let Some(id) = entry.id else { return };
                let exit = if entry.out_of_memory() { Exit::OutOfMemory } else { exit };
                self.answers.push((Answer::CompanionEnded { id, index, exit }, vec![]));
            }
            Report::Socket => {
                let Some(id) = entry.id else { return };
                self.answers.push((Answer::Socket { id }, descriptors));
            }
            Report::Blank(_) | Report::Started => {}
        }
    }

    fn tell_started(&mut self, slot: usize, mut descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let (Some(id), Some(handles)) = (entry.id, entry.handles.as_mut()) else { return };
        let listeners = descriptors.split_off(1.min(descriptors.len()));
        let (freeze, peak) = handles.for_server();
        let answer = Answer::Started { id, freeze: handles.kind, has_peak: peak.is_some() };
        descriptors.extend(freeze.into_iter().chain(peak).chain(listeners));
        self.answers.push((answer, descriptors));
    }

    /// An environment's socket was closed: its last process is gone or going.
    pub(crate) fn closed(&mut self, slot: usize) {
        match self.entries.get(&slot).map(|entry| entry.stage) {
            Some(Stage::Running) => {
                self.tell_exit(slot, Exit::Killed);
                self.end(slot);
            }
            Some(Stage::Making | Stage::Blank | Stage::Starting) => {
                let out_of_memory = self.entries.get(&slot).is_some_and(Entry::out_of_memory);
                let reason =
                    if out_of_memory { "its memory limit was reached" } else { "it ended unexpectedly" };
                self.fail(slot, "complete".to_owned(), reason.to_owned());
            }
            Some(Stage::Ending) | None => {}
        }
    }

    /// v1: an environment's memory has run out, and the kernel is about to kill one of its processes.
    pub(crate) fn memory_ran_out(&mut self, slot: usize) {
        if self.entries.get(&slot).is_some_and(|entry| entry.stage == Stage::Running) {
            self.tell_exit(slot, Exit::OutOfMemory);
            self.end(slot);
        }
    }

    /// Tells the server once how the program ended, if it was running.
    fn tell_exit(&mut self, slot: usize, exit: Exit) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let exit = if entry.out_of_memory() { Exit::OutOfMemory } else { exit };
        if entry.stage != Stage::Running || std::mem::replace(&mut entry.exit_told, true) {
            return;
        }
        let Some(id) = entry.id else { return };
        let peak_bytes = entry.peak_bytes();
        self.answers.push((Answer::Exited { id, exit, peak_bytes }, vec![]));
    }

    /// Kills an environment's processes; [`Self::sweep`] removes the rest.
    fn end(&mut self, slot: usize) {
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.end(&self.context.tops);
        }
    }

    /// A child process has ended.
    pub(crate) fn reaped(&mut self, process: Pid) {
        let slot = self
            .entries
            .iter()
            .find(|(_, entry)| entry.init == Some(process) || entry.maker == Some(process))
            .map(|(slot, _)| *slot);
        let Some(entry) = slot.and_then(|slot| self.entries.get_mut(&slot)) else {
            self.unknown.insert(process.as_raw());
            return;
        };
        if entry.maker == Some(process) {
            entry.maker = None;
        } else {
            entry.init = None;
        }
    }

    /// Removes what is left of the environments whose processes are gone.
    pub(crate) fn sweep(&mut self) {
        let ended: Vec<usize> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.stage == Stage::Ending && entry.maker.is_none() && entry.init.is_none()
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in ended {
            let folders = paths(&self.context.tops, &self.entries[&slot].name);
            let mut busy = false;
            for folder in folders {
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
        if self.making(None) == 0 {
            self.unknown.clear();
        }
    }

    fn forget(&mut self, slot: usize) {
        let Some(entry) = self.entries.remove(&slot) else { return };
        match (entry.id, entry.failure) {
            (Some(id), Some((step, reason))) if !entry.exit_told => {
                self.answers.push((Answer::Failed { id, step, reason }, vec![]));
            }
            (Some(id), _) => self.answers.push((Answer::Removed { id }, vec![])),
            (None, Some((step, reason))) => self.making_failed(entry.kind, step, reason),
            (None, None) => {}
        }
        self.serve();
    }
}
