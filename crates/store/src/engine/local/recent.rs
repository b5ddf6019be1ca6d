//! Which keys were written lately: what a commit is validated against. Bounded; pure.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::key::Key;
use crate::transaction::ReadSet;

/// The last commits, newest last.
pub(crate) struct RecentCommits {
    commits: VecDeque<(u64, Vec<Key>)>,
    last_write: HashMap<Key, u64>,
    /// Keys in `commits`.
    keys: usize,
    limit: usize,
    /// Commits up to this one are forgotten.
    forgotten: u64,
}

impl RecentCommits {
    /// Remembers up to `limit` keys.
    pub(crate) fn new(limit: usize) -> Self {
        Self { commits: VecDeque::new(), last_write: HashMap::new(), keys: 0, limit, forgotten: 0 }
    }

    /// Forgets every commit up to `sequence`, the newest: what was read before it conflicts.
    pub(crate) fn forget(&mut self, sequence: u64) {
        *self = Self { forgotten: sequence, ..Self::new(self.limit) };
    }

    /// Whether something in `reads` was written by a commit after `since`, or may have been.
    pub(crate) fn conflicts(&self, since: u64, reads: &ReadSet) -> bool {
        if reads.keys.is_empty() && reads.ranges.is_empty() {
            return false;
        }
        if since < self.forgotten {
            return true;
        }
        let newer = |key| self.last_write.get(key).is_some_and(|&written| written > since);
        if reads.keys.iter().any(newer) {
            return true;
        }
        if reads.ranges.is_empty() {
            return false;
        }
        let commits = self.commits.iter().rev().take_while(|(sequence, _)| *sequence > since);
        commits.flat_map(|(_, keys)| keys).any(|key| reads.ranges.iter().any(|range| range.contains(key)))
    }

    /// Remembers that commit `sequence`, larger than all before, wrote `keys`.
    pub(crate) fn record<'a>(&mut self, sequence: u64, keys: impl Iterator<Item = &'a Key>) {
        // Copies, because a caller's key may be a slice that keeps something much larger in memory.
        let keys: Vec<Key> = keys.map(|key| Key::new(Bytes::copy_from_slice(key.as_bytes()))).collect();
        for key in &keys {
            self.last_write.insert(key.clone(), sequence);
        }
        self.keys += keys.len();
        self.commits.push_back((sequence, keys));
        while self.keys > self.limit
            && let Some((sequence, keys)) = self.commits.pop_front()
        {
            self.keys -= keys.len();
            self.forgotten = sequence;
            for key in &keys {
                if self.last_write.get(key) == Some(&sequence) {
                    self.last_write.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyRange;

    fn key(number: u8) -> Key {
        Key::new(vec![number])
    }

    #[test]
    fn what_is_older_than_the_memory_conflicts_unless_it_read_nothing() {
        let mut recent = RecentCommits::new(2);
        for sequence in 1..=4 {
            recent.record(sequence, [key(sequence as u8)].iter());
        }
        let reads = ReadSet { keys: [key(9)].into(), ranges: Vec::new() };
        assert!(recent.conflicts(1, &reads));
        assert!(!recent.conflicts(2, &reads));
        assert!(!recent.conflicts(0, &ReadSet::default()));
        assert_eq!(recent.last_write.len(), 2);
    }

    proptest! {
        /// Against the plain meaning: a conflict is a later commit that wrote what was read.
        #[test]
        fn finds_what_a_full_history_finds(
            history in prop::collection::vec(prop::collection::btree_set(0..12_u8, 1..4), 0..20),
            since in 0..20_u64,
            keys in prop::collection::hash_set(0..12_u8, 0..3),
            ranges in prop::collection::vec((0..12_u8, 0..12_u8), 0..3),
            limit in 5..60_usize,
        ) {
            let mut recent = RecentCommits::new(limit);
            for (index, written) in history.iter().enumerate() {
                let written: Vec<Key> = written.iter().map(|&number| key(number)).collect();
                recent.record(index as u64 + 1, written.iter());
            }
            let later = history.iter().skip(since as usize).flatten();
            let expected = later.clone().any(|number| {
                keys.contains(number) || ranges.iter().any(|(start, end)| (start..end).contains(&number))
            });
            let reads = ReadSet {
                keys: keys.iter().map(|&number| key(number)).collect(),
                ranges: ranges.iter().map(|&(start, end)| KeyRange::new(key(start), key(end))).collect(),
            };
            let found = recent.conflicts(since, &reads);
            prop_assert!(found || !expected, "a conflict was missed");
            if since >= recent.forgotten {
                prop_assert_eq!(found, expected);
            }
        }
    }
}
