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
use crate::layers::records::{LAYERS, POLICIES, PolicyRecord, PrincipalRecord, StatementRecord};
use crate::model::json;
use crate::model::layers::{
    AddLayerPermissionResponse, LayerPermissionRequest, LayerPolicyResponse, check_statement_id,
};
use crate::model::validation::Violations;
use crate::operations::{empty_reply, json_reply};

pub(super) async fn add_layer_version_permission(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let request: LayerPermissionRequest = json::read(call.body.clone()).await?;
    let mut violations = Violations::default();
    request.check(&mut violations);
    violations.into_result()?;
    let id = own_version(&call)?;
    let principal = request.principal.as_deref().and_then(PrincipalRecord::parse);
    let statement = StatementRecord {
        id: request.statement_id.unwrap_or_default(),
        principal: principal.expect("a principal that cannot be read has just been refused"),
        organization: request.organization_id,
    };
    let (call, id, statement) = (&call, &id, &statement);
    let policy = lambda
        .store
        .transact(|transaction| async move {
            let old = policy_of(&transaction, call, id).await?;
            if old.iter().flat_map(|policy| &policy.statements).any(|other| other.id == statement.id) {
                return Err(LayerError::StatementExists(statement.id.clone()).into());
            }
            check_revision(old.as_ref(), call)?;
            let mut statements = old.map(|policy| policy.statements).unwrap_or_default();
            statements.push(statement.clone());
            let policy = PolicyRecord { statements, revision_id: RevisionId::random() };
            policy.check_length(id)?;
            POLICIES.put(&transaction, &id.parts(), &policy)?;
            Ok::<_, LambdaError>(policy)
        })
        .await?;
    let response = AddLayerPermissionResponse {
        statement: statement.text(id),
        revision_id: policy.revision_id.as_str(),
    };
    json_reply(StatusCode::CREATED, &response)
}

pub(super) async fn get_layer_version_policy(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = own_version(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    let policy = policy_of(&snapshot, &call, &id).await?.ok_or(LayerError::NoPolicy)?;
    let response = LayerPolicyResponse { policy: policy.text(&id), revision_id: policy.revision_id.as_str() };
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
            let old = policy_of(&transaction, call, id).await?.ok_or(LayerError::NoPolicy)?;
            check_revision(Some(&old), call)?;
            remove(&transaction, id, old, statement)
        })
        .await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// Takes a statement out; the policy goes with its last one.
fn remove(
    transaction: &Transaction,
    id: &LayerVersionId,
    old: PolicyRecord,
    statement: &str,
) -> Result<(), LambdaError> {
    let mut statements = old.statements;
    let before = statements.len();
    statements.retain(|other| other.id != statement);
    if statements.len() == before {
        return Err(LayerError::StatementNotFound(statement.to_owned()).into());
    }
    if statements.is_empty() {
        POLICIES.delete(transaction, &id.parts());
    } else {
        let policy = PolicyRecord { statements, revision_id: RevisionId::random() };
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
fn check_revision(policy: Option<&PolicyRecord>, call: &Call) -> Result<(), LayerError> {
    let named = call.query_value("RevisionId").filter(|named| !named.is_empty());
    match named {
        Some(named) if policy.is_none_or(|policy| policy.revision_id.as_str() != named) => {
            Err(LayerError::StaleRevision)
        }
        _ => Ok(()),
    }
}
