//! `AddPermission` (201 and the statement), `GetPolicy` (200) and `RemovePermission` (204).

use freehold_base::id::AccountId;
use freehold_wire::service::{Call, Reply};
use http::StatusCode;
use serde::Serialize;

use super::PolicyResponse;
use super::subject::{Subject, refuse_latest, stored};
use crate::Lambda;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::requests::PermissionRequest;
use crate::model::validation::Violations;
use crate::names::Target;
use crate::operations::{empty_reply, json_reply};
use crate::policy::principal::{ORGANIZATION_PATTERN, Principal, is_organization};
use crate::policy::{PolicyError, Statement};
use crate::records::FUNCTIONS;

/// Length of a statement's name, in characters.
const STATEMENT_ID_LENGTH: std::ops::RangeInclusive<usize> = 1..=100;
/// AWS's pattern for a new one, as its error texts show it.
const STATEMENT_ID_PATTERN: &str = "([a-zA-Z0-9-_]+)";
/// AWS's pattern for one that is to be removed.
const OLD_STATEMENT_ID_PATTERN: &str = "([a-zA-Z0-9-_.]+)";
/// Lengths of the other members, in characters, and AWS's patterns for them.
const ACTION_LENGTH: std::ops::RangeInclusive<usize> = 0..=10_000;
const ACTION_PATTERN: &str = "(lambda:[*]|lambda:[a-zA-Z]+|[*])";
const PRINCIPAL_LENGTH: std::ops::RangeInclusive<usize> = 0..=2_048;
const PRINCIPAL_PATTERN: &str = r"[^\s]+";
const SOURCE_ARN_LENGTH: std::ops::RangeInclusive<usize> = 0..=10_000;
const SOURCE_ARN_PATTERN: &str = r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
const SOURCE_ACCOUNT_PATTERN: &str = r"\d{12}";
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 0..=256;
const TOKEN_PATTERN: &str = r"[a-zA-Z0-9._\-]+";
const ORGANIZATION_LENGTH: std::ops::RangeInclusive<usize> = 12..=34;
/// The action to which `FunctionUrlAuthType` belongs.
const INVOKE_URL: &str = "lambda:InvokeFunctionUrl";

/// `AddPermissionResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddPermissionResponse {
    /// The statement as JSON text.
    statement: String,
}

pub(super) async fn add_permission(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let request: PermissionRequest = json::read(call.body.clone()).await?;
    check(&request)?;
    refuse_latest(&target)?;
    let (store, target, request) = (&lambda.store, &target, &request);
    let statement = store
        .transact(|transaction| async move {
            let subject = Subject::find(&transaction, target).await?.ok_or_else(|| no_function(target))?;
            subject.check_revision(request.revision_id.as_deref())?;
            let mut document = subject.policy(&transaction).await?.unwrap_or_default();
            let statement = statement(target, request)?;
            document.add(statement.clone())?;
            subject.write(&transaction, Some(&document)).await?;
            Ok::<_, LambdaError>(statement)
        })
        .await?;
    lambda.functions.changed(&target.id, []);
    json_reply(StatusCode::CREATED, &AddPermissionResponse { statement: statement.to_text() })
}

