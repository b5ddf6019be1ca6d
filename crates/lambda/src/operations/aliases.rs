//! The five alias operations. An alias leads to one version, or shares its events between two published ones.

use freehold_base::id::RevisionId;
use freehold_store::{Read, StoreError};
use freehold_wire::service::Verb::{Delete, Get, Post, Put};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::page::{PAGE, Page, marker};
use super::{empty_reply, json_reply};
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::constraints::DESCRIPTION_LENGTH;
use crate::model::json;
use crate::model::requests::{AliasRequest, RoutingConfig};
use crate::model::responses::{AliasConfiguration, ListAliasesResponse};
use crate::model::validation::Violations;
use crate::names::{FunctionId, LATEST, Qualified, Target};
use crate::records::{self, ALIASES, AdditionalVersion, AliasRecord};
use crate::{provisioned, versions};

/// Length of an alias's name, in characters.
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 1..=128;
/// AWS's pattern for it, as its error texts show it.
const NAME_PATTERN: &str = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)";
/// Length of a version's name, in characters.
const VERSION_LENGTH: std::ops::RangeInclusive<usize> = 1..=1024;
/// AWS's pattern for it, as its error texts show it.
const VERSION_PATTERN: &str = r"(\$LATEST|[0-9]+)";
/// Versions that share an alias's events beside its own.
const ADDITIONAL_VERSIONS: usize = 1;
/// How this list's markers are told from others'.
const MARKERS: &str = "aliases";
/// Where one alias is.
const ALIAS_PATH: &str = "/2015-03-31/functions/{FunctionName}/aliases/{Name}";
/// Where a function's aliases are.
const ALIASES_PATH: &str = "/2015-03-31/functions/{FunctionName}/aliases";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change("CreateAlias", "lambda:CreateAlias", Post, ALIASES_PATH, FUNCTION, |lambda, call| {
        Box::pin(create_alias(lambda, call))
    }),
    read("GetAlias", "lambda:GetAlias", Get, ALIAS_PATH, FUNCTION, |lambda, call| {
        Box::pin(get_alias(lambda, call))
    }),
    read("ListAliases", "lambda:ListAliases", Get, ALIASES_PATH, FUNCTION, |lambda, call| {
        Box::pin(list_aliases(lambda, call))
    }),
    change("UpdateAlias", "lambda:UpdateAlias", Put, ALIAS_PATH, FUNCTION, |lambda, call| {
        Box::pin(update_alias(lambda, call))
    }),
    change("DeleteAlias", "lambda:DeleteAlias", Delete, ALIAS_PATH, FUNCTION, |lambda, call| {
        Box::pin(delete_alias(lambda, call))
    }),
];

async fn create_alias(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = function_of(&call)?;
    let request: AliasRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    match &request.name {
        Some(name) => check_name(name, &mut violations),
        None => violations.missing("name"),
    }
    if request.function_version.is_none() {
        violations.missing("functionVersion");
    }
    check_members(&request, &mut violations);
    violations.into_result()?;
    let (Some(name), Some(version)) = (request.name, request.function_version) else {
        return Err(LambdaError::InvalidParameter("An alias needs a name and a version.".to_owned()));
    };
    let record = AliasRecord {
        version,
        description: request.description.unwrap_or_default(),
        additional: additional(request.routing_config)?,
        revision_id: RevisionId::random(),
    };
    check_routing(&record)?;
    let (store, id, name, record) = (&lambda.store, &id, &name, &record);
    store
        .transact(|transaction| async move {
            check_versions(&transaction, id, record).await?;
            if ALIASES.get(&transaction, &id.alias_parts(name)).await?.is_some() {
                return Err(LambdaError::AliasExists(id.qualified_arn(Some(name))));
            }
            Ok(ALIASES.put(&transaction, &id.alias_parts(name), record)?)
        })
        .await?;
    lambda.functions.changed(id, []);
    json_reply(StatusCode::CREATED, &AliasConfiguration::of(id, name, record))
}

