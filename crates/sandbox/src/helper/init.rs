//! Pid 1 of an environment: first a blank that waits, then the one process that reaps all others.
//!
//! ```text
//! blank (the host's root, nobody else here) -- Start --> mounts, files, limits, listeners
//!       --> enters its user namespace, gives up everything, filters system calls --> forks the program --> reaps
//! ```
//!
//! Until it has given up everything, no foreign code runs in its namespaces. It owns no privilege afterwards, cannot be traced or
//! read, and dies with the helper or when the helper closes its socket; the kernel then kills every process of the environment.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::Resource;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, pipe2, pivot_root, setgroups, setresgid, setresuid};

use super::Context;
use super::maker::{Blank, During, Failure, report_failure};
use super::stage::{INSIDE_GROUP, INSIDE_USER, PLAIN};
use crate::cgroup::HandleKinds;
use crate::cgroup::group::Group;
use crate::message::{Command, EXECUTE, Order, Report};
use crate::options::DESCRIPTORS_MAX;
use crate::packet::{Received, receive, send};
use crate::spec::Exit;
use crate::system::{
    Forked, attach_tree, become_user_with_capabilities, close_all_from, drop_bounding_set, drop_capabilities,
    exit_now, fork, limit, reap, restrict_mount, write_at,
};

/// Connections that wait for the server to accept them, per listener.
const BACKLOG: i32 = 128;
/// When the host runs out of memory, functions go before services (-1000 to 1000).
const OUT_OF_MEMORY_SCORE: &str = "500";

/// What one environment may use of what the kernel counts per user namespace. (AWS names no limits for inotify; the kernel's
/// default for a whole user is 128 instances.)
const NAMESPACE_LIMITS: &[(&str, &str)] = &[
    ("max_inotify_instances", "64"),
    ("max_inotify_watches", "8192"),
    ("max_fanotify_groups", "0"),
    ("max_fanotify_marks", "0"),
    ("max_cgroup_namespaces", "0"),
    ("max_ipc_namespaces", "0"),
    ("max_mnt_namespaces", "0"),
    ("max_net_namespaces", "0"),
    ("max_pid_namespaces", "0"),
    ("max_time_namespaces", "0"),
    ("max_user_namespaces", "0"),
    ("max_uts_namespaces", "0"),
];

/// The life of an init.
pub(crate) fn run(context: &Context, blank: Blank) -> ! {
    let Blank { control, group, kinds, handles, user } = blank;
    let result = announce(context, control.as_fd(), (kinds, handles), user)
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
) -> Result<fs::File, Failure> {
    set_pdeathsig(Signal::SIGKILL).during("detach")?;
    let _ = set_dumpable(false);
    fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE).during("set the memory priority of")?;
    let settings = enter_root(context).during("enter the root of")?;
    let namespace = user_namespace(user, &settings).during("make the user namespace of")?;
    context.filters.install_allowed().during("filter the system calls of")?;
    let borrowed: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
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
    install(&order, descriptors)?;
    group.limit_memory(order.memory_mib).during("limit the memory of")?;
    let cpu_share = group.cpu_share(order.cpu_millis).during("limit the CPU of")?;
    let listeners: Vec<_> =
        order.listeners.iter().map(listener).collect::<Result<_, _>>().during("make the listeners of")?;
    let (output, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).during("make the output of")?;

    drop(group);
    give_up(&namespace, context)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).during("block signals of")?;
    let program = start(&order, &writer)?;
    cpu_share.set().during("limit the CPU of")?;
    let descriptors: Vec<_> = [output.as_fd()].into_iter().chain(listeners.iter().map(AsFd::as_fd)).collect();
    send(control, &Report::Started, &descriptors, MsgFlags::empty()).during("report")?;
    close_all_from(0, &[control.as_raw_fd()]).during("close descriptors of")?;
    // Already closed, by number.
    std::mem::forget((output, writer, listeners, namespace));
    let exit = watch(control, program, &mask).during("watch")?;
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

