//! The process that all inits are forked from.
//!
//! ```text
//! helper -- plan, the init's socket --> nursery -- clone as a sibling --> init: makes its blank (see [`super::maker`])
//!        <--------------- Cloned ----------/
//! ```
//!
//! It does nothing but fork, so it never waits, and it holds nothing but what inits need: a fork copies little, and what it
//! prepared once (system call filter, standard descriptors) they all inherit. An init is the helper's own child: it dies with the
//! helper, and the helper learns how it ended. If the nursery ends, the helper forks another when the next blank is to be made.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, getpid, getppid};

use super::Context;
use super::maker::{self, During, Failure, Plan, report_failure};
use crate::message::Report;
use crate::packet::{Received, receive, send};
use crate::system::{Forked, close_all_from, exit_now, fork, fork_init_for_parent, trim_heap};

/// The running one.
pub(crate) struct Nursery {
    process: Pid,
    socket: OwnedFd,
}

impl Nursery {
    /// Forks one.
    pub(crate) fn start(context: &Context) -> nix::Result<Nursery> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let helper = getpid();
        match fork()? {
            Forked::Child => {
                let status = match run(context, helper, &theirs) {
                    Ok(()) => 0,
                    Err(Failure { step, reason }) => {
                        eprintln!("sandbox helper: cannot {step} the nursery: {reason}");
                        1
                    }
                };
                exit_now(status)
            }
            Forked::Parent(process) => Ok(Nursery { process, socket }),
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Pid {
        self.process
    }

    /// Has an init forked that makes this blank and speaks through `control`; tells of it, or that there is none, through that.
    pub(crate) fn order(
        &self,
        plan: &Plan,
        control: BorrowedFd<'_>,
        namespace: Option<BorrowedFd<'_>>,
    ) -> nix::Result<()> {
        let descriptors: Vec<_> = [control].into_iter().chain(namespace).collect();
        send(self.socket.as_fd(), plan, &descriptors, MsgFlags::MSG_DONTWAIT)
    }
}

fn run(context: &Context, helper: Pid, socket: &OwnedFd) -> Result<(), Failure> {
    die_with(helper).during("detach")?;
    let _ = nix::sys::prctl::set_name(c"freehold-nurs");
    // Of everything the helper has open; nobody else uses it here.
    close_all_from(3, &[socket.as_raw_fd()]).during("close descriptors of")?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.during("open /dev/null for")?;
    nix::unistd::dup2_stdin(&null).during("close standard input of")?;
    nix::unistd::dup2_stdout(&null).during("close standard output of")?;
    nix::unistd::dup2_stderr(&null).during("close standard error of")?;
    drop(null);
    context.filters.install_allowed().during("filter the system calls of")?;
    trim_heap();
    loop {
        let (plan, descriptors) = match receive::<Plan>(socket.as_fd(), MsgFlags::empty()) {
            Ok(Received::Packet(plan, descriptors)) => (plan, descriptors),
            Ok(Received::Nothing) => continue,
            Ok(Received::Closed) => return Ok(()),
            Err(error) => return Err(error).during("order from"),
        };
        let mut descriptors = descriptors.into_iter();
        let Some(control) = descriptors.next() else { continue };
        match fork_init_for_parent() {
            Ok(Forked::Child) => {
                let _ = nix::unistd::close(socket.as_raw_fd());
                maker::run(context, &plan, control, descriptors.next())
            }
            Ok(Forked::Parent(init)) => {
                let report = Report::Cloned { init: init.as_raw() };
                // A helper that has thrown the environment away already does not listen.
                let _ = send(control.as_fd(), &report, &[], MsgFlags::empty());
            }
            Err(error) => {
                let failure = Failure { step: "clone the init of", reason: error.desc().to_owned() };
                report_failure(control.as_fd(), failure);
            }
        }
    }
}

/// Dies when the helper does, also if it has died already.
fn die_with(helper: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == helper { Ok(()) } else { Err(io::Error::other("the helper has ended")) }
}
