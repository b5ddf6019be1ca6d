//! What the functions' policies say about the calls that come in.
//!
//! Everyone who gets as far as here belongs to the functions' own account (the gateway lets in nobody else), and may do
//! everything in it; so a policy can only keep somebody out. An invocation is decided on what is remembered of the function,
//! any other call on what is stored.

use freehold_store::{Read, StoreError};
use freehold_wire::service::Call;

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::{LATEST, Qualified, Target};
use crate::policy::Document;
use crate::policy::condition::Context;
use crate::policy::decision::{Decision, Request, decide};
use crate::policy::principal::{Caller, role_of};
use crate::records::POLICIES;

/// The actions on which policies have a say, beside those of invocations. Source: "Supported API actions" in the developer
/// guide's page on resource-based policies.
const ACTIONS: [&str; 27] = [
    "lambda:CreateAlias",
    "lambda:DeleteAlias",
    "lambda:DeleteFunction",
    "lambda:DeleteFunctionConcurrency",
    "lambda:DeleteFunctionEventInvokeConfig",
    "lambda:DeleteProvisionedConcurrencyConfig",
    "lambda:GetAlias",
    "lambda:GetFunction",
    "lambda:GetFunctionConcurrency",
    "lambda:GetFunctionConfiguration",
    "lambda:GetFunctionEventInvokeConfig",
    "lambda:GetPolicy",
    "lambda:GetProvisionedConcurrencyConfig",
    "lambda:ListAliases",
    "lambda:ListFunctionEventInvokeConfigs",
    "lambda:ListProvisionedConcurrencyConfigs",
    "lambda:ListTags",
    "lambda:ListVersionsByFunction",
    "lambda:PublishVersion",
    "lambda:PutFunctionConcurrency",
    "lambda:PutFunctionEventInvokeConfig",
    "lambda:PutProvisionedConcurrencyConfig",
    "lambda:TagResource",
    "lambda:UntagResource",
    "lambda:UpdateAlias",
    "lambda:UpdateFunctionCode",
    "lambda:UpdateFunctionEventInvokeConfig",
];

/// The policies that have a say about a target: the function's, and that of the version or alias.
pub(crate) async fn policies(read: &impl Read, target: &Target) -> Result<Vec<Document>, StoreError> {
    let id = &target.id;
    let mut documents = Vec::new();
    for name in std::iter::once(LATEST).chain(target.qualifier.as_deref().filter(|name| *name != LATEST)) {
        documents.extend(POLICIES.get(read, &id.policy_parts(name)).await?.map(|record| record.document));
    }
    Ok(documents)
}

/// Refuses the call if one of the target's policies does.
pub(crate) fn check(documents: &[Document], call: &Call, target: &Target) -> Result<(), LambdaError> {
    if documents.is_empty() {
        return Ok(());
    }
    let (id, principal) = (&target.id, &call.principal);
    let resources = match target.qualified() {
        Qualified::Latest => vec![id.arn(), id.qualified_arn(Some(LATEST))],
        _ => vec![id.qualified_arn(target.qualifier.as_deref())],
    };
    let account = principal.account.as_str();
    let identity = match role_of(&principal.arn) {
        Some(role) => format!("arn:aws:iam::{account}:role/{role}"),
        None => principal.arn.clone(),
    };
    let context = Context::default()
        .with("aws:PrincipalAccount", account)
        .with("aws:PrincipalArn", identity)
        .with("lambda:InvokedViaFunctionUrl", "false");
    let request = Request {
        caller: Caller { account: Some(account), arn: Some(&principal.arn), service: None },
        action: call.operation.action,
        resources: &resources,
        context: &context,
    };
    match decide(documents, &request) {
        Decision::Denied => Err(LambdaError::DeniedByPolicy {
            principal: principal.arn.clone(),
            action: call.operation.action,
            resource: id.qualified_arn(target.qualifier.as_deref()),
        }),
        Decision::Allowed | Decision::Neither => Ok(()),
    }
}

/// Refuses a call, other than an invocation, that a stored policy refuses. What the call itself cannot read it tells by itself.
pub(crate) async fn check_stored(lambda: &Lambda, call: &Call) -> Result<(), LambdaError> {
    if !ACTIONS.contains(&call.operation.action) {
        return Ok(());
    }
    let name = call.labels.get("FunctionName").or_else(|| call.labels.get("Resource"));
    let qualifier = call.query_value("Qualifier").filter(|qualifier| !qualifier.is_empty());
    let Some(Ok(target)) = name.map(|name| Target::resolve(call, name, qualifier)) else { return Ok(()) };
    let documents = policies(&lambda.store.snapshot().await?, &target).await?;
    check(&documents, call, &target)
}
