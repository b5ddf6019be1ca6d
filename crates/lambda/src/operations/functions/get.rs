//! `GetFunction` and `GetFunctionConfiguration`: 200 and what is stored.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::model::responses::{FunctionCodeLocation, FunctionConfiguration, GetFunctionResponse};
use crate::model::settings::Concurrency;
use crate::names::Target;
use crate::operations::json_reply;
use crate::records::RESERVATIONS;
use crate::versions;

pub(super) async fn get_function(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    let found = versions::require(&snapshot, &target).await?;
    let reservation = RESERVATIONS.get(&snapshot, &target.id.parts()).await?;
    let zip = &found.version().code.zip;
    let response = GetFunctionResponse {
        configuration: FunctionConfiguration::found(&target, &found),
        code: FunctionCodeLocation { repository_type: "S3", location: lambda.location(&call, zip) },
        tags: &found.function.tags,
        concurrency: reservation
            .map(|record| Concurrency { reserved_concurrent_executions: Some(record.executions) }),
    };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn get_function_configuration(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let found = versions::require(&lambda.store.snapshot().await?, &target).await?;
    json_reply(StatusCode::OK, &FunctionConfiguration::found(&target, &found))
}