pub(super) async fn get_policy(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    if FUNCTIONS.get(&snapshot, &target.id.parts()).await?.is_none() {
        return Err(no_function(&target));
    }
    let document = stored(&snapshot, &target).await?.ok_or(LambdaError::NoSuchResource)?;
    let subject = Subject::find(&snapshot, &target).await?.ok_or(LambdaError::NoSuchResource)?;
    let response = PolicyResponse { policy: document.to_text(), revision_id: subject.revision().as_str() };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn remove_permission(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let sid = call.labels.get("StatementId").cloned().unwrap_or_default();
    let mut violations = Violations::default();
    check_text(&sid, "statementId", STATEMENT_ID_LENGTH, OLD_STATEMENT_ID_PATTERN, &mut violations, |text| {
        is_of(text, b"-_.")
    });
    violations.into_result()?;
    let revision = call.query_value("RevisionId").map(str::to_owned);
    let (store, target, sid, revision) = (&lambda.store, &target, &sid, revision.as_deref());
    store
        .transact(|transaction| async move {
            let no_function = || PolicyError::NotFoundFor(target.id.arn());
            let subject = Subject::find(&transaction, target).await?.ok_or_else(no_function)?;
            let mut document = subject.policy(&transaction).await?.ok_or(PolicyError::NotThere)?;
            document.remove(sid)?;
            subject.check_revision(revision)?;
            // A policy that says nothing is none.
            let left = (!document.statement.is_empty()).then_some(&document);
            subject.write(&transaction, left).await?;
            Ok::<_, LambdaError>(())
        })
        .await?;
    lambda.functions.changed(&target.id, []);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

fn no_function(target: &Target) -> LambdaError {
    LambdaError::FunctionNotFound(target.id.arn())
}

/// The statement that the request asks for; it has been checked.
fn statement(target: &Target, request: &PermissionRequest) -> Result<Statement, LambdaError> {
    let asked = |member: &Option<String>| member.clone().unwrap_or_default();
    let principal = Principal::parse(&asked(&request.principal))?;
    let resource = target.id.qualified_arn(target.qualifier.as_deref());
    let statement =
        Statement::allow(asked(&request.statement_id), principal, asked(&request.action), resource);
    let via_url = request.invoked_via_function_url.map(|via_url| via_url.to_string());
    Ok(statement
        .with_condition("StringEquals", "lambda:FunctionUrlAuthType", request.function_url_auth_type.clone())
        .with_condition("StringEquals", "aws:PrincipalOrgID", request.principal_org_id.clone())
        .with_condition("StringEquals", "AWS:SourceAccount", request.source_account.clone())
        .with_condition("StringEquals", "lambda:EventSourceToken", request.event_source_token.clone())
        .with_condition("ArnLike", "AWS:SourceArn", request.source_arn.clone())
        .with_condition("Bool", "lambda:InvokedViaFunctionUrl", via_url))
}

fn check(request: &PermissionRequest) -> Result<(), LambdaError> {
    let mut violations = Violations::default();
    match &request.statement_id {
        Some(sid) => {
            let of = |text: &str| is_of(text, b"-_");
            check_text(sid, "statementId", STATEMENT_ID_LENGTH, STATEMENT_ID_PATTERN, &mut violations, of);
        }
        None => violations.missing("statementId"),
    }
    match &request.action {
        Some(action) => {
            check_text(action, "action", ACTION_LENGTH, ACTION_PATTERN, &mut violations, is_action);
        }
        None => violations.missing("action"),
    }
    match &request.principal {
        Some(text) => {
            let is_one_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
            check_text(text, "principal", PRINCIPAL_LENGTH, PRINCIPAL_PATTERN, &mut violations, is_one_word);
        }
        None => violations.missing("principal"),
    }
    check_source(request, &mut violations);
    violations.into_result()?;
    if request.function_url_auth_type.is_some() && request.action.as_deref() != Some(INVOKE_URL) {
        let text = "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    Ok(())
}

/// Checks the members that say from where a request must come.
fn check_source(request: &PermissionRequest, violations: &mut Violations) {
    if let Some(arn) = &request.source_arn {
        check_text(arn, "sourceArn", SOURCE_ARN_LENGTH, SOURCE_ARN_PATTERN, violations, is_arn);
    }
    if let Some(account) = &request.source_account {
        let is_account = |text: &str| AccountId::parse(text).is_some();
        check_text(account, "sourceAccount", 0..=12, SOURCE_ACCOUNT_PATTERN, violations, is_account);
    }
    if let Some(token) = &request.event_source_token {
        let of = |text: &str| is_of(text, b"._-");
        check_text(token, "eventSourceToken", TOKEN_LENGTH, TOKEN_PATTERN, violations, of);
    }
    if let Some(organization) = &request.principal_org_id {
        let (path, pattern) = ("principalOrgID", ORGANIZATION_PATTERN);
        check_text(organization, path, ORGANIZATION_LENGTH, pattern, violations, is_organization);
    }
    if let Some(kind) = &request.function_url_auth_type {
        violations.one_of("functionUrlAuthType", kind, &["NONE", "AWS_IAM"]);
    }
}

/// Notes what is wrong with a text of which a length and a pattern are asked.
fn check_text(
    text: &str,
    path: &str,
    length: std::ops::RangeInclusive<usize>,
    pattern: &str,
    violations: &mut Violations,
    fits: impl Fn(&str) -> bool,
) {
    violations.length(path, text, length);
    if !fits(text) {
        violations.pattern(path, text, pattern);
    }
}

/// Whether a text is of letters, digits and these bytes.
fn is_of(text: &str, others: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

fn is_action(text: &str) -> bool {
    let of_lambda = text.strip_prefix("lambda:");
    text == "*" || of_lambda.is_some_and(|action| action == "*" || is_of(action, b"") && is_letters(action))
}

fn is_letters(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether a text is an ARN, which as a pattern may end in anything.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [scheme, partition, service, region, account, _] = parts.as_slice() else { return false };
    let is_region = region.is_empty() || is_of(region, b"-");
    let is_account = account.is_empty() || AccountId::parse(account).is_some();
    *scheme == "arn"
        && partition.starts_with("aws")
        && is_of(partition, b"-")
        && is_of(service, b"-")
        && is_region
        && is_account
        && !text.contains('\n')
}
