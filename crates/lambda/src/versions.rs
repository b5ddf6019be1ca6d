//! Which stored version a qualifier means, and how a version is published.
//!
//! ```text
//! $LATEST ──publish: copied, numbered──> 1, 2, 3 …   (never changed again)
//! alias ──> one version, or two with weights
//! ```

use freehold_base::id::RevisionId;
use freehold_store::{Read, StoreError, Transaction};

use crate::error::LambdaError;
use crate::names::{FunctionId, LATEST, Qualified, Target};
use crate::records::{
    self, ALIASES, AdditionalVersion, AliasRecord, FUNCTIONS, FunctionRecord, NUMBERS, PublishedRecord,
    Snapshot, VERSIONS, VersionRecord,
};

/// What a request names, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) function: FunctionRecord,
    /// The published version; `None` for `$LATEST`.
    pub(crate) published: Option<(u64, VersionRecord)>,
    /// The version that gets a share of the events, where an alias has one.
    pub(crate) additional: Option<(AdditionalVersion, VersionRecord)>,
}

impl Found {
    /// The version's record.
    pub(crate) fn version(&self) -> &VersionRecord {
        self.published.as_ref().map_or(&self.function.latest, |(_, version)| version)
    }

    /// `$LATEST` or a number.
    pub(crate) fn name(&self) -> String {
        self.published.as_ref().map_or_else(|| LATEST.to_owned(), |(number, _)| number.to_string())
    }
}

/// Finds the version that `target` names, through its alias where it names one. `None` where it is not there.
pub(crate) async fn find(read: &impl Read, target: &Target) -> Result<Option<Found>, StoreError> {
    let id = &target.id;
    let Some(function) = FUNCTIONS.get(read, &id.parts()).await? else { return Ok(None) };
    let found = Found { function, published: None, additional: None };
    match target.qualified() {
        Qualified::Latest => Ok(Some(found)),
        Qualified::Nothing => Ok(None),
        Qualified::Number(number) => at_number(read, id, number, found).await,
        Qualified::Alias(alias) => match ALIASES.get(read, &id.alias_parts(alias)).await? {
            Some(alias) => behind(read, id, alias, found).await,
            None => Ok(None),
        },
    }
}

async fn at_number(
    read: &impl Read,
    id: &FunctionId,
    number: u64,
    found: Found,
) -> Result<Option<Found>, StoreError> {
    let published = VERSIONS.get(read, &id.version_parts(number)).await?;
    Ok(published.map(|record| Found { published: Some((number, record.version)), ..found }))
}

async fn behind(
    read: &impl Read,
    id: &FunctionId,
    alias: AliasRecord,
    found: Found,
) -> Result<Option<Found>, StoreError> {
    let main = match Qualified::of(&alias.version) {
        Qualified::Number(number) => at_number(read, id, number, found).await?,
        _ => Some(found),
    };
    let Some(mut found) = main else { return Ok(None) };
    if let Some(additional) = alias.additional
        && let Qualified::Number(number) = Qualified::of(&additional.version)
        && let Some(record) = VERSIONS.get(read, &id.version_parts(number)).await?
    {
        found.additional = Some((additional, record.version));
    }
    Ok(Some(found))
}

/// Finds the version that `target` names, or fails with AWS's answer.
pub(crate) async fn require(read: &impl Read, target: &Target) -> Result<Found, LambdaError> {
    find(read, target).await?.ok_or_else(|| target.not_found())
}

/// Publishes the function's `$LATEST`, whose revision moves on, unless nothing has changed since the last version: then
/// that one is given, as on AWS. It begins with this `snapshot`. Numbers have no gaps and no repeats, since each is given in
/// the transaction that uses it. The function itself is the caller's to write.
pub(crate) async fn publish(
    transaction: &Transaction,
    id: &FunctionId,
    function: &mut FunctionRecord,
    description: Option<&str>,
    snapshot: Snapshot,
) -> Result<(u64, VersionRecord), LambdaError> {
    let latest = &mut function.latest;
    if let Some((key, last)) = VERSIONS.last(transaction, &id.parts()).await?
        && let Some(number) = records::number_in(&key)
        && is_unchanged(&last, latest)
    {
        return Ok((number, last.version));
    }
    let number = NUMBERS.get(transaction, &id.parts()).await?.map_or(0, |number| number.last) + 1;
    let mut version = VersionRecord {
        revision_id: RevisionId::random(),
        deployment: uuid::Uuid::new_v4().to_string(),
        snapshot,
        ..latest.clone()
    };
    if let Some(description) = description {
        version.configuration.description = description.to_owned();
    }
    let latest_description = latest.configuration.description.clone();
    let record = PublishedRecord { version, latest_description };
    records::put_version(transaction, id, number, &record).await?;
    latest.revision_id = RevisionId::random();
    Ok((number, record.version))
}

/// Whether `latest` is what was published as `last`.
fn is_unchanged(last: &PublishedRecord, latest: &VersionRecord) -> bool {
    let mut configuration = last.version.configuration.clone();
    configuration.description.clone_from(&last.latest_description);
    configuration == latest.configuration && last.version.code == latest.code
}
