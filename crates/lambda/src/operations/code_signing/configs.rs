//! The configurations: made, read, listed, changed, and deleted when no function uses them.

use freehold_base::arn::Arn;
use freehold_store::{Part, PartValue};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::config_of;
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::signing::{ListSigningResponse, SigningConfig, SigningRequest, SigningResponse};
use crate::model::validation::Violations;
use crate::model::{json, tags};
use crate::operations::page::{Page, marker};
use crate::operations::{empty_reply, json_reply};
use crate::records::{SIGNING, SIGNING_USES, SigningPolicy, SigningRecord};

use crate::signing::SigningId;

/// Length of a description, in characters.
const DESCRIPTION_LENGTH: std::ops::RangeInclusive<usize> = 0..=256;
/// Signing profiles of a configuration.
const PUBLISHERS: std::ops::RangeInclusive<usize> = 1..=20;
/// AWS's pattern for a profile's ARN, as its error texts show it.
const PUBLISHER_PATTERN: &str = r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
/// How this list's markers are told from others'.
const MARKERS: &str = "code-signing-configs";

pub(super) async fn create_code_signing_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: SigningRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    if request.allowed_publishers.is_none() {
        violations.missing("allowedPublishers");
    }
    let changes = checked(request, violations)?;
    let mut record = SigningRecord {
        description: None,
        publishers: Vec::new(),
        policy: SigningPolicy::default(),
        last_modified_ms: lambda.now_ms(),
        tags: changes.tags.clone(),
    };
    changes.apply_to(&mut record);
    let id = SigningId::random(&call);
    let (store, place, stored) = (&lambda.store, &id, &record);
    store
        .transact(|transaction| async move {
            Ok::<_, LambdaError>(SIGNING.put(&transaction, &place.parts(), stored)?)
        })
        .await?;
    let response = SigningResponse { code_signing_config: SigningConfig::of(&id, &record) };
    json_reply(StatusCode::CREATED, &response)
}

pub(super) async fn get_code_signing_config(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = config_of(&call)?;
    let found = id.find(&lambda.store.snapshot().await?).await?;
    let record = found.ok_or_else(|| LambdaError::NoSuchSigning(id.arn()))?;
    json_reply(StatusCode::OK, &SigningResponse { code_signing_config: SigningConfig::of(&id, &record) })
}

pub(super) async fn update_code_signing_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = config_of(&call)?;
    let request: SigningRequest = json::read(call.body.clone()).await?;
    let changes = &checked(request, Violations::default())?;
    let (store, place, now_ms) = (&lambda.store, &id, lambda.now_ms());
    let record = store
        .transact(|transaction| async move {
            let found = place.find(&transaction).await?;
            let mut record = found.ok_or_else(|| LambdaError::NoSuchSigning(place.arn()))?;
            record.last_modified_ms = now_ms;
            changes.apply_to(&mut record);
            SIGNING.put(&transaction, &place.parts(), &record)?;
            Ok::<_, LambdaError>(record)
        })
        .await?;
    json_reply(StatusCode::OK, &SigningResponse { code_signing_config: SigningConfig::of(&id, &record) })
}

pub(super) async fn delete_code_signing_config(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = &config_of(&call)?;
    lambda
        .store
        .transact(|transaction| async move {
            if id.find(&transaction).await?.is_none() {
                return Err(LambdaError::NoSuchSigning(id.arn()));
            }
            if !SIGNING_USES.scan(&transaction, &id.parts(), None, 1).await?.is_empty() {
                return Err(LambdaError::SigningInUse(id.arn()));
            }
            SIGNING.delete(&transaction, &id.parts());
            Ok(())
        })
        .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

pub(super) async fn list_code_signing_configs(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let page = Page::of(&call, MARKERS, &mut violations, |place| place.starts_with("csc-"))?;
    violations.into_result()?;
    let (account, region) = (&call.principal.account, &call.region);
    let place = [Part::Text(account.as_str()), Part::Text(region.as_str())];
    let after = page.after.as_deref().map(|after| [place[0], place[1], Part::Text(after)]);
    let snapshot = lambda.store.snapshot().await?;
    let after = after.as_ref().map(|parts| &parts[..]);
    let mut found = SIGNING.scan(&snapshot, &place, after, page.limit + 1).await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let found: Vec<(SigningId, SigningRecord)> = found
        .into_iter()
        .filter_map(|(key, record)| match SIGNING.parts(&key)?.pop()? {
            PartValue::Text(id) => {
                Some((SigningId { account: account.clone(), region: region.clone(), id }, record))
            }
            PartValue::Number(_) => None,
        })
        .collect();
    let response = ListSigningResponse {
        next_marker: found.last().filter(|_| more).map(|(id, _)| marker(MARKERS, &id.id)),
        code_signing_configs: found.iter().map(|(id, record)| SigningConfig::of(id, record)).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// What a request says; the rest stays as it is.
struct Changes {
    description: Option<String>,
    publishers: Option<Vec<String>>,
    policy: Option<SigningPolicy>,
    tags: std::collections::BTreeMap<String, String>,
}

impl Changes {
    fn apply_to(&self, record: &mut SigningRecord) {
        if self.description.is_some() {
            record.description.clone_from(&self.description);
        }
        if let Some(publishers) = &self.publishers {
            record.publishers.clone_from(publishers);
        }
        record.policy = self.policy.unwrap_or(record.policy);
    }
}

fn checked(request: SigningRequest, mut violations: Violations) -> Result<Changes, LambdaError> {
    if let Some(description) = &request.description {
        violations.length("description", description, DESCRIPTION_LENGTH);
    }
    let publishers = request.allowed_publishers.map(|allowed| allowed.signing_profile_version_arns);
    match &publishers {
        Some(Some(arns)) => check_publishers(arns, &mut violations),
        Some(None) => violations.missing("allowedPublishers.signingProfileVersionArns"),
        None => {}
    }
    let policy = request.code_signing_policies.and_then(|policies| policies.untrusted_artifact_on_deployment);
    if let Some(policy) = &policy {
        let path = "codeSigningPolicies.untrustedArtifactOnDeployment";
        violations.one_of(path, policy, &["Warn", "Enforce"]);
    }
    violations.into_result()?;
    let tags = request.tags.unwrap_or_default();
    tags::check(&tags)?;
    let enforce = |policy: String| match policy.as_str() {
        "Enforce" => SigningPolicy::Enforce,
        _ => SigningPolicy::Warn,
    };
    Ok(Changes {
        description: request.description,
        publishers: publishers.flatten(),
        policy: policy.map(enforce),
        tags,
    })
}

fn check_publishers(arns: &[String], violations: &mut Violations) {
    const PATH: &str = "allowedPublishers.signingProfileVersionArns";
    let shown = || format!("[{}]", arns.join(", "));
    if arns.len() > *PUBLISHERS.end() {
        let most = PUBLISHERS.end();
        violations.add(PATH, shown(), format_args!("Member must have length less than or equal to {most}"));
    } else if arns.is_empty() {
        violations.add(PATH, shown(), "Member must have length greater than or equal to 1");
    } else if arns.iter().any(|arn| arn.parse::<Arn>().is_err()) {
        let constraint = format!(
            "Member must satisfy constraint: [Member must have length less than or equal to 10000, Member must have \
             length greater than or equal to 0, Member must satisfy regular expression pattern: {PUBLISHER_PATTERN}, \
             Member must not be null]"
        );
        violations.add(PATH, shown(), constraint);
    }
}
