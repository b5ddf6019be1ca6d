//! Pid 1 of an environment: first a blank that waits, then the one process that reaps all others.
//!
//! ```text
//! blank (the host's root, nobody else here) -- Start --> mounts, files, limits, listeners
//!       --> enters its user namespace, gives up everything, filters system calls --> forks the program --> reaps
//! ```
//!
//! Until it has given up everything, no foreign code runs in its namespaces. It owns no privilege afterwards, cannot be traced or
//! read, and dies with the helper or when the helper closes its socket; the kernel then kills every process of the environment.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::unistd::{Gid, Pid, Uid, pipe2, pivot_root, setgroups, setresgid, setresuid};

use super::maker::{Blank, During, Failure, report_failure};
use super::stage::{INSIDE_GROUP, INSIDE_USER, PLAIN};
use super::{Context, companions, program, user_namespace};
use crate::cgroup::HandleKinds;
use crate::cgroup::group::Group;
use crate::message::{Command, Order, Report};
use crate::options::{DESCRIPTORS_MAX, PROCESSES_MAX};
use crate::packet::{Received, receive, send};
use crate::spec::Exit;
use crate::system::{
    attach_tree, close_all_from, drop_bounding_set, drop_capabilities, exit_now, limit, pass_process_number,
    pidfd_open, reap, restrict_mount,
};

/// Connections that wait for the server to accept them, per listener.
const BACKLOG: i32 = 128;
/// When the host runs out of memory, functions go before services (-1000 to 1000).
const OUT_OF_MEMORY_SCORE: &str = "500";

/// Signals that wait in one environment, where all share what an ordinary user has (some ten thousands).
const SIGNALS_SHARED_MAX: u64 = 4096;
/// What one process may have beyond the function's memory where only processes can be limited, in MiB: stacks of threads count in
/// full, and V8 reserves 128 MiB of writable code for each of its workers.
const DATA_EXCESS_MIB: u32 = 2048;

/// The life of an init.
pub(crate) fn run(context: &Context, blank: Blank) -> ! {
    let Blank { control, group, kinds, handles, user, namespace } = blank;
    let result = announce(context, control.as_fd(), (kinds, handles), user, namespace)
        .and_then(|namespace| live(context, control.as_fd(), group, namespace));
    if let Err(failure) = result {
        report_failure(control.as_fd(), failure);
    }
    exit_now(0)
}

/// Completes the blank and tells the helper. Gives the user namespace that it will enter.
fn announce(
    context: &Context,
    control: BorrowedFd<'_>,
    (kinds, handles): (HandleKinds, Vec<OwnedFd>),
    user: u32,
    namespace: Option<OwnedFd>,
) -> Result<fs::File, Failure> {
    if context.users.is_root() {
        let _ = set_dumpable(false);
    }
    fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE).during("set the memory priority of")?;
    let settings = enter_root(context).during("enter the root of")?;
    let (namespace, made) = match namespace {
        Some(namespace) => {
            // As many processes as making one takes: an image's program must have the same number in each environment.
            pass_process_number().during("count the processes of")?;
            (fs::File::from(namespace), false)
        }
        None => {
            let made = user_namespace::of_environment(context.users, user, settings.as_fd());
            (made.during("make the user namespace of")?, true)
        }
    };
    let borrowed: Vec<_> = handles.iter().map(AsFd::as_fd).chain(made.then(|| namespace.as_fd())).collect();
    send(control, &Report::Blank(kinds), &borrowed, MsgFlags::empty()).during("report")?;
    Ok(namespace)
}

