//! Makes one blank environment out of the process that becomes its init.
//!
//! ```text
//! nursery -- clone --> cgroups, namespaces, mounts, network; goes on in `init`
//! ```
//!
//! Waiting here (for the kernel's grace periods above all) keeps nobody else from anything.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv};
use serde::{Deserialize, Serialize};

use super::stage::HOST_NAME;
use super::{Context, init};
use crate::cgroup::HandleKinds;
use crate::cgroup::group::Group;
use crate::disk::Template;
use crate::message::Report;
use crate::network::{link, netlink::RouteSocket};
use crate::options::{ROOT_MIB, SHARED_MEMORY_MIB, TMP_DEFAULT_MIB};
use crate::packet::send;
use crate::system::{exit_now, interface_up};

/// What the blank is made for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The name of its cgroups.
    pub(crate) name: String,
    /// Its user, as the helper counts.
    pub(crate) user: u32,
    /// The size of its `/tmp`.
    pub(crate) tmp_mib: u32,
    /// The number of its interfaces and address, if it reaches the internet.
    pub(crate) link: Option<u32>,
}

/// A step that failed, and why.
pub(crate) struct Failure {
    pub(crate) step: &'static str,
    pub(crate) reason: String,
}

/// Names the step in which an error happened.
pub(crate) trait During<T> {
    fn during(self, step: &'static str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, reason: error.to_string() })
    }
}

/// What an init goes on with.
pub(crate) struct Blank {
    pub(crate) control: OwnedFd,
    pub(crate) group: Group,
    pub(crate) kinds: HandleKinds,
    pub(crate) handles: Vec<OwnedFd>,
    pub(crate) user: u32,
    /// Its user's namespace, if an earlier environment has made it already.
    pub(crate) namespace: Option<OwnedFd>,
}

/// The life of an environment's first process. `control` is its socket; `namespace` its user's, if there is one already.
pub(crate) fn run(context: &Context, plan: &Plan, control: OwnedFd, namespace: Option<OwnedFd>) -> ! {
    match make(context, plan, &control) {
        Ok((group, tmp)) => {
            let kinds = HandleKinds { has_tmp: true, has_namespace: namespace.is_none() };
            let handles = vec![tmp];
            init::run(context, Blank { control, group, kinds, handles, user: plan.user, namespace })
        }
        Err(failure) => {
            report_failure(control.as_fd(), failure);
            exit_now(1)
        }
    }
}

/// Tells the helper what went wrong; if even that fails, the closed socket does.
pub(crate) fn report_failure(control: BorrowedFd<'_>, failure: Failure) {
    let report = Report::Failed { step: failure.step.to_owned(), reason: failure.reason };
    let _ = send(control, &report, &[], MsgFlags::empty());
}

/// Makes all but what only pid 1 of a complete root can. Gives its cgroups and its `/tmp`.
fn make(context: &Context, plan: &Plan, control: &OwnedFd) -> Result<(Group, OwnedFd), Failure> {
    die_with_helper(control).during("detach")?;
    // Still in the host's network namespace, on which it acts from then on.
    let network = match (&context.internet, plan.link) {
        (Some(internet), Some(number)) => {
            Some((RouteSocket::open().during("ask for the interfaces of")?, internet, number))
        }
        _ => None,
    };
    let group = Group::create_and_enter(&context.tops, &plan.name).during("make the cgroups of")?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .during("make the namespaces of")?;
    nix::unistd::sethostname(HOST_NAME).during("name the host of")?;
    interface_up("lo").during("bring up the loopback of")?;
    if let Some((host, internet, number)) = network {
        link::connect(&host, internet, number).during("connect the network of")?;
    }
    mount_root(context, plan).during("mount the root of")?;
    let tmp = fs::File::open(context.stage.mount_point().join("tmp")).during("open /tmp of")?;
    Ok((group, tmp.into()))
}

/// Dies when the helper does. If it has died already, its end of the socket is closed.
fn die_with_helper(control: &OwnedFd) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    match recv(control.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(io::Error::other("the helper has ended, or does not want it any more")),
        _ => Ok(()),
    }
}

/// Mounts everything but `/proc`, which only a process of the new process id namespace can mount.
fn mount_root(context: &Context, plan: &Plan) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|error| error.to_string())?;
    let root = context.stage.mount_point();
    tmpfs(root, ROOT_MIB, "mode=0755").map_err(text)?;
    context.stage.furnish(root).map_err(text)?;
    tmpfs(&root.join("dev/shm"), SHARED_MEMORY_MIB, "mode=1777").map_err(text)?;

    let tmp = root.join("tmp");
    let state = &context.options.state_dir;
    match &context.template {
        None => {
            let owner = format!("mode=0700,uid={0},gid={0}", plan.user);
            tmpfs(&tmp, plan.tmp_mib, &owner).map_err(text)
        }
        Some(template) if plan.tmp_mib == TMP_DEFAULT_MIB => {
            template.mount(state, &tmp, plan.user).map_err(text)
        }
        Some(_) => Template::make(state, &tmp, plan.tmp_mib)?.mount(state, &tmp, plan.user).map_err(text),
    }
}

/// Mounts a tmpfs of at most this size, with an inode for each 4 KiB page.
fn tmpfs(point: &Path, size_mib: u32, more: &str) -> io::Result<()> {
    let data = format!("{more},size={size_mib}m,nr_inodes={}", u64::from(size_mib) * 256);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), point, Some("tmpfs"), flags, Some(data.as_str()))?)
}
