//! One environment as the helper knows it: what it is made for, its processes and descriptors, and how it is ended.
//!
//! What follows from that, and what the server is told, is [`super::table`]'s.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::group::{Watched, paths};
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

/// One environment. Its stage, its number and its processes change only through the [`super::census`], which looks things up by them.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) kind: Kind,
    /// The number of its pair of interfaces.
    pub(crate) link: Option<u32>,
    /// Closed once it is ending and its init is known.
    pub(crate) control: Option<OwnedFd>,
    /// What captures it, while that lasts.
    pub(crate) capture: Option<OwnedFd>,
    /// The nursery has not yet told who its init is.
    pub(crate) unborn: bool,
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
    pub(crate) fn new(name: String, kind: Kind, link: Option<u32>, control: OwnedFd) -> Entry {
        Entry {
            name,
            stage: Stage::Making,
            kind,
            link,
            control: Some(control),
            capture: None,
            unborn: true,
            init: None,
            handles: None,
            id: None,
            failure: None,
            exit_told: false,
            companions: false,
        }
    }

    /// Kills its processes. What is left of it is removed when they are reaped.
    pub(crate) fn kill(&mut self, tops: &Tops) {
        if let Some(tmp) = self.handles.as_mut().and_then(|handles| handles.tmp.take()) {
            tmp.discard();
        }
        for ((hierarchy, _), folder) in tops.folders.iter().zip(paths(tops, &self.name)) {
            if hierarchy.version == Version::V2 {
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
        }
        if let Some(init) = self.init {
            let _ = kill(init, Signal::SIGKILL);
        }
        // What v1's freezer has frozen dies only when thawed.
        for ((hierarchy, _), folder) in tops.folders.iter().zip(paths(tops, &self.name)) {
            if hierarchy.version == Version::V1 && hierarchy.roles.freeze {
                let _ = fs::write(folder.join("freezer.state"), "THAWED");
            }
        }
        if !self.unborn {
            self.control = None;
        }
    }
}

/// An environment's `/tmp`, and the free blocks that it had when nobody had used it.
struct Tmp {
    folder: OwnedFd,
    free: Option<u64>,
}

impl Tmp {
    fn new(folder: OwnedFd) -> Tmp {
        Tmp { free: free_blocks(&folder), folder }
    }

    /// Throws away what was written but is not on the disk yet. (The kernel tells the console of it, which takes longer than
    /// unmounting what hardly anything was written to.)
    fn discard(self) {
        if self.free.is_none() || free_blocks(&self.folder) != self.free {
            // Not on a tmpfs, where there is nothing to write either.
            let _ = discard_unwritten(self.folder.as_fd());
        }
    }
}

fn free_blocks(folder: &OwnedFd) -> Option<u64> {
    nix::sys::statfs::fstatfs(folder).ok().map(|status| status.blocks_free())
}

/// By what an environment is watched and frozen.
pub(crate) struct Handles {
    pub(crate) freeze_kind: FreezeKind,
    /// Given to the server when it starts.
    freeze: Vec<OwnedFd>,
    peak: Option<OwnedFd>,
    pub(crate) memory_event: Option<OwnedFd>,
    tmp: Option<Tmp>,
}

impl Handles {
    /// Opens what belongs to a blank, beside what it handed over; gives its user's namespace too, if it has made it.
    pub(crate) fn open(
        tops: &Tops,
        name: &str,
        kinds: HandleKinds,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<(Handles, Option<OwnedFd>)> {
        let mut descriptors = descriptors.into_iter();
        let mut next = |wanted: bool| {
            let missing = || io::Error::other("descriptors are missing");
            wanted.then(|| descriptors.next().ok_or_else(missing)).transpose()
        };
        let tmp = next(kinds.has_tmp)?.map(Tmp::new);
        let namespace = next(kinds.has_namespace)?;
        let Watched { freeze_kind, freeze, peak, memory_event } = Watched::open(tops, name)?;
        Ok((Handles { freeze_kind, freeze, peak, memory_event, tmp }, namespace))
    }

    /// What the server gets: the freezer's files, and the memory's peak.
    pub(crate) fn for_server(&mut self) -> (Vec<OwnedFd>, Option<OwnedFd>) {
        (std::mem::take(&mut self.freeze), self.peak.take())
    }
}
