//! What is stored of functions. Versioned: a field is added as an option or with a default, never changed in meaning.
//!
//! | table | what |
//! |---|---|
//! | [`FUNCTIONS`] | a function: its `$LATEST` version, and what all its versions share |
//! | [`VERSIONS`] | a published version: what runs never changes again |
//! | [`NUMBERS`] | the last number given under a name; it outlives the function, so that no number is given twice |
//! | [`ALIASES`] | an alias |
//! | [`POLICIES`] | who else may do what with a function, a version or an alias |
//! | [`RESERVATIONS`] | the concurrency that belongs to a function |
//! | [`PROVISIONED`] | how many environments of a version or an alias are kept ready |
//! | [`USAGE`] | how much there is: see `usage` |
//! | [`SIGNING`], [`SIGNING_USES`] | code-signing configurations, and the functions that each is for |
//! | [`CODE_USES`] | by the hash of each zip the versions that use it: whether it is still needed is one short scan |
//!
//! (The tables of layers are in `layers::records`.)
//!
//! What belongs together is written in one transaction. The tables and how they are read are here, `shapes` has the records,
//! `changes` what touches several tables.

mod changes;
mod shapes;

use freehold_store::keyspace::{
    LAMBDA_ALIASES, LAMBDA_CODE, LAMBDA_FUNCTIONS, LAMBDA_NUMBERS, LAMBDA_POLICIES, LAMBDA_PROVISIONED,
    LAMBDA_RESERVED, LAMBDA_SIGNING, LAMBDA_SIGNING_USES, LAMBDA_USAGE, LAMBDA_VERSIONS,
};
use freehold_store::{Key, PartValue, Read, StoreError, Table};

use crate::error::LambdaError;
use crate::names::FunctionId;

pub(crate) use changes::{delete, delete_alias, delete_version, put, put_version};
pub(crate) use shapes::*;

/// The functions: account, region, name.
pub(crate) const FUNCTIONS: Table<FunctionRecord> = Table::new(LAMBDA_FUNCTIONS);
/// Their published versions: account, region, name, number.
pub(crate) const VERSIONS: Table<PublishedRecord> = Table::new(LAMBDA_VERSIONS);
/// The last number given: account, region, name.
pub(crate) const NUMBERS: Table<NumberRecord> = Table::new(LAMBDA_NUMBERS);
/// Aliases: account, region, name, alias.
pub(crate) const ALIASES: Table<AliasRecord> = Table::new(LAMBDA_ALIASES);
/// Resource-based policies: account, region, name, and `$LATEST` (for the function itself), a number or an alias.
pub(crate) const POLICIES: Table<PolicyRecord> = Table::new(LAMBDA_POLICIES);
/// Reserved concurrency: account, region, name.
pub(crate) const RESERVATIONS: Table<ReservationRecord> = Table::new(LAMBDA_RESERVED);
/// Provisioned concurrency: account, region, name, and a number or an alias.
pub(crate) const PROVISIONED: Table<ProvisionedRecord> = Table::new(LAMBDA_PROVISIONED);
/// What an account has in a region, divided into counters: account, region, counter.
pub(crate) const USAGE: Table<UsageRecord> = Table::new(LAMBDA_USAGE);
/// Code-signing configurations: account, region, id.
pub(crate) const SIGNING: Table<SigningRecord> = Table::new(LAMBDA_SIGNING);
/// The functions that are deployed by each: account, region, id, name.
pub(crate) const SIGNING_USES: Table<SigningUse> = Table::new(LAMBDA_SIGNING_USES);
/// Who uses a zip (or what layers are merged to): its hash, then account, region, name and version. A layer's name is
/// written with `layer:` before it, which no function's name has.
pub(crate) const CODE_USES: Table<CodeUse> = Table::new(LAMBDA_CODE);

/// Fails with AWS's answer if there is no such function.
pub(crate) async fn require_function(
    read: &impl Read,
    id: &FunctionId,
) -> Result<FunctionRecord, LambdaError> {
    FUNCTIONS.get(read, &id.parts()).await?.ok_or_else(|| LambdaError::FunctionNotFound(id.arn()))
}

/// The published versions of a function, oldest first.
pub(crate) async fn published(
    read: &impl Read,
    id: &FunctionId,
) -> Result<Vec<(u64, PublishedRecord)>, StoreError> {
    let found = VERSIONS.all(read, &id.parts()).await?;
    Ok(found.into_iter().filter_map(|(key, record)| Some((number_in(&key)?, record))).collect())
}

/// The number in a version's key.
pub(crate) fn number_in(key: &Key) -> Option<u64> {
    match VERSIONS.parts(key)?.pop() {
        Some(PartValue::Number(number)) => Some(number),
        _ => None,
    }
}

/// The alias's name in its key.
pub(crate) fn alias_in(key: &Key) -> Option<String> {
    last_text(ALIASES.parts(key)?)
}

/// The version's number or the alias's name in the key of its provisioned concurrency.
pub(crate) fn provisioned_in(key: &Key) -> Option<String> {
    last_text(PROVISIONED.parts(key)?)
}

fn last_text(mut parts: Vec<PartValue>) -> Option<String> {
    match parts.pop() {
        Some(PartValue::Text(text)) => Some(text),
        _ => None,
    }
}
