//! The shapes of code signing: requests, then answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::responses::time_text;
use crate::names::FunctionId;
use crate::records::{SigningPolicy, SigningRecord};
use crate::signing::SigningId;

/// `CreateCodeSigningConfigRequest` and `UpdateCodeSigningConfigRequest`: the first has the tags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SigningRequest {
    pub(crate) description: Option<String>,
    pub(crate) allowed_publishers: Option<AllowedPublishers>,
    pub(crate) code_signing_policies: Option<SigningPolicies>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// `AllowedPublishers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AllowedPublishers {
    pub(crate) signing_profile_version_arns: Option<Vec<String>>,
}

/// `CodeSigningPolicies`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SigningPolicies {
    pub(crate) untrusted_artifact_on_deployment: Option<String>,
}

/// `PutFunctionCodeSigningConfigRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FunctionSigningRequest {
    pub(crate) code_signing_config_arn: Option<String>,
}

/// `CodeSigningConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SigningConfig<'a> {
    code_signing_config_id: &'a str,
    code_signing_config_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    allowed_publishers: AllowedPublishersResponse<'a>,
    code_signing_policies: SigningPoliciesResponse,
    last_modified: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AllowedPublishersResponse<'a> {
    signing_profile_version_arns: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SigningPoliciesResponse {
    untrusted_artifact_on_deployment: SigningPolicy,
}

impl<'a> SigningConfig<'a> {
    /// The configuration as AWS shows it.
    pub(crate) fn of(id: &'a SigningId, record: &'a SigningRecord) -> Self {
        Self {
            code_signing_config_id: &id.id,
            code_signing_config_arn: id.arn(),
            description: record.description.as_deref(),
            allowed_publishers: AllowedPublishersResponse {
                signing_profile_version_arns: &record.publishers,
            },
            code_signing_policies: SigningPoliciesResponse {
                untrusted_artifact_on_deployment: record.policy,
            },
            last_modified: time_text(record.last_modified_ms),
        }
    }
}

/// The answer of the operations that create, read and change one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SigningResponse<'a> {
    pub(crate) code_signing_config: SigningConfig<'a>,
}

/// `ListCodeSigningConfigsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListSigningResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) code_signing_configs: Vec<SigningConfig<'a>>,
}

/// `PutFunctionCodeSigningConfigResponse` and `GetFunctionCodeSigningConfigResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FunctionSigningResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code_signing_config_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<&'a str>,
}

impl<'a> FunctionSigningResponse<'a> {
    /// Nothing at all where the function has none.
    pub(crate) fn of(id: &'a FunctionId, signing: Option<&SigningId>) -> Self {
        Self {
            code_signing_config_arn: signing.map(SigningId::arn),
            function_name: signing.map(|_| id.name.as_str()),
        }
    }
}

/// `ListFunctionsByCodeSigningConfigResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListSignedFunctionsResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) function_arns: Vec<String>,
}
