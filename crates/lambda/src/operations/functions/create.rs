//! `CreateFunction`: 201 and the function's configuration.

use freehold_base::id::RevisionId;
use freehold_base::limits::ZIP_DIRECT_BYTES;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::code::Added;
use crate::error::LambdaError;
use crate::layers::Wanted;
use crate::model::requests::{CodeRequest, FunctionRequest};
use crate::model::responses::FunctionConfiguration;
use crate::model::unsupported::{self, host_architecture};
use crate::model::validation::Violations;
use crate::model::{constraints, json};
use crate::names::{FunctionId, Target};
use crate::operations::json_reply;
use crate::records::{
    self, Code, Configuration, FUNCTIONS, FunctionRecord, RecursiveLoop, RuntimeManagement, SIGNING_USES,
    SigningUse, Snapshot, VersionRecord,
};
use crate::signing::{self, SigningId};
use crate::usage::Quota;
use crate::{layers, settings, versions};

/// Length of a bare function name, in characters.
const NAME_LENGTH: usize = 64;

pub(super) async fn create_function(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut request: FunctionRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    constraints::check_creation(&request, &mut violations);
    constraints::check_settings(&request, &mut violations);
    violations.into_result()?;
    let id = name_of(&call, request.function_name.as_deref().unwrap_or_default())?;
    unsupported::refuse_creation(&request)?;
    unsupported::refuse_settings(&request)?;
    settings::check(&request)?;
    let zip = take_zip(request.code.take().unwrap_or_default())?;
    let (Some(runtime), Some(_)) = (&request.runtime, &request.handler) else {
        let text =
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    };
    let runtime = settings::find_runtime(&lambda.catalog, runtime).await?;
    let snapshot = lambda.store.snapshot().await?;
    if FUNCTIONS.get(&snapshot, &id.parts()).await?.is_some() {
        return Err(LambdaError::AlreadyExists(id.name));
    }
    let signing = signing_of(&call, request.code_signing_config_arn.as_deref())?;
    signing::check_deployment(&snapshot, &id, signing.as_deref()).await?;
    let layers = Wanted::of(&call, request.layers.take().unwrap_or_default())?;
    let attached = layers.find(&snapshot).await?;
    let (size_bytes, publish) = (zip.len() as u64, request.publish == Some(true));
    let tags = request.tags.take().unwrap_or_default();
    let configuration = Configuration { layers: attached, ..settings::create(&id, request, &runtime)? };
    let Added { zip, unzipped_bytes, claim } = lambda.code.add(zip).await?;
    let latest = VersionRecord {
        configuration,
        code: Code { zip, size_bytes, unzipped_bytes, architecture: host_architecture().to_owned() },
        last_modified_ms: lambda.now_ms(),
        revision_id: RevisionId::random(),
        deployment: uuid::Uuid::new_v4().to_string(),
        runtime_management: RuntimeManagement::default(),
        snapshot: Snapshot::None,
    };
    let record = FunctionRecord { latest, tags, recursive_loop: RecursiveLoop::default(), signing };
    let committed = commit(&lambda, &id, &record, &layers, publish).await;
    drop(claim);
    match committed {
        Ok(published) => {
            if let Some((number, version)) = &published {
                lambda.snapshots.published(&id, *number, &version.snapshot);
            }
            let version = published.as_ref().map(|(number, version)| (*number, version));
            let shown = FunctionConfiguration::created(&id, version, &record.latest);
            json_reply(StatusCode::CREATED, &shown)
        }
        Err(error) => {
            for unused in record.latest.code_uses() {
                lambda.code.discard(&unused).await?;
            }
            Err(error)
        }
    }
}

/// Writes the function, and its first version where that is asked for.
async fn commit(
    lambda: &Lambda,
    id: &FunctionId,
    record: &FunctionRecord,
    layers: &Wanted,
    publish: bool,
) -> Result<Option<(u64, VersionRecord)>, LambdaError> {
    layers::check_size(&record.latest)?;
    lambda.code.merged_folder(&record.latest.layer_zips()).await?;
    let (store, quota) = (&lambda.store, Quota::of(lambda, id).await?);
    let snapshot = &lambda.snapshots.at_publication(&record.latest.configuration);
    store
        .transact(|transaction| async move {
            if FUNCTIONS.get(&transaction, &id.parts()).await?.is_some() {
                return Err(LambdaError::AlreadyExists(id.name.clone()));
            }
            signing::check_deployment(&transaction, id, record.signing.as_deref()).await?;
            // They may have been deleted, or closed to others, meanwhile.
            layers.find(&transaction).await?;
            if let Some(signing) = &record.signing {
                SIGNING_USES.put(&transaction, &id.signing_parts(signing), &SigningUse {})?;
            }
            let mut record = record.clone();
            let published = match publish {
                true => Some(versions::publish(&transaction, id, &mut record, None, snapshot.clone()).await?),
                false => None,
            };
            records::put(&transaction, id, None, &record).await?;
            quota.check(&transaction).await?;
            Ok(published)
        })
        .await
}

/// The id of the code-signing configuration that the request names.
fn signing_of(call: &Call, arn: Option<&str>) -> Result<Option<String>, LambdaError> {
    let Some(arn) = arn.filter(|arn| !arn.is_empty()) else { return Ok(None) };
    let id = SigningId::of(call, arn)?.ok_or_else(|| LambdaError::SigningNotFound(arn.to_owned()))?;
    Ok(Some(id.id))
}

/// The new function's place. AWS refuses a bare name that is too long in another way than a long ARN, and a qualifier as
/// a name that does not fit the pattern.
fn name_of(call: &Call, name: &str) -> Result<FunctionId, LambdaError> {
    let length = name.chars().count();
    if length > NAME_LENGTH && !name.contains(':') {
        let mut violations = Violations::default();
        violations.length("functionName", name, 1..=NAME_LENGTH);
        let text = violations.into_result().err().map(|error| error.to_string());
        return Err(LambdaError::InvalidParameter(text.unwrap_or_default()));
    }
    let target = Target::resolve(call, name, None)?;
    if target.qualifier.is_some() {
        let mut violations = Violations::default();
        violations.pattern("functionName", name, "[a-zA-Z0-9-_]+, or an ARN without a version or alias");
        violations.into_result()?;
    }
    Ok(target.id)
}

/// The zip in a request that must have one.
pub(super) fn take_zip(code: CodeRequest) -> Result<bytes::Bytes, LambdaError> {
    unsupported::refuse_code(&code)?;
    let Some(zip) = code.zip_file else {
        return Err(LambdaError::InvalidParameter("Please provide a source for function code.".to_owned()));
    };
    if zip.0.len() >= ZIP_DIRECT_BYTES {
        return Err(LambdaError::ZipTooLarge);
    }
    Ok(zip.0)
}
