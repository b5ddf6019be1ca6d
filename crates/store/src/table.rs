//! Typed tables: a prefix of the keyspace and the record that lies under it.
//!
//! ```
//! # use freehold_store::{Part, Record, Store, StoreError, Table, keyspace};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Serialize, Deserialize)]
//! struct Counter {
//!     value: u64,
//! }
//!
//! impl Record for Counter {
//!     const VERSION: u8 = 1;
//! }
//!
//! static COUNTERS: Table<Counter> = Table::new(keyspace::TESTS);
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let store = Store::open("memory:").await?;
//! let value = store
//!     .transact(|tx| async move {
//!         let value = COUNTERS.get(&tx, &[Part::Text("visits")]).await?.map_or(0, |counter| counter.value) + 1;
//!         COUNTERS.put(&tx, &[Part::Text("visits")], &Counter { value })?;
//!         Ok::<_, StoreError>(value)
//!     })
//!     .await?;
//! assert_eq!(value, 1);
//! # Ok::<_, StoreError>(())
//! # }).unwrap();
//! ```

use std::marker::PhantomData;

use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange, Part, PartValue};
use crate::keyspace::Prefix;
use crate::record::{self, Record};
use crate::transaction::{Read, Transaction};

/// Records that are read at once where all are wanted.
const PAGE: usize = 256;

/// Records of one type under one prefix. Holds nothing itself: make it a `static` or `const`.
pub struct Table<R> {
    prefix: Prefix,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Table<R> {
    /// The table under this prefix.
    pub const fn new(prefix: Prefix) -> Self {
        Self { prefix, record: PhantomData }
    }

    /// The key of the record with these parts; with fewer parts, what all such keys start with (for [`crate::Store::watch`]).
    pub fn key(&self, parts: &[Part<'_>]) -> Key {
        self.prefix.key(parts)
    }

    /// The parts of one of this table's keys; `None` if the key is of another table.
    pub fn parts(&self, key: &Key) -> Option<Vec<PartValue>> {
        let start = self.prefix.key(&[]);
        PartValue::decode_all(key.as_bytes().strip_prefix(start.as_bytes())?)
    }

    /// The record with these parts.
    pub async fn get(&self, read: &impl Read, parts: &[Part<'_>]) -> Result<Option<R>, StoreError> {
        match read.get(&self.key(parts)).await? {
            Some(bytes) => Ok(Some(record::decode(&bytes)?)),
            None => Ok(None),
        }
    }

    /// Writes the record with these parts when the transaction commits.
    pub fn put(&self, transaction: &Transaction, parts: &[Part<'_>], record: &R) -> Result<(), StoreError> {
        transaction.put(self.key(parts), record::encode(record)?);
        Ok(())
    }

    /// Deletes the record with these parts, if it is there, when the transaction commits.
    pub fn delete(&self, transaction: &Transaction, parts: &[Part<'_>]) {
        transaction.delete(self.key(parts));
    }

    /// Up to `limit` records whose parts start with `parts`, in order, beginning after the record whose whole parts are
    /// `after`.
    pub async fn scan(
        &self,
        read: &impl Read,
        parts: &[Part<'_>],
        after: Option<&[Part<'_>]>,
        limit: usize,
    ) -> Result<Vec<(Key, R)>, StoreError> {
        let mut range = KeyRange::prefix(&self.key(parts));
        if let Some(after) = after {
            range.start = range.start.max(self.key(after).successor());
        }
        let mut records = Vec::new();
        for (key, bytes) in read.scan(range, Direction::Forward, limit).await? {
            records.push((key, record::decode(&bytes)?));
        }
        Ok(records)
    }

    /// Up to `limit` records whose parts start with `parts`, in reverse order, beginning before the record whose whole parts
    /// are `before`.
    pub async fn scan_back(
        &self,
        read: &impl Read,
        parts: &[Part<'_>],
        before: Option<&[Part<'_>]>,
        limit: usize,
    ) -> Result<Vec<(Key, R)>, StoreError> {
        let mut range = KeyRange::prefix(&self.key(parts));
        if let Some(before) = before {
            range.end = Some(self.key(before));
        }
        let mut records = Vec::new();
        for (key, bytes) in read.scan(range, Direction::Reverse, limit).await? {
            records.push((key, record::decode(&bytes)?));
        }
        Ok(records)
    }

    /// The last of the records whose parts start with `parts`.
    pub async fn last(&self, read: &impl Read, parts: &[Part<'_>]) -> Result<Option<(Key, R)>, StoreError> {
        Ok(self.scan_back(read, parts, None, 1).await?.pop())
    }

    /// Every record whose parts start with `parts`, in order, however many there are: for where a whole family is changed
    /// together.
    pub async fn all(&self, read: &impl Read, parts: &[Part<'_>]) -> Result<Vec<(Key, R)>, StoreError> {
        let mut range = KeyRange::prefix(&self.key(parts));
        let mut records = Vec::new();
        loop {
            let page = read.scan(range.clone(), Direction::Forward, PAGE).await?;
            let more = page.len() == PAGE;
            if let Some((last, _)) = page.last() {
                range.start = last.successor();
            }
            for (key, bytes) in page {
                records.push((key, record::decode(&bytes)?));
            }
            if !more {
                return Ok(records);
            }
        }
    }
}
