//! `DeleteLayerVersion`: 204, also where it is gone already. Functions that have it keep it; none can be given it any more.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::denied;
use crate::layers::id::LayerVersionId;
use crate::layers::records::{self, LAYERS};
use crate::operations::empty_reply;

pub(super) async fn delete_layer_version(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = LayerVersionId::of(&call)?;
    if id.layer.account != call.principal.account {
        return Err(denied(&call.principal, call.operation.action, id.arn()));
    }
    if id.layer.region != call.region {
        return Ok(empty_reply(StatusCode::NO_CONTENT));
    }
    let id = &id;
    let deleted = lambda
        .store
        .transact(|transaction| async move {
            let record = LAYERS.get(&transaction, &id.parts()).await?;
            if let Some(record) = &record {
                records::delete(&transaction, id, record).await?;
            }
            Ok::<_, LambdaError>(record)
        })
        .await?;
    if let Some(record) = deleted {
        lambda.code.retire(record.zip);
    }
    Ok(empty_reply(StatusCode::NO_CONTENT))
}
