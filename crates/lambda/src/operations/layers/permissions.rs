//! `AddLayerVersionPermission` (201 and the statement), `GetLayerVersionPolicy`, `RemoveLayerVersionPermission` (204): which
//! other accounts may use a layer version.

use freehold_base::id::RevisionId;
use freehold_store::{Read, Transaction};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::denied;
use crate::layers::error::LayerError;
use crate::layers::id::LayerVersionId;
use crate::layers::policy;
use crate::layers::records::{LAYERS, POLICIES, PolicyRecord};
use crate::model::json;
use crate::model::layers::{
    AddLayerPermissionResponse, LayerPermissionRequest, LayerPolicyResponse, check_statement_id,
};
use crate::model::validation::Violations;
use crate::operations::{empty_reply, json_reply};
use crate::policy::{Document, PolicyError};

pub(super) async fn add_layer_version_permission(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: LayerPermissionRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    request.check(&mut violations);
    violations.into_result()?;
    let id = own_version(&call)?;
    let principal = request.principal.as_deref().and_then(policy::principal);
    let principal = principal.expect("a principal that cannot be read has just been refused");
    let sid = request.statement_id.unwrap_or_default();
    let statement = policy::statement(&id, sid, principal, request.organization_id);
    let (call, id, statement) = (&call, &id, &statement);
    let revision_id = lambda
        .store
        .transact(|transaction| async move {
            let old = policy_of(&transaction, call, id).await?;
            let revision_id = old.as_ref().map(|policy| policy.revision_id.clone());
            let mut document = old.map(|policy| policy.document).unwrap_or_default();
            // A name that is taken is told before the revision, a policy that gets too long after it.
            document.check_name(statement)?;
            check_revision(revision_id.as_ref(), call)?;
            document.add(statement.clone())?;
            let policy = PolicyRecord { document, revision_id: RevisionId::random() };
            POLICIES.put(&transaction, &id.parts(), &policy)?;
            Ok::<_, LambdaError>(policy.revision_id)
        })
        .await?;
    let response =
        AddLayerPermissionResponse { statement: statement.to_text(), revision_id: revision_id.as_str() };
    json_reply(StatusCode::CREATED, &response)
}

pub(super) async fn get_layer_version_policy(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = own_version(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    let policy = policy_of(&snapshot, &call, &id).await?.ok_or(PolicyError::NotThere)?;
    let response =
        LayerPolicyResponse { policy: policy.document.to_text(), revision_id: policy.revision_id.as_str() };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn remove_layer_version_permission(
    lambda: Lambda,
    call: Call,
) -> Result<Reply, LambdaError> {
    let statement = call.labels.get("StatementId").cloned().unwrap_or_default();
    let mut violations = Violations::default();
    check_statement_id(&statement, &mut violations);
    violations.into_result()?;
    let id = own_version(&call)?;
    let (call, id, statement) = (&call, &id, statement.as_str());
    lambda
        .store
        .transact(|transaction| async move {
            let old = policy_of(&transaction, call, id).await?.ok_or(PolicyError::NotThere)?;
            check_revision(Some(&old.revision_id), call)?;
            remove(&transaction, id, old.document, statement)
        })
        .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// Takes a statement out; the policy goes with its last one.
fn remove(
    transaction: &Transaction,
    id: &LayerVersionId,
    mut document: Document,
    statement: &str,
) -> Result<(), LambdaError> {
    document.remove(statement)?;
    if document.statement.is_empty() {
        POLICIES.delete(transaction, &id.parts());
    } else {
        let policy = PolicyRecord { document, revision_id: RevisionId::random() };
        POLICIES.put(transaction, &id.parts(), &policy)?;
    }
    Ok(())
}

/// The layer version in the path, which must be the caller's own.
fn own_version(call: &Call) -> Result<LayerVersionId, LambdaError> {
    let id = LayerVersionId::of(call)?;
    if id.layer.account == call.principal.account {
        Ok(id)
    } else {
        Err(denied(&call.principal, call.operation.action, id.arn()))
    }
}

/// The policy of a layer version that must be there.
async fn policy_of(
    read: &impl Read,
    call: &Call,
    id: &LayerVersionId,
) -> Result<Option<PolicyRecord>, LambdaError> {
    // Each region has layers of its own.
    if id.layer.region != call.region || LAYERS.get(read, &id.parts()).await?.is_none() {
        return Err(LayerError::VersionNotFound(id.arn()).into());
    }
    Ok(POLICIES.get(read, &id.parts()).await?)
}

/// Refuses the change if the client names another revision than the policy's.
fn check_revision(revision_id: Option<&RevisionId>, call: &Call) -> Result<(), LayerError> {
    let named = call.query_value("RevisionId").filter(|named| !named.is_empty());
    match named {
        Some(named) if revision_id.is_none_or(|own| own.as_str() != named) => Err(LayerError::StaleRevision),
        _ => Ok(()),
    }
}
