//! `PublishLayerVersion`: 201 and the layer's new version. Its number is one more than the last that the layer ever had.

use freehold_base::limits::ZIP_DIRECT_BYTES;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::code::Added;
use crate::error::LambdaError;
use crate::layers::denied;
use crate::layers::error::LayerError;
use crate::layers::id::{LayerId, LayerVersionId};
use crate::layers::records::{self, LayerRecord, NUMBERS};
use crate::model::json;
use crate::model::layers::{LayerContent, LayerVersionResponse, PublishLayerRequest};
use crate::model::validation::Violations;
use crate::operations::json_reply;
use crate::usage::Quota;

pub(super) async fn publish_layer_version(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let layer = LayerId::of(&call, &mut violations);
    let mut request: PublishLayerRequest = json::read(call.body.clone()).await?;
    request.check(&mut violations);
    violations.into_result()?;
    if layer.account != call.principal.account {
        return Err(denied(&call.principal, call.operation.action, layer.arn()));
    }
    if layer.region != call.region {
        // Each region has layers of its own.
        return Err(LayerError::NotFound.into());
    }
    let zip = take_zip(request.content.take().unwrap_or_default())?;
    let size_bytes = zip.len() as u64;
    let Added { zip, unzipped_bytes, claim } = lambda.code.add(zip).await?;
    let record = LayerRecord {
        zip,
        size_bytes,
        unzipped_bytes,
        description: request.description.unwrap_or_default(),
        license: request.license_info,
        runtimes: request.compatible_runtimes,
        architectures: request.compatible_architectures,
        created_ms: lambda.now_ms(),
    };
    let committed = commit(&lambda, &layer, &record).await;
    drop(claim);
    match committed {
        Ok(id) => {
            let location = lambda.location(&call, &record.zip);
            json_reply(StatusCode::CREATED, &LayerVersionResponse::of(&id, &record, location))
        }
        Err(error) => {
            lambda.code.discard(&record.zip).await?;
            Err(error)
        }
    }
}

/// Writes the version under the next number: given in the transaction that uses it, so that none is given twice.
async fn commit(
    lambda: &Lambda,
    layer: &LayerId,
    record: &LayerRecord,
) -> Result<LayerVersionId, LambdaError> {
    let quota = Quota::of(lambda, layer).await?;
    lambda
        .store
        .transact(|transaction| async move {
            let last = NUMBERS.get(&transaction, &layer.parts()).await?.map_or(0, |number| number.last);
            let id = layer.version(last + 1);
            records::put(&transaction, &id, record).await?;
            quota.check(&transaction).await?;
            Ok::<_, LambdaError>(id)
        })
        .await
}

/// The zip in a request that must have one.
fn take_zip(content: LayerContent) -> Result<bytes::Bytes, LambdaError> {
    let bucket = [content.s3_bucket, content.s3_key, content.s3_object_version];
    if bucket.into_iter().flatten().any(|member| !member.is_empty()) {
        let advice = "there is no S3 here; send the layer as ZipFile.".to_owned();
        return Err(LambdaError::Unsupported { member: "S3Bucket", advice });
    }
    let Some(zip) = content.zip_file else {
        return Err(LambdaError::InvalidParameter("Please provide a source for layer content.".to_owned()));
    };
    if zip.0.len() >= ZIP_DIRECT_BYTES {
        return Err(LambdaError::ZipTooLarge);
    }
    Ok(zip.0)
}
