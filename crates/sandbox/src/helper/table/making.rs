//! Has blanks made: those that orders wait for, and those that are kept ready.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::super::entry::{Entry, Kind};
use super::super::maker::Plan;
use super::super::nursery::Nursery;
use super::{Table, Watch};
use crate::message::Answer;
use crate::spec::Network;

/// Blanks that are being made at the same time: most of that time the kernel lets them wait for its grace periods.
const MAKERS_MAX: usize = 32;
/// The same ahead of need, while nobody waits for an environment.
const REFILLING_MAX: usize = 4;
/// The same while others are being started, which have the processors before it.
const REFILLING_BESIDE_MAX: usize = 1;

impl Table {
    /// Has made what orders wait for; the kind of which the fewest are being made comes first.
    pub(super) fn make_missing(&mut self) {
        while self.census.making_all() < MAKERS_MAX {
            let behind =
                self.waiting.iter().map(|(kind, queue)| (self.census.making(*kind), queue.len(), *kind));
            let next = behind.filter(|(making, waiting, _)| making < waiting).min();
            let Some((_, _, kind)) = next else { return };
            if !self.has_room() {
                // A blank that nobody asked for makes room; its end comes back here.
                match self.census.any_blank() {
                    Some(surplus) => return self.end(surplus),
                    None if self.is_sweeping() => return,
                    None => {}
                }
            }
            if !self.make(kind) {
                return;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.census.free_slot(self.context.options.slots()).is_some()
    }

    /// Fills the pool, or lets go of what is surplus.
    pub(crate) fn refill(&mut self) {
        if self.closing {
            return;
        }
        let kind = Kind::usual(&self.context.options);
        if self.pool.review(Instant::now(), self.census.ready(kind)) {
            self.spares.shrink(self.pool.target());
        }
        while self.ready_told
            && self.census.ready(kind) > self.pool.target()
            && let Some(surplus) = self.census.blank(kind)
        {
            // The very first, which proves that everything works here, stays even without a pool.
            if self.pool.target() == 0 {
                break;
            }
            self.end(surplus);
        }
        if !self.waiting.is_empty() || self.pool_paused {
            return;
        }
        let wanted = if self.ready_told { self.pool.target() } else { self.pool.target().max(1) };
        let beside = match (self.ready_told, self.census.starting(), self.census.ready(kind)) {
            (false, ..) => 1,
            (_, 0, _) => REFILLING_MAX,
            (_, _, 0) => REFILLING_BESIDE_MAX,
            _ => 0,
        };
        while self.census.ready(kind) + self.census.making(kind) < wanted
            && self.census.making_all() < beside
            && self.has_room()
        {
            if !self.make(kind) {
                return;
            }
        }
    }

    /// Has a blank made. False where the host has no room for one: what waits is answered.
    fn make(&mut self, kind: Kind) -> bool {
        match self.try_make(kind) {
            Ok(()) => true,
            Err(error) => {
                self.making_failed(kind, "make".to_owned(), error.desc().to_owned());
                false
            }
        }
    }

    fn try_make(&mut self, kind: Kind) -> nix::Result<()> {
        let slot = self.census.free_slot(self.context.options.slots()).ok_or(Errno::ENOSPC)?;
        self.serial += 1;
        let name = format!("e{}", self.serial);
        let link = match kind.network {
            Network::Isolated => None,
            Network::Internet => Some(self.free_link().ok_or(Errno::ENETUNREACH)?),
        };
        let user = self.context.users.of(slot);
        let (spare, volume) = self.spares.take(kind.tmp_mib).unzip();
        let plan = Plan { name: name.clone(), user, tmp_mib: kind.tmp_mib, link, volume };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        self.order(&plan, theirs, slot)?;
        self.census.insert(slot, Entry { spare, ..Entry::new(name, kind, link, ours) });
        self.watches.push(Watch::Control(slot));
        Ok(())
    }

    /// Gives a plan to the nursery: to a new one, if it has ended.
    fn order(&mut self, plan: &Plan, control: OwnedFd, slot: usize) -> nix::Result<()> {
        let namespace = self.namespaces.get(&slot).map(AsFd::as_fd);
        if let Some(nursery) = &self.nursery
            && nursery.order(plan, control.as_fd(), namespace).is_ok()
        {
            return Ok(());
        }
        let nursery = self.nursery.insert(Nursery::start(&self.context)?);
        nursery.order(plan, control.as_fd(), namespace)
    }

    /// The number of a pair of interfaces that has not been used for long: the kernel may still be removing the last ones, and
    /// remember connections of their address.
    fn free_link(&mut self) -> Option<u32> {
        let count = self.context.internet.as_ref()?.range.environments() as u32;
        let link = (0..count)
            .map(|step| (self.next_link + step) % count)
            .find(|link| !self.census.has_link(*link))?;
        self.next_link = link + 1;
        Some(link)
    }

    /// A blank could not be made: the order that it was for fails, or the host is refused.
    pub(super) fn making_failed(&mut self, kind: Kind, step: String, reason: String) {
        self.pool_paused = true;
        if !self.ready_told {
            let reason = format!("a trial environment failed: cannot {step} it: {reason}");
            self.answers.push((Answer::Refused { reason }, vec![]));
            self.ready_told = true;
        }
        if let Some(waiting) = self.next_order(kind) {
            self.answers.push((Answer::Failed { id: waiting.order.id, step, reason }, vec![]));
        }
    }
}
