//! The ledger itself: appending, sealing, syncing, and the loop around them. Folding is in `folding`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_store::{Store, StoreError};
use tokio::time::MissedTickBehavior;

use crate::record::UsageRecord;
use crate::segment::{self, ActiveSegment};

/// Size at which a segment is sealed, in bytes. Small enough that one transaction takes all functions of a segment: a
/// record is over 200 bytes, and a transaction writes up to 10,000 keys.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Size of all segments together, in bytes, at which appends are refused: about a million records.
const BACKLOG_BYTES: u64 = 256 << 20;
/// How often what was appended is synced: what a loss of power can cost.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How many syncs go by between two folds, if nothing was sealed by size before.
const SYNCS_PER_FOLD: u32 = 10;

/// Why the ledger couldn't do its work.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has the folder open.
    #[error("the ledger's folder {} is in use by another process", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// So much waits to be folded that nothing more is taken.
    #[error(
        "the ledger would hold {bytes} bytes that are not folded into the store yet; the limit is {limit}"
    )]
    Full {
        /// What would wait, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The operating system refused something.
    #[error("cannot {step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The record can't be written down.
    #[error("a usage record cannot be written: {0}")]
    Record(#[from] serde_json::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LedgerError {
    pub(crate) fn io(step: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { step, path: path.to_owned(), source }
    }
}

/// An open ledger. Clones are the same.
#[derive(Clone)]
pub struct Ledger(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) folder: PathBuf,
    /// Tells this ledger's segments from those of other ledgers that are folded into the same store.
    pub(crate) name: String,
    pub(crate) store: Store,
    limits: Limits,
    segments: Mutex<Segments>,
    /// One fold at a time.
    pub(crate) folding: tokio::sync::Mutex<()>,
    lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing is not enough: a child that has been forked and not yet executed still holds a copy of the descriptor.
        let _ = self.lock.unlock();
    }
}

/// How large segments grow, in bytes; smaller in tests.
#[derive(Clone, Copy, Debug)]
struct Limits {
    segment: u64,
    backlog: u64,
}

#[derive(Debug)]
struct Segments {
    active: Option<ActiveSegment>,
    next_number: u64,
    /// Bytes in sealed segments.
    sealed_bytes: u64,
    /// Whether something was sealed by size since the last fold began.
    fold_soon: bool,
}

impl Ledger {
    /// Opens the ledger in `folder` (made if it isn't there) and folds what an earlier process left.
    pub async fn open(folder: &Path, store: Store) -> Result<Self, LedgerError> {
        Self::open_with(folder, store, Limits { segment: SEGMENT_BYTES, backlog: BACKLOG_BYTES }).await
    }

    async fn open_with(folder: &Path, store: Store, limits: Limits) -> Result<Self, LedgerError> {
        fs::create_dir_all(folder).map_err(|error| LedgerError::io("make the folder", folder, error))?;
        let lock = lock(folder)?;
        let name = read_or_make_name(folder)?;
        let found = segment::list(folder).map_err(|error| LedgerError::io("list", folder, error))?;
        let last_found = found.last().map_or(0, |&(number, _)| number);
        let last_folded = crate::folding::last_folded(&store, &name).await?;
        let segments = Mutex::new(Segments {
            active: None,
            next_number: last_found.max(last_folded) + 1,
            sealed_bytes: found.iter().map(|&(_, bytes)| bytes).sum(),
            fold_soon: false,
        });
        let folding = tokio::sync::Mutex::default();
        let inner = Inner { folder: folder.to_owned(), name, store, limits, segments, folding, lock };
        let ledger = Self(Arc::new(inner));
        ledger.fold().await?;
        Ok(ledger)
    }

    /// Hands one record to the kernel: when this returns, killing the process no longer loses it. Takes microseconds;
    /// never waits for the disk. After an error the record isn't counted.
    pub fn append(&self, record: &UsageRecord) -> Result<(), LedgerError> {
        let line = segment::encode(record)?;
        let mut segments = self.segments();
        let active_bytes = segments.active.as_ref().map_or(0, |active| active.bytes);
        let bytes = segments.sealed_bytes + active_bytes + line.len() as u64;
        if bytes > self.0.limits.backlog {
            return Err(LedgerError::Full { bytes, limit: self.0.limits.backlog });
        }
        if active_bytes > 0 && active_bytes + line.len() as u64 > self.0.limits.segment {
            segments.seal();
            segments.fold_soon = true;
        }
        let active = match segments.active.take() {
            Some(active) => active,
            None => {
                let number = segments.next_number;
                segments.next_number += 1;
                ActiveSegment::create(&self.0.folder, number)
                    .map_err(|error| LedgerError::io("make", &segment::path(&self.0.folder, number), error))?
            }
        };
        let active = segments.active.insert(active);
        if let Err(error) = active.append(&line) {
            let path = segment::path(&self.0.folder, active.number);
            // Nothing may follow a torn line in its segment.
            segments.seal();
            return Err(LedgerError::io("append to", &path, error));
        }
        Ok(())
    }

