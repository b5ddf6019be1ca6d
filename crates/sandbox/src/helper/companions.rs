//! An environment in which further programs run beside its own.
//!
//! ```text
//! companions start --Started--> they run alone --Proceed--> the program starts --Proceeded--> all run --> killed from outside
//! ```
//!
//! Unlike an environment of one program, it does not end with it: who made it says when all is over. Each end is told.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::unistd::{Pid, pipe2};

use super::init::pass_socket;
use super::maker::{During, Failure};
use super::program::start;
use crate::message::{Command, EXECUTE, EXECUTE_COMPANION, Order, Report};
use crate::packet::{Received, receive, send};
use crate::system::{close_all_from, exit_now, reap};

/// From the first companion to the end. The program's output is `(its read end, its write end)`.
pub(super) fn live(
    control: BorrowedFd<'_>,
    order: &Order,
    (output, writer): (OwnedFd, OwnedFd),
    listeners: Vec<OwnedFd>,
    mask: &SigSet,
    share_cpu: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (own_output, own_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).during("make the output of")?;
    let mut companions = Vec::new();
    for index in 0..order.companions.programs.len() {
        companions.push(start_companion(order, index, &own_writer)?);
    }
    share_cpu()?;
    let first = [output.as_fd()].into_iter();
    let descriptors: Vec<_> =
        first.chain(listeners.iter().map(AsFd::as_fd)).chain([own_output.as_fd()]).collect();
    send(control, &Report::Started, &descriptors, MsgFlags::empty()).during("report")?;
    drop(descriptors);
    drop((output, listeners, own_output, own_writer));
    // Standard input, output and error are /dev/null: the program inherits the first.
    close_all_from(3, &[control.as_raw_fd(), writer.as_raw_fd()]).during("close descriptors of")?;
    let crew = Crew { companions, program: None, writer: Some(writer) };
    let Err(error) = crew.serve(control, order, mask);
    Err(error).during("watch")
}

fn start_companion(order: &Order, index: usize, output: &OwnedFd) -> Result<Pid, Failure> {
    let own = Order {
        program: order.companions.programs[index].clone(),
        arguments: Vec::new(),
        variables: order.companions.variables.clone(),
        working_directory: order.companions.working_directory.clone(),
        ..order.clone()
    };
    let started = start(&own, output, Vec::new());
    started.map(|started| started.process).map_err(|failure| match failure.step {
        EXECUTE => Failure { step: EXECUTE_COMPANION, reason: format!("{index} {}", failure.reason) },
        _ => failure,
    })
}

/// Who runs.
struct Crew {
    companions: Vec<Pid>,
    program: Option<Pid>,
    /// Where the program will write, until it is started.
    writer: Option<OwnedFd>,
}

impl Crew {
    /// Reaps, tells of each end, does what it is told. Ends with the helper.
    fn serve(
        mut self,
        control: BorrowedFd<'_>,
        order: &Order,
        mask: &SigSet,
    ) -> nix::Result<std::convert::Infallible> {
        let children = SignalFd::with_flags(mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        loop {
            while let Some((ended, exit)) = reap() {
                if self.program == Some(ended) {
                    self.program = None;
                    send(control, &Report::Exited(exit), &[], MsgFlags::empty())?;
                } else if let Some(index) = self.companions.iter().position(|process| *process == ended) {
                    // Its number may come again.
                    self.companions[index] = Pid::from_raw(0);
                    send(control, &Report::CompanionEnded { index, exit }, &[], MsgFlags::empty())?;
                }
            }
            let mut waiting =
                [PollFd::new(control, PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            while let Ok(Some(_)) = children.read_signal() {}
            match receive::<Command>(control, MsgFlags::MSG_DONTWAIT)? {
                Received::Packet(Command::Terminate, _) => {
                    if let Some(program) = self.program {
                        // One that has just ended is not there any more.
                        let _ = kill(program, Signal::SIGTERM);
                    }
                }
                Received::Packet(Command::Proceed, _) => self.begin(control, order)?,
                Received::Packet(Command::Socket, _) => pass_socket(control)?,
                Received::Packet(Command::Start(_), _) | Received::Nothing => {}
                Received::Closed => exit_now(0),
            }
        }
    }

    /// Starts the program, once. What it writes to is then its own.
    fn begin(&mut self, control: BorrowedFd<'_>, order: &Order) -> nix::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let failure = match start(order, &writer, Vec::new()) {
            Ok(started) => {
                self.program = Some(started.process);
                None
            }
            Err(failure) => Some((failure.step.to_owned(), failure.reason)),
        };
        send(control, &Report::Proceeded { failure }, &[], MsgFlags::empty())
    }
}
