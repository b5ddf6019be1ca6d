//! The embedded engine: one folder, through fjall, a log-structured merge tree with one journal. Chosen by measurement:
//! `docs/decisions/0001-embedded-store-engine.md`.
//!
//! Of fjall only this is used: a batch written to the journal and synced as a whole, snapshots, gets and ranges. Its own
//! transactions aren't: conflicts are found in `local`, the same for every engine.
//!
//! **A torn journal.** Every batch is synced before the next is begun, so a loss of power can tear only the last one,
//! which nobody was told of. fjall drops a last batch that is cut short, but refuses to open when the batch's end has
//! reached the disk and its middle has not. [`repair_torn_journal`] cuts such a batch short.

use std::fs::{self, File, OpenOptions};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::Page;
use super::folder::{Folder, create_folder, sync_folder};
use super::local::{Backend, BackendSnapshot};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::transaction::Writes;

/// Memory for blocks read from disk, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// The one keyspace (fjall's word for a tree) that holds everything; prefixes part it.
const TREE: &str = "keys";
/// The extension of fjall's journals.
const JOURNAL: &str = "jnl";

/// A folder's keys.
#[derive(Clone)]
pub(crate) struct Fjall(Arc<Inner>);

/// In the order in which they must be dropped: the lock goes last.
struct Inner {
    database: Database,
    tree: Keyspace,
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
        let path = folder.engine();
        if !path.exists() {
            create_database(&path)?;
        }
        let database = match open_database(&path) {
            Err(error @ fjall::Error::JournalRecovery(_)) => reopen_repaired(&path, error)?,
            other => other.map_err(|error| StoreError::engine("open its files", error))?,
        };
        let tree = open_tree(&database).map_err(|error| StoreError::engine("open its tree", error))?;
        Ok(Self(Arc::new(Inner { database, tree, _folder: folder })))
    }
}

/// Makes an empty database under another name and then gives it its own: fjall can't open what a process that was killed
/// in the midst of making it has left.
fn create_database(path: &Path) -> Result<(), StoreError> {
    let unfinished = path.with_extension("new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", unfinished, error));
        }
        _ => create_folder(&unfinished)?,
    }
    open_database(&unfinished)
        .and_then(|database| open_tree(&database).map(drop))
        .map_err(|error| StoreError::engine("make its files", error))?;
    fs::rename(&unfinished, path).map_err(|error| StoreError::io("name", path, error))?;
    sync_folder(path.parent().expect("the engine's folder lies in the data folder"))
}

fn open_tree(database: &Database) -> Result<Keyspace, fjall::Error> {
    database.keyspace(TREE, KeyspaceCreateOptions::default)
}

fn open_database(path: &Path) -> Result<Database, fjall::Error> {
    Database::builder(path).cache_size(CACHE_BYTES).open()
}

/// Opens a database whose newest journal may end in a torn batch. If that is not what is wrong, the journal is put back
/// as it was.
fn reopen_repaired(path: &Path, error: fjall::Error) -> Result<Database, StoreError> {
    let failed = |error: &dyn std::fmt::Display| StoreError::engine("open its files", error);
    let Some(journal) = newest_journal(path).map_err(|error| StoreError::io("list", path, error))? else {
        return Err(failed(&error));
    };
    let copy = journal.with_extension("torn");
    let cut = fs::copy(&journal, &copy).and_then(|_| repair_torn_journal(&journal));
    let position = cut.map_err(|error| StoreError::io("repair", &journal, error))?;
    match open_database(path) {
        Ok(database) => {
            tracing::warn!(
                journal = %journal.display(), copy = %copy.display(), position,
                "the last batch of the journal was torn and has been dropped; it had never been acknowledged",
            );
            Ok(database)
        }
        Err(second) => {
            tracing::error!(%second, "the journal is damaged before its last batch");
            fs::rename(&copy, &journal).map_err(|error| StoreError::io("put back", &journal, error))?;
            Err(failed(&error))
        }
    }
}

fn newest_journal(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) =
            number.filter(|_| path.extension().is_some_and(|extension| extension == JOURNAL))
        {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Cuts the last written byte off a journal, and with it the end of its last batch, so that fjall drops that batch as
/// unfinished. A journal is written front to back into a file of zeros, and a batch ends with bytes that aren't zero.
fn repair_torn_journal(journal: &Path) -> std::io::Result<u64> {
    const STEP_BYTES: u64 = 64 << 10;
    let file = OpenOptions::new().read(true).write(true).open(journal)?;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(STEP_BYTES);
        if let Some(offset) = last_written(&file, start, end)? {
            file.set_len(start + offset)?;
            file.sync_all()?;
            return Ok(start + offset);
        }
        end = start;
    }
    Ok(0)
}

fn last_written(file: &File, start: u64, end: u64) -> std::io::Result<Option<u64>> {
    let mut bytes = vec![0; usize::try_from(end - start).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes.iter().rposition(|&byte| byte != 0).map(|offset| offset as u64))
}

