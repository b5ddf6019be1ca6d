//! What the operations that change a function share: one update of a function at a time, the guard by revision, the
//! transaction and what must follow it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use freehold_store::Key;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::{self, Wanted};
use crate::names::{FunctionId, Target};
use crate::records::{self, FUNCTIONS, FunctionRecord, VersionRecord};
use crate::usage::Quota;
use crate::{signing, versions};

/// The functions that are being updated. AWS refuses a second update of one meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Updates(Arc<Mutex<HashSet<Key>>>);

/// An update in progress; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct InProgress {
    updates: Updates,
    key: Key,
}

impl Updates {
    /// Begins an update, unless one of this function has not ended.
    pub(crate) fn begin(&self, id: &FunctionId) -> Result<InProgress, LambdaError> {
        let key = id.key();
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return Err(LambdaError::UpdateInProgress(id.arn()));
        }
        Ok(InProgress { updates: self.clone(), key })
    }

    /// Refuses what must not happen during an update.
    pub(crate) fn check(&self, id: &FunctionId) -> Result<(), LambdaError> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id.key()) {
            return Err(LambdaError::UpdateInProgress(id.arn()));
        }
        Ok(())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.updates.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Refuses the update if the client names another revision than the version's.
pub(crate) fn check_revision(version: &VersionRecord, named: Option<&str>) -> Result<(), LambdaError> {
    match named {
        Some(named) if named != version.revision_id.as_str() => Err(LambdaError::StaleRevision),
        _ => Ok(()),
    }
}

/// What an update has come to.
pub(crate) struct Committed {
    pub(crate) function: FunctionRecord,
    /// The version that was published with it.
    pub(crate) published: Option<(u64, VersionRecord)>,
}

/// Commits the function's new `$LATEST`, made by `change` from the old one, with the layers that are wanted, publishes it
/// where that is asked for, and sees to what follows: it is invoked from now on, environments of the old one are retired,
/// and so is its code.
pub(crate) async fn commit(
    lambda: &Lambda,
    target: &Target,
    named_revision: Option<&str>,
    publish: bool,
    layers: Option<&Wanted>,
    change: impl Fn(&VersionRecord) -> Result<VersionRecord, LambdaError> + Send + Sync,
) -> Result<Committed, LambdaError> {
    let (store, id, change, snapshots) = (&lambda.store, &target.id, &change, &lambda.snapshots);
    let quota = Quota::of(lambda, id).await?;
    let (old, committed) = store
        .transact(|transaction| async move {
            let old = FUNCTIONS.get(&transaction, &id.parts()).await?.ok_or_else(|| target.not_found())?;
            check_revision(&old.latest, named_revision)?;
            let mut function = FunctionRecord { latest: change(&old.latest)?, ..old.clone() };
            if let Some(layers) = layers {
                function.latest.configuration.layers = layers.find(&transaction).await?;
            }
            layers::check_size(&function.latest)?;
            if old.latest.code != function.latest.code {
                signing::check_deployment(&transaction, id, old.signing.as_deref()).await?;
            }
            let published = match publish {
                true => {
                    let snapshot = snapshots.at_publication(&function.latest.configuration);
                    Some(versions::publish(&transaction, id, &mut function, None, snapshot).await?)
                }
                false => None,
            };
            records::put(&transaction, id, Some(&old), &function).await?;
            quota.check(&transaction).await?;
            Ok::<_, LambdaError>((old.latest, Committed { function, published }))
        })
        .await?;
    lambda.functions.changed(id, [&old]);
    if let Some((number, version)) = &committed.published {
        snapshots.published(id, *number, &version.snapshot);
    }
    for unused in old.code_uses().difference(&committed.function.latest.code_uses()) {
        lambda.code.retire(unused.clone());
    }
    Ok(committed)
}
