//! The requests' shapes. Every member is optional here: what is missing is told together with what else is wrong.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json::{Blob, Present, integer};

/// `CreateFunctionRequest` and `UpdateFunctionConfigurationRequest`: the second has a part of the first's members, and
/// `RevisionId`. Each operation reads only its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FunctionRequest {
    pub(crate) function_name: Option<String>,
    pub(crate) runtime: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) code: Option<CodeRequest>,
    pub(crate) description: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub(crate) timeout: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub(crate) memory_size: Option<i64>,
    pub(crate) publish: Option<bool>,
    pub(crate) vpc_config: Option<VpcConfig>,
    pub(crate) package_type: Option<String>,
    pub(crate) dead_letter_config: Option<DeadLetterConfig>,
    pub(crate) environment: Option<Environment>,
    #[serde(rename = "KMSKeyArn")]
    pub(crate) kms_key_arn: Option<String>,
    pub(crate) tracing_config: Option<TracingConfig>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) layers: Option<Vec<String>>,
    pub(crate) file_system_configs: Option<Vec<Present>>,
    pub(crate) image_config: Option<ImageConfig>,
    pub(crate) code_signing_config_arn: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
    pub(crate) ephemeral_storage: Option<EphemeralStorage>,
    pub(crate) snap_start: Option<SnapStart>,
    pub(crate) logging_config: Option<LoggingConfig>,
    pub(crate) capacity_provider_config: Option<Present>,
    pub(crate) publish_to: Option<String>,
    pub(crate) durable_config: Option<Present>,
    pub(crate) tenancy_config: Option<TenancyConfig>,
    pub(crate) revision_id: Option<String>,
}

/// `UpdateFunctionCodeRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UpdateCodeRequest {
    pub(crate) zip_file: Option<Blob>,
    pub(crate) s3_bucket: Option<String>,
    pub(crate) s3_key: Option<String>,
    pub(crate) s3_object_version: Option<String>,
    pub(crate) image_uri: Option<String>,
    #[serde(rename = "SourceKMSKeyArn")]
    pub(crate) source_kms_key_arn: Option<String>,
    pub(crate) publish: Option<bool>,
    pub(crate) dry_run: Option<bool>,
    pub(crate) revision_id: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
    pub(crate) publish_to: Option<String>,
}

impl UpdateCodeRequest {
    /// The members that say where the code is. Taken out rather than flattened: serde would keep a second copy of the
    /// whole zip while it reads.
    pub(crate) fn take_code(&mut self) -> CodeRequest {
        CodeRequest {
            zip_file: self.zip_file.take(),
            s3_bucket: self.s3_bucket.take(),
            s3_key: self.s3_key.take(),
            s3_object_version: self.s3_object_version.take(),
            image_uri: self.image_uri.take(),
            source_kms_key_arn: self.source_kms_key_arn.take(),
        }
    }
}

/// `FunctionCode`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CodeRequest {
    pub(crate) zip_file: Option<Blob>,
    pub(crate) s3_bucket: Option<String>,
    pub(crate) s3_key: Option<String>,
    pub(crate) s3_object_version: Option<String>,
    pub(crate) image_uri: Option<String>,
    #[serde(rename = "SourceKMSKeyArn")]
    pub(crate) source_kms_key_arn: Option<String>,
}

/// `VpcConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VpcConfig {
    pub(crate) subnet_ids: Option<Vec<String>>,
    pub(crate) security_group_ids: Option<Vec<String>>,
}

/// `DeadLetterConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeadLetterConfig {
    pub(crate) target_arn: Option<String>,
}

/// `Environment`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Environment {
    pub(crate) variables: Option<BTreeMap<String, String>>,
}

/// `TracingConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TracingConfig {
    pub(crate) mode: Option<String>,
}

/// `ImageConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageConfig {
    pub(crate) entry_point: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) working_directory: Option<String>,
}

/// `EphemeralStorage`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EphemeralStorage {
    #[serde(deserialize_with = "integer")]
    pub(crate) size: Option<i64>,
}

/// `SnapStart`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SnapStart {
    pub(crate) apply_on: Option<String>,
}

/// `TenancyConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TenancyConfig {
    pub(crate) tenant_isolation_mode: Option<String>,
}

/// `LoggingConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LoggingConfig {
    pub(crate) log_format: Option<String>,
    pub(crate) application_log_level: Option<String>,
    pub(crate) system_log_level: Option<String>,
    pub(crate) log_group: Option<String>,
}

/// `PublishVersionRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PublishRequest {
    pub(crate) code_sha256: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) revision_id: Option<String>,
}

/// `CreateAliasRequest` and `UpdateAliasRequest`: the first has the name, the second the revision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AliasRequest {
    pub(crate) name: Option<String>,
    pub(crate) function_version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) routing_config: Option<RoutingConfig>,
    pub(crate) revision_id: Option<String>,
}

/// `AddPermissionRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PermissionRequest {
    pub(crate) statement_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) source_arn: Option<String>,
    pub(crate) source_account: Option<String>,
    pub(crate) event_source_token: Option<String>,
    #[serde(rename = "PrincipalOrgID")]
    pub(crate) principal_org_id: Option<String>,
    pub(crate) function_url_auth_type: Option<String>,
    pub(crate) invoked_via_function_url: Option<bool>,
    pub(crate) revision_id: Option<String>,
}

/// `PutResourcePolicyRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ResourcePolicyRequest {
    pub(crate) policy: Option<String>,
    pub(crate) revision_id: Option<String>,
}

/// `TagResourceRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TagRequest {
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// `AliasRoutingConfiguration`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoutingConfig {
    #[serde(rename = "AdditionalVersionWeights")]
    pub(crate) weights: Option<BTreeMap<String, f64>>,
}
