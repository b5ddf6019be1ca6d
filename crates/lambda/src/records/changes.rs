//! Changes that touch more than one table: a function or a version comes or goes, with all that belongs to it.

use freehold_store::{BlobId, Part, StoreError, Transaction};

use super::{
    ALIASES, CODE_USES, CodeUse, FUNCTIONS, FunctionRecord, NUMBERS, NumberRecord, POLICIES, PROVISIONED,
    PublishedRecord, RESERVATIONS, SIGNING_USES, VERSIONS, VersionRecord, published,
};
use crate::names::{FunctionId, LATEST};
use crate::usage;

/// Writes `record` as the function's new state, `old` being what it replaces.
pub(crate) async fn put(
    transaction: &Transaction,
    id: &FunctionId,
    old: Option<&FunctionRecord>,
    record: &FunctionRecord,
) -> Result<(), StoreError> {
    FUNCTIONS.put(transaction, &id.parts(), record)?;
    let size = |record: &FunctionRecord| usage::signed(record.latest.code.size_bytes);
    let growth = size(record) - old.map_or(0, size);
    usage::add(transaction, id, i64::from(old.is_none()), growth).await?;
    let before = old.map(|old| old.latest.code_uses()).unwrap_or_default();
    let after = record.latest.code_uses();
    for unused in before.difference(&after) {
        CODE_USES.delete(transaction, &use_parts(unused, id, LATEST));
    }
    for used in after.difference(&before) {
        CODE_USES.put(transaction, &use_parts(used, id, LATEST), &CodeUse {})?;
    }
    Ok(())
}

/// Writes a version that was published under `number`.
pub(crate) async fn put_version(
    transaction: &Transaction,
    id: &FunctionId,
    number: u64,
    record: &PublishedRecord,
) -> Result<(), StoreError> {
    NUMBERS.put(transaction, &id.parts(), &NumberRecord { last: number })?;
    VERSIONS.put(transaction, &id.version_parts(number), record)?;
    usage::add(transaction, id, 0, usage::signed(record.version.code.size_bytes)).await?;
    for used in record.version.code_uses() {
        CODE_USES.put(transaction, &use_parts(&used, id, &number.to_string()), &CodeUse {})?;
    }
    Ok(())
}

/// Deletes a published version.
pub(crate) async fn delete_version(
    transaction: &Transaction,
    id: &FunctionId,
    number: u64,
    old: &PublishedRecord,
) -> Result<(), StoreError> {
    VERSIONS.delete(transaction, &id.version_parts(number));
    POLICIES.delete(transaction, &id.policy_parts(&number.to_string()));
    PROVISIONED.delete(transaction, &id.provisioned_parts(&number.to_string()));
    for used in old.version.code_uses() {
        CODE_USES.delete(transaction, &use_parts(&used, id, &number.to_string()));
    }
    usage::add(transaction, id, 0, -usage::signed(old.version.code.size_bytes)).await
}

/// Deletes an alias, where there is one.
pub(crate) fn delete_alias(transaction: &Transaction, id: &FunctionId, name: &str) {
    ALIASES.delete(transaction, &id.alias_parts(name));
    POLICIES.delete(transaction, &id.policy_parts(name));
    PROVISIONED.delete(transaction, &id.provisioned_parts(name));
}

/// Deletes the function with all that belongs to it, and gives the versions that it had.
pub(crate) async fn delete(
    transaction: &Transaction,
    id: &FunctionId,
    old: FunctionRecord,
) -> Result<Vec<VersionRecord>, StoreError> {
    FUNCTIONS.delete(transaction, &id.parts());
    RESERVATIONS.delete(transaction, &id.parts());
    if let Some(signing) = &old.signing {
        SIGNING_USES.delete(transaction, &id.signing_parts(signing));
    }
    usage::add(transaction, id, -1, -usage::signed(old.latest.code.size_bytes)).await?;
    for used in old.latest.code_uses() {
        CODE_USES.delete(transaction, &use_parts(&used, id, LATEST));
    }
    let mut versions = vec![old.latest];
    for (number, published) in published(transaction, id).await? {
        delete_version(transaction, id, number, &published).await?;
        versions.push(published.version);
    }
    for (key, _) in ALIASES.all(transaction, &id.parts()).await? {
        transaction.delete(key);
    }
    for (key, _) in PROVISIONED.all(transaction, &id.parts()).await? {
        transaction.delete(key);
    }
    for (key, _) in POLICIES.all(transaction, &id.parts()).await? {
        transaction.delete(key);
    }
    Ok(versions)
}

fn use_parts<'a>(zip: &'a BlobId, id: &'a FunctionId, version: &'a str) -> [Part<'a>; 5] {
    let [account, region, name] = id.parts();
    [Part::Text(zip.as_str()), account, region, name, Part::Text(version)]
}
