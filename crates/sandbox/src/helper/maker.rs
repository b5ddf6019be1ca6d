//! Makes one blank environment, in a forked child of the helper, so that the helper never waits for it.
//!
//! ```text
//! helper -- fork --> maker: cgroups, namespaces, mounts, network
//!                      \-- clone as a sibling --> init: pid 1 of the new process id namespace
//!                    exits                        goes on in `init`
//! ```
//!
//! The init is the helper's own child: it dies with the helper, and the helper learns how it ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::MsgFlags;
use nix::unistd::{Pid, getppid};

use super::stage::HOST_NAME;
use super::{Context, init};
use crate::cgroup::HandleKinds;
use crate::cgroup::group::Group;
use crate::disk::Template;
use crate::message::Report;
use crate::network::{link, netlink::RouteSocket};
use crate::options::{ROOT_MIB, SHARED_MEMORY_MIB, TMP_DEFAULT_MIB};
use crate::packet::send;
use crate::system::{Forked, close_all_from, exit_now, fork_init_for_parent, interface_up};

/// What the blank is made for.
pub(crate) struct Plan {
    /// The name of its cgroups.
    pub(crate) name: String,
    /// Its user, as the helper counts.
    pub(crate) user: u32,
    /// The size of its `/tmp`.
    pub(crate) tmp_mib: u32,
    /// The number of its interfaces and address, if it reaches the internet.
    pub(crate) link: Option<u32>,
    /// The helper's process.
    pub(crate) helper: Pid,
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

/// Everything an init inherits from its maker.
pub(crate) struct Blank {
    pub(crate) control: OwnedFd,
    pub(crate) group: Group,
    pub(crate) kinds: HandleKinds,
    pub(crate) handles: Vec<OwnedFd>,
    pub(crate) user: u32,
}

/// The life of a maker. `control` is the end of the socket that the init keeps.
pub(crate) fn run(context: &Context, plan: &Plan, control: OwnedFd) -> ! {
    let failure = match make(context, plan, &control) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    report_failure(control.as_fd(), failure);
    exit_now(1)
}

/// Tells the helper what went wrong; if even that fails, the closed socket does.
pub(crate) fn report_failure(control: BorrowedFd<'_>, failure: Failure) {
    let report = Report::Failed { step: failure.step.to_owned(), reason: failure.reason };
    let _ = send(control, &report, &[], MsgFlags::empty());
}

fn make(context: &Context, plan: &Plan, control: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    die_with(plan.helper).during("detach")?;
    close_all_from(3, &[control.as_raw_fd()]).during("close descriptors of")?;
    let null =
        fs::OpenOptions::new().read(true).write(true).open("/dev/null").during("open /dev/null for")?;
    nix::unistd::dup2_stdin(&null).during("close standard input of")?;
    nix::unistd::dup2_stdout(&null).during("close standard output of")?;
    nix::unistd::dup2_stderr(&null).during("close standard error of")?;

    // Still in the host's network namespace, on which it acts from then on.
    let host = RouteSocket::open().during("ask for the interfaces of")?;
    let group = Group::create_and_enter(&context.tops, &plan.name).during("make the cgroups of")?;
    let watched = group.watch().during("watch the cgroups of")?;
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
    if let (Some(internet), Some(number)) = (&context.internet, plan.link) {
        link::connect(&host, internet, number).during("connect the network of")?;
    }
    drop(host);
    mount_root(context, plan).during("mount the root of")?;
    let tmp = fs::File::open(context.stage.mount_point().join("tmp")).during("open /tmp of")?;

    let kinds = HandleKinds {
        freeze: watched.freeze_kind,
        has_memory: !watched.memory.is_empty(),
        has_memory_event: watched.memory_event.is_some(),
        has_tmp: true,
    };
    let handles = watched
        .freeze
        .into_iter()
        .chain(watched.memory)
        .chain(watched.memory_event)
        .chain([tmp.into()])
        .collect();

    match fork_init_for_parent().during("clone the init of")? {
        Forked::Parent(init) => {
            let report = Report::Cloned { init: init.as_raw() };
            send(control.as_fd(), &report, &[], MsgFlags::empty()).during("report")?;
            exit_now(0)
        }
        Forked::Child => {
            let control = control.try_clone().during("keep the socket of")?;
            init::run(context, Blank { control, group, kinds, handles, user: plan.user })
        }
    }
}

/// Dies when the helper does, also if it has died already.
fn die_with(helper: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == helper { Ok(()) } else { Err(io::Error::other("the helper has ended")) }
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