impl Backend for Fjall {
    type Snapshot = FjallSnapshot;

    fn snapshot(&self) -> FjallSnapshot {
        FjallSnapshot { snapshot: self.0.database.snapshot(), fjall: self.clone() }
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        let mut batch = self.0.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in writes {
            // Copied: the memtable lives long, and a caller's bytes may be a slice of something much larger.
            match value {
                Some(value) => batch.insert(&self.0.tree, key.as_bytes(), &*value),
                None => batch.remove(&self.0.tree, key.as_bytes()),
            }
        }
        batch.commit().map_err(|error| StoreError::engine("write a batch", error))
    }
}

impl BackendSnapshot for FjallSnapshot {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot.get(&self.fjall.0.tree, key.as_bytes());
        Ok(value.map_err(|error| StoreError::engine("read a key", error))?.map(Bytes::from))
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_bytes()));
        let bounds = (Bound::Included(range.start.as_bytes()), end);
        let mut entries = self.snapshot.range::<&[u8], _>(&self.fjall.0.tree, bounds);
        let mut page = Page::new(limit);
        while !page.is_full() {
            let next = match direction {
                Direction::Forward => entries.next(),
                Direction::Reverse => entries.next_back(),
            };
            let Some(entry) = next else { break };
            let (key, value) =
                entry.into_inner().map_err(|error| StoreError::engine("read a range", error))?;
            page.push(key.into(), value.into())?;
        }
        Ok(page.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several pages, none of them zero, so that a lost page shows.
    fn content(number: u8) -> Bytes {
        Bytes::from(vec![number; 20_000])
    }

    fn open(home: &Path) -> Result<Fjall, StoreError> {
        Fjall::open(Folder::open(home).unwrap())
    }

    fn write(fjall: &Fjall, number: u8) {
        let keys = ["left", "right"].map(|half| Key::new([&[number], half.as_bytes()].concat()));
        fjall.apply(keys.into_iter().map(|key| (key, Some(content(number)))).collect()).unwrap();
    }

    /// How many of a batch's two entries are there, whole.
    fn found(fjall: &Fjall, number: u8) -> usize {
        let entries = fjall
            .snapshot()
            .scan(&KeyRange::prefix(&Key::new(vec![number])), Direction::Forward, 10)
            .unwrap();
        assert!(entries.iter().all(|(_, value)| *value == content(number)));
        entries.len()
    }

    /// Writes batches 1 to 3, then loses the page in the middle of batch `lost`, as a loss of power does.
    fn lose_a_page(home: &Path, lost: u8) -> Result<Fjall, StoreError> {
        let fjall = open(home).unwrap();
        (1..=3).for_each(|number| write(&fjall, number));
        let engine = fjall.0._folder.engine();
        drop(fjall);
        let journal = newest_journal(&engine).unwrap().unwrap();
        let bytes = fs::read(&journal).unwrap();
        let start = bytes.windows(64).position(|window| window == [lost; 64]).unwrap() as u64;
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        file.write_all_at(&[0; 4_096], start.next_multiple_of(4_096)).unwrap();
        let result = open(home);
        if result.is_err() {
            let left = fs::read(&journal).unwrap();
            assert_eq!(
                left.iter().filter(|&&byte| byte == 3).count(),
                bytes.iter().filter(|&&byte| byte == 3).count()
            );
        }
        result
    }

    #[test]
    fn a_batch_torn_by_a_loss_of_power_is_dropped_whole() {
        let home = tempfile::tempdir().unwrap();
        let fjall = lose_a_page(home.path(), 3).unwrap();
        assert!(
            fs::read_dir(home.path().join("engine")).unwrap().any(|entry| entry
                .unwrap()
                .path()
                .extension()
                .is_some_and(|end| end == "torn")),
            "fjall alone now copes: the repair can go"
        );
        assert_eq!([1, 2, 3].map(|number| found(&fjall, number)), [2, 2, 0]);
        write(&fjall, 4);
        drop(fjall);
        let fjall = open(home.path()).unwrap();
        assert_eq!([1, 2, 3, 4].map(|number| found(&fjall, number)), [2, 2, 0, 2]);
    }

    #[test]
    fn a_making_that_was_killed_is_begun_again() {
        let home = tempfile::tempdir().unwrap();
        let unfinished = home.path().join("engine.new");
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join("0.jnl"), "").unwrap();
        write(&open(home.path()).unwrap(), 1);
        assert_eq!(found(&open(home.path()).unwrap(), 1), 2);
        assert!(!unfinished.exists());
    }

    #[test]
    fn damage_before_the_last_batch_is_an_error_and_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let error = lose_a_page(home.path(), 2).map(drop).unwrap_err();
        assert!(matches!(error, StoreError::Engine { .. }), "{error}");
        open(home.path()).map(drop).unwrap_err();
    }
}
