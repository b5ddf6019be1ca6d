//! The core under random schedules: with a window that holds everything, against a naive model of a queue; and with a tiny
//! window over a simulated store, where nothing may be lost, no order broken and no bound passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Core, Counts, Limits, OverLimit, Picked, Wanted};
use crate::queue::records::{MessageKey, MessageRecord};

const RETENTION_MS: u64 = 300;
const MAX_RECEIVES: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        group: u8,
        delay_ms: u64,
    },
    Advance {
        ms: u64,
    },
    Pick {
        messages: usize,
    },
    /// What is in transit is written as received.
    Settle {
        which: usize,
        visibility_ms: u64,
    },
    PutBack {
        which: usize,
    },
    Acknowledge {
        which: usize,
    },
    GiveBack {
        which: usize,
        delay_ms: u64,
    },
    Read,
    /// A page is read, and before it is told a message is acknowledged and time passes.
    ReadAndAcknowledge {
        which: usize,
    },
    /// What waits to be told is forgotten, and all is to be read again.
    Reset,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3_u8, prop_oneof![3 => Just(0), 1 => 1..60_u64])
            .prop_map(|(group, delay_ms)| Step::Send { group, delay_ms }),
        2 => (1..40_u64).prop_map(|ms| Step::Advance { ms }),
        4 => (1..5_usize).prop_map(|messages| Step::Pick { messages }),
        4 => (any::<usize>(), 0..50_u64)
            .prop_map(|(which, visibility_ms)| Step::Settle { which, visibility_ms }),
        1 => any::<usize>().prop_map(|which| Step::PutBack { which }),
        3 => any::<usize>().prop_map(|which| Step::Acknowledge { which }),
        1 => (any::<usize>(), 0..50_u64).prop_map(|(which, delay_ms)| Step::GiveBack { which, delay_ms }),
        3 => Just(Step::Read),
        1 => any::<usize>().prop_map(|which| Step::ReadAndAcknowledge { which }),
        1 => Just(Step::Reset),
    ]
}

/// The store, and what a naive queue knows: all of it.
struct World {
    fifo: bool,
    now_ms: u64,
    core: Core,
    stored: BTreeMap<MessageKey, MessageRecord>,
    transit: BTreeMap<MessageKey, MessageRecord>,
    /// Sent, and not yet told to the core.
    untold: BTreeSet<MessageKey>,
    limits: Limits,
    sent: u64,
    nonce: u64,
}

impl World {
    fn new(fifo: bool, limits: Limits) -> Self {
        let core = Core::new(fifo, RETENTION_MS, limits);
        let (stored, transit, untold) = Default::default();
        Self { fifo, now_ms: 1_000, core, stored, transit, untold, limits, sent: 0, nonce: 0 }
    }

    fn expired(&self, record: &MessageRecord) -> bool {
        record.kept_since_ms + RETENTION_MS <= self.now_ms
    }

    fn send(&mut self, group: u8, delay_ms: u64) {
        self.sent += 1;
        let group = if self.fifo { format!("group {group}") } else { String::new() };
        let mut order = self.sent;
        if !self.fifo {
            // Committed later than some with a higher number.
            order ^= 3;
        }
        let key = MessageKey { group: Arc::from(group), order, tie: 0 };
        let delay_ms = if self.fifo { delay_ms / 20 } else { delay_ms };
        self.stored.insert(key.clone(), MessageRecord::sent(self.now_ms, delay_ms, 1));
        self.untold.insert(key);
    }

    fn tell(&mut self) {
        for key in std::mem::take(&mut self.untold) {
            if let Some(record) = self.stored.get(&key) {
                self.core.learn(self.now_ms, &key, record.clone());
            }
        }
    }

    /// Reads one page, if the core wants one.
    fn read(&mut self, acknowledge: Option<usize>) -> bool {
        let Some(fill) = self.core.wants() else { return false };
        self.core.begin_reading();
        let of_group = |key: &MessageKey| fill.group.as_ref().is_none_or(|group| key.group == *group);
        let page: Vec<_> = self
            .stored
            .range(&fill.from..)
            .filter(|(key, _)| of_group(key))
            .take(self.limits.page)
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect();
        if let Some(which) = acknowledge {
            self.acknowledge(which);
            self.now_ms += (which % 40) as u64;
            self.core.tick(self.now_ms);
        }
        let end = page.len() < self.limits.page;
        self.core.filled(self.now_ms, &fill, page, end);
        self.core.end_reading();
        true
    }

    fn pick(&mut self, messages: usize) -> Vec<Picked> {
        let wanted = Wanted { messages, bytes: 1_000, max_receives: Some(MAX_RECEIVES) };
        let picked = self.core.pick(self.now_ms, wanted).unwrap_or_default();
        for picked in &picked {
            self.check_picked(picked);
            self.transit.insert(picked.key.clone(), picked.record.clone());
        }
        picked
    }

