//! `UpdateFunctionConfiguration`: 200 and the function's configuration; what the request does not name stays.

use freehold_base::id::RevisionId;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::Wanted;
use crate::model::requests::FunctionRequest;
use crate::model::responses::FunctionConfiguration;
use crate::model::validation::Violations;
use crate::model::{constraints, json, unsupported};
use crate::names::Target;
use crate::operations::json_reply;
use crate::records::VersionRecord;
use crate::{settings, updates, versions};

pub(super) async fn update_function_configuration(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let mut request: FunctionRequest = json::read(call.body.clone()).await?;
    // Tags have operations of their own; as a member here they are unknown and thus nothing.
    request.tags = None;
    let mut violations = Violations::default();
    constraints::check_settings(&request, &mut violations);
    violations.into_result()?;
    let guard = request.revision_id.take();
    target.require_latest()?;
    let old = versions::require(&lambda.store.snapshot().await?, &target).await?.function;
    updates::check_revision(&old.latest, guard.as_deref())?;
    unsupported::refuse_settings(&request)?;
    settings::check(&request)?;
    let runtime = match &request.runtime {
        Some(runtime) => Some(settings::find_runtime(&lambda.catalog, runtime).await?),
        None => None,
    };
    let layers = request.layers.take().map(|layers| Wanted::of(&call, layers)).transpose()?;
    let _in_progress = lambda.updates.begin(&target.id)?;
    let (now_ms, revision_id) = (lambda.now_ms(), RevisionId::random());
    let deployment = uuid::Uuid::new_v4().to_string();
    let region = &target.id.region;
    let merged = match &layers {
        Some(layers) => layers.prepare(&lambda).await?,
        None => None,
    };
    let committed = updates::commit(&lambda, &target, guard.as_deref(), false, layers.as_ref(), |old| {
        let configuration = old.configuration.clone();
        Ok(VersionRecord {
            configuration: settings::update(configuration, region, request.clone(), runtime.as_deref())?,
            last_modified_ms: now_ms,
            revision_id: revision_id.clone(),
            deployment: deployment.clone(),
            ..old.clone()
        })
    });
    match committed.await {
        Ok(done) => json_reply(StatusCode::OK, &FunctionConfiguration::updated(&target.id, &done)),
        Err(error) => {
            if let Some(merged) = merged {
                lambda.code.discard(&merged).await?;
            }
            Err(error)
        }
    }
}
