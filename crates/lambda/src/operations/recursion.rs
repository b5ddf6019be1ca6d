//! `PutFunctionRecursionConfig` and `GetFunctionRecursionConfig`: whether a function may go on where its events come from
//! itself. Recorded; deliveries that see loops go by it.

use freehold_wire::service::Verb::{Get, Put};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::json_reply;
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::settings::{RecursionRequest, RecursionResponse};
use crate::model::validation::Violations;
use crate::names::Target;
use crate::records::{FUNCTIONS, FunctionRecord, RecursiveLoop, require_function};

/// Where the setting is.
const PATH: &str = "/2024-08-31/functions/{FunctionName}/recursion-config";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change(
        "PutFunctionRecursionConfig",
        "lambda:PutFunctionRecursionConfig",
        Put,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(put_function_recursion_config(lambda, call)),
    ),
    read(
        "GetFunctionRecursionConfig",
        "lambda:GetFunctionRecursionConfig",
        Get,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(get_function_recursion_config(lambda, call)),
    ),
];

async fn put_function_recursion_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let request: RecursionRequest = json::read(call.body.clone()).await?;
    let recursive_loop = checked(request.recursive_loop.as_deref())?;
    let id = &target.into_function()?;
    lambda
        .store
        .transact(|transaction| async move {
            let old = require_function(&transaction, id).await?;
            let record = FunctionRecord { recursive_loop, ..old };
            Ok::<_, LambdaError>(FUNCTIONS.put(&transaction, &id.parts(), &record)?)
        })
        .await?;
    json_reply(StatusCode::OK, &RecursionResponse { recursive_loop })
}

async fn get_function_recursion_config(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = Target::of(&call)?.into_function()?;
    let record = require_function(&lambda.store.snapshot().await?, &id).await?;
    json_reply(StatusCode::OK, &RecursionResponse { recursive_loop: record.recursive_loop })
}

fn checked(asked: Option<&str>) -> Result<RecursiveLoop, LambdaError> {
    let mut violations = Violations::default();
    match asked {
        Some("Allow") => return Ok(RecursiveLoop::Allow),
        Some(other) => violations.one_of("recursiveLoop", other, &["Terminate", "Allow"]),
        None => violations.missing("recursiveLoop"),
    }
    violations.into_result().map(|()| RecursiveLoop::Terminate)
}
