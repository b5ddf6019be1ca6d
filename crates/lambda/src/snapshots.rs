//! Snapshots of published versions that are to start from one (SnapStart).
//!
//! ```text
//! publish: committed as Pending --> the executor initialises it once, in the background --> Made | Failed, committed
//! start:   what is Pending goes on so; what is Made is made again, and takes events meanwhile
//! ```
//!
//! A version takes no events while it is Pending, and none ever once it has Failed, as on AWS. Where the executor takes no
//! snapshots of a runtime, its versions start as any other, and say so (`OptimizationStatus` is `Off`).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_base::id::RevisionId;
use freehold_store::{Key, Store, StoreError};
use tokio::sync::Semaphore;

use crate::error::LambdaError;
use crate::functions::Functions;
use crate::invoker::{Invoker, SnapshotFailure};
use crate::names::FunctionId;
use crate::records::{self, Configuration, PublishedRecord, Snapshot, VERSIONS};

/// Snapshots that are made at once: each is an Init phase, and events should not have to wait for all of them.
const AT_ONCE: usize = 2;
/// Versions that are read at once when the service starts.
const PAGE: usize = 1_000;

/// Sees to the snapshots. Clones are the same.
#[derive(Clone)]
pub(crate) struct Snapshots(Arc<Inner>);

struct Inner {
    store: Store,
    functions: Functions,
    invoker: Arc<dyn Invoker>,
    turns: Semaphore,
    /// The versions whose snapshots are being made, or wait for that.
    under_way: Mutex<HashSet<Key>>,
}

impl Inner {
    fn under_way(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    /// Begins to make what is Pending, and again what was made before.
    pub(crate) fn open(store: Store, functions: Functions, invoker: Arc<dyn Invoker>) -> Self {
        let (turns, under_way) = (Semaphore::new(AT_ONCE), Mutex::default());
        let snapshots = Self(Arc::new(Inner { store, functions, invoker, turns, under_way }));
        tokio::spawn({
            let snapshots = snapshots.clone();
            async move {
                if let Err(error) = snapshots.make_all().await {
                    tracing::warn!(%error, "cannot read which versions have snapshots");
                }
            }
        });
        snapshots
    }

    /// What a version of this configuration begins with.
    pub(crate) fn at_publication(&self, configuration: &Configuration) -> Snapshot {
        match configuration.snap_start && self.0.invoker.takes_snapshots(&configuration.runtime) {
            true => Snapshot::Pending,
            false => Snapshot::None,
        }
    }

    /// To be told of a version that has been published: its snapshot is made in the background, if it is to have one.
    pub(crate) fn published(&self, id: &FunctionId, number: u64, snapshot: &Snapshot) {
        if *snapshot != Snapshot::Pending {
            return;
        }
        let (snapshots, id) = (self.clone(), id.clone());
        tokio::spawn(async move { snapshots.make_and_tell(&id, number).await });
    }

    async fn make_all(&self) -> Result<(), StoreError> {
        let snapshot = self.0.store.snapshot().await?;
        let mut after: Option<(FunctionId, u64)> = None;
        loop {
            let place = after.as_ref().map(|(id, number)| id.version_parts(*number));
            let page = VERSIONS.scan(&snapshot, &[], place.as_ref().map(|place| &place[..]), PAGE).await?;
            let ended = page.len() < PAGE;
            for (key, record) in page {
                let id = VERSIONS.parts(&key).and_then(FunctionId::from_parts);
                let (Some(id), Some(number)) = (id, records::number_in(&key)) else { continue };
                if matches!(record.version.snapshot, Snapshot::Pending | Snapshot::Made) {
                    self.make_and_tell(&id, number).await;
                }
                after = Some((id, number));
            }
            if ended {
                return Ok(());
            }
        }
    }

    async fn make_and_tell(&self, id: &FunctionId, number: u64) {
        // A version may be published again, unchanged, before its snapshot is there.
        let key = VERSIONS.key(&id.version_parts(number));
        if !self.0.under_way().insert(key.clone()) {
            return;
        }
        if let Err(error) = self.make(id, number).await {
            let version = id.qualified_arn(Some(&number.to_string()));
            tracing::warn!(%error, version, "cannot make a snapshot; it is tried again at the next start");
        }
        self.0.under_way().remove(&key);
    }

    /// Makes a version's snapshot, and commits what has become of it where it was Pending.
    async fn make(&self, id: &FunctionId, number: u64) -> Result<(), LambdaError> {
        let Inner { store, functions, invoker, turns, .. } = &*self.0;
        let _turn = turns.acquire().await.expect("it is never closed");
        let read = store.snapshot().await?;
        let Some(PublishedRecord { version, .. }) = VERSIONS.get(&read, &id.version_parts(number)).await?
        else {
            return Ok(());
        };
        drop(read);
        let runnable = functions.runnable(id, number.to_string(), &version).await?;
        let made = invoker.prepare(runnable.version).await;
        if version.snapshot == Snapshot::Made {
            if let Err(error) = made {
                let version = id.qualified_arn(Some(&number.to_string()));
                tracing::warn!(%error, version, "a snapshot could not be made again; environments start without it");
            }
            return Ok(());
        }
        if !self.commit(id, number, &version.deployment, &made).await? {
            // It was deleted meanwhile.
            invoker.retire(&version.deployment);
        }
        functions.changed(id, []);
        Ok(())
    }

    /// Whether the version is still there.
    async fn commit(
        &self,
        id: &FunctionId,
        number: u64,
        deployment: &str,
        made: &Result<(), SnapshotFailure>,
    ) -> Result<bool, LambdaError> {
        let place = &id.version_parts(number);
        self.0
            .store
            .transact(|transaction| async move {
                let record = VERSIONS.get(&transaction, place).await?;
                let Some(mut record) = record.filter(|record| record.version.deployment == deployment) else {
                    return Ok(false);
                };
                if record.version.snapshot == Snapshot::Pending {
                    record.version.snapshot = outcome(made);
                    record.version.revision_id = RevisionId::random();
                    VERSIONS.put(&transaction, place, &record)?;
                }
                Ok::<_, LambdaError>(true)
            })
            .await
    }
}

fn outcome(made: &Result<(), SnapshotFailure>) -> Snapshot {
    match made {
        Ok(()) => Snapshot::Made,
        Err(SnapshotFailure { reason, code }) => {
            Snapshot::Failed { reason: reason.clone(), code: code.clone() }
        }
    }
}
