//! The helper's loop: waits for the server, the environments, their memory events and ended children.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;

use super::Context;
use super::table::{Table, Watch};
use crate::message::{Command, Report, Request};
use crate::network::guard::Guard;
use crate::network::rules;
use crate::packet::{Received, receive, send};
use crate::system::reap;

/// How long the end waits for what the kernel does not let go of; the next start removes it then.
pub(crate) const CLOSING_TIME: Duration = Duration::from_secs(10);
/// Between two tries to remove a cgroup whose last process has just been reaped, in milliseconds.
const SWEEP_PAUSE_MS: u16 = 2;
/// Events taken at once.
const BATCH: usize = 64;

// What an event is for: one of the first three, or a slot times three, plus one for its memory event, plus two for what
// captures it.
const SERVER: u64 = 0;
const CHILDREN: u64 = 1;
const RULES: u64 = 2;
const SLOTS: u64 = 3;
const PER_SLOT: u64 = 3;

/// The loop and what it waits for.
pub(crate) struct Events {
    socket: OwnedFd,
    children: SignalFd,
    epoll: Epoll,
    guard: Option<Guard>,
    table: Table,
    closing: Option<Instant>,
}

impl Events {
    /// Prepares the loop.
    pub(crate) fn new(socket: OwnedFd, context: Context) -> io::Result<Events> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, SERVER))?;
        epoll.add(children.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, CHILDREN))?;
        let guard = context.internet.as_ref().map(|internet| Guard::new(internet.mark)).transpose()?;
        if let (Some(guard), Some(internet)) = (&guard, &context.internet) {
            epoll.add(guard.descriptor(), EpollEvent::new(EpollFlags::EPOLLIN, RULES))?;
            // They may have gone between being loaded and being watched.
            rules::load_again(internet).map_err(io::Error::other)?;
        }
        Ok(Events { socket, children, epoll, guard, table: Table::new(context), closing: None })
    }

    /// Runs until the server is gone and everything is removed.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            self.table.sweep();
            self.flush()?;
            if let Some(since) = self.closing {
                if self.table.is_empty() || since.elapsed() > CLOSING_TIME {
                    return Ok(());
                }
            } else {
                self.table.refill();
                self.flush()?;
            }
            let timeout = self.timeout();
            let mut events = [EpollEvent::empty(); BATCH];
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            // Children last: what an environment said before it ended counts.
            let mut children = false;
            for event in &events[..count] {
                match event.data() {
                    SERVER => self.server()?,
                    CHILDREN => children = true,
                    RULES => self.rules()?,
                    data => {
                        let slot = ((data - SLOTS) / PER_SLOT) as usize;
                        match (data - SLOTS) % PER_SLOT {
                            0 => self.environment(slot),
                            1 => self.memory(slot),
                            _ => self.capture(slot),
                        }
                    }
                }
                self.flush()?;
            }
            if children {
                self.children();
            }
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> EpollTimeout {
        match (self.table.is_sweeping(), self.closing, self.table.next_review()) {
            (true, ..) => EpollTimeout::from(SWEEP_PAUSE_MS),
            (false, Some(_), _) => EpollTimeout::from(100_u16),
            (false, None, None) => EpollTimeout::NONE,
            (false, None, Some(review)) => {
                let left = review.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    /// Sends the answers and waits for the new descriptors.
    fn flush(&mut self) -> io::Result<()> {
        for watch in std::mem::take(&mut self.table.watches) {
            let (slot, which, file) = match watch {
                Watch::Control(slot) => (slot, 0, self.table.control(slot)),
                Watch::Memory(slot) => (slot, 1, self.table.memory_event(slot)),
                Watch::Capture(slot) => (slot, 2, self.table.capture(slot)),
            };
            if let Some(file) = file {
                let data = SLOTS + PER_SLOT * slot as u64 + which;
                self.epoll.add(file, EpollEvent::new(EpollFlags::EPOLLIN, data))?;
            }
        }
        for (answer, descriptors) in std::mem::take(&mut self.table.answers) {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            // A server that is gone is noticed on the next read.
            let _ = send(self.socket.as_fd(), &answer, &borrowed, MsgFlags::empty());
        }
        Ok(())
    }

    fn server(&mut self) -> io::Result<()> {
        if self.closing.is_some() {
            return Ok(());
        }
        match receive::<Request>(self.socket.as_fd(), MsgFlags::MSG_DONTWAIT) {
            Ok(Received::Packet(Request::Start(order), descriptors)) => {
                self.table.start(order, descriptors);
            }
            Ok(Received::Packet(Request::Terminate { id }, _)) => self.table.pass_on(id, &Command::Terminate),
            Ok(Received::Packet(Request::Proceed { id }, _)) => self.table.pass_on(id, &Command::Proceed),
            Ok(Received::Packet(Request::Socket { id }, _)) => self.table.pass_on(id, &Command::Socket),
            Ok(Received::Packet(Request::Kill { id }, _)) => self.table.kill(id),
            Ok(Received::Nothing) => {}
            // The end, however it came; a server that talks nonsense is treated like a dead one.
            Ok(Received::Packet(Request::Shutdown | Request::Hello(_), _) | Received::Closed) | Err(_) => {
                self.closing = Some(Instant::now());
                self.epoll.delete(&self.socket)?;
                self.table.close();
            }
        }
        Ok(())
    }

    /// Somebody has changed rules of the host. Without ours nothing may go on: an error ends everything.
    fn rules(&self) -> io::Result<()> {
        match (&self.guard, self.table.internet()) {
            (Some(guard), Some(internet)) if guard.is_violated() => {
                eprintln!(
                    "sandbox helper: the firewall rules for functions were removed; they are loaded again"
                );
                rules::load_again(internet).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }

    fn environment(&mut self, slot: usize) {
        loop {
            let Some(control) = self.table.control(slot) else { return };
            match receive::<Report>(control.as_fd(), MsgFlags::MSG_DONTWAIT) {
                Ok(Received::Packet(report, descriptors)) => self.table.report(slot, report, descriptors),
                Ok(Received::Nothing) => return,
                Ok(Received::Closed) | Err(_) => return self.table.closed(slot),
            }
        }
    }

    fn capture(&mut self, slot: usize) {
        let Some(socket) = self.table.capture(slot) else { return };
        match receive::<Report>(socket.as_fd(), MsgFlags::MSG_DONTWAIT) {
            Ok(Received::Packet(report, descriptors)) => self.table.report(slot, report, descriptors),
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) | Err(_) => self.table.not_captured(slot, "it ended meanwhile".to_owned()),
        }
    }

    fn memory(&mut self, slot: usize) {
        if let Some(event) = self.table.memory_event(slot) {
            let mut count = [0; 8];
            if nix::unistd::read(event, &mut count).is_ok() {
                self.table.memory_ran_out(slot);
            }
        }
    }

    fn children(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        while let Some((process, _)) = reap() {
            self.table.reaped(process);
        }
    }
}
