//! Transactions and snapshots, the same on every engine.
//!
//! A [`Transaction`] reads from one consistent view, keeps its writes to itself, and remembers what it read: keys, and
//! ranges as far as a scan really went. At commit the engine applies the writes only if all that still holds. A
//! [`Snapshot`] is such a view without the rest.
//!
//! This file knows no engine; what it hands over at commit is `ReadSet` and `Writes`.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::engine::{AnyView, View};
use crate::error::{StoreError, within};
use crate::key::{Direction, Key, KeyRange};
use crate::limits::{
    KEY_BYTES, SCAN_ENTRIES, TRANSACTION_BYTES, TRANSACTION_READS, TRANSACTION_WRITES, VALUE_BYTES,
};

/// What can be read from: a [`Transaction`] or a [`Snapshot`].
pub trait Read: Sync {
    /// The value of `key`.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Up to `limit` entries of `range`, from its one end or from the other. Fewer than `limit` means that there are no
    /// more. A `limit` over [`SCAN_ENTRIES`], or entries of more than [`crate::limits::SCAN_BYTES`], are an error.
    fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Key, Bytes)>, StoreError>> + Send;
}

/// What a transaction writes: for each key its new value, or none where it is deleted.
pub(crate) type Writes = BTreeMap<Key, Option<Bytes>>;

/// What a transaction read, and what must therefore not have changed when it commits.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    pub(crate) keys: HashSet<Key>,
    pub(crate) ranges: Vec<KeyRange>,
}

/// A consistent state of the whole store at one moment, for reading. Keep it briefly: what it sees can't be collected.
#[derive(Clone)]
pub struct Snapshot(Arc<AnyView>);

impl Snapshot {
    pub(crate) fn new(view: AnyView) -> Self {
        Self(Arc::new(view))
    }
}

impl Read for Snapshot {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        within("the limit of a scan, in entries,", limit, SCAN_ENTRIES)?;
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        self.0.scan(&range, direction, limit).await
    }
}

/// One run of a transaction's closure. Clones are the same transaction. Given by [`crate::Store::transact`].
#[derive(Clone)]
pub struct Transaction(Arc<Inner>);

struct Inner {
    view: AnyView,
    state: Mutex<State>,
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    writes: Writes,
    written_bytes: usize,
    reads: ReadSet,
    callbacks: Vec<Callback>,
    /// The first limit that was passed, or the first conflict that a read met: decides what becomes of the transaction,
    /// whatever the closure makes of it.
    fault: Option<StoreError>,
    ended: bool,
}

/// What is left of a transaction when its closure has returned.
pub(crate) struct Finished {
    pub(crate) reads: ReadSet,
    pub(crate) writes: Writes,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) fault: Option<StoreError>,
}

impl Transaction {
    pub(crate) fn new(view: AnyView) -> Self {
        Self(Arc::new(Inner { view, state: Mutex::default() }))
    }

