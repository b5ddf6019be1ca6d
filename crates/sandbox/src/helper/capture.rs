//! Captures a template that waits at its gate, in a forked child of the helper, so that the helper never waits for it.
//!
//! The process that is captured may have run a customer's code: nothing that it says is trusted beyond what goes into its own image,
//! which only environments of the same function version, or of nobody's code at all, are started from.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use crate::image::Image;
use crate::message::Report;
use crate::packet::send;
use crate::system::{Forked, close_all_from, exit_now, fork};

/// Starts it. What comes of it is reported on the socket that this gives.
pub(super) fn start(process: &OwnedFd) -> nix::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    match fork()? {
        Forked::Parent(_) => Ok(ours),
        Forked::Child => {
            run(process, &theirs);
            exit_now(0)
        }
    }
}

fn run(process: &OwnedFd, socket: &OwnedFd) {
    let kept = [process.as_raw_fd(), socket.as_raw_fd()];
    let result = set_pdeathsig(Signal::SIGKILL)
        .and_then(|()| close_all_from(0, &kept))
        .and_then(|()| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None))
        .map_err(io::Error::from)
        .and_then(|()| capture(process.as_fd()));
    // A helper that is gone has no use for it.
    let _ = match result {
        Ok(image) => {
            let report = Report::Captured { bytes: image.bytes };
            send(socket.as_fd(), &report, &[image.memory.as_fd(), image.stub.as_fd()], MsgFlags::empty())
        }
        Err(error) => {
            let report = Report::NotCaptured { reason: error.to_string() };
            send(socket.as_fd(), &report, &[], MsgFlags::empty())
        }
    };
}

fn capture(process: BorrowedFd<'_>) -> io::Result<Image> {
    let image = Image::capture(number(process)?)?;
    // Its number was its own all the time, if it still lives.
    let mut ended = [PollFd::new(process, PollFlags::POLLIN)];
    match poll(&mut ended, PollTimeout::ZERO)? {
        0 => Ok(image),
        _ => Err(Errno::ESRCH.into()),
    }
}

/// The process's number, as this process counts.
fn number(process: BorrowedFd<'_>) -> io::Result<Pid> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    number.filter(|number| *number > 0).map(Pid::from_raw).ok_or_else(|| Errno::ESRCH.into())
}
