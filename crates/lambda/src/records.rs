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
//! | [`USAGE`] | how much there is: see `usage` |
//! | [`SIGNING`], [`SIGNING_USES`] | code-signing configurations, and the functions that each is for |
//! | [`CODE_USES`] | by the hash of each zip the versions that use it: whether it is still needed is one short scan |
//!
//! (The tables of layers are in `layers::records`.)
//!
//! What belongs together is written in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use freehold_base::id::RevisionId;
use freehold_store::keyspace::{
    LAMBDA_ALIASES, LAMBDA_CODE, LAMBDA_FUNCTIONS, LAMBDA_NUMBERS, LAMBDA_POLICIES, LAMBDA_RESERVED,
    LAMBDA_SIGNING, LAMBDA_SIGNING_USES, LAMBDA_USAGE, LAMBDA_VERSIONS,
};
use freehold_store::{BlobId, Key, Part, PartValue, Read, Record, StoreError, Table, Transaction};
use serde::{Deserialize, Serialize};

use crate::code;
use crate::error::LambdaError;
use crate::layers::AttachedLayer;
use crate::names::{FunctionId, LATEST};
use crate::policy::Document;
use crate::usage;

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
/// What an account has in a region, divided into counters: account, region, counter.
pub(crate) const USAGE: Table<UsageRecord> = Table::new(LAMBDA_USAGE);
/// Code-signing configurations: account, region, id.
pub(crate) const SIGNING: Table<SigningRecord> = Table::new(LAMBDA_SIGNING);
/// The functions that are deployed by each: account, region, id, name.
pub(crate) const SIGNING_USES: Table<SigningUse> = Table::new(LAMBDA_SIGNING_USES);
/// Who uses a zip (or what layers are merged to): its hash, then account, region, name and version. A layer's name is
/// written with `layer:` before it, which no function's name has.
pub(crate) const CODE_USES: Table<CodeUse> = Table::new(LAMBDA_CODE);

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionRecord {
    pub(crate) latest: VersionRecord,
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) recursive_loop: RecursiveLoop,
    /// The id of the code-signing configuration that the function is deployed by.
    #[serde(default)]
    pub(crate) signing: Option<String>,
}

/// What becomes of events that come back to the function that sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecursiveLoop {
    /// They go on.
    Allow,
    /// They are stopped.
    #[default]
    Terminate,
}

/// When a version moves to a newer release of its runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuntimeManagement {
    pub(crate) update_runtime_on: UpdateRuntimeOn,
    /// The release to stay at: with `Manual` alone.
    pub(crate) runtime_version_arn: Option<String>,
}

/// The mode of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UpdateRuntimeOn {
    /// As soon as there is one.
    #[default]
    Auto,
    /// With the function's next update.
    FunctionUpdate,
    /// Never.
    Manual,
}

/// One version of a function: `$LATEST`, which changes, or a published one, which does not, but for its runtime management.
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
    #[serde(default)]
    pub(crate) runtime_management: RuntimeManagement,
}

/// A published version. Nothing of it changes but its revision, which a policy on it moves.
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
    /// Whether published versions are to start from a snapshot; recorded only.
    #[serde(default)]
    pub(crate) snap_start: bool,
    /// Whether an environment may serve one tenant alone. Set at creation, for ever.
    #[serde(default)]
    pub(crate) per_tenant: bool,
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

/// A resource-based policy. Its revision is that of the version or alias that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyRecord {
    pub(crate) document: Document,
}

/// The concurrency that belongs to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReservationRecord {
    /// Events in flight; 0 stops the function.
    pub(crate) executions: u32,
}

/// A share of what an account has in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageRecord {
    pub(crate) functions: u64,
    /// All packages of all versions of functions and layers, in bytes.
    pub(crate) code_bytes: u64,
}

/// A code-signing configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningRecord {
    pub(crate) description: Option<String>,
    /// ARNs of the signing profiles whose signatures are trusted.
    pub(crate) publishers: Vec<String>,
    pub(crate) policy: SigningPolicy,
    /// Wall time of the last update, in ms since 1970.
    pub(crate) last_modified_ms: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

/// What becomes of code without a trusted signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SigningPolicy {
    /// It is deployed.
    #[default]
    Warn,
    /// It is refused.
    Enforce,
}

/// That a function is deployed by a code-signing configuration; the key says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningUse {}

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

impl Record for PolicyRecord {
    const VERSION: u8 = 1;
}

impl Record for ReservationRecord {
    const VERSION: u8 = 1;
}

impl Record for UsageRecord {
    const VERSION: u8 = 1;
}

impl Record for SigningRecord {
    const VERSION: u8 = 1;
}

impl Record for SigningUse {
    const VERSION: u8 = 1;
}

impl Record for CodeUse {
    const VERSION: u8 = 1;
}

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
    for used in old.version.code_uses() {
        CODE_USES.delete(transaction, &use_parts(&used, id, &number.to_string()));
    }
    usage::add(transaction, id, 0, -usage::signed(old.version.code.size_bytes)).await
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
    for (key, _) in POLICIES.all(transaction, &id.parts()).await? {
        transaction.delete(key);
    }
    Ok(versions)
}

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
    match ALIASES.parts(key)?.pop() {
        Some(PartValue::Text(name)) => Some(name),
        _ => None,
    }
}

fn use_parts<'a>(zip: &'a BlobId, id: &'a FunctionId, version: &'a str) -> [Part<'a>; 5] {
    let [account, region, name] = id.parts();
    [Part::Text(zip.as_str()), account, region, name, Part::Text(version)]
}
