//! `GetFunction` and `GetFunctionConfiguration`: 200 and what is stored.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::model::responses::{FunctionCodeLocation, FunctionConfiguration, GetFunctionResponse};
use crate::names::Target;
use crate::operations::{json_reply, record_of};

pub(super) async fn get_function(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let record = record_of(lambda, &target).await?;
    let response = GetFunctionResponse {
        configuration: FunctionConfiguration::of(&target.id, &record, target.qualifier.as_deref()),
        code: FunctionCodeLocation {
            repository_type: "S3",
            location: lambda
                .downloads
                .as_ref()
                .and_then(|downloads| downloads.location(&call, &record.code.zip, lambda.clock.wall())),
        },
        tags: &record.tags,
    };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn get_function_configuration(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let record = record_of(lambda, &target).await?;
    json_reply(StatusCode::OK, &FunctionConfiguration::of(&target.id, &record, target.qualifier.as_deref()))
}