    fn check_picked(&self, picked: &Picked) {
        let stored = &self.stored[&picked.key];
        assert_eq!(*stored, picked.record, "picked as it was written");
        assert!(!self.transit.contains_key(&picked.key), "picked twice");
        assert!(stored.visible_at_ms <= self.now_ms, "picked while it is invisible");
        assert!(!self.expired(stored), "picked although expired");
        assert_eq!(picked.dead, stored.receives >= MAX_RECEIVES);
    }

    /// Within one pick, a FIFO group's messages follow each other, and nothing of it is left before them or in flight.
    fn check_order(&self, picked: &[Picked]) {
        if !self.fifo {
            return;
        }
        let taken: BTreeSet<&MessageKey> = picked.iter().map(|picked| &picked.key).collect();
        for key in &taken {
            for (other, record) in self.stored.iter().filter(|(other, _)| other.group == key.group) {
                let out = record.nonce.is_some() && record.visible_at_ms > self.now_ms;
                let out = out && !self.expired(record);
                assert!(!out || taken.contains(other), "{key:?} was picked while {other:?} is in flight");
                let before = other < *key && !taken.contains(other) && !self.expired(record);
                assert!(!before, "{key:?} was picked before {other:?}");
            }
        }
        assert!(picked.is_sorted_by(|one, next| { one.key.group != next.key.group || one.key < next.key }));
    }

    fn settle(&mut self, which: usize, visibility_ms: u64) {
        let Some(key) = nth(self.transit.keys(), which) else { return };
        self.transit.remove(&key);
        self.nonce += 1;
        let Some(record) = self.stored.get_mut(&key) else { return };
        *record = record.received(self.now_ms, visibility_ms, self.nonce);
        self.core.update(self.now_ms, &key, record.clone());
    }

    fn put_back(&mut self, which: usize) {
        let Some(key) = nth(self.transit.keys(), which) else { return };
        self.transit.remove(&key);
        self.core.put_back(self.now_ms, &key);
    }

    fn in_flight(&self, which: usize) -> Option<MessageKey> {
        let out = |record: &MessageRecord| record.nonce.is_some() && record.visible_at_ms > self.now_ms;
        nth(self.stored.iter().filter(|(_, record)| out(record)).map(|(key, _)| key), which)
    }

    fn acknowledge(&mut self, which: usize) {
        let Some(key) = self.in_flight(which) else { return };
        self.stored.remove(&key);
        self.core.remove(&key);
    }

    fn give_back(&mut self, which: usize, delay_ms: u64) {
        let Some(key) = self.in_flight(which) else { return };
        let record = self.stored.get_mut(&key).unwrap();
        *record = MessageRecord {
            visible_at_ms: self.now_ms + delay_ms,
            nonce: None,
            version: record.version + 1,
            ..record.clone()
        };
        let older = MessageRecord { version: record.version - 1, visible_at_ms: 9, ..record.clone() };
        self.core.update(self.now_ms, &key, record.clone());
        self.core.update(self.now_ms, &key, older);
    }

    /// Deletes what the core says has expired.
    fn collect(&mut self) {
        self.core.tick(self.now_ms);
        for key in self.core.take_expired(usize::MAX) {
            // It may have been acknowledged meanwhile.
            if let Some(record) = self.stored.remove(&key) {
                assert!(self.expired(&record));
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { group, delay_ms } => self.send(group, delay_ms),
            Step::Advance { ms } => self.now_ms += ms,
            Step::Pick { messages } => {
                let picked = self.pick(messages);
                self.check_order(&picked);
            }
            Step::Settle { which, visibility_ms } => self.settle(which, visibility_ms),
            Step::PutBack { which } => self.put_back(which),
            Step::Acknowledge { which } => self.acknowledge(which),
            Step::GiveBack { which, delay_ms } => self.give_back(which, delay_ms),
            Step::Read => {
                self.tell();
                self.read(None);
            }
            Step::ReadAndAcknowledge { which } => {
                self.read(Some(which));
            }
            Step::Reset => {
                self.untold.clear();
                self.core.read_again();
            }
        }
    }

    /// What a naive queue would give out, in order.
    fn expected(&self, messages: usize) -> Vec<MessageKey> {
        let ready = |key: &MessageKey| {
            self.stored[key].visible_at_ms <= self.now_ms && !self.transit.contains_key(key)
        };
        let mut heads: Vec<(u64, Vec<MessageKey>)> = Vec::new();
        let groups: BTreeSet<&Arc<str>> = self.stored.keys().map(|key| &key.group).collect();
        for group in groups {
            let members: Vec<&MessageKey> = self.stored.keys().filter(|key| key.group == *group).collect();
            if !self.fifo {
                let listed = members.into_iter().filter(|key| ready(key));
                heads.extend(listed.map(|key| (self.stored[key].visible_at_ms, vec![key.clone()])));
                continue;
            }
            let out = |key: &MessageKey| {
                let record = &self.stored[key];
                self.transit.contains_key(key)
                    || (record.nonce.is_some() && record.visible_at_ms > self.now_ms)
            };
            if members.iter().any(|key| out(key)) {
                continue;
            }
            let mut run: Vec<MessageKey> = Vec::new();
            for key in members.into_iter().take_while(|key| ready(key)) {
                run.push(key.clone());
                if self.stored[key].receives >= MAX_RECEIVES {
                    break;
                }
            }
            heads.extend(run.first().cloned().map(|head| (self.stored[&head].visible_at_ms, run)));
        }
        heads.sort();
        heads.into_iter().flat_map(|(_, run)| run).take(messages).collect()
    }

    fn expected_counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (key, record) in &self.stored {
            let visible = record.visible_at_ms <= self.now_ms;
            *match (self.transit.contains_key(key), visible, record.nonce) {
                (true, ..) | (_, false, Some(_)) => &mut counts.in_flight,
                (_, false, None) => &mut counts.delayed,
                (_, true, _) => &mut counts.visible,
            } += 1;
        }
        counts
    }

