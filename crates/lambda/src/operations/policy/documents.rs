//! `PutResourcePolicy` and `GetResourcePolicy` (200 and the policy), `DeleteResourcePolicy` (204): whole documents.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::PolicyResponse;
use super::subject::{Subject, refuse_latest, stored};
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::requests::ResourcePolicyRequest;
use crate::model::validation::Violations;
use crate::names::{Target, arn};
use crate::operations::{empty_reply, json_reply};
use crate::policy::{POLICY_BYTES, PolicyError, reading};

/// Length of a resource's ARN, in characters.
const ARN_LENGTH: std::ops::RangeInclusive<usize> = 0..=512;
/// AWS's pattern for it, as its error texts show it.
const ARN_PATTERN: &str = r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_])+)?|runtime/[a-zA-Z0-9-_./]+)";
/// AWS's pattern for a revision.
const REVISION_PATTERN: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

pub(super) async fn put_resource_policy(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: ResourcePolicyRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    match &request.policy {
        Some(policy) => violations.length("policy", policy, 1..=POLICY_BYTES),
        None => violations.missing("policy"),
    }
    check_revision(request.revision_id.as_deref(), &mut violations);
    let target = resource(&call, violations)?;
    refuse_latest(&target)?;
    let own_arn = target.id.qualified_arn(target.qualifier.as_deref());
    let document = &reading::read(&request.policy.unwrap_or_default(), &own_arn)?;
    let (store, target, named) = (&lambda.store, &target, request.revision_id.as_deref());
    let revision = store
        .transact(|transaction| async move {
            let subject = Subject::find(&transaction, target).await?.ok_or_else(|| target.not_found())?;
            subject.check_revision(named)?;
            Ok::<_, LambdaError>(subject.write(&transaction, Some(document)).await?)
        })
        .await?;
    lambda.functions.changed(&target.id, []);
    let response = PolicyResponse { policy: document.to_text(), revision_id: revision.as_str() };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn get_resource_policy(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = resource(&call, Violations::default())?;
    let snapshot = lambda.store.snapshot().await?;
    let subject = Subject::find(&snapshot, &target).await?.ok_or_else(|| target.not_found())?;
    let document = stored(&snapshot, &target).await?.ok_or(LambdaError::NoSuchResource)?;
    let response = PolicyResponse { policy: document.to_text(), revision_id: subject.revision().as_str() };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn delete_resource_policy(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let named = call.query_value("RevisionId").map(str::to_owned);
    check_revision(named.as_deref(), &mut violations);
    let target = resource(&call, violations)?;
    let (store, target, named) = (&lambda.store, &target, named.as_deref());
    store
        .transact(|transaction| async move {
            let subject = Subject::find(&transaction, target).await?.ok_or_else(|| target.not_found())?;
            if subject.policy(&transaction).await?.is_none() {
                return Err(PolicyError::NotThere.into());
            }
            subject.check_revision(named)?;
            subject.write(&transaction, None).await?;
            Ok::<_, LambdaError>(())
        })
        .await?;
    lambda.functions.changed(&target.id, []);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

fn check_revision(named: Option<&str>, violations: &mut Violations) {
    if let Some(named) = named.filter(|named| uuid::Uuid::try_parse(named).is_err() || named.len() != 36) {
        violations.pattern("revisionId", named, REVISION_PATTERN);
    }
}

/// The function, version or alias in the path; `violations` are what else was found.
fn resource(call: &Call, mut violations: Violations) -> Result<Target, LambdaError> {
    let text = call.labels.get("ResourceArn").map_or("", String::as_str);
    let resource = arn(text).filter(|_| ARN_LENGTH.contains(&text.len()));
    if resource.is_none() {
        violations.pattern("resourceArn", text, ARN_PATTERN);
    }
    violations.into_result()?;
    match resource {
        // Of what AWS has policies for only functions are here.
        Some(resource) if !resource.starts_with("function:") => Err(LambdaError::NoSuchResource),
        _ => Target::resolve(call, text, None),
    }
}
