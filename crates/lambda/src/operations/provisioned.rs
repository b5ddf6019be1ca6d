//! `PutProvisionedConcurrencyConfig` (202), `GetProvisionedConcurrencyConfig`, `DeleteProvisionedConcurrencyConfig` (204) and
//! `ListProvisionedConcurrencyConfigs`: how many environments of a version or an alias are kept ready.

use freehold_store::Read;
use freehold_wire::service::Verb::{Delete, Get, Put};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::page::{Page, marker};
use super::{empty_reply, json_reply};
use crate::error::LambdaError;
use crate::model::json;
use crate::model::provisioned::{
    ListProvisionedResponse, ProvisionedItem, ProvisionedRequest, ProvisionedResponse,
};
use crate::model::validation::Violations;
use crate::names::{FunctionId, LATEST, Qualified, Target};
use crate::records::{self, PROVISIONED, ProvisionedRecord};
use crate::versions::Found;
use crate::{Lambda, concurrency, provisioned, versions};

/// What the model allows.
const EXECUTIONS: std::ops::RangeInclusive<u32> = 1..=i32::MAX as u32;
/// Configurations that a client may ask for at once. Source: the API reference.
const MAX_ITEMS: std::ops::RangeInclusive<u32> = 1..=50;
/// How this list's markers are told from others'.
const MARKERS: &str = "provisioned";
/// Where a configuration is.
const PATH: &str = "/2019-09-30/functions/{FunctionName}/provisioned-concurrency";
/// Where all of a function are.
const LIST_PATH: &str = "/2019-09-30/functions/{FunctionName}/provisioned-concurrency?List=ALL";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change(
        "PutProvisionedConcurrencyConfig",
        "lambda:PutProvisionedConcurrencyConfig",
        Put,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(put_config(lambda, call)),
    ),
    read(
        "GetProvisionedConcurrencyConfig",
        "lambda:GetProvisionedConcurrencyConfig",
        Get,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(get_config(lambda, call)),
    ),
    change(
        "DeleteProvisionedConcurrencyConfig",
        "lambda:DeleteProvisionedConcurrencyConfig",
        Delete,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(delete_config(lambda, call)),
    ),
    read(
        "ListProvisionedConcurrencyConfigs",
        "lambda:ListProvisionedConcurrencyConfigs",
        Get,
        LIST_PATH,
        FUNCTION,
        |lambda, call| Box::pin(list_configs(lambda, call)),
    ),
];

async fn put_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: ProvisionedRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    let executions = match request.provisioned_concurrent_executions {
        Some(executions) => violations.range("provisionedConcurrentExecutions", executions, &EXECUTIONS),
        None => {
            violations.missing("provisionedConcurrentExecutions");
            None
        }
    };
    let (target, qualifier) = subject(
        &call,
        violations,
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )?;
    let executions = executions.expect("what has no value, or one out of range, has just been refused");
    let record = ProvisionedRecord { executions, last_modified_ms: lambda.now_ms() };
    let (store, id, account) = (&lambda.store, &target.id, lambda.executor.account_concurrency());
    let (target, qualifier, record) = (&target, qualifier.as_str(), &record);
    store
        .transact(|transaction| async move {
            let found = require(&transaction, target, qualifier).await?;
            provisioned::check(&transaction, id, qualifier, &found).await?;
            concurrency::check_provisioned(&transaction, id, qualifier, executions, account).await?;
            Ok::<_, LambdaError>(PROVISIONED.put(&transaction, &id.provisioned_parts(qualifier), record)?)
        })
        .await?;
    let before = lambda.provisioned.state(id, qualifier);
    lambda.provisioned.tell(id).await?;
    json_reply(StatusCode::ACCEPTED, &ProvisionedResponse::begun(record, &before))
}

async fn get_config(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let (target, qualifier) = subject(&call, Violations::default(), NOT_PUBLISHED)?;
    let snapshot = lambda.store.snapshot().await?;
    require(&snapshot, &target, &qualifier).await?;
    let record = provisioned::find(&snapshot, &target.id, &qualifier).await?;
    let record = record.ok_or(LambdaError::NotProvisioned)?;
    let state = lambda.provisioned.state(&target.id, &qualifier);
    json_reply(StatusCode::OK, &ProvisionedResponse::of(&record, &state))
}

/// 204, also where there was none.
async fn delete_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let (target, qualifier) = subject(&call, Violations::default(), NOT_PUBLISHED)?;
    let (store, id, target, qualifier) = (&lambda.store, &target.id, &target, qualifier.as_str());
    store
        .transact(|transaction| async move {
            require(&transaction, target, qualifier).await?;
            PROVISIONED.delete(&transaction, &id.provisioned_parts(qualifier));
            Ok::<_, LambdaError>(())
        })
        .await?;
    lambda.provisioned.tell(id).await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

async fn list_configs(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let mut violations = Violations::default();
    let fits = freehold_base::arn::is_qualifier;
    let page = Page::within(&call, MARKERS, &MAX_ITEMS, &mut violations, fits)?;
    violations.into_result()?;
    target.require_latest()?;
    let id = &target.id;
    let snapshot = lambda.store.snapshot().await?;
    records::require_function(&snapshot, id).await?;
    let after = page.after.as_deref().map(|after| id.provisioned_parts(after));
    let after = after.as_ref().map(|parts| &parts[..]);
    let mut found = PROVISIONED.scan(&snapshot, &id.parts(), after, page.limit + 1).await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let found: Vec<(String, ProvisionedRecord)> = found
        .into_iter()
        .filter_map(|(key, record)| Some((records::provisioned_in(&key)?, record)))
        .collect();
    let response = ListProvisionedResponse {
        next_marker: found.last().filter(|_| more).map(|(qualifier, _)| marker(MARKERS, qualifier)),
        provisioned_concurrency_configs: found
            .iter()
            .map(|(qualifier, record)| ProvisionedItem {
                function_arn: id.qualified_arn(Some(qualifier)),
                configuration: ProvisionedResponse::of(record, &lambda.provisioned.state(id, qualifier)),
            })
            .collect(),
    };
    json_reply(StatusCode::OK, &response)
}

const NOT_PUBLISHED: &str = "The function resource provided must be an alias or a published version.";

/// The version or alias that is meant: the parameter must be there, and `latest` says why it cannot be `$LATEST`.
fn subject(call: &Call, mut violations: Violations, latest: &str) -> Result<(Target, String), LambdaError> {
    if call.query_value("Qualifier").is_none_or(str::is_empty) {
        violations.missing("qualifier");
    }
    violations.into_result()?;
    let target = Target::of(call)?;
    match target.qualifier.clone().filter(|qualifier| qualifier != LATEST) {
        Some(qualifier) => Ok((target, qualifier)),
        None => Err(LambdaError::InvalidParameter(latest.to_owned())),
    }
}

/// The version that is meant. AWS has another answer for an alias that is not there than for a version, whether there is the
/// function or not.
async fn require(read: &impl Read, target: &Target, qualifier: &str) -> Result<Found, LambdaError> {
    let id: &FunctionId = &target.id;
    versions::find(read, target).await?.ok_or_else(|| match Qualified::of(qualifier) {
        Qualified::Alias(_) => LambdaError::AliasNotFound(id.qualified_arn(Some(qualifier))),
        _ => target.not_found(),
    })
}
