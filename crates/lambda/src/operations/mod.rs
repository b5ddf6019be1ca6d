//! The operations: one file each or for a few that belong together, and the table by which the gateway knows them.
//!
//! An operation that changes something runs as a task of its own: once begun it ends, also if the client goes away, so
//! that a commit is always followed by what must follow it.

mod create_function;
mod delete_function;
mod download_package;
mod get_function;
mod invoke;
mod known;
mod list_functions;
#[cfg(test)]
mod tests;
mod update_function_code;
mod update_function_configuration;

pub(crate) use download_package::Downloads;

use std::future::Future;

use freehold_base::limits::SYNC_PAYLOAD_BYTES;
use freehold_wire::error::ApiError;
use freehold_wire::service::{Call, Definition, Operation, Protocol, Reply, Route, Verb};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::Target;
use crate::records::{FUNCTIONS, FunctionRecord};

/// A request with a zip in it, in bytes: AWS's own limit for `CreateFunction`, about 50 MiB as base64.
const PACKAGE_BODY_BYTES: usize = 70_167_211;
/// Any other request, in bytes: AWS's limit for the control plane.
const BODY_BYTES: usize = 6 * 1024 * 1024;
/// An event, in bytes: above AWS's limit, so that the refusal is Lambda's own and names the limit.
const EVENT_BODY_BYTES: usize = SYNC_PAYLOAD_BYTES + 1024 * 1024;

/// What is fixed about Lambda.
pub(crate) static DEFINITION: Definition = Definition {
    scope: "lambda",
    protocol: Protocol::RestJson,
    operations: &OPERATIONS,
    known: &known::KNOWN,
};

/// Every operation that is answered.
pub(crate) static OPERATIONS: [Operation; 9] = [
    Operation {
        name: "CreateFunction",
        route: Route::Rest(Verb::Post, "/2015-03-31/functions"),
        action: "lambda:CreateFunction",
        // The name is in the body.
        resource: "function:*",
        body_limit: PACKAGE_BODY_BYTES,
    },
    Operation {
        name: "GetFunction",
        route: Route::Rest(Verb::Get, "/2015-03-31/functions/{FunctionName}"),
        action: "lambda:GetFunction",
        resource: "function:{FunctionName}",
        body_limit: BODY_BYTES,
    },
    Operation {
        name: "GetFunctionConfiguration",
        route: Route::Rest(Verb::Get, "/2015-03-31/functions/{FunctionName}/configuration"),
        action: "lambda:GetFunctionConfiguration",
        resource: "function:{FunctionName}",
        body_limit: BODY_BYTES,
    },
    Operation {
        name: "ListFunctions",
        route: Route::Rest(Verb::Get, "/2015-03-31/functions"),
        action: "lambda:ListFunctions",
        resource: "*",
        body_limit: BODY_BYTES,
    },
    Operation {
        name: "UpdateFunctionCode",
        route: Route::Rest(Verb::Put, "/2015-03-31/functions/{FunctionName}/code"),
        action: "lambda:UpdateFunctionCode",
        resource: "function:{FunctionName}",
        body_limit: PACKAGE_BODY_BYTES,
    },
    Operation {
        name: "UpdateFunctionConfiguration",
        route: Route::Rest(Verb::Put, "/2015-03-31/functions/{FunctionName}/configuration"),
        action: "lambda:UpdateFunctionConfiguration",
        resource: "function:{FunctionName}",
        body_limit: BODY_BYTES,
    },
    Operation {
        name: "DeleteFunction",
        route: Route::Rest(Verb::Delete, "/2015-03-31/functions/{FunctionName}"),
        action: "lambda:DeleteFunction",
        resource: "function:{FunctionName}",
        body_limit: BODY_BYTES,
    },
    Operation {
        name: "Invoke",
        route: Route::Rest(Verb::Post, "/2015-03-31/functions/{FunctionName}/invocations"),
        action: "lambda:InvokeFunction",
        resource: "function:{FunctionName}",
        body_limit: EVENT_BODY_BYTES,
    },
    Operation {
        name: "DownloadPackage",
        route: Route::Rest(Verb::Get, "/freehold/packages/{Package}"),
        action: "lambda:GetFunction",
        resource: "*",
        body_limit: BODY_BYTES,
    },
];

/// Carries out one call.
pub(crate) async fn call(lambda: &Lambda, call: Call) -> Result<Reply, ApiError> {
    let reply = match call.operation.name {
        "Invoke" => invoke::invoke(lambda, call).await,
        "GetFunction" => get_function::get_function(lambda, &call).await,
        "GetFunctionConfiguration" => get_function::get_function_configuration(lambda, &call).await,
        "ListFunctions" => list_functions::list_functions(lambda, &call).await,
        "DownloadPackage" => download_package::download_package(lambda, &call).await,
        "CreateFunction" => to_its_end(create_function::create_function(lambda.clone(), call)).await,
        "UpdateFunctionCode" => {
            to_its_end(update_function_code::update_function_code(lambda.clone(), call)).await
        }
        "UpdateFunctionConfiguration" => {
            to_its_end(update_function_configuration::update_function_configuration(lambda.clone(), call))
                .await
        }
        "DeleteFunction" => to_its_end(delete_function::delete_function(lambda.clone(), call)).await,
        other => return Err(ApiError::unknown_operation(other)),
    };
    reply.map_err(ApiError::from)
}

async fn to_its_end(
    work: impl Future<Output = Result<Reply, LambdaError>> + Send + 'static,
) -> Result<Reply, LambdaError> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| LambdaError::Internal {
        step: "carry out the operation",
        reason: error.to_string(),
    })?
}

/// The function's record as it is now.
async fn record_of(lambda: &Lambda, target: &Target) -> Result<FunctionRecord, LambdaError> {
    target.check_qualifier()?;
    let snapshot = lambda.store.snapshot().await?;
    FUNCTIONS.get(&snapshot, &target.id.parts()).await?.ok_or_else(|| target.not_found())
}

/// An answer with a JSON body.
fn json_reply(status: StatusCode, body: &impl Serialize) -> Result<Reply, LambdaError> {
    let body = serde_json::to_vec(body)
        .map_err(|error| LambdaError::Internal { step: "write the answer", reason: error.to_string() })?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Reply { status, headers, body: body.into() })
}

/// An answer without a body.
fn empty_reply(status: StatusCode) -> Reply {
    Reply { status, headers: HeaderMap::new(), body: bytes::Bytes::new() }
}
