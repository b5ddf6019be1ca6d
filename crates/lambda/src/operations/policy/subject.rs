//! What a policy belongs to: a function, a version or an alias. A policy has no revision of its own on AWS: it has that of
//! what it belongs to, and each change of the policy moves it.

use freehold_base::id::RevisionId;
use freehold_store::{Read, StoreError, Transaction};

use crate::error::LambdaError;
use crate::names::{FunctionId, LATEST, Qualified, Target};
use crate::policy::Document;
use crate::records::{
    self, ALIASES, AliasRecord, FUNCTIONS, FunctionRecord, POLICIES, PolicyRecord, PublishedRecord, VERSIONS,
};

/// What a policy belongs to, as it is stored.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    target: &'a Target,
    record: Subjected,
}

#[derive(Debug)]
enum Subjected {
    Function(Box<FunctionRecord>),
    Version(u64, Box<PublishedRecord>),
    Alias(AliasRecord),
}

impl<'a> Subject<'a> {
    /// What the target names, or AWS's answer where it is not there. `None` where there is not even the function.
    pub(super) async fn find(read: &impl Read, target: &'a Target) -> Result<Option<Self>, LambdaError> {
        let id = &target.id;
        let Some(function) = FUNCTIONS.get(read, &id.parts()).await? else { return Ok(None) };
        let record = match target.qualified() {
            Qualified::Latest => Subjected::Function(Box::new(function)),
            Qualified::Number(number) => {
                let version = VERSIONS.get(read, &id.version_parts(number)).await?;
                Subjected::Version(number, Box::new(version.ok_or_else(|| target.not_found())?))
            }
            Qualified::Alias(alias) => {
                let record = ALIASES.get(read, &id.alias_parts(alias)).await?;
                let missing = || LambdaError::AliasNotFound(id.qualified_arn(Some(alias)));
                Subjected::Alias(record.ok_or_else(missing)?)
            }
            Qualified::Nothing => return Err(target.not_found()),
        };
        Ok(Some(Self { target, record }))
    }

    /// The policy, where there is one.
    pub(super) async fn policy(&self, read: &impl Read) -> Result<Option<Document>, StoreError> {
        stored(read, self.target).await
    }

    /// The current revision.
    pub(super) fn revision(&self) -> &RevisionId {
        match &self.record {
            Subjected::Function(function) => &function.latest.revision_id,
            Subjected::Version(_, published) => &published.version.revision_id,
            Subjected::Alias(alias) => &alias.revision_id,
        }
    }

    /// Refuses the change if the client names another revision.
    pub(super) fn check_revision(&self, named: Option<&str>) -> Result<(), LambdaError> {
        match named.filter(|named| !named.is_empty()) {
            Some(named) if named != self.revision().as_str() => Err(LambdaError::StaleRevision),
            _ => Ok(()),
        }
    }

    /// Writes the policy, or that there is none, and moves the revision.
    pub(super) async fn write(
        self,
        transaction: &Transaction,
        policy: Option<&Document>,
    ) -> Result<RevisionId, StoreError> {
        let id = &self.target.id;
        let parts = id.policy_parts(place(self.target));
        match policy {
            Some(document) => {
                let record = PolicyRecord { document: document.clone() };
                POLICIES.put(transaction, &parts, &record)?;
            }
            None => POLICIES.delete(transaction, &parts),
        }
        let revision = RevisionId::random();
        self.move_to(transaction, id, revision.clone()).await?;
        Ok(revision)
    }

    async fn move_to(
        self,
        transaction: &Transaction,
        id: &FunctionId,
        revision: RevisionId,
    ) -> Result<(), StoreError> {
        match self.record {
            Subjected::Function(old) => {
                let mut function = old.clone();
                function.latest.revision_id = revision;
                records::put(transaction, id, Some(&old), &function).await
            }
            Subjected::Version(number, mut published) => {
                published.version.revision_id = revision;
                VERSIONS.put(transaction, &id.version_parts(number), &published)
            }
            Subjected::Alias(mut alias) => {
                alias.revision_id = revision;
                ALIASES.put(transaction, &id.alias_parts(place(self.target)), &alias)
            }
        }
    }
}

/// The policy of what the target names, where there is one.
pub(super) async fn stored(read: &impl Read, target: &Target) -> Result<Option<Document>, StoreError> {
    let record = POLICIES.get(read, &target.id.policy_parts(place(target))).await?;
    Ok(record.map(|record| record.document))
}

/// Under which name the policy is kept.
fn place(target: &Target) -> &str {
    target.qualifier.as_deref().unwrap_or(LATEST)
}

/// Refuses `$LATEST` where it is named: AWS has a policy for the function and none for that.
pub(super) fn refuse_latest(target: &Target) -> Result<(), LambdaError> {
    match target.qualifier.as_deref() {
        Some(LATEST) => {
            let text = "We currently do not support adding policies for $LATEST.";
            Err(LambdaError::InvalidParameter(text.to_owned()))
        }
        _ => Ok(()),
    }
}
