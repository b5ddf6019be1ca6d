//! Who is where: the environments, by slot, by the server's number, by their init, by what they wait for.
//!
//! Everything that the table asks on an event is answered without looking at every environment, of which there are thousands.
//! Whatever changes an entry's stage, number or init goes through here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nix::unistd::Pid;

use super::entry::{Entry, Kind, Stage};

/// The environments.
#[derive(Default)]
pub(crate) struct Census {
    entries: BTreeMap<usize, Entry>,
    /// Slots below `used` that are free again.
    free: BTreeSet<usize>,
    /// Slots that were ever used.
    used: usize,
    ids: HashMap<u64, usize>,
    inits: HashMap<i32, usize>,
    links: BTreeSet<u32>,
    making: BTreeMap<Kind, usize>,
    making_all: usize,
    blanks: BTreeMap<Kind, BTreeSet<usize>>,
    starting: usize,
    unborn: usize,
    ended: BTreeSet<usize>,
}

impl Census {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The slots in use.
    pub(crate) fn slots(&self) -> Vec<usize> {
        self.entries.keys().copied().collect()
    }

    /// The lowest free slot below a limit.
    pub(crate) fn free_slot(&self, limit: usize) -> Option<usize> {
        let slot = self.free.first().copied().unwrap_or(self.used);
        (slot < limit).then_some(slot)
    }

    /// Takes in a new one, which is being made.
    pub(crate) fn insert(&mut self, slot: usize, entry: Entry) {
        debug_assert!(entry.stage == Stage::Making && entry.id.is_none() && entry.init.is_none());
        self.free.remove(&slot);
        self.free.extend(self.used..slot);
        self.used = self.used.max(slot + 1);
        self.links.extend(entry.link);
        self.enter(slot, entry.stage, entry.kind);
        self.unborn += usize::from(entry.unborn);
        self.entries.insert(slot, entry);
    }

