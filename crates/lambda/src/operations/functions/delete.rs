//! `DeleteFunction`: 204. Without a qualifier the function is gone with its versions and aliases, for every later call; with a
//! version's number that version alone. An event that is running still ends.

use freehold_store::Transaction;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::{FunctionId, Qualified, Target};
use crate::operations::empty_reply;
use crate::records::{self, ALIASES, FUNCTIONS, VERSIONS, VersionRecord};

pub(super) async fn delete_function(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let number = match target.qualifier.as_deref().map(Qualified::of) {
        None => None,
        Some(Qualified::Number(number)) => Some(number),
        // A number that no version can have: there is nothing to delete, as for one that is gone.
        Some(Qualified::Nothing) => Some(0),
        Some(Qualified::Latest) => {
            let text = "$LATEST version cannot be deleted without deleting the function.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
        Some(Qualified::Alias(_)) => {
            let text = "Deletion of aliases is not currently supported.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
    };
    let (store, id) = (&lambda.store, &target.id);
    let deleted = store
        .transact(|transaction| async move {
            let Some(function) = FUNCTIONS.get(&transaction, &id.parts()).await? else {
                return Err(LambdaError::FunctionNotFound(id.arn()));
            };
            match number {
                None => Ok(records::delete(&transaction, id, function).await?),
                Some(number) => delete_version(&transaction, id, number).await,
            }
        })
        .await?;
    // First: what is provisioned of a version would replace its environments as they are retired.
    lambda.provisioned.tell(id).await?;
    lambda.functions.changed(id, &deleted);
    if number.is_none() {
        lambda.reservations.tell(id).await?;
    }
    for unused in deleted.iter().flat_map(VersionRecord::code_uses) {
        lambda.code.retire(unused);
    }
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// Deletes one version, unless an alias leads to it. One that is not there is deleted already.
async fn delete_version(
    transaction: &Transaction,
    id: &FunctionId,
    number: u64,
) -> Result<Vec<VersionRecord>, LambdaError> {
    let text = number.to_string();
    let aliases = ALIASES.all(transaction, &id.parts()).await?.into_iter().filter(|(_, alias)| {
        alias.version == text
            || alias.additional.as_ref().is_some_and(|additional| additional.version == text)
    });
    let names: Vec<String> = aliases.filter_map(|(key, _)| records::alias_in(&key)).collect();
    if !names.is_empty() {
        return Err(LambdaError::VersionInUse(names));
    }
    let Some(published) = VERSIONS.get(transaction, &id.version_parts(number)).await? else {
        return Ok(vec![]);
    };
    records::delete_version(transaction, id, number, &published).await?;
    Ok(vec![published.version])
}
