//! Makes, opens and closes fjall's files.
//!
//! ```text
//! make    engine.new/ made whole ── renamed ── engine/
//! open    files all there? ── journals checked ── fjall opens, replays the journal
//! close   memtable flushed to a table ── fjall closed ── journal emptied, so that the next open replays nothing
//! ```
//!
//! What fjall does by itself with a folder in which something is missing would be to begin it anew, empty: a missing
//! mark makes it drop a whole tree. So what must be there is looked for first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::config::{HashRatioPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{damaged, guarded, journal, pause};
use crate::engine::folder::{create_folder, sync_folder};
use crate::error::StoreError;

/// Memory for blocks read from disk, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// Size at which the memtable is written to a table, in bytes. At most three are in memory, and what isn't in a table is
/// what an open after a kill must replay; smaller ones mean more merging, which takes the disk from the journal.
const MEMTABLE_BYTES: u64 = 48 << 20;
/// What the journals take of the disk before memtables are flushed early, in bytes. Fjall begins a new one at 64 MB.
const JOURNALS_BYTES: u64 = 192 << 20;
/// Threads that flush and merge. One of them leaves merging to the others and asks in a busy loop whether they have
/// begun with what is waiting: with only two threads, as fjall has on two cores, that took a core for seconds.
const WORKERS: usize = 4;
/// Slots of a data block's hash index for each of its keys: a point read goes straight to its key.
const HASH_RATIO: f32 = 0.75;
/// The one keyspace (fjall's word for a tree) that holds everything; prefixes part it.
const TREE: &str = "keys";
/// Without these fjall would begin anew: its own mark, and those of its list of trees and of the one tree.
const MARKS: [&str; 3] = ["version", "keyspaces/0/current", "keyspaces/1/current"];

/// Opens the engine's files, or makes them.
pub(super) fn open(engine: &Path) -> Result<(Database, Keyspace), StoreError> {
    if !engine.exists() {
        create(engine)?;
    }
    for mark in MARKS {
        let path = engine.join(mark);
        if !path.try_exists().map_err(|error| StoreError::io("find", &path, error))? {
            return Err(damaged(&path, "the file is missing"));
        }
    }
    journal::prepare(engine)?;
    guarded("open its files", engine, || {
        let database = open_database(engine)?;
        let tree = database.keyspace(TREE, options)?;
        Ok((database, tree))
    })
}

/// Makes an empty database under another name and then gives it its own: fjall can't open what a process that was killed
/// in the midst of making it has left.
fn create(engine: &Path) -> Result<(), StoreError> {
    let unfinished = engine.with_extension("new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", unfinished, error));
        }
        _ => create_folder(&unfinished)?,
    }
    guarded("make its files", &unfinished, || {
        let database = open_database(&unfinished)?;
        database.keyspace(TREE, options).map(drop)
    })?;
    fs::rename(&unfinished, engine).map_err(|error| StoreError::io("name", engine, error))?;
    sync_folder(engine.parent().expect("the engine's folder lies in the data folder"))
}

fn open_database(path: &Path) -> Result<Database, fjall::Error> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNALS_BYTES)
        .worker_threads(WORKERS)
        .open()
}

/// What a tree is made with; kept in its files, so that a change is for new stores alone.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_hash_ratio_policy(HashRatioPolicy::all(HASH_RATIO))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_pinning_policy(PinningPolicy::all(true))
}

/// Writes the memtable to a table, after the last batch: all is in tables then.
pub(super) fn flush(database: &Database, tree: &Keyspace) -> Result<(), fjall::Error> {
    tree.rotate_memtable()?;
    while tree.sealed_memtable_count() > 0 {
        pause(database)?;
    }
    // Fails if the flush did.
    database.persist(PersistMode::Buffer)
}

/// Empties the journal when fjall has let go of it, if all that was in it is in tables.
pub(super) struct Ending {
    engine: PathBuf,
    flushed: AtomicBool,
}

impl Ending {
    pub(super) fn new(engine: PathBuf) -> Self {
        Self { engine, flushed: AtomicBool::new(false) }
    }

    pub(super) fn engine(&self) -> &Path {
        &self.engine
    }

    /// No batch is written after this.
    pub(super) fn is_flushed(&self) {
        self.flushed.store(true, Ordering::Release);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.flushed.load(Ordering::Acquire)
            && let Err(error) = journal::empty(&self.engine)
        {
            tracing::warn!(%error, "the journal could not be emptied; it is read again at the next start");
        }
    }
}
