//! The shapes of the settings beside code and configuration, and of the account: each group's requests, then its answers.

use serde::{Deserialize, Serialize};

use super::json::integer;
use crate::names::Target;
use crate::records::{RecursiveLoop, RuntimeManagement, UpdateRuntimeOn};

/// `PutFunctionConcurrencyRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ConcurrencyRequest {
    #[serde(deserialize_with = "integer")]
    pub(crate) reserved_concurrent_executions: Option<i64>,
}

/// `PutFunctionRecursionConfigRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RecursionRequest {
    pub(crate) recursive_loop: Option<String>,
}

/// `PutRuntimeManagementConfigRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RuntimeManagementRequest {
    pub(crate) update_runtime_on: Option<String>,
    pub(crate) runtime_version_arn: Option<String>,
}

/// `Concurrency` and `GetFunctionConcurrencyResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Concurrency {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reserved_concurrent_executions: Option<u32>,
}

/// `GetAccountSettingsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AccountSettingsResponse {
    pub(crate) account_limit: AccountLimit,
    pub(crate) account_usage: AccountUsage,
}

/// `AccountLimit`; sizes in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AccountLimit {
    pub(crate) total_code_size: u64,
    pub(crate) code_size_unzipped: u64,
    pub(crate) code_size_zipped: usize,
    pub(crate) concurrent_executions: u32,
    pub(crate) unreserved_concurrent_executions: u32,
}

/// `AccountUsage`; the size in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AccountUsage {
    pub(crate) total_code_size: u64,
    pub(crate) function_count: u64,
}

/// `PutFunctionRecursionConfigResponse` and `GetFunctionRecursionConfigResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RecursionResponse {
    pub(crate) recursive_loop: RecursiveLoop,
}

/// `PutRuntimeManagementConfigResponse` and `GetRuntimeManagementConfigResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RuntimeManagementResponse<'a> {
    update_runtime_on: UpdateRuntimeOn,
    function_arn: String,
    /// `null` where it is not `Manual`.
    runtime_version_arn: Option<&'a str>,
}

impl<'a> RuntimeManagementResponse<'a> {
    /// The setting of the version that `target` names.
    pub(crate) fn of(target: &Target, setting: &'a RuntimeManagement) -> Self {
        Self {
            update_runtime_on: setting.update_runtime_on,
            function_arn: target.id.qualified_arn(target.qualifier.as_deref()),
            runtime_version_arn: setting.runtime_version_arn.as_deref(),
        }
    }
}
