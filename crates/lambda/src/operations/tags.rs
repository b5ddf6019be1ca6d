//! `TagResource` and `UntagResource` (204), `ListTags` (200): the tags of a function or of a code-signing configuration. A
//! function's belong to all its versions; each change moves the function's revision, and nothing else of it.

use std::collections::BTreeMap;

use freehold_base::id::RevisionId;
use freehold_store::{Read, Transaction};
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
use crate::records::{self, FunctionRecord, SIGNING, SigningRecord};
use crate::signing::SigningId;

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
    let tagged = Tagged::of(&call, violations)?;
    let added = request.tags.unwrap_or_default();
    if added.is_empty() {
        let text = "An error occurred and the request cannot be processed.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    tags::check(&added)?;
    change_tags(&lambda, &tagged, |tags| {
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
    let tagged = Tagged::of(&call, violations)?;
    change_tags(&lambda, &tagged, |tags| {
        removed.iter().for_each(|key| drop(tags.remove(key)));
        Ok(())
    })
    .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

async fn list_tags(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let tagged = Tagged::of(&call, Violations::default())?;
    let tags = tagged.tags(&lambda.store.snapshot().await?).await?;
    json_reply(StatusCode::OK, &ListTagsResponse { tags: &tags })
}

/// Changes the tags as they are when it is committed, so that of two changes none is lost.
async fn change_tags(
    lambda: &Lambda,
    tagged: &Tagged,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), LambdaError> + Send + Sync,
) -> Result<(), LambdaError> {
    let (store, change) = (&lambda.store, &change);
    store
        .transact(|transaction| async move {
            let old = tagged.tags(&transaction).await?;
            let mut tags = old.clone();
            change(&mut tags)?;
            if tags != old {
                tagged.put(&transaction, tags).await?;
            }
            Ok(())
        })
        .await
}

/// What has tags.
enum Tagged {
    Function(FunctionId),
    /// A code-signing configuration.
    Signing(SigningId),
}

impl Tagged {
    /// What the path's ARN names; `violations` are what else was found.
    fn of(call: &Call, mut violations: Violations) -> Result<Self, LambdaError> {
        let text = call.labels.get("Resource").map_or("", String::as_str);
        let resource = arn(text).unwrap_or_default();
        let kind = resource.split_once(':').map(|(kind, _)| kind).filter(|kind| KINDS.contains(kind));
        if kind.is_none() {
            violations.pattern("resource", text, RESOURCE_PATTERN);
        }
        violations.into_result()?;
        match kind {
            Some("function") => {}
            Some("code-signing-config") => {
                let missing = || LambdaError::NoSuchSigning(text.to_owned());
                return SigningId::of(call, text)?.map(Self::Signing).ok_or_else(missing);
            }
            // Of the other things that have tags on AWS there are none here.
            _ => return Err(LambdaError::NoSuchResource),
        }
        let target = Target::resolve(call, text, None)?;
        if target.qualifier.is_some() {
            let text =
                "Tags on function aliases and versions are not supported. Please specify a function ARN.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
        Ok(Self::Function(target.id))
    }

    async fn tags(&self, read: &impl Read) -> Result<BTreeMap<String, String>, LambdaError> {
        match self {
            Self::Function(id) => Ok(records::require_function(read, id).await?.tags),
            Self::Signing(id) => Ok(configuration(read, id).await?.tags),
        }
    }

    async fn put(
        &self,
        transaction: &Transaction,
        tags: BTreeMap<String, String>,
    ) -> Result<(), LambdaError> {
        match self {
            Self::Function(id) => {
                let old = records::require_function(transaction, id).await?;
                let mut record = FunctionRecord { tags, ..old.clone() };
                record.latest.revision_id = RevisionId::random();
                Ok(records::put(transaction, id, Some(&old), &record).await?)
            }
            Self::Signing(id) => {
                let record = SigningRecord { tags, ..configuration(transaction, id).await? };
                Ok(SIGNING.put(transaction, &id.parts(), &record)?)
            }
        }
    }
}

async fn configuration(read: &impl Read, id: &SigningId) -> Result<SigningRecord, LambdaError> {
    id.find(read).await?.ok_or_else(|| LambdaError::NoSuchSigning(id.arn()))
}
