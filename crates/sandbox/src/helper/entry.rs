//! One environment as the helper knows it: what it is made for, its processes and descriptors, and how it is ended.
//!
//! What follows from that, and what the server is told, is [`super::table`]'s.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::group::{kills_for_memory, number, paths};
use crate::cgroup::prepare::Tops;
use crate::cgroup::{HandleKinds, Version};
use crate::message::{FreezeKind, Order};
use crate::options::{Options, TMP_DEFAULT_MIB};
use crate::spec::Network;
use crate::system::discard_unwritten;

/// Where an environment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Making,
    Blank,
    Starting,
    Running,
    Ending,
}

/// What of an environment is settled when its blank is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) tmp_mib: u32,
    pub(crate) network: Network,
}

impl Kind {
    /// What an order needs.
    pub(crate) fn of(order: &Order) -> Kind {
        Kind { tmp_mib: order.tmp_mib, network: order.network }
    }

    /// What most orders will need.
    pub(crate) fn usual(options: &Options) -> Kind {
        Kind { tmp_mib: TMP_DEFAULT_MIB, network: options.network }
    }
}

/// One environment.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) kind: Kind,
    /// The number of its pair of interfaces.
    pub(crate) link: Option<u32>,
    /// Closed once it is ending.
    pub(crate) control: Option<OwnedFd>,
    pub(crate) maker: Option<Pid>,
    pub(crate) init: Option<Pid>,
    pub(crate) handles: Option<Handles>,
    /// The server's number for it, once it has one.
    pub(crate) id: Option<u64>,
    pub(crate) failure: Option<(String, String)>,
    pub(crate) exit_told: bool,
    /// Other programs run beside its own, whose end is not theirs.
    pub(crate) companions: bool,
}

impl Entry {
    /// One that is being made.
    pub(crate) fn new(name: String, kind: Kind, link: Option<u32>, control: OwnedFd, maker: Pid) -> Entry {
        Entry {
            name,
            stage: Stage::Making,
            kind,
            link,
            control: Some(control),
            maker: Some(maker),
            init: None,
            handles: None,
            id: None,
            failure: None,
            exit_told: false,
            companions: false,
        }
    }

    /// Whether the kernel has killed one of its processes for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let events = self.handles.as_ref().and_then(|handles| handles.memory.get(1));
        events.is_some_and(|events| kills_for_memory(events.as_fd()) > 0)
    }

    /// The most memory that it has used.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let peak = self.handles.as_ref().and_then(|handles| handles.memory.first());
        peak.map_or(0, |peak| number(peak.as_fd()))
    }

    /// Kills its processes, once. What is left of it is removed when they are reaped.
    pub(crate) fn end(&mut self, tops: &Tops) {
        if std::mem::replace(&mut self.stage, Stage::Ending) == Stage::Ending {
            return;
        }
        if let Some(tmp) = self.handles.as_mut().and_then(|handles| handles.tmp.take()) {
            // Not on a tmpfs, where there is nothing to write either.
            let _ = discard_unwritten(tmp.as_fd());
        }
        for ((hierarchy, _), folder) in tops.folders.iter().zip(paths(tops, &self.name)) {
            if hierarchy.version == Version::V2 {
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
        }
        for process in [self.init, self.maker].into_iter().flatten() {
            let _ = kill(process, Signal::SIGKILL);
        }
        if let Some(handles) = self.handles.as_mut()
            && handles.kind == FreezeKind::V1
            && let Some(file) = handles.freeze.first()
        {
            let _ = nix::unistd::write(file.as_fd(), b"THAWED");
        }
        // An init that the maker cloned but did not tell of ends by this.
        self.control = None;
    }
}

/// What the maker handed over.
pub(crate) struct Handles {
    pub(crate) kind: FreezeKind,
    /// Given to the server when it starts.
    freeze: Vec<OwnedFd>,
    memory: Vec<OwnedFd>,
    pub(crate) memory_event: Option<OwnedFd>,
    tmp: Option<OwnedFd>,
}

impl Handles {
    /// Sorts the descriptors that came with a blank. None where they do not fit what was announced.
    pub(crate) fn sort(kinds: HandleKinds, descriptors: Vec<OwnedFd>) -> Option<Handles> {
        let mut descriptors = descriptors.into_iter();
        let mut next = |count: usize| -> Option<Vec<OwnedFd>> {
            let taken: Vec<_> = descriptors.by_ref().take(count).collect();
            (taken.len() == count).then_some(taken)
        };
        let freeze = next(match kinds.freeze {
            FreezeKind::V2 => 2,
            FreezeKind::V1 => 1,
            FreezeKind::None => 0,
        })?;
        let memory = next(if kinds.has_memory { 2 } else { 0 })?;
        let memory_event = next(usize::from(kinds.has_memory_event))?.pop();
        let tmp = next(usize::from(kinds.has_tmp))?.pop();
        Some(Handles { kind: kinds.freeze, freeze, memory, memory_event, tmp })
    }

    /// What the server gets: the freezer's files, and the memory's peak.
    pub(crate) fn for_server(&mut self) -> (Vec<OwnedFd>, Option<OwnedFd>) {
        let peak = self.memory.first().and_then(|peak| peak.try_clone().ok());
        // The helper needs only v1's freezer itself, to be able to kill what is frozen.
        let freeze = match self.kind {
            FreezeKind::V1 => self.freeze.iter().filter_map(|file| file.try_clone().ok()).collect(),
            _ => std::mem::take(&mut self.freeze),
        };
        (freeze, peak)
    }
}
