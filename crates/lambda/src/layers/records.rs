//! What is stored of layers. Versioned as in `crate::records`.
//!
//! | table | what |
//! |---|---|
//! | [`LAYERS`] | a layer version, never changed |
//! | [`NUMBERS`] | the last number given under a layer's name; it outlives its versions, so that no number is given twice |
//! | [`POLICIES`] | who else may use a layer version, where somebody may |
//!
//! The uses of their zips are noted in `crate::records::CODE_USES`, among those of functions.

use freehold_base::id::RevisionId;
use freehold_store::keyspace::{LAMBDA_LAYER_NUMBERS, LAMBDA_LAYER_POLICIES, LAMBDA_LAYERS};
use freehold_store::{BlobId, Key, Part, PartValue, Record, StoreError, Table, Transaction};
use serde::{Deserialize, Serialize};

use super::id::LayerVersionId;
use super::user;
use crate::policy::Document;
use crate::records::{CODE_USES, CodeUse, NumberRecord};
use crate::usage;

/// Layer versions: account, region, name, number.
pub(crate) const LAYERS: Table<LayerRecord> = Table::new(LAMBDA_LAYERS);
/// The last number given: account, region, name.
pub(crate) const NUMBERS: Table<NumberRecord> = Table::new(LAMBDA_LAYER_NUMBERS);
/// Policies of layer versions: account, region, name, number.
pub(crate) const POLICIES: Table<PolicyRecord> = Table::new(LAMBDA_LAYER_POLICIES);

/// A layer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The zip, by its SHA-256.
    pub(crate) zip: BlobId,
    /// Size of the zip, in bytes.
    pub(crate) size_bytes: u64,
    /// Its size unpacked, in bytes.
    pub(crate) unzipped_bytes: u64,
    pub(crate) description: String,
    pub(crate) license: Option<String>,
    /// `None` where the client named none: then none are given back.
    pub(crate) runtimes: Option<Vec<String>>,
    /// As the runtimes.
    pub(crate) architectures: Option<Vec<String>>,
    /// Wall time of its publication, in ms since 1970.
    pub(crate) created_ms: i64,
}

/// The policy of a layer version; it has at least one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyRecord {
    pub(crate) document: Document,
    /// Changes with every change; clients guard theirs with it.
    pub(crate) revision_id: RevisionId,
}

impl Record for LayerRecord {
    const VERSION: u8 = 1;
}

impl Record for PolicyRecord {
    const VERSION: u8 = 1;
}

/// Writes a layer version that was published under the next number.
pub(crate) async fn put(
    transaction: &Transaction,
    id: &LayerVersionId,
    record: &LayerRecord,
) -> Result<(), StoreError> {
    NUMBERS.put(transaction, &id.layer.parts(), &NumberRecord { last: id.number })?;
    LAYERS.put(transaction, &id.parts(), record)?;
    usage::add(transaction, &id.layer, 0, usage::signed(record.size_bytes)).await?;
    note_use(id, record, |parts| CODE_USES.put(transaction, parts, &CodeUse {}))
}

/// Deletes a layer version with its policy.
pub(crate) async fn delete(
    transaction: &Transaction,
    id: &LayerVersionId,
    old: &LayerRecord,
) -> Result<(), StoreError> {
    LAYERS.delete(transaction, &id.parts());
    POLICIES.delete(transaction, &id.parts());
    note_use(id, old, |parts| CODE_USES.delete(transaction, parts));
    usage::add(transaction, &id.layer, 0, -usage::signed(old.size_bytes)).await
}

/// Does something with the place where this version's use of its zip is noted.
fn note_use<T>(id: &LayerVersionId, record: &LayerRecord, note: impl FnOnce(&[Part<'_>]) -> T) -> T {
    let (user, number) = (user(&id.layer), id.number.to_string());
    let [account, region, name] = user.parts();
    note(&[Part::Text(record.zip.as_str()), account, region, name, Part::Text(&number)])
}

/// The layer's name and the number in a layer version's key.
pub(crate) fn place_in(key: &Key) -> Option<(String, u64)> {
    let mut parts = LAYERS.parts(key)?;
    match (parts.pop(), parts.pop()) {
        (Some(PartValue::Number(number)), Some(PartValue::Text(name))) => Some((name, number)),
        _ => None,
    }
}
