//! What is stored of functions. Versioned: a field is added as an option or with a default, never changed in meaning.
//!
//! | table | what |
//! |---|---|
//! | [`FUNCTIONS`] | a function: its `$LATEST` version, and what all its versions share |
//! | [`VERSIONS`] | a published version, never changed again |
//! | [`NUMBERS`] | the last number given under a name; it outlives the function, so that no number is given twice |
//! | [`ALIASES`] | an alias |
//! | [`CODE_USES`] | by the hash of each zip the versions that use it: whether it is still needed is one short scan |
//!
//! (The tables of layers are in `layers::records`.)
//!
//! What belongs together is written in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use freehold_base::id::RevisionId;
use freehold_store::keyspace::{
    LAMBDA_ALIASES, LAMBDA_CODE, LAMBDA_FUNCTIONS, LAMBDA_NUMBERS, LAMBDA_VERSIONS,
};
use freehold_store::{BlobId, Key, Part, PartValue, Read, Record, StoreError, Table, Transaction};
use serde::{Deserialize, Serialize};

use crate::code;
use crate::layers::AttachedLayer;
use crate::names::{FunctionId, LATEST};

/// The functions: account, region, name.
pub(crate) const FUNCTIONS: Table<FunctionRecord> = Table::new(LAMBDA_FUNCTIONS);
/// Their published versions: account, region, name, number.
pub(crate) const VERSIONS: Table<PublishedRecord> = Table::new(LAMBDA_VERSIONS);
/// The last number given: account, region, name.
pub(crate) const NUMBERS: Table<NumberRecord> = Table::new(LAMBDA_NUMBERS);
/// Aliases: account, region, name, alias.
pub(crate) const ALIASES: Table<AliasRecord> = Table::new(LAMBDA_ALIASES);
/// Who uses a zip (or what layers are merged to): its hash, then account, region, name and version. A layer's name is
/// written with `layer:` before it, which no function's name has.
pub(crate) const CODE_USES: Table<CodeUse> = Table::new(LAMBDA_CODE);

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionRecord {
    pub(crate) latest: VersionRecord,
    pub(crate) tags: BTreeMap<String, String>,
}

/// One version of a function: `$LATEST`, which changes, or a published one, which does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) configuration: Configuration,
    pub(crate) code: Code,
    /// Wall time of the last update, in ms since 1970.
    pub(crate) last_modified_ms: i64,
    /// Changes with every update; clients guard their updates with it.
    pub(crate) revision_id: RevisionId,
    /// Changes with every update that may change what runs: environments belong to one deployment for life.
    pub(crate) deployment: String,
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedRecord {
    pub(crate) version: VersionRecord,
    /// The description that `$LATEST` had, which the version's own may have replaced: whether anything has changed since
    /// is told by it.
    pub(crate) latest_description: String,
}

/// The last version number that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberRecord {
    pub(crate) last: u64,
}

/// An alias of one or two versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AliasRecord {
    /// `$LATEST` or a number.
    pub(crate) version: String,
    pub(crate) description: String,
    /// The second version, where there is one.
    pub(crate) additional: Option<AdditionalVersion>,
    pub(crate) revision_id: RevisionId,
}

/// The version that gets a share of an alias's events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AdditionalVersion {
    /// A number.
    pub(crate) version: String,
    /// Its share, 0.0 to 1.0.
    pub(crate) weight: f64,
}

/// What `UpdateFunctionConfiguration` can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) runtime: String,
    /// The ARN by which AWS would name the runtime's exact version.
    pub(crate) runtime_version_arn: String,
    pub(crate) handler: String,
    pub(crate) role: String,
    pub(crate) description: String,
    pub(crate) timeout_seconds: u32,
    pub(crate) memory_mib: u32,
    pub(crate) ephemeral_mib: u32,
    /// `None` where the client never gave an environment: then none is given back.
    pub(crate) variables: Option<BTreeMap<String, String>>,
    /// `Active` or `PassThrough`; recorded only.
    pub(crate) tracing_mode: String,
    pub(crate) logging: Logging,
    /// Whether the client gave an (empty) VPC configuration: then an empty one is given back.
    pub(crate) vpc_given: bool,
    /// Its layers, in order. All that running needs of them is here: a layer version may be deleted meanwhile.
    #[serde(default)]
    pub(crate) layers: Vec<AttachedLayer>,
}

