//! A store that is being filled. It has a mark from before its first key until all of it has been read back:
//!
//! ```text
//! empty ── begin: mark ── entries … ── read back ── finish: no mark ── whole
//!   ▲                        │ failed: abandon          │ killed
//!   └────── emptied ─────────┘                          └─> marked: refused by Store::open, emptied by the next begin
//! ```
//!
//! The mark names who fills the store, and every transaction here checks it: of two that fill the same store the second
//! takes over, and the first fails.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::TransferError;
use super::pages::Pages;
use super::summary::{EntryDigest, Fingerprint, Phase, Progress, Summary, moves};
use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::keyspace;
use crate::record::Record;
use crate::store::Store;
use crate::table::Table;
use crate::transaction::Transaction;

/// Keys that one transaction writes here.
const BATCH_ENTRIES: usize = 4_000;
/// Bytes after which a transaction is written: a quarter of what one may have, so that one more value always fits.
const BATCH_BYTES: usize = 8 << 20;

static MARK: Table<Mark> = Table::new(keyspace::UNFINISHED);

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// Who fills the store.
    id: String,
    /// `copy` or `restore`.
    what: String,
}

impl Record for Mark {
    const VERSION: u8 = 1;
}

/// An error if the store is marked as unfinished.
pub(crate) async fn refuse_unfinished(store: &Store) -> Result<(), StoreError> {
    match MARK.get(&store.snapshot().await?, &[]).await? {
        Some(mark) => Err(StoreError::Unfinished { what: mark.what }),
        None => Ok(()),
    }
}

/// A store that is being filled.
pub(super) struct Target {
    store: Store,
    id: String,
    batch: Vec<(Key, Bytes)>,
    batch_bytes: usize,
}

impl Target {
    /// Marks an empty store; empties one that is marked already.
    pub(super) async fn begin(store: &Store, what: &str) -> Result<Self, TransferError> {
        let id = uuid::Uuid::new_v4().to_string();
        let mark = Mark { id: id.clone(), what: what.to_owned() };
        let begin = store.transact(|tx| {
            let mark = &mark;
            async move {
                if MARK.get(&tx, &[]).await?.is_none()
                    && !tx.scan(KeyRange::all(), Direction::Forward, 1).await?.is_empty()
                {
                    return Err(TransferError::NotEmpty);
                }
                Ok(MARK.put(&tx, &[], mark)?)
            }
        });
        begin.await?;
        let target = Self { store: store.clone(), id, batch: Vec::new(), batch_bytes: 0 };
        target.empty().await?;
        Ok(target)
    }

    pub(super) fn blobs(&self) -> &Blobs {
        self.store.blobs()
    }

    /// Writes an entry, now or with those that follow.
    pub(super) async fn put(&mut self, key: Key, value: Bytes) -> Result<(), TransferError> {
        self.batch_bytes += key.as_bytes().len() + value.len();
        self.batch.push((key, value));
        if self.batch.len() >= BATCH_ENTRIES || self.batch_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TransferError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let target = &*self;
        let write = target.store.transact(|tx| {
            let batch = &batch;
            async move {
                target.check_mark(&tx).await?;
                for (key, value) in batch {
                    tx.put(key.clone(), value.clone());
                }
                Ok(())
            }
        });
        write.await
    }

    async fn check_mark(&self, tx: &Transaction) -> Result<(), TransferError> {
        match MARK.get(tx, &[]).await? {
            Some(mark) if mark.id == self.id => Ok(()),
            _ => Err(TransferError::TakenOver),
        }
    }

    /// Reads back all keys and values, compares them with what should be there, and takes the mark away.
    pub(super) async fn finish(
        mut self,
        expected: &Summary,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), TransferError> {
        self.flush().await?;
        let mut pages = Pages::new(self.store.snapshot().await?, KeyRange::all());
        let mut digest = EntryDigest::default();
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                break;
            }
            for (key, value) in page.iter().filter(|(key, _)| moves(key)) {
                digest.add(key.as_bytes(), value);
            }
            progress(Progress::of(Phase::Verifying, expected, &digest));
        }
        compare(&expected.entries, &digest.fingerprint())?;
        let finish = self.store.transact(|tx| {
            let target = &self;
            async move {
                target.check_mark(&tx).await?;
                MARK.delete(&tx, &[]);
                Ok::<_, TransferError>(())
            }
        });
        finish.await
    }

    /// After a failure: leaves the store as empty as it was. Where that fails too, the mark stays.
    pub(super) async fn abandon(mut self) {
        self.batch.clear();
        let emptied = async {
            self.empty().await?;
            let unmark = self.store.transact(|tx| {
                let target = &self;
                async move {
                    target.check_mark(&tx).await?;
                    MARK.delete(&tx, &[]);
                    Ok::<_, TransferError>(())
                }
            });
            unmark.await
        };
        if let Err(error) = emptied.await {
            tracing::warn!(%error, "the target could not be emptied again: it stays marked as unfinished");
        }
    }

    /// Removes every key but the mark.
    async fn empty(&self) -> Result<(), TransferError> {
        let mark = MARK.key(&[]);
        let mut pages = Pages::new(self.store.snapshot().await?, KeyRange::all());
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            let keys: Vec<Key> = page.into_iter().map(|(key, _)| key).filter(|key| *key != mark).collect();
            let delete = self.store.transact(|tx| {
                let keys = &keys;
                async move {
                    self.check_mark(&tx).await?;
                    for key in keys {
                        tx.delete(key.clone());
                    }
                    Ok::<_, TransferError>(())
                }
            });
            delete.await?;
        }
    }
}

/// An error that names the first difference.
pub(super) fn compare(expected: &Fingerprint, found: &Fingerprint) -> Result<(), TransferError> {
    let differ = |what, expected: &dyn ToString, found: &dyn ToString| TransferError::Mismatch {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    };
    if expected.keys != found.keys {
        return Err(differ("the number of keys", &expected.keys, &found.keys));
    }
    if expected.bytes != found.bytes {
        return Err(differ("the length of all keys and values", &expected.bytes, &found.bytes));
    }
    if expected.sha256 != found.sha256 {
        return Err(differ("the SHA-256 of all keys and values", &expected.sha256, &found.sha256));
    }
    Ok(())
}