    /// Works on until nothing is left. Each round takes something, or lets time pass until something is visible.
    fn drain(&mut self) {
        for key in std::mem::take(&mut self.transit).into_keys() {
            self.core.put_back(self.now_ms, &key);
        }
        let rounds = 20 * (self.stored.len() + 5);
        for _ in 0..rounds {
            self.tell();
            let reads = (0..rounds).take_while(|_| self.read(None)).count();
            assert!(reads < rounds, "it never stops reading: {:?}", self.core);
            self.collect();
            let picked = self.pick(2);
            self.check_order(&picked);
            if picked.is_empty() {
                self.now_ms += 10;
            }
            for picked in picked {
                self.transit.remove(&picked.key);
                self.stored.remove(&picked.key).unwrap();
                self.core.remove(&picked.key);
            }
            if self.stored.is_empty() {
                return;
            }
        }
        panic!("never given out: {:?}\n{:?}", self.stored, self.core);
    }
}

fn nth<'a>(keys: impl Iterator<Item = &'a MessageKey> + Clone, which: usize) -> Option<MessageKey> {
    let count = keys.clone().count();
    keys.clone().nth(which.checked_rem(count)?).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_window_that_holds_all_does_what_a_naive_queue_does(
        fifo: bool,
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let mut world = World::new(fifo, Limits::default());
        world.read(None);
        for step in steps {
            if matches!(step, Step::Reset) {
                continue;
            }
            world.step(step);
            world.tell();
            world.collect();
            let gone: Vec<_> = world.transit.keys().filter(|key| !world.stored.contains_key(key)).cloned().collect();
            world.transit.retain(|key, _| !gone.contains(key));
            prop_assert_eq!(world.core.counts(), world.expected_counts(), "after {:?}", step);
            if let Step::Pick { messages } = step {
                let expected = world.expected(messages);
                let picked: Vec<_> = world.pick(messages).into_iter().map(|picked| picked.key).collect();
                prop_assert_eq!(picked, expected);
            }
        }
    }

    #[test]
    fn a_small_window_loses_nothing_and_keeps_order_and_bounds(
        fifo: bool,
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        let limits = Limits { ready: 4, delayed: 3, loaded: 7, group: 3, in_flight: 5, expired: 2, page: 2 };
        let mut world = World::new(fifo, limits);
        for step in steps {
            world.step(step);
            let bound = if fifo { limits.loaded } else { limits.ready + limits.delayed + limits.in_flight };
            prop_assert!(world.core.loaded() <= bound);
            prop_assert!(world.core.counts().in_flight <= limits.in_flight);
        }
        world.drain();
    }
}

#[test]
fn in_flight_messages_have_a_limit_and_whoever_waits_for_it_is_woken() {
    for fifo in [false, true] {
        let limits = Limits { in_flight: 2, ..Limits::default() };
        let mut world = World::new(fifo, limits);
        world.read(None);
        (0..3).for_each(|group| world.send(group, 0));
        world.tell();
        let picked = world.pick(3);
        assert_eq!(picked.len(), 2);
        world.core.take_signals();
        let wanted = Wanted { messages: 1, bytes: 1, max_receives: None };
        let refused = if fifo { Ok(Vec::new()) } else { Err(OverLimit) };
        assert_eq!(world.core.pick(world.now_ms, wanted), refused);
        assert!(!world.core.has_available());
        world.core.remove(&picked[0].key);
        assert!(world.core.take_signals().available > 0);
        assert_eq!(world.core.pick(world.now_ms, wanted).map(|picked| picked.len()), Ok(1));
    }
}
