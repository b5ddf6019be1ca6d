//! `GetLayerVersion` and `GetLayerVersionByArn`: 200 and what is stored. The caller's own layers, and others' where their
//! policies say so.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::error::LayerError;
use crate::layers::id::{LayerVersionId, VERSION_PATTERN, is_version_arn};
use crate::layers::records::LAYERS;
use crate::layers::require_access;
use crate::model::layers::LayerVersionResponse;
use crate::model::validation::Violations;
use crate::operations::json_reply;

pub(super) async fn get_layer_version(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = LayerVersionId::of(&call)?;
    show(lambda, &call, &id).await
}

pub(super) async fn get_layer_version_by_arn(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let arn = call.query_value("Arn");
    match arn {
        Some(arn) if !is_version_arn(arn) => violations.pattern("arn", arn, VERSION_PATTERN),
        Some(_) => {}
        None => violations.missing("arn"),
    }
    violations.into_result()?;
    let id = arn.and_then(LayerVersionId::parse).ok_or(LayerError::NotFound)?;
    show(lambda, &call, &id).await
}

async fn show(lambda: &Lambda, call: &Call, id: &LayerVersionId) -> Result<Reply, LambdaError> {
    let snapshot = lambda.store.snapshot().await?;
    require_access(&snapshot, call, id).await?;
    // Each region has layers of its own.
    let record = match id.layer.region == call.region {
        true => LAYERS.get(&snapshot, &id.parts()).await?,
        false => None,
    };
    let record = record.ok_or(LayerError::NotFound)?;
    let location = lambda.location(call, &record.zip);
    json_reply(StatusCode::OK, &LayerVersionResponse::of(id, &record, location))
}
