//! Resource-based policies: by single permissions, and as whole documents. Both edit the one policy that a function, a version
//! or an alias has.
//!
//! - `permissions`: `AddPermission`, `GetPolicy`, `RemovePermission`
//! - `documents`: `PutResourcePolicy`, `GetResourcePolicy`, `DeleteResourcePolicy`
//! - `subject`: what a policy belongs to, whose revision is the policy's too

mod documents;
mod permissions;
mod subject;

use freehold_wire::service::Verb::{Delete, Get, Post, Put};
use serde::Serialize;

use super::entry::{Entry, FUNCTION, change, read};

/// Where a function's policy is.
const POLICY_PATH: &str = "/2015-03-31/functions/{FunctionName}/policy";
/// Where a resource's policy is, by its ARN.
const RESOURCE_POLICY_PATH: &str = "/2026-07-09/resource-policy/{ResourceArn}";
/// The resource of an operation that names it by its ARN.
const RESOURCE: &str = "{ResourceArn}";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change("AddPermission", "lambda:AddPermission", Post, POLICY_PATH, FUNCTION, |lambda, call| {
        Box::pin(permissions::add_permission(lambda, call))
    }),
    read("GetPolicy", "lambda:GetPolicy", Get, POLICY_PATH, FUNCTION, |lambda, call| {
        Box::pin(permissions::get_policy(lambda, call))
    }),
    change(
        "RemovePermission",
        "lambda:RemovePermission",
        Delete,
        "/2015-03-31/functions/{FunctionName}/policy/{StatementId}",
        FUNCTION,
        |lambda, call| Box::pin(permissions::remove_permission(lambda, call)),
    ),
    change(
        "PutResourcePolicy",
        "lambda:PutResourcePolicy",
        Put,
        RESOURCE_POLICY_PATH,
        RESOURCE,
        |lambda, call| Box::pin(documents::put_resource_policy(lambda, call)),
    ),
    read(
        "GetResourcePolicy",
        "lambda:GetResourcePolicy",
        Get,
        RESOURCE_POLICY_PATH,
        RESOURCE,
        |lambda, call| Box::pin(documents::get_resource_policy(lambda, call)),
    ),
    change(
        "DeleteResourcePolicy",
        "lambda:DeleteResourcePolicy",
        Delete,
        RESOURCE_POLICY_PATH,
        RESOURCE,
        |lambda, call| Box::pin(documents::delete_resource_policy(lambda, call)),
    ),
];

/// `GetPolicyResponse`, and that of the operations on whole documents.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyResponse<'a> {
    /// The document as JSON text.
    policy: String,
    revision_id: &'a str,
}