impl VersionRecord {
    /// Its layers' zips, in order.
    pub(crate) fn layer_zips(&self) -> Vec<BlobId> {
        self.configuration.layers.iter().map(|layer| layer.zip.clone()).collect()
    }

    /// Everything that it uses of the code store: its zip, its layers' zips, and what they are merged to.
    pub(crate) fn code_uses(&self) -> BTreeSet<BlobId> {
        let layers = self.layer_zips();
        let merged = code::merged(&layers);
        [self.code.zip.clone()].into_iter().chain(merged).chain(layers).collect()
    }
}

/// How a function's logs look and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Logging {
    /// `Text` or `JSON`.
    pub(crate) format: String,
    pub(crate) application_level: Option<String>,
    pub(crate) system_level: Option<String>,
    pub(crate) group: String,
}

/// A function's deployment package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Code {
    /// The zip, by its SHA-256: the blob's id, and the code folder's name.
    pub(crate) zip: BlobId,
    /// Size of the zip, in bytes.
    pub(crate) size_bytes: u64,
    /// Its size unpacked, in bytes; 0 where it was stored before this was recorded.
    #[serde(default)]
    pub(crate) unzipped_bytes: u64,
    /// `x86_64` or `arm64`.
    pub(crate) architecture: String,
}

/// That a version uses a zip; the key says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeUse {}

impl Record for FunctionRecord {
    const VERSION: u8 = 1;
}

impl Record for PublishedRecord {
    const VERSION: u8 = 1;
}

impl Record for NumberRecord {
    const VERSION: u8 = 1;
}

impl Record for AliasRecord {
    const VERSION: u8 = 1;
}

impl Record for CodeUse {
    const VERSION: u8 = 1;
}

/// Writes `record` as the function's new state, `old` being what it replaces.
pub(crate) fn put(
    transaction: &Transaction,
    id: &FunctionId,
    old: Option<&FunctionRecord>,
    record: &FunctionRecord,
) -> Result<(), StoreError> {
    FUNCTIONS.put(transaction, &id.parts(), record)?;
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
pub(crate) fn put_version(
    transaction: &Transaction,
    id: &FunctionId,
    number: u64,
    record: &PublishedRecord,
) -> Result<(), StoreError> {
    NUMBERS.put(transaction, &id.parts(), &NumberRecord { last: number })?;
    VERSIONS.put(transaction, &id.version_parts(number), record)?;
    for used in record.version.code_uses() {
        CODE_USES.put(transaction, &use_parts(&used, id, &number.to_string()), &CodeUse {})?;
    }
    Ok(())
}

/// Deletes a published version.
pub(crate) fn delete_version(transaction: &Transaction, id: &FunctionId, number: u64, old: &PublishedRecord) {
    VERSIONS.delete(transaction, &id.version_parts(number));
    for used in old.version.code_uses() {
        CODE_USES.delete(transaction, &use_parts(&used, id, &number.to_string()));
    }
}

/// Deletes the function with all that belongs to it, and gives the versions that it had.
pub(crate) async fn delete(
    transaction: &Transaction,
    id: &FunctionId,
    old: FunctionRecord,
) -> Result<Vec<VersionRecord>, StoreError> {
    FUNCTIONS.delete(transaction, &id.parts());
    for used in old.latest.code_uses() {
        CODE_USES.delete(transaction, &use_parts(&used, id, LATEST));
    }
    let mut versions = vec![old.latest];
    for (number, published) in published(transaction, id).await? {
        delete_version(transaction, id, number, &published);
        versions.push(published.version);
    }
    for (key, _) in ALIASES.all(transaction, &id.parts()).await? {
        transaction.delete(key);
    }
    Ok(versions)
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
    match ALIASES.parts(key)?.pop() {
        Some(PartValue::Text(name)) => Some(name),
        _ => None,
    }
}

fn use_parts<'a>(zip: &'a BlobId, id: &'a FunctionId, version: &'a str) -> [Part<'a>; 5] {
    let [account, region, name] = id.parts();
    [Part::Text(zip.as_str()), account, region, name, Part::Text(version)]
}
