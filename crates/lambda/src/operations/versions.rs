//! `PublishVersion` (201 and the version) and `ListVersionsByFunction`: `$LATEST`, then the versions by number.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_wire::service::Verb::{Get, Post};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::json_reply;
use super::page::{Page, marker};
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::constraints::DESCRIPTION_LENGTH;
use crate::model::json;
use crate::model::requests::PublishRequest;
use crate::model::responses::{FunctionConfiguration, ListVersionsResponse};
use crate::model::validation::Violations;
use crate::names::{LATEST, Qualified, Target};
use crate::records::{self, FUNCTIONS, FunctionRecord, VERSIONS};
use crate::usage::Quota;
use crate::{updates, versions};

/// How this list's markers are told from others'.
const MARKERS: &str = "versions";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change(
        "PublishVersion",
        "lambda:PublishVersion",
        Post,
        "/2015-03-31/functions/{FunctionName}/versions",
        FUNCTION,
        |lambda, call| Box::pin(publish_version(lambda, call)),
    ),
    read(
        "ListVersionsByFunction",
        "lambda:ListVersionsByFunction",
        Get,
        "/2015-03-31/functions/{FunctionName}/versions",
        FUNCTION,
        |lambda, call| Box::pin(list_versions(lambda, call)),
    ),
];

async fn publish_version(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let request: PublishRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    if let Some(description) = &request.description {
        violations.length("description", description, DESCRIPTION_LENGTH);
    }
    violations.into_result()?;
    target.require_latest()?;
    let (store, id, request) = (&lambda.store, &target.id, &request);
    let (target, snapshots) = (&target, &lambda.snapshots);
    lambda.updates.check(id)?;
    let quota = Quota::of(&lambda, id).await?;
    let (number, version) = store
        .transact(|transaction| async move {
            let mut function =
                FUNCTIONS.get(&transaction, &id.parts()).await?.ok_or_else(|| target.not_found())?;
            updates::check_revision(&function.latest, request.revision_id.as_deref())?;
            check_hash(&function, request.code_sha256.as_deref())?;
            let description = request.description.as_deref();
            let snapshot = snapshots.at_publication(&function.latest.configuration);
            let before = function.latest.revision_id.clone();
            let published = versions::publish(&transaction, id, &mut function, description, snapshot).await?;
            if function.latest.revision_id != before {
                FUNCTIONS.put(&transaction, &id.parts(), &function)?;
            }
            quota.check(&transaction).await?;
            Ok::<_, LambdaError>(published)
        })
        .await?;
    lambda.functions.changed(id, []);
    snapshots.published(id, number, &version.snapshot);
    json_reply(StatusCode::CREATED, &FunctionConfiguration::published(id, number, &version))
}

/// Refuses to publish other code than the client means.
fn check_hash(function: &FunctionRecord, named: Option<&str>) -> Result<(), LambdaError> {
    let own = STANDARD.encode(hex::decode(function.latest.code.zip.as_str()).unwrap_or_default());
    match named.filter(|named| !named.is_empty() && *named != own) {
        Some(named) => {
            let named: String = named.chars().take(100).collect();
            Err(LambdaError::InvalidParameter(format!(
                "CodeSHA256 ({named}) is different from current CodeSHA256 in $LATEST ({own}). Please try again with the \
                 CodeSHA256 in $LATEST."
            )))
        }
        None => Ok(()),
    }
}

async fn list_versions(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let mut violations = Violations::default();
    let page = Page::of(&call, MARKERS, &mut violations, |place| after(place).is_some())?;
    violations.into_result()?;
    target.require_latest()?;
    let id = &target.id;
    let snapshot = lambda.store.snapshot().await?;
    let function = FUNCTIONS.get(&snapshot, &id.parts()).await?.ok_or_else(|| target.not_found())?;
    let after = page.after.as_deref().and_then(after);
    // `$LATEST` stands first, on the first page.
    let room = page.limit - usize::from(after.is_none());
    let place = id.version_parts(after.unwrap_or_default());
    let mut found = VERSIONS.scan(&snapshot, &place[..3], after.map(|_| &place[..]), room + 1).await?;
    let more = found.len() > room;
    found.truncate(room);
    let found: Vec<_> = found
        .into_iter()
        .filter_map(|(key, record)| Some((records::number_in(&key)?, record.version)))
        .collect();
    let latest =
        after.is_none().then(|| FunctionConfiguration::of(id, LATEST, &function.latest, Some(LATEST)));
    let last = found.last().map_or(0, |(number, _)| *number);
    let published =
        found.iter().map(|(number, version)| FunctionConfiguration::published(id, *number, version));
    let response = ListVersionsResponse {
        next_marker: more.then(|| marker(MARKERS, &last.to_string())),
        versions: latest.into_iter().chain(published).map(FunctionConfiguration::listed).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// The number in a marker; 0 stands for `$LATEST` alone.
fn after(place: &str) -> Option<u64> {
    match Qualified::of(place) {
        Qualified::Number(number) => Some(number),
        _ => (place == "0").then_some(0),
    }
}
