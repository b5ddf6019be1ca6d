//! The helper without root: a user namespace of its own, in which it may do nearly all that root does, and nothing on the host.
//!
//! What it cannot do there is refused, or done without where that was said by name (see [`crate::protection`]). Decided once, when
//! the helper starts; afterwards [`Users`] and [`Substitutes`] are all that differs from root.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};

use super::user_namespace::{INOTIFY_INSTANCES, held, limit};
use crate::cgroup::Hierarchy;
use crate::cgroup::prepare::lacking;
use crate::doctor::{Impossible, possible};
use crate::options::{ENVIRONMENTS_MAX, Options};
use crate::protection::{Protection, lacks, process_limit, refusal};
use crate::spec::Network;
use crate::system::kernel_version;
use crate::users::Ranges;

/// inotify instances of one environment, as root: half of what the kernel gives a whole user by default.
const INOTIFY_INSTANCES_MAX: u64 = 64;
/// The same where all environments share what an ordinary user has.
const INOTIFY_INSTANCES_SHARED_MAX: u64 = 16;
/// Why internet access is refused, and what to do.
pub(crate) const NO_INTERNET: &str = "functions reach the internet only where the server runs as root, which makes their interfaces and firewall rules";

/// Whom environments are on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Users {
    /// Made by root: users that exist nowhere else.
    Unused {
        /// Distinguishes this sandbox's from another's.
        mark: u64,
    },
    /// Users out of a range that this user was given; counted in the helper's namespace, where 0 is the user himself.
    Range,
    /// All are this user himself.
    Shared,
}

impl Users {
    /// The id of the environment in this slot, in the helper's user namespace.
    pub(crate) fn of(self, slot: usize) -> u32 {
        const FIRST: u32 = 0x7000_0000;
        const SLOT_BITS: u32 = 13;
        const { assert!(ENVIRONMENTS_MAX < 1 << SLOT_BITS) }
        match self {
            Users::Unused { mark } => FIRST + ((mark as u32 & 0x7fff) << SLOT_BITS) + slot as u32,
            Users::Range => 1 + slot as u32,
            Users::Shared => 0,
        }
    }

    /// Whether the helper is the host's root.
    pub(crate) fn is_root(self) -> bool {
        matches!(self, Users::Unused { .. })
    }

    /// Whether the kernel lets go of the groups of whoever started the server.
    pub(crate) fn may_leave_groups(self) -> bool {
        !matches!(self, Users::Shared)
    }

    /// inotify instances of one environment.
    pub(crate) fn inotify_instances(self) -> u64 {
        if self.is_root() { INOTIFY_INSTANCES_MAX } else { INOTIFY_INSTANCES_SHARED_MAX }
    }
}

/// What limits a program in place of a cgroup that is missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Substitutes {
    /// `RLIMIT_NPROC`, which counts within the environment's own user namespace.
    pub(crate) processes: bool,
    /// `RLIMIT_DATA`, for each process by itself.
    pub(crate) memory: bool,
}

/// Becomes the all-capable user of a new user namespace. Refuses where that, or what it is needed for, is not possible.
pub(crate) fn enter(options: &Options, hierarchies: &[Hierarchy]) -> Result<(Users, Substitutes), String> {
    if options.network == Network::Internet {
        return Err(NO_INTERNET.to_owned());
    }
    possible().map_err(|Impossible { reason, remedy }| format!("{reason}; to mend it: {remedy}"))?;
    let ranges = Ranges::find(options.slots());
    if let Some(refusal) = refusal(&lacks(hierarchies, &ranges), options) {
        return Err(refusal);
    }
    process_limit(hierarchies, kernel_version())?;
    let missing = lacking(hierarchies);
    let substitutes = Substitutes { processes: missing.pids, memory: missing.memory };
    let waived = Protection::SeparateUsers.is_waived(options);
    let users = match ranges {
        Ok(ranges) => match enter_mapped(|child| ranges.map(child)) {
            Ok(()) => Users::Range,
            // Said by name; and the failure is no secret either.
            Err(reason) if waived => {
                eprintln!("sandbox helper: {reason}: functions run as this user");
                enter_mapped(map_self)?;
                Users::Shared
            }
            Err(reason) => return Err(reason),
        },
        Err(_) => {
            enter_mapped(map_self)?;
            Users::Shared
        }
    };
    Ok((users, substitutes))
}

fn enter_mapped(map: impl FnOnce(nix::unistd::Pid) -> Result<(), String>) -> Result<(), String> {
    let settings = fs::File::open("/proc/sys").map_err(|error| format!("/proc/sys: {error}"))?;
    let instances = fs::read_to_string(format!("/proc/sys/user/{INOTIFY_INSTANCES}"));
    let instances: Option<u64> = instances.ok().and_then(|text| text.trim().parse().ok());
    let make = || {
        leave_some_to_the_user()?;
        unshare(CloneFlags::CLONE_NEWUSER)?;
        limit(settings.as_fd(), instances.map(|most| (INOTIFY_INSTANCES, most / 2)).into_iter())
    };
    let namespace = held(make, |child| map(child).map_err(io::Error::other));
    let namespace = namespace.map_err(|error| error.to_string())?;
    let entered = setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(io::Error::from);
    entered.map_err(|error| format!("cannot enter a user namespace: {error}"))
}

/// One id: this user's own, who is 0 inside.
fn map_self(child: nix::unistd::Pid) -> Result<(), String> {
    let (user, group) = (Uid::current(), Gid::current());
    let write = |name: &str, text: String| {
        fs::write(format!("/proc/{child}/{name}"), text)
            .map_err(|error| format!("cannot write {name}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// What the kernel counts per user is counted for the owner of a namespace too, and its maker's limits hold for all in it together:
/// three quarters of his own.
fn leave_some_to_the_user() -> nix::Result<()> {
    let counted = [
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_MEMLOCK,
    ];
    for resource in counted {
        let (soft, hard) = getrlimit(resource)?;
        if soft != RLIM_INFINITY {
            setrlimit(resource, soft / 4 * 3, hard)?;
        }
    }
    Ok(())
}

/// Where the record of what was made lies: the user's own folder in `/run`, or else the state folder.
pub(crate) fn registry_folder(user: Uid, state_dir: &Path) -> PathBuf {
    let own = PathBuf::from(format!("/run/user/{user}"));
    if nix::unistd::access(&own, nix::unistd::AccessFlags::W_OK).is_ok() {
        own.join("freehold")
    } else {
        state_dir.join("registry")
    }
}
