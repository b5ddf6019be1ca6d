//! The answers' shapes, as AWS fills them for a function made of a zip.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_store::BlobId;
use jiff::Timestamp;
use serde::Serialize;

use super::constraints::PER_TENANT;
use super::settings::Concurrency;
use super::state::StateMembers;
use crate::names::{FunctionId, LATEST, Target};
use crate::records::{AliasRecord, Snapshot, VersionRecord};
use crate::updates::Committed;
use crate::versions::Found;

/// `FunctionConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FunctionConfiguration<'a> {
    function_name: &'a str,
    function_arn: String,
    runtime: &'a str,
    role: &'a str,
    handler: &'a str,
    code_size: u64,
    description: &'a str,
    timeout: u32,
    memory_size: u32,
    last_modified: String,
    code_sha256: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_config: Option<VpcConfigResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentResponse<'a>>,
    tracing_config: TracingConfigResponse<'a>,
    revision_id: &'a str,
    #[serde(flatten)]
    state: StateMembers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version_config: Option<RuntimeVersionConfig<'a>>,
    package_type: &'static str,
    architectures: [&'a str; 1],
    ephemeral_storage: EphemeralStorageResponse,
    snap_start: SnapStartResponse,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerResponse<'a>>,
    logging_config: LoggingConfigResponse<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenancy_config: Option<TenancyConfigResponse>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VpcConfigResponse {
    subnet_ids: [&'static str; 0],
    security_group_ids: [&'static str; 0],
    vpc_id: &'static str,
    ipv6_allowed_for_dual_stack: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EnvironmentResponse<'a> {
    variables: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TracingConfigResponse<'a> {
    mode: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RuntimeVersionConfig<'a> {
    runtime_version_arn: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EphemeralStorageResponse {
    size: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SnapStartResponse {
    apply_on: &'static str,
    optimization_status: &'static str,
}

/// `Layer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LayerResponse<'a> {
    arn: &'a str,
    code_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TenancyConfigResponse {
    tenant_isolation_mode: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoggingConfigResponse<'a> {
    log_format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_log_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_log_level: Option<&'a str>,
    log_group: &'a str,
}

/// `GetFunctionResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetFunctionResponse<'a> {
    pub(crate) configuration: FunctionConfiguration<'a>,
    pub(crate) code: FunctionCodeLocation,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<Concurrency>,
}

/// `FunctionCodeLocation`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FunctionCodeLocation {
    pub(crate) repository_type: &'static str,
    /// A URL from which anyone may fetch the zip for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
}

/// `ListFunctionsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListFunctionsResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) functions: Vec<FunctionConfiguration<'a>>,
}

/// `ListVersionsByFunctionResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListVersionsResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) versions: Vec<FunctionConfiguration<'a>>,
}

/// `AliasConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AliasConfiguration<'a> {
    alias_arn: String,
    name: &'a str,
    function_version: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_config: Option<RoutingConfigResponse<'a>>,
    revision_id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RoutingConfigResponse<'a> {
    additional_version_weights: BTreeMap<&'a str, f64>,
}

/// `ListAliasesResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListAliasesResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) aliases: Vec<AliasConfiguration<'a>>,
}

impl<'a> AliasConfiguration<'a> {
    /// The alias as AWS shows it.
    pub(crate) fn of(id: &FunctionId, name: &'a str, record: &'a AliasRecord) -> Self {
        let routing = record.additional.as_ref().map(|additional| RoutingConfigResponse {
            additional_version_weights: [(additional.version.as_str(), additional.weight)].into(),
        });
        Self {
            alias_arn: id.qualified_arn(Some(name)),
            name,
            function_version: &record.version,
            description: &record.description,
            routing_config: routing,
            revision_id: record.revision_id.as_str(),
        }
    }
}

impl<'a> FunctionConfiguration<'a> {
    /// What a request names, as AWS shows it; its ARN carries the qualifier by which it was asked for.
    pub(crate) fn found(target: &'a Target, found: &'a Found) -> Self {
        Self::of(&target.id, &found.name(), found.version(), target.qualifier.as_deref())
    }

