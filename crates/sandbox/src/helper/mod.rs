//! The helper: the one process that clones, mounts and limits.
//!
//! - [`state`]: the state folder's lock, its record of cgroups, what a dead predecessor left
//! - [`registry`]: what all sandboxes of the host have made, so that any can clean up after a dead one
//! - [`stage`]: the read-only parts that all environments share, assembled once
//! - [`maker`]: a forked child that makes one blank environment, so that nothing slow happens in the helper itself
//! - [`init`]: pid 1 of an environment: becomes what it is told, starts the program, reaps
//! - [`table`]: the environments and what happens to them, each an [`entry`]; [`events`]: the loop that waits
//!
//! It has one thread, root's rights, an empty environment and no descriptor but its socket. It ignores the terminal's signals
//! and ends when the server's end of the socket is closed, however that came about, taking everything with it.

mod entry;
mod events;
mod init;
mod maker;
mod registry;
mod stage;
mod state;
mod table;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::MsgFlags;

use crate::cgroup::Roles;
use crate::cgroup::detect::{Sources, detect};
use crate::cgroup::prepare::{Tops, lacking, prepare};
use crate::disk::Template;
use crate::message::{Answer, Request};
use crate::network::Internet;
use crate::options::{ENVIRONMENTS_MAX, Options, TMP_DEFAULT_MIB, TmpBacking};
use crate::packet::{Received, receive, send};
use crate::seccomp::Filters;
use crate::spec::Network;
use crate::system::{close_all_from, exit_now};

/// The argument with which the program re-executes itself.
pub const HELPER_ARGUMENT: &str = "sandbox-helper";

/// Everything that making an environment needs, set up once.
pub(crate) struct Context {
    options: Options,
    /// Distinguishes this state folder's cgroups and user ids from another's.
    mark: u64,
    tops: Tops,
    stage: stage::Stage,
    /// Missing where `/tmp` is memory.
    template: Option<Template>,
    filters: Filters,
    /// Missing where all are isolated.
    internet: Option<Internet>,
}

impl Context {
    /// The host's user id of the environment in this slot.
    fn user(&self, slot: usize) -> u32 {
        const FIRST: u32 = 0x7000_0000;
        const SLOT_BITS: u32 = 12;
        const { assert!(ENVIRONMENTS_MAX < 1 << SLOT_BITS) }
        FIRST + ((self.mark as u32 & 0xffff) << SLOT_BITS) + slot as u32
    }
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
    let _ = nix::sys::prctl::set_dumpable(false);
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

/// Checks and prepares everything that environments share.
fn set_up(options: Options) -> Result<(Context, state::State), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err(
            "making environments needs root: run `freehold serve` as root (the functions themselves run as \
                    unprivileged users that exist nowhere else)"
                .to_owned(),
        );
    }
    raise_descriptor_limit();
    let mut state = state::State::open(&options.state_dir)?;
    match prepare_shared(options, &mut state) {
        Ok(context) => Ok((context, state)),
        Err(reason) => {
            state.finish();
            Err(reason)
        }
    }
}

fn prepare_shared(options: Options, state: &mut state::State) -> Result<Context, String> {
    let tops = control_groups(&options, state)?;
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
    Ok(Context { mark: state.mark(), options, tops, stage, template, filters: Filters::compile()?, internet })
}

/// Finds and prepares the cgroups, or says what is missing.
fn control_groups(options: &Options, state: &mut state::State) -> Result<Tops, String> {
    let hierarchies = hierarchies()?;
    let Roles { memory, pids, cpu, freeze } = lacking(&hierarchies);
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
    let mark = state.mark_text();
    state.take_over(&hierarchies)?;
    prepare(&hierarchies, &mark).map_err(|error| format!("cannot prepare cgroups: {error}"))
}

/// The hierarchies of this host, for the helper and the doctor.
pub(crate) fn hierarchies() -> Result<Vec<crate::cgroup::Hierarchy>, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let root = std::path::Path::new("/");
    Ok(detect(&Sources { mounts: &mounts, own: &own, root, delegated: &crate::system::is_delegated }))
}

/// Each environment takes about seven of the helper's descriptors.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
