//! `UpdateFunctionCode`: 200 and the function's configuration with the new code; with `DryRun`, as it would be.

use freehold_base::id::RevisionId;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::create::take_zip;
use crate::Lambda;
use crate::code::Added;
use crate::error::LambdaError;
use crate::model::requests::UpdateCodeRequest;
use crate::model::responses::FunctionConfiguration;
use crate::model::unsupported::{self, host_architecture};
use crate::model::validation::Violations;
use crate::model::{constraints, json};
use crate::names::{LATEST, Target};
use crate::operations::json_reply;
use crate::records::{Code, VersionRecord};
use crate::{layers, signing, updates, versions};

pub(super) async fn update_function_code(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let mut request: UpdateCodeRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    constraints::check_code_update(&request, &mut violations);
    violations.into_result()?;
    let guard = request.revision_id.take();
    target.require_latest()?;
    let snapshot = lambda.store.snapshot().await?;
    let old = versions::require(&snapshot, &target).await?.function;
    updates::check_revision(&old.latest, guard.as_deref())?;
    unsupported::refuse_publishing_to(request.publish_to.as_ref())?;
    unsupported::refuse_architecture(request.architectures.as_deref())?;
    let zip = take_zip(request.take_code())?;
    signing::check_deployment(&snapshot, &target.id, old.signing.as_deref()).await?;
    let size_bytes = zip.len() as u64;
    let code = |zip, unzipped_bytes| Code {
        zip,
        size_bytes,
        unzipped_bytes,
        architecture: host_architecture().to_owned(),
    };
    if request.dry_run == Some(true) {
        let (zip, unzipped_bytes) = lambda.code.check(zip).await?;
        let would_be = VersionRecord { code: code(zip, unzipped_bytes), ..old.latest };
        layers::check_size(&would_be)?;
        return json_reply(StatusCode::OK, &FunctionConfiguration::of(&target.id, LATEST, &would_be, None));
    }
    let _in_progress = lambda.updates.begin(&target.id)?;
    let Added { zip, unzipped_bytes, claim } = lambda.code.add(zip).await?;
    let code = code(zip.clone(), unzipped_bytes);
    let (now_ms, revision_id) = (lambda.now_ms(), RevisionId::random());
    let deployment = uuid::Uuid::new_v4().to_string();
    let publish = request.publish == Some(true);
    let committed = updates::commit(&lambda, &target, guard.as_deref(), publish, None, |old| {
        Ok(VersionRecord {
            code: code.clone(),
            last_modified_ms: now_ms,
            revision_id: revision_id.clone(),
            deployment: deployment.clone(),
            ..old.clone()
        })
    });
    let committed = committed.await;
    drop(claim);
    match committed {
        Ok(done) => json_reply(StatusCode::OK, &FunctionConfiguration::updated(&target.id, &done)),
        Err(error) => {
            lambda.code.discard(&zip).await?;
            Err(error)
        }
    }
}