/// Makes a user namespace in which the environment's user is the only one. A short-lived child holds it open meanwhile.
///
/// What is counted per user, such as inotify instances, is counted for the owner of a namespace as well: so the namespace is not
/// made by the host's root, who would soon have none left for himself, but by the environment's own user.
fn user_namespace(user: u32, settings: &fs::File) -> io::Result<fs::File> {
    let (ready, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match fork()? {
        Forked::Child => {
            let made = become_user_with_capabilities(user)
                .and_then(|()| unshare(CloneFlags::CLONE_NEWUSER))
                .and_then(|()| limit_namespace(settings));
            let error = made.err().map_or(0, |error| error as u8);
            let _ = nix::unistd::write(tell.as_fd(), &[error]);
            loop {
                nix::unistd::pause();
            }
        }
        Forked::Parent(child) => {
            drop(tell);
            let namespace = map_user(&fs::File::from(ready), child, user);
            kill(child, Signal::SIGKILL)?;
            waitpid(child, None)?;
            namespace
        }
    }
}

/// Sets the namespace's own limits: of this process, which has just made it and has every capability in it.
fn limit_namespace(settings: &fs::File) -> nix::Result<()> {
    for (name, most) in NAMESPACE_LIMITS {
        match write_at(settings.as_fd(), &format!("user/{name}"), most) {
            // Not in this kernel.
            Err(nix::errno::Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

fn map_user(mut ready: &fs::File, child: Pid, user: u32) -> io::Result<fs::File> {
    let mut status = [1_u8];
    ready.read_exact(&mut status)?;
    if status != [0] {
        let error = nix::errno::Errno::from_raw(i32::from(status[0]));
        return Err(io::Error::other(format!(
            "the kernel refuses new user namespaces (see user.max_user_namespaces): {}",
            error.desc()
        )));
    }
    let folder = format!("/proc/{child}");
    fs::write(format!("{folder}/setgroups"), "deny")?;
    fs::write(format!("{folder}/uid_map"), format!("{INSIDE_USER} {user} 1"))?;
    fs::write(format!("{folder}/gid_map"), format!("{INSIDE_GROUP} {user} 1"))?;
    fs::File::open(format!("{folder}/ns/user"))
}

/// Mounts and files of the order, then the root becomes read-only.
fn install(order: &Order, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
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
    restrict_mount(Path::new("/"), PLAIN).during("make read-only the root of")
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
    limit(Resource::RLIMIT_NOFILE, DESCRIPTORS_MAX).during(STEP)?;
    limit(Resource::RLIMIT_CORE, 0).during(STEP)?;
    setgroups(&[]).during(STEP)?;
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

/// Forks the program, and waits until it runs or could not.
fn start(order: &Order, output: &OwnedFd) -> Result<Pid, Failure> {
    const STEP: &str = "start the program of";
    let text = |text: &[u8]| CString::new(text).during(STEP);
    let program = text(order.program.as_os_str().as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in &order.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let mut variables = Vec::new();
    for (name, value) in &order.variables {
        variables.push(text(format!("{name}={value}").as_bytes())?);
    }
    let (problem, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).during(STEP)?;
    match fork().during(STEP)? {
        Forked::Child => {
            let error = match prepare_program(order, output) {
                Ok(()) => nix::unistd::execve(&program, &arguments, &variables).err(),
                Err(error) => Some(error),
            };
            let error = error.unwrap_or(nix::errno::Errno::UnknownErrno) as i32;
            let _ = nix::unistd::write(tell.as_fd(), &error.to_ne_bytes());
            exit_now(127)
        }
        Forked::Parent(child) => {
            drop(tell);
            let mut error = [0; 4];
            match fs::File::from(problem).read(&mut error) {
                Ok(0) => Ok(child),
                _ => {
                    let error = nix::errno::Errno::from_raw(i32::from_ne_bytes(error));
                    Err(error.desc()).during(EXECUTE)
                }
            }
        }
    }
}

/// The last steps before exec, in the program's own process.
fn prepare_program(order: &Order, output: &OwnedFd) -> nix::Result<()> {
    nix::unistd::setsid()?;
    for reset in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: the default action installs no handler.
        unsafe { signal(reset, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // Standard input is /dev/null since the maker; everything else closes on exec.
    nix::unistd::dup2_stdout(output)?;
    nix::unistd::dup2_stderr(output)?;
    nix::unistd::chdir(&order.working_directory)
}

/// Reaps until the program has ended.
fn watch(control: BorrowedFd<'_>, program: Pid, mask: &SigSet) -> nix::Result<Exit> {
    let children = SignalFd::with_flags(mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    loop {
        while let Some((ended, exit)) = reap() {
            if ended == program {
                return Ok(exit);
            }
        }
        let mut waiting =
            [PollFd::new(control, PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        while let Ok(Some(_)) = children.read_signal() {}
        match receive::<Command>(control, MsgFlags::MSG_DONTWAIT)? {
            Received::Packet(Command::Terminate, _) => drop(kill(program, Signal::SIGTERM)),
            Received::Packet(Command::Start(_), _) | Received::Nothing => {}
            Received::Closed => exit_now(0),
        }
    }
}