/// From the order to the end.
fn live(
    context: &Context,
    control: BorrowedFd<'_>,
    group: Group,
    namespace: fs::File,
) -> Result<(), Failure> {
    let (order, descriptors) = match receive::<Command>(control, MsgFlags::empty()).during("receive")? {
        Received::Packet(Command::Start(order), descriptors) => (order, descriptors),
        // Never needed: thrown away.
        _ => return Ok(()),
    };
    let image = install(&order, descriptors)?;
    group.limit_memory(order.memory_mib).during("limit the memory of")?;
    let cpu_share = group.cpu_share(order.cpu_millis).during("limit the CPU of")?;
    let listeners: Vec<_> =
        order.listeners.iter().map(listener).collect::<Result<_, _>>().during("make the listeners of")?;
    let (output, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).during("make the output of")?;

    drop(group);
    give_up(&namespace, context)?;
    substitute(context, &order)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).during("block signals of")?;
    if !order.companions.programs.is_empty() {
        let share = || cpu_share.set().during("limit the CPU of");
        drop(namespace);
        return companions::live(control, &order, (output, writer), listeners, &mask, share);
    }
    let program::Started { process, gate } = program::start(&order, &writer, image)?;
    cpu_share.set().during("limit the CPU of")?;
    let descriptors: Vec<_> = [output.as_fd()].into_iter().chain(listeners.iter().map(AsFd::as_fd)).collect();
    send(control, &Report::Started, &descriptors, MsgFlags::empty()).during("report")?;
    let kept: Vec<_> =
        [control.as_raw_fd()].into_iter().chain(gate.as_ref().map(AsRawFd::as_raw_fd)).collect();
    close_all_from(0, &kept).during("close descriptors of")?;
    // Already closed, by number.
    std::mem::forget((output, writer, listeners, namespace));
    let exit = watch(control, process, gate, &mask).during("watch")?;
    send(control, &Report::Exited(exit), &[], MsgFlags::empty()).during("report")?;
    // The helper reads what it wants to know about the groups, then kills.
    let _ = receive::<Command>(control, MsgFlags::empty());
    Ok(())
}

/// Mounts `/proc` and makes the new root the only one. Gives `/proc/sys` as it was before it became read-only.
fn enter_root(context: &Context) -> io::Result<fs::File> {
    let root = context.stage.mount_point();
    let proc = root.join("proc");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), flags, Some("hidepid=2"))?;
    let settings = fs::File::open(proc.join("sys"))?;
    context.stage.cover_proc(&proc)?;
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    Ok(settings)
}

/// Mounts and files of the order, then the root becomes read-only. Gives the descriptors that are left: an image's.
fn install(order: &Order, descriptors: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    let mut descriptors = descriptors.into_iter();
    for wanted in &order.mounts {
        let tree = descriptors.next().ok_or("a descriptor is missing").during("mount the files of")?;
        place(&tree, &wanted.target)
            .map_err(|error| format!("{} at {}: {error}", wanted.source.display(), wanted.target.display()))
            .during("mount the files of")?;
    }
    if !order.files.is_empty() {
        let content = descriptors.next().ok_or("a descriptor is missing").during("write the files of")?;
        let mut content = fs::File::from(content);
        for file in &order.files {
            write_file(&mut content, file)
                .map_err(|error| format!("{}: {error}", file.path.display()))
                .during("write the files of")?;
        }
    }
    restrict_mount(Path::new("/"), PLAIN).during("make read-only the root of")?;
    Ok(descriptors.collect())
}

fn place(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = fs::metadata(format!("/proc/self/fd/{}", tree.as_raw_fd()))?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    match (source.is_dir(), target.exists()) {
        (_, true) => {}
        (true, false) => fs::create_dir(target)?,
        (false, false) => fs::write(target, "")?,
    }
    Ok(attach_tree(tree.as_fd(), target)?)
}

fn write_file(content: &mut fs::File, file: &crate::message::FileEntry) -> io::Result<()> {
    if let Some(folder) = file.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = vec![0; file.length];
    content.read_exact(&mut bytes)?;
    let mode = if file.executable { 0o555 } else { 0o444 };
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&file.path)?.write_all(&bytes)
}

/// A listening socket inside, for the server to accept from.
fn listener(address: &SocketAddrV4) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    bind(listener.as_raw_fd(), &SockaddrIn::from(*address))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

