//! The helper: the one process that clones, mounts and limits.
//!
//! - [`state`]: the state folder's lock, its record of cgroups, what a dead predecessor left
//! - [`registry`]: what all sandboxes of the host have made, so that any can clean up after a dead one
//! - [`stage`]: the read-only parts that all environments share, assembled once
//! - [`nursery`]: a forked child, from which all inits are forked
//! - [`maker`]: how an init makes its blank environment; nothing slow happens in the helper itself
//! - [`init`]: pid 1 of an environment: becomes what it is told, starts the [`program`], reaps
//! - [`companions`]: an environment in which further programs run beside its own
//! - [`user_namespace`]: how user namespaces are made; [`ordinary`]: what differs where the helper is not root
//! - [`capture`]: a forked child that takes the image of a process that waits to be captured
//! - [`table`]: the environments and what happens to them, each an [`entry`]; [`census`]: who is where; [`pool`]: how many blanks
//!   are kept ready; [`events`]: the loop that waits
//!
//! It has one thread, root's rights (or an ordinary user's, within a namespace of his own), an empty environment and no descriptor but its socket. It ignores the terminal's signals
//! and ends when the server's end of the socket is closed, however that came about, taking everything with it.

mod capture;
mod census;
mod companions;
mod entry;
mod events;
mod init;
mod maker;
mod nursery;
pub(crate) mod ordinary;
mod pool;
mod program;
mod registry;
mod stage;
mod state;
mod table;
mod user_namespace;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::MsgFlags;

use self::ordinary::{Substitutes, Users};
use crate::cgroup::detect::{Sources, detect};
use crate::cgroup::prepare::{Tops, is_writable, lacking, prepare};
use crate::cgroup::{Hierarchy, Roles};
use crate::disk::Template;
use crate::message::{Answer, Request};
use crate::network::Internet;
use crate::options::{self, Options, TMP_DEFAULT_MIB, TmpBacking};
use crate::packet::{Received, receive, send};
use crate::seccomp::Filters;
use crate::spec::Network;
use crate::system::{close_all_from, exit_now};

/// The argument with which the program re-executes itself.
pub const HELPER_ARGUMENT: &str = "sandbox-helper";

/// Everything that making an environment needs, set up once.
pub(crate) struct Context {
    options: Options,
    /// Whom environments are on the host.
    users: Users,
    /// What limits them where cgroups do not.
    substitutes: Substitutes,
    tops: Tops,
    stage: stage::Stage,
    /// Missing where `/tmp` is memory.
    template: Option<Template>,
    filters: Filters,
    /// Missing where all are isolated.
    internet: Option<Internet>,
}

/// Runs the helper. The program's `main` calls it before anything else when its first argument is [`HELPER_ARGUMENT`].
pub fn helper_main<I>(_arguments: I) -> !
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let status = match run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("sandbox helper: {error}");
            1
        }
    };
    exit_now(status)
}

fn run() -> io::Result<()> {
    let _ = nix::unistd::setsid();
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    // Standard input is the socket. Everything that the server had open is closed here, if it was not on exec.
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    close_all_from(3, &[std::os::fd::AsRawFd::as_raw_fd(&socket)])?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/")?;
    if nix::unistd::geteuid().is_root() {
        let _ = nix::sys::prctl::set_dumpable(false);
    }
    let _ = nix::sys::prctl::set_name(c"freehold-sandbx");

    let options = match receive::<Request>(socket.as_fd(), MsgFlags::empty())? {
        Received::Packet(Request::Hello(options), _) => options,
        _ => return Err(io::Error::other("the server did not introduce itself")),
    };
    match set_up(options) {
        Ok((context, state)) => {
            // Whatever goes wrong in the loop, everything that it made is removed.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                events::Events::new(socket, context).and_then(events::Events::run)
            }));
            state.finish();
            result.unwrap_or_else(|_| Err(io::Error::other("a mistake in the program")))
        }
        Err(reason) => {
            send(socket.as_fd(), &Answer::Refused { reason }, &[], MsgFlags::empty())?;
            Ok(())
        }
    }
}

/// What the helper may do, found out when it starts.
struct Right {
    users: Option<(Users, Substitutes)>,
    hierarchies: Vec<Hierarchy>,
    registry: PathBuf,
}

