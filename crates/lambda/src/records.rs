//! What is stored of functions. Versioned: a field is added as an option or with a default, never changed in meaning.
//!
//! Two tables: the functions by account, region and name; and by the hash of each zip the functions that use it, so that
//! whether a zip is still needed is one short scan however many functions there are. Both are written in one transaction.

use std::collections::BTreeMap;

use freehold_base::id::RevisionId;
use freehold_store::keyspace::{LAMBDA_CODE, LAMBDA_FUNCTIONS};
use freehold_store::{BlobId, Part, Record, StoreError, Table, Transaction};
use serde::{Deserialize, Serialize};

use crate::names::FunctionId;

/// The functions: account, region, name.
pub(crate) const FUNCTIONS: Table<FunctionRecord> = Table::new(LAMBDA_FUNCTIONS);
/// Who uses a zip: its hash, then the function's account, region and name.
pub(crate) const CODE_USES: Table<CodeUse> = Table::new(LAMBDA_CODE);

/// One function, as its `$LATEST` version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionRecord {
    pub(crate) configuration: Configuration,
    pub(crate) code: Code,
    pub(crate) tags: BTreeMap<String, String>,
    /// Wall time of the last update, in ms since 1970.
    pub(crate) last_modified_ms: i64,
    /// Changes with every update; clients guard their updates with it.
    pub(crate) revision_id: RevisionId,
    /// Changes with every update that may change what runs: environments belong to one deployment for life.
    pub(crate) deployment: String,
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
    /// `x86_64` or `arm64`.
    pub(crate) architecture: String,
}

/// That a function uses a zip; the key says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeUse {}

impl Record for FunctionRecord {
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
    if old.is_none_or(|old| old.code.zip != record.code.zip) {
        if let Some(old) = old {
            CODE_USES.delete(transaction, &use_parts(&old.code.zip, id));
        }
        CODE_USES.put(transaction, &use_parts(&record.code.zip, id), &CodeUse {})?;
    }
    Ok(())
}

/// Deletes the function.
pub(crate) fn delete(transaction: &Transaction, id: &FunctionId, old: &FunctionRecord) {
    FUNCTIONS.delete(transaction, &id.parts());
    CODE_USES.delete(transaction, &use_parts(&old.code.zip, id));
}

fn use_parts<'a>(zip: &'a BlobId, id: &'a FunctionId) -> [Part<'a>; 4] {
    let [account, region, name] = id.parts();
    [Part::Text(zip.as_str()), account, region, name]
}
