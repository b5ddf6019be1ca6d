//! `PutRuntimeManagementConfig` and `GetRuntimeManagementConfig`: when a version moves to a newer release of its runtime. Each
//! version has its own setting; a published one begins with that of `$LATEST`.
//!
//! This host has one release of each runtime. So `Manual` can only hold a version to the release that it has, and any other
//! is refused.

use freehold_store::Transaction;
use freehold_wire::service::Verb::{Get, Put};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::json_reply;
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::settings::{RuntimeManagementRequest, RuntimeManagementResponse};
use crate::model::validation::Violations;
use crate::names::{Qualified, Target};
use crate::records::{FUNCTIONS, RuntimeManagement, UpdateRuntimeOn, VERSIONS, VersionRecord};
use crate::versions;

/// Length of a runtime version's ARN, in characters.
const ARN_LENGTH: std::ops::RangeInclusive<usize> = 26..=2_048;
/// Where the setting is.
const PATH: &str = "/2021-07-20/functions/{FunctionName}/runtime-management-config";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change(
        "PutRuntimeManagementConfig",
        "lambda:PutRuntimeManagementConfig",
        Put,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(put_runtime_management_config(lambda, call)),
    ),
    read(
        "GetRuntimeManagementConfig",
        "lambda:GetRuntimeManagementConfig",
        Get,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(get_runtime_management_config(lambda, call)),
    ),
];

async fn put_runtime_management_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = version_of(&call)?;
    let request: RuntimeManagementRequest = json::read(call.body.clone()).await?;
    let setting = &checked(request)?;
    let named = &target;
    lambda.store.transact(|transaction| async move { put(&transaction, named, setting).await }).await?;
    json_reply(StatusCode::OK, &RuntimeManagementResponse::of(&target, setting))
}

async fn get_runtime_management_config(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = version_of(&call)?;
    let found = versions::require(&lambda.store.snapshot().await?, &target).await?;
    json_reply(StatusCode::OK, &RuntimeManagementResponse::of(&target, &found.version().runtime_management))
}

async fn put(
    transaction: &Transaction,
    target: &Target,
    setting: &RuntimeManagement,
) -> Result<(), LambdaError> {
    let id = &target.id;
    let mut found = versions::require(transaction, target).await?;
    check_release(found.version(), setting)?;
    match found.published {
        None => {
            found.function.latest.runtime_management = setting.clone();
            FUNCTIONS.put(transaction, &id.parts(), &found.function)?;
        }
        Some((number, _)) => {
            let place = id.version_parts(number);
            let mut record = VERSIONS.get(transaction, &place).await?.ok_or_else(|| target.not_found())?;
            record.version.runtime_management = setting.clone();
            VERSIONS.put(transaction, &place, &record)?;
        }
    }
    Ok(())
}

/// Refuses to hold a version to a release of its runtime that is not the one it has.
fn check_release(version: &VersionRecord, setting: &RuntimeManagement) -> Result<(), LambdaError> {
    let own = &version.configuration.runtime_version_arn;
    match &setting.runtime_version_arn {
        Some(named) if named != own => Err(LambdaError::Unsupported {
            member: "RuntimeVersionArn",
            advice: format!("this host has one release of each runtime; the function's is {own}."),
        }),
        _ => Ok(()),
    }
}

/// The version in the request: `$LATEST` or a number.
fn version_of(call: &Call) -> Result<Target, LambdaError> {
    let target = Target::of(call)?;
    match target.qualified() {
        Qualified::Alias(_) => {
            let text = "Runtime management belongs to a version: name $LATEST or a published version's number, not an alias.";
            Err(LambdaError::InvalidParameter(text.to_owned()))
        }
        _ => Ok(target),
    }
}

fn checked(request: RuntimeManagementRequest) -> Result<RuntimeManagement, LambdaError> {
    let mut violations = Violations::default();
    let update_runtime_on = match request.update_runtime_on.as_deref() {
        Some("FunctionUpdate") => UpdateRuntimeOn::FunctionUpdate,
        Some("Manual") => UpdateRuntimeOn::Manual,
        Some(other) => {
            violations.one_of("updateRuntimeOn", other, &["Auto", "Manual", "FunctionUpdate"]);
            UpdateRuntimeOn::Auto
        }
        None => {
            violations.missing("updateRuntimeOn");
            UpdateRuntimeOn::Auto
        }
    };
    if let Some(arn) = &request.runtime_version_arn {
        violations.length("runtimeVersionArn", arn, ARN_LENGTH);
    }
    violations.into_result()?;
    let refused = |text: &str| Err(LambdaError::InvalidParameter(text.to_owned()));
    match (update_runtime_on, request.runtime_version_arn) {
        (UpdateRuntimeOn::Manual, None) => {
            refused("RuntimeVersionArn is required where UpdateRuntimeOn is Manual.")
        }
        (UpdateRuntimeOn::Auto | UpdateRuntimeOn::FunctionUpdate, Some(_)) => {
            refused("RuntimeVersionArn can only be set where UpdateRuntimeOn is Manual.")
        }
        (update_runtime_on, runtime_version_arn) => {
            Ok(RuntimeManagement { update_runtime_on, runtime_version_arn })
        }
    }
}
