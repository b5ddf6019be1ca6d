//! What the operations that change a function share: one update of a function at a time, the guard by revision, the
//! transaction and what must follow it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use freehold_store::Key;

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::{FunctionId, Target};
use crate::records::{self, FUNCTIONS, FunctionRecord};

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
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.updates.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Refuses the update if the client names another revision than the function's.
pub(crate) fn check_revision(record: &FunctionRecord, named: Option<&str>) -> Result<(), LambdaError> {
    match named {
        Some(named) if named != record.revision_id.as_str() => Err(LambdaError::StaleRevision),
        _ => Ok(()),
    }
}

/// Commits the function's new state, made by `change` from the old one, and sees to what follows: it is invoked from now
/// on, environments of the old one are retired, and so is its code.
pub(crate) async fn commit(
    lambda: &Lambda,
    target: &Target,
    named_revision: Option<&str>,
    change: impl Fn(&FunctionRecord) -> Result<FunctionRecord, LambdaError> + Send + Sync,
) -> Result<FunctionRecord, LambdaError> {
    let (store, id, change) = (&lambda.store, &target.id, &change);
    let (old, new) = store
        .transact(|transaction| async move {
            let old = FUNCTIONS.get(&transaction, &id.parts()).await?.ok_or_else(|| target.not_found())?;
            check_revision(&old, named_revision)?;
            let new = change(&old)?;
            records::put(&transaction, id, Some(&old), &new)?;
            Ok::<_, LambdaError>((old, new))
        })
        .await?;
    lambda.functions.replaced(id, &old);
    if old.code.zip != new.code.zip {
        lambda.code.retire(old.code.zip);
    }
    Ok(new)
}