    /// The value of `key`, as this transaction has written it or as it was when the transaction began.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        {
            let mut state = self.state();
            if let Some(written) = state.writes.get(key) {
                return Ok(written.clone());
            }
            if !state.reads.keys.contains(key) {
                state.reads.keys.insert(key.clone());
                state.check_reads()?;
            }
        }
        self.watch_for_conflict(self.0.view.get(key).await)
    }

    /// Entries of `range` with this transaction's own writes in them; see [`Read::scan`].
    pub async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        within("the limit of a scan, in entries,", limit, SCAN_ENTRIES)?;
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        // Own deletions hide stored entries, so that many more are needed to be sure of `limit` in the end.
        let own = self.own_writes(&range);
        let hidden = own.values().filter(|value| value.is_none()).count();
        let stored = self.watch_for_conflict(self.0.view.scan(&range, direction, limit + hidden).await)?;
        let entries = overlay(stored, own, direction, limit);

        let seen = range_seen(range, direction, (entries.len() == limit).then(|| &entries[limit - 1].0));
        let mut state = self.state();
        state.reads.ranges.push(seen);
        state.check_reads()?;
        Ok(entries)
    }

    /// Writes `value` under `key` when the transaction commits. A key or value over its limit fails the commit.
    pub fn put(&self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Some(value.into()));
    }

    /// Deletes `key`, if it is there, when the transaction commits.
    pub fn delete(&self, key: Key) {
        self.write(key, None);
    }

    /// Has `callback` called once, after the commit that this run led to; never for a run that was repeated or failed.
    /// It must not block. It is called even if the caller of `transact` has gone away while the commit was under way.
    pub fn on_commit(&self, callback: impl FnOnce() + Send + 'static) {
        self.state().callbacks.push(Box::new(callback));
    }

    fn write(&self, key: Key, value: Option<Bytes>) {
        let mut state = self.state();
        assert!(!state.ended, "a transaction was written to after its closure had returned");
        let size = key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len);
        let checked = within("a key, in bytes,", key.as_bytes().len(), KEY_BYTES)
            .and_then(|()| within("a value, in bytes,", value.as_ref().map_or(0, Bytes::len), VALUE_BYTES))
            .and_then(|()| {
                within("a transaction's writes, in bytes,", state.written_bytes + size, TRANSACTION_BYTES)
            })
            .and_then(|()| {
                within("a transaction's writes, in keys,", state.writes.len() + 1, TRANSACTION_WRITES)
            });
        match checked {
            Ok(()) => {
                state.written_bytes += size;
                state.writes.insert(key, value);
            }
            Err(error) => {
                state.fault.get_or_insert(error);
            }
        }
    }

    pub(crate) fn view(&self) -> &AnyView {
        &self.0.view
    }

    /// Takes out what was read and written; clones of this handle that are still about are of no more use.
    pub(crate) fn finish(&self) -> Finished {
        let mut state = self.state();
        state.ended = true;
        Finished {
            reads: std::mem::take(&mut state.reads),
            writes: std::mem::take(&mut state.writes),
            callbacks: std::mem::take(&mut state.callbacks),
            fault: state.fault.take(),
        }
    }

    fn own_writes(&self, range: &KeyRange) -> Writes {
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let writes = state.writes.range::<Key, _>((Bound::Included(&range.start), end));
        writes.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn watch_for_conflict<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result
            && error.is_conflict()
        {
            self.state().fault = Some(error.clone());
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_reads(&mut self) -> Result<(), StoreError> {
        let count = self.reads.keys.len() + self.reads.ranges.len();
        let checked = within("a transaction's reads, in keys and ranges,", count, TRANSACTION_READS);
        if let Err(error) = &checked {
            self.fault.get_or_insert(error.clone());
        }
        checked
    }
}

impl Read for Transaction {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Self::get(self, key).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        Self::scan(self, range, direction, limit).await
    }
}

/// The first `limit` of `stored` with `own` written over them. Both are of one range; `stored` goes in `direction`.
fn overlay(stored: Vec<(Key, Bytes)>, own: Writes, direction: Direction, limit: usize) -> Vec<(Key, Bytes)> {
    if own.is_empty() {
        return stored;
    }
    let mut merged: Writes = stored.into_iter().map(|(key, value)| (key, Some(value))).collect();
    // `own` may reach further than `stored` does, but never past `limit` entries: each stored one that it hides was
    // read in addition, so cutting at `limit` leaves nothing out.
    merged.extend(own);
    let present = merged.into_iter().filter_map(|(key, value)| Some((key, value?)));
    match direction {
        Direction::Forward => present.take(limit).collect(),
        Direction::Reverse => present.rev().take(limit).collect(),
    }
}

/// The part of `range` that a scan depends on, if it stopped at `last`.
fn range_seen(mut range: KeyRange, direction: Direction, last: Option<&Key>) -> KeyRange {
    match (direction, last) {
        (_, None) => {}
        (Direction::Forward, Some(last)) => range.end = Some(last.successor()),
        (Direction::Reverse, Some(last)) => range.start = last.clone(),
    }
    range
}
