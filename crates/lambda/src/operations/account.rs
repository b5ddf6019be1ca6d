//! `GetAccountSettings`: what the caller's account may have in this region, and what it has.

use freehold_base::limits::{UNZIPPED_BYTES, ZIP_DIRECT_BYTES};
use freehold_wire::service::Verb::Get;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, read};
use super::json_reply;
use crate::error::LambdaError;
use crate::model::settings::{AccountLimit, AccountSettingsResponse, AccountUsage};
use crate::{Lambda, concurrency, usage};

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[read(
    "GetAccountSettings",
    "lambda:GetAccountSettings",
    Get,
    "/2016-08-19/account-settings",
    "*",
    |lambda, call| Box::pin(get_account_settings(lambda, call)),
)];

async fn get_account_settings(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let snapshot = lambda.store.snapshot().await?;
    let used = usage::total(&snapshot, &call.principal.account, &call.region).await?;
    let concurrent_executions = lambda.executor.account_concurrency();
    let response = AccountSettingsResponse {
        account_limit: AccountLimit {
            total_code_size: lambda.code_storage_bytes,
            code_size_unzipped: UNZIPPED_BYTES,
            code_size_zipped: ZIP_DIRECT_BYTES,
            concurrent_executions,
            unreserved_concurrent_executions: concurrency::unreserved(&snapshot, concurrent_executions)
                .await?,
        },
        account_usage: AccountUsage { total_code_size: used.code_bytes, function_count: used.functions },
    };
    json_reply(StatusCode::OK, &response)
}