    /// Lets one go.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.entries.remove(&slot)?;
        self.leave(slot, entry.stage, entry.kind);
        self.ended.remove(&slot);
        self.unborn -= usize::from(entry.unborn);
        entry.id.map(|id| self.ids.remove(&id));
        entry.init.map(|init| self.inits.remove(&init.as_raw()));
        entry.link.map(|link| self.links.remove(&link));
        self.free.insert(slot);
        Some(entry)
    }

    /// One of them.
    pub(crate) fn get(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(&slot)
    }

    /// One of them, to change what is not looked up by.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.entries.get_mut(&slot)
    }

    /// Its stage is another one now.
    pub(crate) fn set_stage(&mut self, slot: usize, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let (before, kind) = (std::mem::replace(&mut entry.stage, stage), entry.kind);
        self.leave(slot, before, kind);
        self.enter(slot, stage, kind);
        self.settle(slot);
    }

    /// The server's number for it.
    pub(crate) fn set_id(&mut self, slot: usize, id: u64) {
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.id = Some(id);
            self.ids.insert(id, slot);
        }
    }

    /// Its init is known, or there is none.
    pub(crate) fn set_init(&mut self, slot: usize, init: Option<Pid>) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        self.unborn -= usize::from(std::mem::take(&mut entry.unborn));
        entry.init = init;
        init.map(|init| self.inits.insert(init.as_raw(), slot));
        self.settle(slot);
    }

    /// This process has ended. False if it is nobody's init.
    pub(crate) fn reaped(&mut self, process: Pid) -> bool {
        let Some(slot) = self.inits.remove(&process.as_raw()) else { return false };
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.init = None;
        }
        self.settle(slot);
        true
    }

    /// Which one the server calls so.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    /// Whether a pair of interfaces is in use.
    pub(crate) fn has_link(&self, link: u32) -> bool {
        self.links.contains(&link)
    }

    /// How many of a kind are being made.
    pub(crate) fn making(&self, kind: Kind) -> usize {
        self.making.get(&kind).copied().unwrap_or(0)
    }

    /// How many are being made.
    pub(crate) fn making_all(&self) -> usize {
        self.making_all
    }

    /// How many are being started.
    pub(crate) fn starting(&self) -> usize {
        self.starting
    }

    /// How many there are of which the nursery has not yet told the init.
    pub(crate) fn unborn(&self) -> usize {
        self.unborn
    }

    /// How many of a kind stand ready.
    pub(crate) fn ready(&self, kind: Kind) -> usize {
        self.blanks.get(&kind).map_or(0, BTreeSet::len)
    }

    /// One of a kind that stands ready.
    pub(crate) fn blank(&self, kind: Kind) -> Option<usize> {
        self.blanks.get(&kind)?.first().copied()
    }

    /// One of whatever kind that stands ready.
    pub(crate) fn any_blank(&self) -> Option<usize> {
        self.blanks.values().next()?.first().copied()
    }

    /// Those that are to be ended, and of which no process is left.
    pub(crate) fn ended(&self) -> &BTreeSet<usize> {
        &self.ended
    }

    fn enter(&mut self, slot: usize, stage: Stage, kind: Kind) {
        match stage {
            Stage::Making => {
                *self.making.entry(kind).or_default() += 1;
                self.making_all += 1;
            }
            Stage::Blank => drop(self.blanks.entry(kind).or_default().insert(slot)),
            Stage::Starting => self.starting += 1,
            Stage::Running | Stage::Ending => {}
        }
    }

    fn leave(&mut self, slot: usize, stage: Stage, kind: Kind) {
        match stage {
            Stage::Making => {
                self.making_all -= 1;
                if let Some(count) = self.making.get_mut(&kind) {
                    *count -= 1;
                    if *count == 0 {
                        self.making.remove(&kind);
                    }
                }
            }
            Stage::Blank => {
                if let Some(slots) = self.blanks.get_mut(&kind) {
                    slots.remove(&slot);
                    if slots.is_empty() {
                        self.blanks.remove(&kind);
                    }
                }
            }
            Stage::Starting => self.starting -= 1,
            Stage::Running | Stage::Ending => {}
        }
    }

    fn settle(&mut self, slot: usize) {
        let Some(entry) = self.entries.get(&slot) else { return };
        if entry.stage == Stage::Ending && !entry.unborn && entry.init.is_none() {
            self.ended.insert(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Network;

    fn entry(tmp_mib: u32) -> Entry {
        let kind = Kind { tmp_mib, network: Network::Isolated };
        let null = std::fs::File::open("/dev/null").unwrap();
        Entry::new("e".to_owned(), kind, None, null.into())
    }

    /// Every answer against what a look at all entries gives, over a long random life.
    #[test]
    fn the_answers_are_those_of_a_look_at_all() {
        let mut census = Census::default();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for step in 0..20_000_u64 {
            let slot = random(12) as usize;
            match random(7) {
                0 | 1 => {
                    let free = census.free_slot(12);
                    let lowest = (0..12).find(|slot| census.get(*slot).is_none());
                    assert_eq!(free, lowest, "step {step}");
                    if let Some(free) = free {
                        census.insert(free, entry(512 + random(2) as u32));
                    }
                }
                2 if census.get(slot).is_some_and(|entry| entry.stage != Stage::Ending) => {
                    let stages = [Stage::Blank, Stage::Starting, Stage::Running, Stage::Ending];
                    census.set_stage(slot, stages[random(4) as usize]);
                }
                3 if census.get(slot).is_some_and(|entry| entry.unborn) => {
                    census.set_init(slot, Some(Pid::from_raw(step as i32 + 1)));
                }
                4 if census.get(slot).is_some_and(|entry| entry.id.is_none()) => census.set_id(slot, step),
                5 => {
                    if let Some(init) = census.get(slot).and_then(|entry| entry.init) {
                        assert!(census.reaped(init) && !census.reaped(init));
                    }
                }
                6 if census.ended().contains(&slot) => drop(census.remove(slot)),
                _ => {}
            }
            check(&census);
        }
    }

    fn check(census: &Census) {
        let all: Vec<(usize, &Entry)> =
            census.slots().into_iter().map(|slot| (slot, census.get(slot).unwrap())).collect();
        let count = |wanted: &dyn Fn(&Entry) -> bool| all.iter().filter(|(_, entry)| wanted(entry)).count();
        assert_eq!(census.making_all(), count(&|entry| entry.stage == Stage::Making));
        assert_eq!(census.starting(), count(&|entry| entry.stage == Stage::Starting));
        for tmp_mib in [512, 513] {
            let kind = Kind { tmp_mib, network: Network::Isolated };
            let of = |stage| count(&|entry| entry.stage == stage && entry.kind == kind);
            assert_eq!((census.making(kind), census.ready(kind)), (of(Stage::Making), of(Stage::Blank)));
            assert_eq!(census.blank(kind).is_some(), of(Stage::Blank) > 0);
        }
        let is_over = |entry: &Entry| entry.stage == Stage::Ending && !entry.unborn && entry.init.is_none();
        let ended: Vec<usize> = census.ended().iter().copied().collect();
        let over: Vec<usize> =
            all.iter().filter(|(_, entry)| is_over(entry)).map(|(slot, _)| *slot).collect();
        assert_eq!(over, ended);
        assert_eq!(census.unborn(), count(&|entry| entry.unborn));
        for (slot, entry) in &all {
            assert!(entry.id.is_none_or(|id| census.find(id) == Some(*slot)));
        }
    }
}
