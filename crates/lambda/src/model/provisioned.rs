//! The shapes of provisioned concurrency.

use freehold_executor::event::Provisioned;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::integer;
use crate::records::ProvisionedRecord;

/// `PutProvisionedConcurrencyConfigRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ProvisionedRequest {
    #[serde(deserialize_with = "integer")]
    pub(crate) provisioned_concurrent_executions: Option<i64>,
}

/// `PutProvisionedConcurrencyConfigResponse` and `GetProvisionedConcurrencyConfigResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ProvisionedResponse {
    requested_provisioned_concurrent_executions: u32,
    available_provisioned_concurrent_executions: u32,
    allocated_provisioned_concurrent_executions: u32,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<String>,
    last_modified: String,
}

/// `ProvisionedConcurrencyStatusEnum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Status {
    InProgress,
    Ready,
    Failed,
}

/// `ProvisionedConcurrencyConfigListItem`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ProvisionedItem {
    pub(crate) function_arn: String,
    #[serde(flatten)]
    pub(crate) configuration: ProvisionedResponse,
}

/// `ListProvisionedConcurrencyConfigsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListProvisionedResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) provisioned_concurrency_configs: Vec<ProvisionedItem>,
}

impl ProvisionedResponse {
    /// A configuration that has just been written: on AWS nothing of it is done so soon.
    pub(crate) fn begun(record: &ProvisionedRecord, state: &Provisioned) -> Self {
        Self { status: Status::InProgress, status_reason: None, ..Self::of(record, state) }
    }

    /// A configuration, and how far the executor is with it.
    pub(crate) fn of(record: &ProvisionedRecord, state: &Provisioned) -> Self {
        let status = match &state.failure {
            Some(_) => Status::Failed,
            None if state.allocated >= record.executions => Status::Ready,
            None => Status::InProgress,
        };
        Self {
            requested_provisioned_concurrent_executions: record.executions,
            available_provisioned_concurrent_executions: state.available,
            allocated_provisioned_concurrent_executions: state.allocated,
            status,
            status_reason: state.failure.clone(),
            last_modified: seconds_text(record.last_modified_ms),
        }
    }
}

/// A time as it is written here, without fractions: `2026-11-23T11:45:00+0000`.
fn seconds_text(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S+0000").to_string()
}