impl Right {
    /// Root's, or those of an ordinary user in his own namespace, which this process is in afterwards.
    fn take(options: &Options) -> Result<Right, String> {
        let user = nix::unistd::geteuid();
        // Before the namespace, in which an ordinary user is called root too.
        let hierarchies = hierarchies()?;
        if user.is_root() {
            return Ok(Right { users: None, hierarchies, registry: registry::FOLDER.into() });
        }
        let registry = ordinary::registry_folder(user, &options.state_dir);
        Ok(Right { users: Some(ordinary::enter(options, &hierarchies)?), hierarchies, registry })
    }
}

/// Checks and prepares everything that environments share.
fn set_up(options: Options) -> Result<(Context, state::State), String> {
    let right = Right::take(&options)?;
    raise_descriptor_limit();
    let mut state = state::State::open(&options.state_dir, &right.registry)?;
    match prepare_shared(options, right, &mut state) {
        Ok(context) => Ok((context, state)),
        Err(reason) => {
            state.finish();
            Err(reason)
        }
    }
}

fn prepare_shared(options: Options, right: Right, state: &mut state::State) -> Result<Context, String> {
    let Right { users, hierarchies, .. } = right;
    if users.is_none() {
        refuse_without_groups(&options, &hierarchies)?;
    }
    let (users, substitutes) =
        users.unwrap_or((Users::Unused { mark: state.mark() }, Substitutes::default()));
    state.take_over(&hierarchies)?;
    let tops = prepare(&hierarchies, &state.mark_text())
        .map_err(|error| format!("cannot prepare cgroups: {error}"))?;
    let internet = match options.network {
        Network::Isolated => None,
        Network::Internet => Some(state.connect(&options)?),
    };
    let resolvers = internet.as_ref().map(Internet::resolver_file).unwrap_or_default();
    let stage = stage::Stage::build(&options, &resolvers)
        .map_err(|error| format!("cannot assemble the base root: {error}"))?;
    let template = match options.tmp_backing {
        TmpBacking::Memory => None,
        TmpBacking::Disk => {
            let made = Template::make(&options.state_dir, stage.mount_point(), TMP_DEFAULT_MIB);
            Some(made.map_err(|reason| {
                format!(
                    "no disk-backed /tmp ({reason}); it needs loop devices, ext4 and mkfs.ext4 (package e2fsprogs), or \
                     /tmp in the function's own memory (freehold serve --function-tmp memory)"
                )
            })?)
        }
    };
    let filters = Filters::compile()?;
    crate::system::trim_heap();
    Ok(Context { users, substitutes, options, tops, stage, template, filters, internet })
}

/// As root all groups are needed; only the memory's can be waived.
fn refuse_without_groups(options: &Options, hierarchies: &[Hierarchy]) -> Result<(), String> {
    let Roles { memory, pids, cpu, freeze } = lacking(hierarchies);
    if memory && !options.allow_without_memory_limit {
        return Err("no cgroup hierarchy can limit memory: enable the memory controller (`cgroup_enable=memory` on the \
                    kernel's command line, or `Delegate=yes` for the service), or allow functions without a memory limit"
            .to_owned());
    }
    if pids || cpu || freeze {
        let names: Vec<_> = [(pids, "pids"), (cpu, "cpu"), (freeze, "freezer")]
            .iter()
            .filter(|(no, _)| *no)
            .map(|(_, name)| *name)
            .collect();
        return Err(format!(
            "no cgroup hierarchy offers: {}; mount or delegate these controllers",
            names.join(", ")
        ));
    }
    Ok(())
}

/// The hierarchies of this host that this user may use, for the helper and the doctor.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    Ok(detect(&Sources {
        mounts: &mounts,
        own: &own,
        root: std::path::Path::new("/"),
        delegated: &crate::system::is_delegated,
        writable: if nix::unistd::geteuid().is_root() { None } else { Some(&is_writable) },
    }))
}

/// Each environment takes about four of the helper's descriptors, and seven while it is a blank. Root may have more than it was
/// given.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const DESCRIPTORS: u64 = 8 * options::ENVIRONMENTS_MAX as u64;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && (hard >= DESCRIPTORS || setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).is_err())
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
