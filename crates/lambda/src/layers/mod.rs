//! Layers: packages of their own that functions share, published in numbered versions that never change.
//!
//! ```text
//! PublishLayerVersion: zip -> code store, record, number     DeleteLayerVersion: record gone, policy gone
//!         └── named in a function's Layers ──> attached: ARN, hash and sizes are copied into the function's record
//! ```
//!
//! - [`id`]: how layers and their versions are named
//! - [`records`]: what is stored of them
//! - [`policy`]: who else may use a layer version
//! - [`error`]: AWS's errors for layers
//!
//! A function that has a layer version needs nothing more of it than its zip, and notes its own use of that. So a deleted
//! layer version stays usable for the versions that have it, and its zip is collected with the last of them. Nobody can be
//! given a deleted one: what a request names is looked for in the transaction that writes the function.
//!
//! As on AWS, what a layer says it is compatible with is for those who look for layers; it keeps no function from using it.

pub(crate) mod error;
pub(crate) mod id;
pub(crate) mod policy;
pub(crate) mod records;

use freehold_base::id::Region;
use freehold_base::limits::UNZIPPED_BYTES;
use freehold_store::{BlobId, Read};
use freehold_wire::service::{Call, Principal};
use serde::{Deserialize, Serialize};

use self::error::LayerError;
use self::id::LayerVersionId;
use self::records::{LAYERS, POLICIES};
use crate::Lambda;
use crate::code;
use crate::error::LambdaError;
use crate::names::FunctionId;
use crate::records::VersionRecord;

/// Layers of a function. Source: "Lambda quotas".
const LAYERS_PER_FUNCTION: usize = 5;

/// A layer version as a function has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachedLayer {
    /// The layer version's ARN.
    pub(crate) arn: String,
    /// The zip, by its SHA-256.
    pub(crate) zip: BlobId,
    /// Size of the zip, in bytes.
    pub(crate) size_bytes: u64,
    /// Its size unpacked, in bytes.
    pub(crate) unzipped_bytes: u64,
}

/// The layers that a request wants for a function.
#[derive(Debug)]
pub(crate) struct Wanted {
    arns: Vec<String>,
    principal: Principal,
    region: Region,
}

impl Wanted {
    /// Reads `Layers`, whose ARNs have been checked against the model's pattern.
    pub(crate) fn of(call: &Call, arns: Vec<String>) -> Result<Self, LambdaError> {
        if arns.len() > LAYERS_PER_FUNCTION {
            let text = format!("Cannot reference more than {LAYERS_PER_FUNCTION} layers.");
            return Err(LambdaError::InvalidParameter(text));
        }
        Ok(Self { arns, principal: call.principal.clone(), region: call.region.clone() })
    }

    /// Finds them, or says in AWS's words why one cannot be had.
    pub(crate) async fn find(&self, read: &impl Read) -> Result<Vec<AttachedLayer>, LambdaError> {
        let mut found: Vec<(String, AttachedLayer)> = Vec::new();
        for arn in &self.arns {
            // One of AWS's own (`awslayer`), or of another partition.
            let Some(id) = LayerVersionId::parse(arn) else { return Err(missing(arn)) };
            let layer = self.find_one(read, &id).await?;
            let name = id.layer.arn();
            if let Some((_, other)) = found.iter().find(|(other, _)| *other == name) {
                return Err(LambdaError::InvalidParameter(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. {} \
                     and {arn} are versions of the same layer.",
                    other.arn
                )));
            }
            found.push((name, layer));
        }
        Ok(found.into_iter().map(|(_, layer)| layer).collect())
    }

    async fn find_one(&self, read: &impl Read, id: &LayerVersionId) -> Result<AttachedLayer, LambdaError> {
        let own = id.layer.account == self.principal.account;
        let here = id.layer.region == self.region;
        if own && !here {
            return Err(LambdaError::InvalidParameter(format!(
                "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                self.region
            )));
        }
        let admitted = own || here && is_admitted(read, id, &self.principal).await?;
        if !admitted {
            return Err(denied(&self.principal, policy::ACTION, id.arn()));
        }
        let record = LAYERS.get(read, &id.parts()).await?.ok_or_else(|| missing(&id.arn()))?;
        Ok(AttachedLayer {
            arn: id.arn(),
            zip: record.zip,
            size_bytes: record.size_bytes,
            unzipped_bytes: record.unzipped_bytes,
        })
    }

    /// Does ahead of the commit what takes time: merges them. Gives what was made, to be discarded if the commit fails.
    pub(crate) async fn prepare(&self, lambda: &Lambda) -> Result<Option<BlobId>, LambdaError> {
        let found = self.find(&lambda.store.snapshot().await?).await?;
        let zips: Vec<BlobId> = found.into_iter().map(|layer| layer.zip).collect();
        lambda.code.merged_folder(&zips).await?;
        Ok(code::merged(&zips))
    }
}

/// Whether the layer version's policy lets this principal, of another account, use it.
async fn is_admitted(
    read: &impl Read,
    id: &LayerVersionId,
    principal: &Principal,
) -> Result<bool, LambdaError> {
    let record = POLICIES.get(read, &id.parts()).await?;
    Ok(record.is_some_and(|record| policy::admits(&record.document, id, principal)))
}

/// Lets the caller's own account pass, and others only where the layer version's policy does.
pub(crate) async fn require_access(
    read: &impl Read,
    call: &Call,
    id: &LayerVersionId,
) -> Result<(), LambdaError> {
    if id.layer.account == call.principal.account || is_admitted(read, id, &call.principal).await? {
        return Ok(());
    }
    Err(denied(&call.principal, call.operation.action, id.arn()))
}

/// Refuses a function whose code and layers are too large together.
pub(crate) fn check_size(version: &VersionRecord) -> Result<(), LambdaError> {
    let layers = &version.configuration.layers;
    let total = layers.iter().fold(version.code.unzipped_bytes, |total, layer| total + layer.unzipped_bytes);
    if layers.is_empty() || total <= UNZIPPED_BYTES {
        return Ok(());
    }
    Err(LambdaError::InvalidParameter(format!(
        "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes. The actual size \
         is {total} bytes."
    )))
}

/// AWS's answer to those of another account whom no policy lets in.
pub(crate) fn denied(principal: &Principal, action: &'static str, resource: String) -> LambdaError {
    LambdaError::OtherAccount { principal: principal.arn.clone(), action, resource }
}

/// AWS's answer where a function names a layer version that is not there.
fn missing(arn: &str) -> LambdaError {
    LambdaError::InvalidParameter(LayerError::VersionNotFound(arn.to_owned()).to_string())
}

/// A layer's place where uses of packages are noted, among those of functions.
pub(crate) fn user(layer: &id::LayerId) -> FunctionId {
    FunctionId {
        account: layer.account.clone(),
        region: layer.region.clone(),
        // No function's name has a colon.
        name: format!("layer:{}", layer.name),
    }
}