async fn get_alias(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let (id, name) = alias_of(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    let record =
        ALIASES.get(&snapshot, &id.alias_parts(&name)).await?.ok_or_else(|| not_found(&id, &name))?;
    json_reply(StatusCode::OK, &AliasConfiguration::of(&id, &name, &record))
}

async fn update_alias(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let (id, name) = alias_of(&call)?;
    let request: AliasRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    check_members(&request, &mut violations);
    violations.into_result()?;
    let routing = request.routing_config.map(|routing| additional(Some(routing))).transpose()?;
    let change = (request.function_version, request.description, routing, request.revision_id);
    let (store, id, name, change) = (&lambda.store, &id, &name, &change);
    let record = store
        .transact(|transaction| async move {
            let (version, description, routing, revision) = change;
            records::require_function(&transaction, id).await?;
            let old = ALIASES.get(&transaction, &id.alias_parts(name)).await?;
            let mut record = old.ok_or_else(|| not_found(id, name))?;
            if revision.as_deref().is_some_and(|named| named != record.revision_id.as_str()) {
                return Err(LambdaError::StaleRevision);
            }
            record.version = version.clone().unwrap_or(record.version);
            record.description = description.clone().unwrap_or(record.description);
            record.additional = routing.clone().unwrap_or(record.additional);
            record.revision_id = RevisionId::random();
            check_routing(&record)?;
            check_versions(&transaction, id, &record).await?;
            provisioned::check_move(&transaction, id, name, &record).await?;
            ALIASES.put(&transaction, &id.alias_parts(name), &record)?;
            Ok(record)
        })
        .await?;
    lambda.functions.changed(id, []);
    lambda.provisioned.tell(id).await?;
    json_reply(StatusCode::OK, &AliasConfiguration::of(id, name, &record))
}

/// 204, also where there was none.
async fn delete_alias(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let (id, name) = alias_of(&call)?;
    let (store, id, name) = (&lambda.store, &id, &name);
    store
        .transact(|transaction| async move {
            records::require_function(&transaction, id).await?;
            records::delete_alias(&transaction, id, name);
            Ok::<_, LambdaError>(())
        })
        .await?;
    lambda.provisioned.tell(id).await?;
    lambda.functions.changed(id, []);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

async fn list_aliases(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = function_of(&call)?;
    let mut violations = Violations::default();
    let page = Page::of(&call, MARKERS, &mut violations, is_name)?;
    let version = call.query_value("FunctionVersion").filter(|version| !version.is_empty());
    if let Some(version) = version {
        check_version(version, &mut violations);
    }
    violations.into_result()?;
    let snapshot = lambda.store.snapshot().await?;
    records::require_function(&snapshot, &id).await?;
    let (found, more) = page_of(&snapshot, &id, &page, version).await?;
    let response = ListAliasesResponse {
        next_marker: found.last().filter(|_| more).map(|(name, _)| marker(MARKERS, name)),
        aliases: found.iter().map(|(name, record)| AliasConfiguration::of(&id, name, record)).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// A page of the aliases that lead to `version`, or of all, by name, and whether there are more.
async fn page_of(
    read: &impl Read,
    id: &FunctionId,
    page: &Page,
    version: Option<&str>,
) -> Result<(Vec<(String, AliasRecord)>, bool), StoreError> {
    let mut found = Vec::new();
    let mut after = page.after.clone();
    loop {
        let place = after.as_deref().map(|name| id.alias_parts(name));
        let records =
            ALIASES.scan(read, &id.parts(), place.as_ref().map(|place| &place[..]), PAGE + 1).await?;
        let ended = records.len() <= PAGE;
        for (key, record) in records {
            let Some(name) = records::alias_in(&key) else { continue };
            after = Some(name.clone());
            if version.is_some_and(|version| !leads_to(&record, version)) {
                continue;
            }
            if found.len() == page.limit {
                return Ok((found, true));
            }
            found.push((name, record));
        }
        if ended {
            return Ok((found, false));
        }
    }
}

fn leads_to(record: &AliasRecord, version: &str) -> bool {
    record.version == version
        || record.additional.as_ref().is_some_and(|additional| additional.version == version)
}

/// The function in the path, without a version or alias.
fn function_of(call: &Call) -> Result<FunctionId, LambdaError> {
    let target = Target::of(call)?;
    target.require_latest()?;
    Ok(target.id)
}

/// The function and the alias in the path.
fn alias_of(call: &Call) -> Result<(FunctionId, String), LambdaError> {
    let id = function_of(call)?;
    let name = call.labels.get("Name").cloned().unwrap_or_default();
    let mut violations = Violations::default();
    check_name(&name, &mut violations);
    violations.into_result()?;
    Ok((id, name))
}

fn not_found(id: &FunctionId, name: &str) -> LambdaError {
    LambdaError::AliasNotFound(id.qualified_arn(Some(name)))
}

/// Whether a text can be an alias's name.
fn is_name(name: &str) -> bool {
    freehold_base::arn::is_qualifier(name) && matches!(Qualified::of(name), Qualified::Alias(_))
}

fn check_name(name: &str, violations: &mut Violations) {
    violations.length("name", name, NAME_LENGTH);
    if NAME_LENGTH.contains(&name.chars().count()) && !is_name(name) {
        violations.pattern("name", name, NAME_PATTERN);
    }
}

fn check_version(version: &str, violations: &mut Violations) {
    violations.length("functionVersion", version, VERSION_LENGTH);
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    if version != LATEST && !is_number {
        violations.pattern("functionVersion", version, VERSION_PATTERN);
    }
}

fn check_members(request: &AliasRequest, violations: &mut Violations) {
    if let Some(version) = &request.function_version {
        check_version(version, violations);
    }
    if let Some(description) = &request.description {
        violations.length("description", description, DESCRIPTION_LENGTH);
    }
    let Some(weights) = request.routing_config.as_ref().and_then(|routing| routing.weights.as_ref()) else {
        return;
    };
    let shown = || {
        let pairs: Vec<_> = weights.iter().map(|(version, weight)| format!("{version}={weight:?}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    const PATH: &str = "routingConfig.additionalVersionWeights";
    if weights.keys().any(|version| {
        !VERSION_LENGTH.contains(&version.len()) || !version.bytes().all(|byte| byte.is_ascii_digit())
    }) {
        let constraint = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member \
                          must have length greater than or equal to 1, Member must satisfy regular expression pattern: \
                          [0-9]+, Member must not be null]";
        violations.add(PATH, shown(), constraint);
    }
    if weights.values().any(|weight| !(0.0..=1.0).contains(weight)) {
        let constraint = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member \
                          must have value greater than or equal to 0.0, Member must not be null]";
        violations.add(PATH, shown(), constraint);
    }
}

/// The version that gets a share, where the routing names one.
fn additional(routing: Option<RoutingConfig>) -> Result<Option<AdditionalVersion>, LambdaError> {
    let weights = routing.and_then(|routing| routing.weights).unwrap_or_default();
    if weights.len() > ADDITIONAL_VERSIONS {
        let text = "Number of items in AdditionalVersionWeights cannot be greater than 1";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    Ok(weights.into_iter().next().map(|(version, weight)| AdditionalVersion { version, weight }))
}

/// Two versions that share must be two published ones.
fn check_routing(record: &AliasRecord) -> Result<(), LambdaError> {
    let Some(additional) = &record.additional else { return Ok(()) };
    let version = &record.version;
    if *version == additional.version {
        return Err(LambdaError::InvalidParameter(format!(
            "Invalid function version {version}. Function version {version} is already included in routing configuration."
        )));
    }
    if version == LATEST {
        let text = "$LATEST is not supported for an alias pointing to more than 1 version";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    Ok(())
}

/// The versions that an alias leads to must be there.
async fn check_versions(read: &impl Read, id: &FunctionId, record: &AliasRecord) -> Result<(), LambdaError> {
    let additional = record.additional.as_ref().map(|additional| &additional.version);
    for version in [Some(&record.version), additional].into_iter().flatten() {
        let target = Target { id: id.clone(), qualifier: Some(version.clone()) };
        versions::require(read, &target).await?;
    }
    Ok(())
}
