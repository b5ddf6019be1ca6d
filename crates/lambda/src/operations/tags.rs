//! `TagResource` and `UntagResource` (204), `ListTags` (200): a function's tags. They belong to all its versions; each change
//! moves the function's revision, and nothing else of it.

use std::collections::BTreeMap;

use freehold_base::id::RevisionId;
use freehold_wire::service::Verb::{Delete, Get, Post};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;
use serde::Serialize;

use super::entry::{Entry, change, read};
use super::{empty_reply, json_reply};
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::requests::TagRequest;
use crate::model::validation::Violations;
use crate::model::{json, tags};
use crate::names::{FunctionId, Target, arn};
use crate::records::{self, FUNCTIONS};

/// AWS's pattern for what has tags, as its error texts show it.
const RESOURCE_PATTERN: &str = r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector):[a-zA-Z0-9-_]{1,64})";
/// What has tags on AWS.
const KINDS: [&str; 5] =
    ["function", "code-signing-config", "event-source-mapping", "capacity-provider", "network-connector"];
/// Where a resource's tags are.
const TAGS_PATH: &str = "/2017-03-31/tags/{Resource}";
/// The resource of these operations: its ARN.
const RESOURCE: &str = "{Resource}";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change("TagResource", "lambda:TagResource", Post, TAGS_PATH, RESOURCE, |lambda, call| {
        Box::pin(tag_resource(lambda, call))
    }),
    change("UntagResource", "lambda:UntagResource", Delete, TAGS_PATH, RESOURCE, |lambda, call| {
        Box::pin(untag_resource(lambda, call))
    }),
    read("ListTags", "lambda:ListTags", Get, TAGS_PATH, RESOURCE, |lambda, call| {
        Box::pin(list_tags(lambda, call))
    }),
];

/// `ListTagsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListTagsResponse<'a> {
    tags: &'a BTreeMap<String, String>,
}

async fn tag_resource(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: TagRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    match &request.tags {
        Some(added) => tags::check_texts(added, &mut violations),
        None => violations.missing("tags"),
    }
    let id = function(&call, violations)?;
    let added = request.tags.unwrap_or_default();
    if added.is_empty() {
        let text = "An error occurred and the request cannot be processed.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    tags::check(&added)?;
    change_tags(&lambda, &id, |tags| {
        tags.extend(added.clone());
        tags::check(tags)
    })
    .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

async fn untag_resource(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let names = call.query.iter().filter(|(name, _)| name == "tagKeys");
    let removed: Vec<String> = names.map(|(_, key)| key.clone()).collect();
    let mut violations = Violations::default();
    if removed.is_empty() {
        violations.missing("tagKeys");
    }
    let id = function(&call, violations)?;
    change_tags(&lambda, &id, |tags| {
        removed.iter().for_each(|key| drop(tags.remove(key)));
        Ok(())
    })
    .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

async fn list_tags(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = function(&call, Violations::default())?;
    let snapshot = lambda.store.snapshot().await?;
    let function = FUNCTIONS.get(&snapshot, &id.parts()).await?;
    let function = function.ok_or_else(|| LambdaError::FunctionNotFound(id.arn()))?;
    json_reply(StatusCode::OK, &ListTagsResponse { tags: &function.tags })
}

/// Changes the function's tags as they are when it is committed, so that of two changes none is lost.
async fn change_tags(
    lambda: &Lambda,
    id: &FunctionId,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), LambdaError> + Send + Sync,
) -> Result<(), LambdaError> {
    let (store, change) = (&lambda.store, &change);
    store
        .transact(|transaction| async move {
            let old = FUNCTIONS.get(&transaction, &id.parts()).await?;
            let old = old.ok_or_else(|| LambdaError::FunctionNotFound(id.arn()))?;
            let mut function = old.clone();
            change(&mut function.tags)?;
            if function.tags != old.tags {
                function.latest.revision_id = RevisionId::random();
                records::put(&transaction, id, Some(&old), &function).await?;
            }
            Ok(())
        })
        .await
}

/// The function in the path; `violations` are what else was found.
fn function(call: &Call, mut violations: Violations) -> Result<FunctionId, LambdaError> {
    let text = call.labels.get("Resource").map_or("", String::as_str);
    let resource = arn(text).unwrap_or_default();
    let kind = resource.split_once(':').map(|(kind, _)| kind).filter(|kind| KINDS.contains(kind));
    if kind.is_none() {
        violations.pattern("resource", text, RESOURCE_PATTERN);
    }
    violations.into_result()?;
    match kind {
        Some("function") => {}
        // Of the other things that have tags on AWS there are none here.
        Some("code-signing-config") => {
            return Err(LambdaError::CodeSigningConfigNotFound(text.to_owned()));
        }
        _ => return Err(LambdaError::NoSuchResource),
    }
    let target = Target::resolve(call, text, None)?;
    if target.qualifier.is_some() {
        let text = "Tags on function aliases and versions are not supported. Please specify a function ARN.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    Ok(target.id)
}
