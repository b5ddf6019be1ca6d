//! Which of the waiting commits are written together. Pure.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::engine::local::recent::RecentCommits;
use crate::error::StoreError;
use crate::limits::GROUP_BYTES;
use crate::transaction::{ReadSet, Writes};

/// Keys that one group writes before the next group begins: what one statement does in well under a second.
const GROUP_KEYS: usize = 20_000;

/// A transaction that wants to commit.
pub(super) struct Request {
    /// The last commit that its view has seen.
    pub(super) since: u64,
    pub(super) reads: ReadSet,
    pub(super) writes: Writes,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Request {
    /// Answers. That nobody waits for the answer any more is no error.
    pub(super) fn answer(self, result: Result<(), StoreError>) {
        let _ = self.answer.send(result);
    }
}

/// Commits that are written together, under one sequence number.
#[derive(Default)]
pub(super) struct Group {
    /// What they write in all; of two writes of a key the later one's.
    pub(super) writes: Writes,
    bytes: usize,
    members: Vec<Request>,
    /// They read what a member writes. They conflict, but are told only when it can be read: else they would run again
    /// too soon, and in vain.
    overtaken: Vec<Request>,
}

impl Group {
    /// Takes what fits from the front of `waiting`. Those that conflict with earlier commits are answered.
    pub(super) fn form(waiting: &mut VecDeque<Request>, recent: &RecentCommits) -> Self {
        let mut group = Self::default();
        while group.bytes < GROUP_BYTES
            && group.writes.len() < GROUP_KEYS
            && let Some(request) = waiting.pop_front()
        {
            if recent.conflicts(request.since, &request.reads) {
                request.answer(Err(StoreError::Conflict { attempts: 1 }));
            } else if touches(&group.writes, &request.reads) {
                group.overtaken.push(request);
            } else {
                for (key, value) in &request.writes {
                    group.bytes += key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len);
                    group.writes.insert(key.clone(), value.clone());
                }
                group.members.push(request);
            }
        }
        group
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Answers its members with `result`, and the overtaken with a conflict.
    pub(super) fn answer(self, result: &Result<(), StoreError>) {
        for request in self.members {
            request.answer(result.clone());
        }
        for request in self.overtaken {
            request.answer(Err(StoreError::Conflict { attempts: 1 }));
        }
    }

    /// Puts them all back to the front of the queue.
    pub(super) fn put_back(self, waiting: &mut VecDeque<Request>) {
        for request in self.members.into_iter().chain(self.overtaken).rev() {
            waiting.push_front(request);
        }
    }
}

/// Whether something of `reads` is written by `writes`.
fn touches(writes: &BTreeMap<crate::key::Key, Option<Bytes>>, reads: &ReadSet) -> bool {
    if writes.is_empty() {
        return false;
    }
    reads.keys.iter().any(|key| writes.contains_key(key))
        || reads.ranges.iter().any(|range| {
            // Not `contains` of both ends: a range may be empty.
            writes.range(range.start.clone()..).next().is_some_and(|(key, _)| range.contains(key))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, KeyRange};

    fn request(
        since: u64,
        reads: &[&'static str],
        ranges: &[(&'static str, &'static str)],
        writes: &[&'static str],
    ) -> (Request, oneshot::Receiver<Result<(), StoreError>>) {
        let (answer, answered) = oneshot::channel();
        let reads = ReadSet {
            keys: reads.iter().map(|key| Key::from(*key)).collect(),
            ranges: ranges.iter().map(|(start, end)| KeyRange::new((*start).into(), (*end).into())).collect(),
        };
        let writes = writes.iter().map(|key| (Key::from(*key), Some(Bytes::from_static(b"x")))).collect();
        (Request { since, reads, writes, answer }, answered)
    }

    #[test]
    fn who_read_what_a_member_writes_is_told_only_with_the_group() {
        let recent = RecentCommits::new(10);
        let (first, mut first_answer) = request(0, &[], &[], &["b"]);
        let (by_key, mut by_key_answer) = request(0, &["b"], &[], &["c"]);
        let (by_range, mut by_range_answer) = request(0, &[], &[("a", "z")], &["c"]);
        let (beside, mut beside_answer) = request(0, &["c"], &[("c", "d"), ("b", "b")], &["d"]);
        let mut waiting: VecDeque<_> = [first, by_key, by_range, beside].into();
        let group = Group::form(&mut waiting, &recent);
        assert_eq!(group.writes.keys().cloned().collect::<Vec<_>>(), [Key::from("b"), Key::from("d")]);
        for answer in [&mut first_answer, &mut by_key_answer, &mut by_range_answer, &mut beside_answer] {
            answer.try_recv().unwrap_err();
        }
        group.answer(&Ok(()));
        assert!(matches!(by_key_answer.try_recv(), Ok(Err(StoreError::Conflict { .. }))));
        assert!(matches!(by_range_answer.try_recv(), Ok(Err(StoreError::Conflict { .. }))));
        assert!(matches!(first_answer.try_recv(), Ok(Ok(()))));
        assert!(matches!(beside_answer.try_recv(), Ok(Ok(()))));
    }

    #[test]
    fn who_conflicts_with_an_earlier_commit_is_told_at_once_and_the_rest_can_wait_again() {
        let mut recent = RecentCommits::new(10);
        recent.record(7, [Key::from("a")].iter());
        let (stale, mut stale_answer) = request(6, &["a"], &[], &["b"]);
        let (fresh, _fresh_answer) = request(7, &["a"], &[], &["a"]);
        let (next, _next_answer) = request(7, &["a"], &[], &["b"]);
        let mut waiting: VecDeque<_> = [stale, fresh, next].into();
        let group = Group::form(&mut waiting, &recent);
        assert!(matches!(stale_answer.try_recv(), Ok(Err(StoreError::Conflict { .. }))));
        assert!(waiting.is_empty() && !group.is_empty());
        group.put_back(&mut waiting);
        assert_eq!(waiting.len(), 2);
    }
}
