//! The embedded engine: one folder, through fjall, a log-structured merge tree with one journal. Chosen by measurement:
//! `docs/decisions/0001-embedded-store-engine.md`.
//!
//! - `journal`: fjall's journals are checked, and repaired where a loss of power tore them, before fjall opens them
//! - `opening`: makes, opens and closes the files
//! - here: snapshots, batches, and what keeps fjall's failures from becoming panics or endless waits
//!
//! Of fjall only this is used: a batch written to the journal and synced as a whole, snapshots, gets and ranges. Its own
//! transactions aren't: conflicts are found in `local`, the same for every engine.
//!
//! **When fjall fails.** What it says of the disk becomes [`StoreError::Io`], what it says of its files
//! [`StoreError::Damaged`], and so does a panic, since fjall meets some damage with one. A failed flush or compaction in
//! its background threads makes its next batch fail, and so poisons the store. Fjall waits inside a batch, without end,
//! for a flush that falls behind, even if the thread that should do it has died: so the wait is made here, before the
//! batch, and ends when fjall has failed.

mod journal;
mod opening;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, Readable};

use super::Page;
use super::folder::Folder;
use super::local::{Backend, BackendSnapshot};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::transaction::Writes;

/// Memtables that wait to be written to a table before the next batch waits for them. Fjall itself waits at four.
const WAITING_MEMTABLES: usize = 2;
/// Tables that wait to be merged before the next batch waits for them. Fjall itself waits at thirty.
const WAITING_TABLES: usize = 24;
/// How often a batch that waits looks again: a fraction of what writing a table takes.
const WAIT: Duration = Duration::from_millis(2);

/// A folder's keys.
#[derive(Clone)]
pub(crate) struct Fjall(Arc<Inner>);

/// In the order in which they must be dropped: the lock goes last.
struct Inner {
    database: Database,
    tree: Keyspace,
    ending: opening::Ending,
    _folder: Folder,
}

/// A state of a folder's keys; keeps the folder open.
#[derive(Clone)]
pub(crate) struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    fjall: Fjall,
}

impl Fjall {
    /// Opens the engine's files in `folder`, or makes them. Blocks.
    pub(crate) fn open(folder: Folder) -> Result<Self, StoreError> {
        let engine = folder.engine();
        let (database, tree) = opening::open(&engine)?;
        Ok(Self(Arc::new(Inner { database, tree, ending: opening::Ending::new(engine), _folder: folder })))
    }

    fn engine(&self) -> &Path {
        self.0.ending.engine()
    }

    /// Waits while fjall's background threads are behind; fails if they have failed.
    fn wait_for_room(&self) -> Result<(), fjall::Error> {
        let behind = || {
            self.0.tree.sealed_memtable_count() >= WAITING_MEMTABLES
                || self.0.tree.l0_table_count() >= WAITING_TABLES
        };
        while behind() {
            pause(&self.0.database)?;
        }
        Ok(())
    }
}

impl Backend for Fjall {
    type Snapshot = FjallSnapshot;

    fn snapshot(&self) -> FjallSnapshot {
        FjallSnapshot { snapshot: self.0.database.snapshot(), fjall: self.clone() }
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        guarded("write a batch", self.engine(), || {
            self.wait_for_room()?;
            let mut batch = fjall::OwnedWriteBatch::with_capacity(self.0.database.clone(), writes.len())
                .durability(Some(PersistMode::SyncData));
            for (key, value) in writes {
                // Copied: the memtable lives long, and a caller's bytes may be a slice of something much larger.
                match value {
                    Some(value) => batch.insert(&self.0.tree, key.as_bytes(), &*value),
                    None => batch.remove(&self.0.tree, key.as_bytes()),
                }
            }
            batch.commit()
        })
    }

    fn close(&self) {
        let flushed = guarded("flush", self.engine(), || opening::flush(&self.0.database, &self.0.tree));
        match flushed {
            Ok(()) => self.0.ending.is_flushed(),
            // Nothing is lost: the journal has it all.
            Err(error) => tracing::warn!(%error, "the memtable could not be flushed at the close"),
        }
    }
}

impl BackendSnapshot for FjallSnapshot {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let get = || self.snapshot.get(&self.fjall.0.tree, key.as_bytes());
        Ok(guarded("read a key", self.fjall.engine(), get)?.map(Bytes::from))
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_bytes()));
        let bounds = (Bound::Included(range.start.as_bytes()), end);
        let mut page = Page::new(limit);
        let mut read = || -> Result<Result<(), StoreError>, fjall::Error> {
            let mut entries = self.snapshot.range::<&[u8], _>(&self.fjall.0.tree, bounds);
            while !page.is_full() {
                let next = match direction {
                    Direction::Forward => entries.next(),
                    Direction::Reverse => entries.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, value) = entry.into_inner()?;
                if let Err(too_large) = page.push(key.into(), value.into()) {
                    return Ok(Err(too_large));
                }
            }
            Ok(Ok(()))
        };
        guarded("read a range", self.fjall.engine(), &mut read)??;
        Ok(page.entries)
    }
}

/// Waits a moment for fjall's background threads; fails if one of them has failed.
fn pause(database: &Database) -> Result<(), fjall::Error> {
    // Writes nothing, but says whether something has failed.
    database.persist(PersistMode::Buffer)?;
    std::thread::park_timeout(WAIT);
    Ok(())
}

/// The error for files that can't be what was written.
fn damaged(path: &Path, reason: impl Into<Arc<str>>) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.into() }
}

/// Runs a step of fjall's and makes an error of what it meets, also of a panic.
fn guarded<T>(
    step: &'static str,
    engine: &Path,
    work: impl FnOnce() -> Result<T, fjall::Error>,
) -> Result<T, StoreError> {
    // What a panic leaves behind is not looked at again: its locks are poisoned, and every later use ends here too.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(step, engine, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(damaged(engine, format!("fjall panicked: {}", text.unwrap_or("without a word"))))
        }
    }
}

fn explain(step: &'static str, engine: &Path, error: fjall::Error) -> StoreError {
    let of_files = |error: &dyn std::fmt::Debug| damaged(engine, format!("cannot {step}: {error:?}"));
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => match error.kind() {
            // A file that is missing or ends early, or one with a place in it that can't be.
            io::ErrorKind::NotFound
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData => of_files(&error),
            _ => StoreError::io(step, engine, error),
        },
        fjall::Error::Poisoned => {
            StoreError::engine(step, "writing a table in the background, or an earlier batch, has failed")
        }
        fjall::Error::Locked => StoreError::engine(step, "its files are in use"),
        error => of_files(&error),
    }
}