    /// A version of a function.
    pub(crate) fn of(
        id: &'a FunctionId,
        version: &str,
        record: &'a VersionRecord,
        qualifier: Option<&str>,
    ) -> Self {
        let configuration = &record.configuration;
        let logging = &configuration.logging;
        Self {
            function_name: &id.name,
            function_arn: id.qualified_arn(qualifier),
            runtime: &configuration.runtime,
            role: &configuration.role,
            handler: &configuration.handler,
            code_size: record.code.size_bytes,
            description: &configuration.description,
            timeout: configuration.timeout_seconds,
            memory_size: configuration.memory_mib,
            last_modified: time_text(record.last_modified_ms),
            code_sha256: hash_text(&record.code.zip),
            version: version.to_owned(),
            vpc_config: configuration.vpc_given.then(VpcConfigResponse::default),
            environment: configuration.variables.as_ref().map(|variables| EnvironmentResponse { variables }),
            tracing_config: TracingConfigResponse { mode: &configuration.tracing_mode },
            revision_id: record.revision_id.as_str(),
            state: StateMembers::of(&record.snapshot),
            runtime_version_config: Some(RuntimeVersionConfig {
                runtime_version_arn: &configuration.runtime_version_arn,
            }),
            package_type: "Zip",
            architectures: [&record.code.architecture],
            ephemeral_storage: EphemeralStorageResponse { size: configuration.ephemeral_mib },
            snap_start: SnapStartResponse {
                apply_on: if configuration.snap_start { "PublishedVersions" } else { "None" },
                optimization_status: match record.snapshot {
                    Snapshot::Pending | Snapshot::Made => "On",
                    Snapshot::None | Snapshot::Failed { .. } => "Off",
                },
            },
            layers: configuration
                .layers
                .iter()
                .map(|layer| LayerResponse { arn: &layer.arn, code_size: layer.size_bytes })
                .collect(),
            logging_config: LoggingConfigResponse {
                log_format: &logging.format,
                application_log_level: logging.application_level.as_deref(),
                system_log_level: logging.system_level.as_deref(),
                log_group: &logging.group,
            },
            tenancy_config: configuration
                .per_tenant
                .then_some(TenancyConfigResponse { tenant_isolation_mode: PER_TENANT }),
        }
    }

    /// The function as `CreateFunction` answers (or the version that was published with it): on AWS it is never active so
    /// soon, and clients wait for that by reading.
    pub(crate) fn created(
        id: &'a FunctionId,
        published: Option<(u64, &'a VersionRecord)>,
        latest: &'a VersionRecord,
    ) -> Self {
        let shown = match published {
            Some((number, version)) => Self::published(id, number, version),
            None => Self::of(id, LATEST, latest, None),
        };
        Self { state: StateMembers::pending(), ..shown }
    }

    /// The function as the two updates answer: like a creation, never done so soon.
    pub(crate) fn updated(id: &'a FunctionId, committed: &'a Committed) -> Self {
        if let Some((number, version)) = &committed.published {
            return Self { state: StateMembers::pending(), ..Self::published(id, *number, version) };
        }
        let state = StateMembers::updating();
        Self { state, ..Self::of(id, LATEST, &committed.function.latest, None) }
    }

    /// A published version.
    pub(crate) fn published(id: &'a FunctionId, number: u64, version: &'a VersionRecord) -> Self {
        let number = number.to_string();
        Self::of(id, &number, version, Some(&number))
    }

    /// A version as the lists show it.
    pub(crate) fn listed(self) -> Self {
        Self { state: StateMembers::default(), runtime_version_config: None, ..self }
    }
}

/// A zip's hash as Lambda writes it.
pub(super) fn hash_text(zip: &BlobId) -> String {
    STANDARD.encode(zip.to_bytes())
}

/// A time as Lambda writes it: `2026-11-23T11:45:00.123+0000`.
pub(crate) fn time_text(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_lambda_does() {
        assert_eq!(time_text(1_795_434_300_123), "2026-11-23T11:45:00.123+0000");
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000+0000");
    }
}
