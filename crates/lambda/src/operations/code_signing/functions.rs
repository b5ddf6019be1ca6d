//! Which functions are deployed by a configuration.

use freehold_base::arn::is_function_name;
use freehold_store::{Part, Transaction};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::config_of;
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::signing::{FunctionSigningRequest, FunctionSigningResponse, ListSignedFunctionsResponse};
use crate::model::validation::Violations;
use crate::names::{FunctionId, Target};
use crate::operations::page::{Page, marker};
use crate::operations::{empty_reply, json_reply};
use crate::records::{FUNCTIONS, FunctionRecord, SIGNING_USES, SigningUse, require_function};
use crate::signing::SigningId;

/// How this list's markers are told from others'.
const MARKERS: &str = "signed-functions";

pub(super) async fn put_function_code_signing_config(
    lambda: Lambda,
    call: Call,
) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let request: FunctionSigningRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    if request.code_signing_config_arn.is_none() {
        violations.missing("codeSigningConfigArn");
    }
    violations.into_result()?;
    let arn = request.code_signing_config_arn.unwrap_or_default();
    let signing = SigningId::of(&call, &arn)?.ok_or(LambdaError::SigningNotFound(arn))?;
    let id = target.into_function()?;
    let (store, id, signing) = (&lambda.store, &id, &signing);
    store
        .transact(|transaction| async move {
            if signing.find(&transaction).await?.is_none() {
                return Err(LambdaError::SigningNotFound(signing.arn()));
            }
            set(&transaction, id, Some(&signing.id)).await
        })
        .await?;
    json_reply(StatusCode::OK, &FunctionSigningResponse::of(id, Some(signing)))
}

/// Without a configuration the answer is empty, as AWS's is.
pub(super) async fn get_function_code_signing_config(
    lambda: &Lambda,
    call: Call,
) -> Result<Reply, LambdaError> {
    let id = Target::of(&call)?.into_function()?;
    let record = require_function(&lambda.store.snapshot().await?, &id).await?;
    let signing = record.signing.map(|signing| SigningId::beside(&id, &signing));
    json_reply(StatusCode::OK, &FunctionSigningResponse::of(&id, signing.as_ref()))
}

/// 204, also where there was none.
pub(super) async fn delete_function_code_signing_config(
    lambda: Lambda,
    call: Call,
) -> Result<Reply, LambdaError> {
    let id = &Target::of(&call)?.into_function()?;
    lambda.store.transact(|transaction| async move { set(&transaction, id, None).await }).await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

pub(super) async fn list_functions_by_code_signing_config(
    lambda: &Lambda,
    call: Call,
) -> Result<Reply, LambdaError> {
    let signing = config_of(&call)?;
    let mut violations = Violations::default();
    let page = Page::of(&call, MARKERS, &mut violations, is_function_name)?;
    violations.into_result()?;
    let snapshot = lambda.store.snapshot().await?;
    if signing.find(&snapshot).await?.is_none() {
        return Err(LambdaError::NoSuchSigning(signing.arn()));
    }
    let place = signing.parts();
    let after = page.after.as_deref().map(|after| [place[0], place[1], place[2], Part::Text(after)]);
    let after = after.as_ref().map(|parts| &parts[..]);
    let mut found = SIGNING_USES.scan(&snapshot, &place, after, page.limit + 1).await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let names: Vec<FunctionId> = found
        .iter()
        .filter_map(|(key, _)| {
            let mut parts = SIGNING_USES.parts(key)?;
            // Between the region and the function's name.
            parts.remove(2);
            FunctionId::from_parts(parts)
        })
        .collect();
    let response = ListSignedFunctionsResponse {
        next_marker: names.last().filter(|_| more).map(|last| marker(MARKERS, &last.name)),
        function_arns: names.iter().map(FunctionId::arn).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// Writes by which configuration the function is deployed from now on.
async fn set(transaction: &Transaction, id: &FunctionId, signing: Option<&str>) -> Result<(), LambdaError> {
    let old = require_function(transaction, id).await?;
    if let Some(old) = &old.signing {
        SIGNING_USES.delete(transaction, &id.signing_parts(old));
    }
    if let Some(signing) = signing {
        SIGNING_USES.put(transaction, &id.signing_parts(signing), &SigningUse {})?;
    }
    let record = FunctionRecord { signing: signing.map(str::to_owned), ..old };
    Ok(FUNCTIONS.put(transaction, &id.parts(), &record)?)
}
