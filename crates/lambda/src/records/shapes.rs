//! The records' shapes.

use std::collections::{BTreeMap, BTreeSet};

use freehold_base::id::RevisionId;
use freehold_store::{BlobId, Record};
use serde::{Deserialize, Serialize};

use crate::code;
use crate::layers::AttachedLayer;
use crate::policy::Document;

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
    /// How far the snapshot is from which its environments start.
    #[serde(default)]
    pub(crate) snapshot: Snapshot,
}

/// The snapshot of a published version that is to start from one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Snapshot {
    /// It starts without one.
    #[default]
    None,
    /// It is being made: the version takes no events yet.
    Pending,
    /// It was made. After a restart of the server it is made again; the version takes events meanwhile.
    Made,
    /// It could not be made: the version takes no events, ever.
    Failed {
        /// Why, for people.
        reason: String,
        /// AWS's code for it.
        code: String,
    },
}

/// A published version. Nothing of it changes but its revision, which a policy on it moves, and its snapshot.
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

/// Environments of a version, or of the version that an alias leads to, that are kept ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvisionedRecord {
    /// How many; at least one.
    pub(crate) executions: u32,
    /// Wall time of the last change by a client, in ms since 1970.
    pub(crate) last_modified_ms: i64,
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

impl Record for ProvisionedRecord {
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