    /// Syncs what was appended since the last sync, if anything was.
    pub async fn sync(&self) -> Result<(), LedgerError> {
        let Some((number, file, bytes)) = self.unsynced() else { return Ok(()) };
        let path = segment::path(&self.0.folder, number);
        blocking(move || file.sync_data().map_err(|error| LedgerError::io("sync", &path, error))).await?;
        let mut segments = self.segments();
        if let Some(active) = segments.active.as_mut().filter(|active| active.number == number) {
            active.synced_bytes = bytes;
        }
        Ok(())
    }

    /// Syncs and folds from time to time, until `stop` turns true or its sender is gone; then once more. An error is
    /// logged and the work tried again the next time.
    pub async fn run(&self, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(SYNC_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since_fold = 0;
        loop {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|&stop| stop) => true,
            };
            since_fold += 1;
            let folds = stopping || since_fold >= SYNCS_PER_FOLD || self.segments().fold_soon;
            let result = if folds { self.fold().await } else { self.sync().await };
            if let Err(error) = result {
                tracing::error!(%error, "the usage ledger");
            }
            if folds {
                since_fold = 0;
            }
            if stopping {
                return;
            }
        }
    }

    /// Seals the active segment, so that it can be folded.
    pub(crate) fn seal(&self) {
        let mut segments = self.segments();
        segments.fold_soon = false;
        segments.seal();
    }

    /// The number of the segment that is written to; older ones don't change any more.
    pub(crate) fn active_number(&self) -> u64 {
        let segments = self.segments();
        segments.active.as_ref().map_or(segments.next_number, |active| active.number)
    }

    /// Forgets a segment whose file is gone.
    pub(crate) fn forget(&self, bytes: u64) {
        let mut segments = self.segments();
        segments.sealed_bytes = segments.sealed_bytes.saturating_sub(bytes);
    }

    fn unsynced(&self) -> Option<(u64, Arc<File>, u64)> {
        let segments = self.segments();
        let active = segments.active.as_ref().filter(|active| active.bytes > active.synced_bytes)?;
        Some((active.number, active.file.clone(), active.bytes))
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.0.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segments {
    fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            self.sealed_bytes += active.bytes;
        }
    }
}

fn lock(folder: &Path) -> Result<File, LedgerError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| LedgerError::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LedgerError::io("lock", &path, error)),
    }
}

/// The ledger's name, made at its first opening. It is on disk before the first segment is folded under it.
fn read_or_make_name(folder: &Path) -> Result<String, LedgerError> {
    let path = folder.join("name");
    match fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(LedgerError::io("read", &path, error)),
    }
    let name = uuid::Uuid::new_v4().to_string();
    let unfinished = folder.join("name.new");
    let write = || {
        fs::write(&unfinished, &name)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| LedgerError::io("write", &path, error))?;
    Ok(name)
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Closed.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use freehold_base::id::RequestId;

    use super::*;

    #[tokio::test]
    async fn segments_are_sealed_by_size_and_the_disk_is_not_filled() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open("memory:").await.unwrap();
        let limits = Limits { segment: 1_000, backlog: 5_000 };
        let ledger = Ledger::open_with(home.path(), store, limits).await.unwrap();
        let record = UsageRecord {
            request_id: RequestId::random(),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello".to_owned(),
            version: "7".to_owned(),
            at_ms: 1,
            duration_us: 1,
            billed_ms: 1,
            init_us: Some(9),
            memory_mib: 128,
            max_memory_mib: 1,
            failed: false,
        };
        for round in 1..=3 {
            let taken = (0..100).take_while(|_| ledger.append(&record).is_ok()).count() as u64;
            assert!((10..50).contains(&taken), "{taken}");
            assert!(matches!(ledger.append(&record), Err(LedgerError::Full { limit: 5_000, .. })));
            let segments = segment::list(home.path()).unwrap();
            assert!(segments.len() >= 5 && segments.iter().all(|&(_, bytes)| bytes <= 1_000), "{segments:?}");
            assert!(ledger.segments().fold_soon);
            ledger.fold().await.unwrap();
            let totals = ledger.totals(&record.function_arn).await.unwrap();
            assert_eq!(totals.invocations, round * taken);
        }
    }
}
