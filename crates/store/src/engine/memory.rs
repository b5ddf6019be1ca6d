//! The engine for tests: a sorted map that is gone when the store closes. Snapshots share the map until it is next
//! written, when it is copied: simple rather than fast.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::Page;
use super::local::{Backend, BackendSnapshot};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::transaction::Writes;

type Map = BTreeMap<Key, Bytes>;

/// A sorted map.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<RwLock<Arc<Map>>>);

/// The map as it was at some moment.
#[derive(Clone)]
pub(crate) struct MemorySnapshot(Arc<Map>);

impl Backend for Memory {
    type Snapshot = MemorySnapshot;

    fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let map = Arc::make_mut(&mut map);
        for (key, value) in writes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}

impl BackendSnapshot for MemorySnapshot {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = self.0.range::<Key, _>((Bound::Included(&range.start), end));
        let mut page = Page::new(limit);
        while !page.is_full() {
            let next = match direction {
                Direction::Forward => entries.next(),
                Direction::Reverse => entries.next_back(),
            };
            let Some((key, value)) = next else { break };
            page.push(key.clone().into_bytes(), value.clone())?;
        }
        Ok(page.entries)
    }
}