/// Becomes the environment's user, for good.
fn give_up(namespace: &fs::File, context: &Context) -> Result<(), Failure> {
    const STEP: &str = "give up the privileges of";
    limit(Resource::RLIMIT_NOFILE, most(context, Resource::RLIMIT_NOFILE, DESCRIPTORS_MAX)).during(STEP)?;
    limit(Resource::RLIMIT_CORE, 0).during(STEP)?;
    if context.users.may_leave_groups() {
        setgroups(&[]).during(STEP)?;
    }
    setns(namespace, CloneFlags::CLONE_NEWUSER).during(STEP)?;
    drop_bounding_set().during(STEP)?;
    let (user, group) = (Uid::from_raw(INSIDE_USER), Gid::from_raw(INSIDE_GROUP));
    setresgid(group, group, group).during(STEP)?;
    setresuid(user, user, user).during(STEP)?;
    drop_capabilities().during(STEP)?;
    set_no_new_privs().during(STEP)?;
    set_dumpable(false).during(STEP)?;
    // Taken off by the change of user.
    set_pdeathsig(Signal::SIGKILL).during(STEP)?;
    context.filters.install_denied().during("filter the system calls of")
}

/// What of a limit can be had: an ordinary user has a limit of his own, which he cannot raise.
fn most(context: &Context, resource: Resource, wanted: u64) -> u64 {
    match getrlimit(resource) {
        Ok((_, hard)) if !context.users.is_root() => wanted.min(hard),
        _ => wanted,
    }
}

/// Limits by process what no cgroup limits, and what all environments of an ordinary user share. Once the user namespace is
/// entered, within which processes are counted.
fn substitute(context: &Context, order: &Order) -> Result<(), Failure> {
    const STEP: &str = "limit the processes of";
    if context.users.is_root() {
        return Ok(());
    }
    let limit_to = |resource, wanted| limit(resource, most(context, resource, wanted)).during(STEP);
    limit_to(Resource::RLIMIT_SIGPENDING, SIGNALS_SHARED_MAX)?;
    if context.substitutes.processes {
        // One more for the init.
        limit_to(Resource::RLIMIT_NPROC, u64::from(PROCESSES_MAX) + 1)?;
    }
    if context.substitutes.memory {
        limit_to(Resource::RLIMIT_DATA, u64::from(order.memory_mib + DATA_EXCESS_MIB) << 20)?;
    }
    Ok(())
}

/// Reaps until the program has ended.
///
/// A template's program that has come to its gate is told to the helper, which captures it and then ends everything here.
fn watch(
    control: BorrowedFd<'_>,
    program: Pid,
    mut gate: Option<OwnedFd>,
    mask: &SigSet,
) -> nix::Result<Exit> {
    let children = SignalFd::with_flags(mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    loop {
        while let Some((ended, exit)) = reap() {
            if ended == program {
                return Ok(exit);
            }
        }
        let files = [Some(control), Some(children.as_fd()), gate.as_ref().map(AsFd::as_fd)];
        let mut waiting: Vec<_> =
            files.into_iter().flatten().map(|file| PollFd::new(file, PollFlags::POLLIN)).collect();
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let came = waiting.get(2).is_some_and(|gate| gate.any().unwrap_or(false));
        if let Some(gate) = gate.take_if(|_| came) {
            if nix::unistd::read(&gate, &mut [0; 64])? > 0 {
                let process = pidfd_open(program)?;
                send(control, &Report::AtGate, &[process.as_fd()], MsgFlags::empty())?;
            }
            // Kept open: at a closed gate the program would go on.
            std::mem::forget(gate);
        }
        while let Ok(Some(_)) = children.read_signal() {}
        match receive::<Command>(control, MsgFlags::MSG_DONTWAIT)? {
            Received::Packet(Command::Terminate, _) => drop(kill(program, Signal::SIGTERM)),
            Received::Packet(Command::Socket, _) => pass_socket(control)?,
            Received::Packet(Command::Start(_) | Command::Proceed, _) | Received::Nothing => {}
            Received::Closed => exit_now(0),
        }
    }
}

/// Makes a socket in this network namespace, where it stays, for the server to connect.
pub(super) fn pass_socket(control: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None);
    let descriptors: Vec<_> = made.iter().map(AsFd::as_fd).collect();
    send(control, &Report::Socket, &descriptors, MsgFlags::empty())
}
