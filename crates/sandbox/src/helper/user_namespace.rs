//! Makes user namespaces: one per environment, and, without root, the one that the helper itself works in.
//!
//! ```text
//! caller -- fork --> child: makes the namespace, limits what is counted in it, waits
//!        maps ids into the child's namespace, opens it, ends the child
//! ```
//!
//! Ids can be mapped once, and from outside; so whoever will enter a namespace has a short-lived child make it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::ordinary::Users;
use super::stage::{INSIDE_GROUP, INSIDE_USER};
use crate::system::{Forked, become_user_with_capabilities, fork, write_at};

/// What one environment may use of what the kernel counts per user namespace, beside inotify instances. (AWS names no limits for
/// inotify; the kernel's default for a whole user is 128 instances.)
const ENVIRONMENT_LIMITS: &[(&str, u64)] = &[
    ("max_inotify_watches", 8192),
    ("max_fanotify_groups", 0),
    ("max_fanotify_marks", 0),
    ("max_cgroup_namespaces", 0),
    ("max_ipc_namespaces", 0),
    ("max_mnt_namespaces", 0),
    ("max_net_namespaces", 0),
    ("max_pid_namespaces", 0),
    ("max_time_namespaces", 0),
    ("max_user_namespaces", 0),
    ("max_uts_namespaces", 0),
];
/// The file that limits inotify instances.
pub(super) const INOTIFY_INSTANCES: &str = "max_inotify_instances";

/// Makes an environment's namespace, in which its user is the only one. `settings` is `/proc/sys`, writable.
///
/// What is counted per user, such as inotify instances, is counted for the owner of a namespace as well: so the namespace is not
/// made by the host's root, who would soon have none left for himself, but by the environment's own user. Without root, it is made
/// by the one user who stands for all in the helper's namespace, whose limits then hold for all together.
pub(super) fn of_environment(users: Users, user: u32, settings: BorrowedFd<'_>) -> io::Result<fs::File> {
    let make = || {
        if users.is_root() {
            become_user_with_capabilities(user)?;
        }
        unshare(CloneFlags::CLONE_NEWUSER)?;
        let limits = [(INOTIFY_INSTANCES, users.inotify_instances())];
        limit(settings, limits.into_iter().chain(ENVIRONMENT_LIMITS.iter().copied()))
    };
    held(make, |child| {
        let folder = format!("/proc/{child}");
        fs::write(format!("{folder}/setgroups"), "deny")?;
        fs::write(format!("{folder}/uid_map"), format!("{INSIDE_USER} {user} 1"))?;
        fs::write(format!("{folder}/gid_map"), format!("{INSIDE_GROUP} {user} 1"))
    })
}

/// Sets a new namespace's own limits: of a process that has just made it and has every capability in it.
pub(super) fn limit<'a>(
    settings: BorrowedFd<'_>,
    limits: impl Iterator<Item = (&'a str, u64)>,
) -> nix::Result<()> {
    for (name, most) in limits {
        match write_at(settings, &format!("user/{name}"), &most.to_string()) {
            // Not in this kernel.
            Err(Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Has a child make a namespace, maps it, and gives it open.
pub(super) fn held(
    make: impl FnOnce() -> nix::Result<()>,
    map: impl FnOnce(Pid) -> io::Result<()>,
) -> io::Result<fs::File> {
    let (ready, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match fork()? {
        Forked::Child => {
            // Last, because the kernel forgets it when the user changes.
            let made = make().and_then(|()| set_pdeathsig(Signal::SIGKILL));
            let error = made.err().map_or(0, |error| error as u8);
            let _ = nix::unistd::write(tell.as_fd(), &[error]);
            loop {
                nix::unistd::pause();
            }
        }
        Forked::Parent(child) => {
            drop(tell);
            let namespace = is_made(&fs::File::from(ready))
                .and_then(|()| map(child))
                .and_then(|()| fs::File::open(format!("/proc/{child}/ns/user")));
            kill(child, Signal::SIGKILL)?;
            waitpid(child, None)?;
            namespace
        }
    }
}

fn is_made(mut ready: &fs::File) -> io::Result<()> {
    let mut status = [1_u8];
    ready.read_exact(&mut status)?;
    if status == [0] {
        return Ok(());
    }
    let error = Errno::from_raw(i32::from(status[0]));
    Err(io::Error::other(format!(
        "the kernel refuses new user namespaces (see user.max_user_namespaces): {}",
        error.desc()
    )))
}
