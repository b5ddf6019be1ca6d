//! A range of a snapshot, read in pages of about the same size in bytes, however large its values are.

use bytes::Bytes;

use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::limits::SCAN_INLINE_ENTRIES;
use crate::transaction::{Read, Snapshot};

/// What a page aims at, in bytes: hashed in a few milliseconds.
const PAGE_BYTES: usize = 1 << 20;
/// Entries of a page at most: such a scan is read in place.
const PAGE_ENTRIES: usize = SCAN_INLINE_ENTRIES;

/// Calls of [`Pages::hold`] that make one read: each stands for a piece of a blob, or a whole small one.
const CALLS_PER_READ: u32 = 64;

/// Reads on from where it is.
pub(super) struct Pages {
    snapshot: Snapshot,
    rest: Option<KeyRange>,
    limit: usize,
    calls: u32,
}

impl Pages {
    pub(super) fn new(snapshot: Snapshot, range: KeyRange) -> Self {
        Self { snapshot, rest: Some(range), limit: PAGE_ENTRIES, calls: 0 }
    }

    /// The next page, in order of keys; empty after the last.
    pub(super) async fn next(&mut self) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let Some(range) = &self.rest else { return Ok(Vec::new()) };
        let page = loop {
            match self.snapshot.scan(range.clone(), Direction::Forward, self.limit).await {
                // Values have suddenly become much larger. One entry always fits.
                Err(StoreError::TooLarge { .. }) if self.limit > 1 => self.limit = (self.limit / 8).max(1),
                result => break result?,
            }
        };
        let end = range.end.clone();
        let last = page.last().filter(|_| page.len() == self.limit);
        self.rest = last.map(|(key, _)| KeyRange { start: key.successor(), end });
        let bytes: usize = page.iter().map(|(key, value)| key.as_bytes().len() + value.len()).sum();
        let fitting = PAGE_BYTES.saturating_mul(page.len()) / bytes.max(1);
        self.limit = fitting.clamp(1, PAGE_ENTRIES);
        // Reads in place never wait: others get their turn here.
        tokio::task::yield_now().await;
        Ok(page)
    }

    /// Keeps the snapshot while other things are done: a database ends one that is not read for ten minutes.
    pub(super) async fn hold(&mut self) -> Result<(), StoreError> {
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS_PER_READ) {
            self.snapshot.get(&Key::default()).await?;
        }
        Ok(())
    }

    /// From where the next page will be read; `None` after the last.
    pub(super) fn position(&self) -> Option<&Key> {
        self.rest.as_ref().map(|range| &range.start)
    }

    /// Goes on from `start` instead.
    pub(super) fn skip_to(&mut self, start: Key) {
        if let Some(range) = &mut self.rest {
            range.start = start;
        }
    }
}
