//! What an account has in a region: how many functions, and the bytes of the packages of functions and layers, each version's
//! counted as AWS counts them. A layer version counts for the account that has published it, until that deletes it.
//!
//! It is counted in the transactions that create, publish and delete, so it agrees with what is stored, always. A single
//! counter would be written by all of them, and so make each conflict with every other; there are [`SHARDS`], one of which the
//! name of a function or a layer chooses. Reading them all is one short scan, however many functions there are.
//!
//! To hold the quota exactly, a transaction must have read all counters, and then conflicts with all others again. So it does
//! that only where less than [`AMPLE_BYTES`] is free.

use freehold_base::id::{AccountId, Region};
use freehold_store::{Part, Read, StoreError, Transaction};
use sha2::{Digest, Sha256};

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::id::LayerId;
use crate::names::FunctionId;
use crate::records::{USAGE, UsageRecord};

/// Bytes of all packages of an account in a region. Source: "Lambda quotas", function and layer storage.
pub(crate) const CODE_STORAGE_BYTES: u64 = 75 << 30;
/// Counters of an account in a region.
const SHARDS: u8 = 64;
/// Bytes that must be free for a change not to look at the others': more than all changes that are under way at once add, of
/// which each holds a package of up to 50 MiB in memory.
const AMPLE_BYTES: u64 = 8 << 30;

/// What has packages that count: a function or a layer, by its account, its region and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    account: &'a AccountId,
    region: &'a Region,
    name: &'a str,
}

impl<'a> From<&'a FunctionId> for Holder<'a> {
    fn from(FunctionId { account, region, name }: &'a FunctionId) -> Self {
        Self { account, region, name }
    }
}

impl<'a> From<&'a LayerId> for Holder<'a> {
    fn from(LayerId { account, region, name }: &'a LayerId) -> Self {
        Self { account, region, name }
    }
}

impl<'a> Holder<'a> {
    /// The place of its counter.
    fn counter(self) -> [Part<'a>; 3] {
        let shard = Sha256::digest(self.name)[0] % SHARDS;
        [Part::Text(self.account.as_str()), Part::Text(self.region.as_str()), Part::Number(shard.into())]
    }
}

/// Counts functions and bytes of packages, up or down.
pub(crate) async fn add(
    transaction: &Transaction,
    holder: impl Into<Holder<'_>>,
    functions: i64,
    code_bytes: i64,
) -> Result<(), StoreError> {
    if (functions, code_bytes) == (0, 0) {
        return Ok(());
    }
    let place = holder.into().counter();
    let old = USAGE.get(transaction, &place).await?.unwrap_or_default();
    let record = UsageRecord {
        functions: old.functions.saturating_add_signed(functions),
        code_bytes: old.code_bytes.saturating_add_signed(code_bytes),
    };
    match record == UsageRecord::default() {
        true => USAGE.delete(transaction, &place),
        false => USAGE.put(transaction, &place, &record)?,
    }
    Ok(())
}

/// A size as a change of what is counted.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).expect("a package is smaller than an exabyte")
}

/// What the account has in the region.
pub(crate) async fn total(
    read: &impl Read,
    account: &AccountId,
    region: &Region,
) -> Result<UsageRecord, StoreError> {
    let place = [Part::Text(account.as_str()), Part::Text(region.as_str())];
    let shards = USAGE.scan(read, &place, None, usize::from(SHARDS)).await?;
    Ok(shards.into_iter().fold(UsageRecord::default(), |sum, (_, shard)| UsageRecord {
        functions: sum.functions + shard.functions,
        code_bytes: sum.code_bytes + shard.code_bytes,
    }))
}

/// Holds a change to the quota of code storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota<'a> {
    account: &'a AccountId,
    region: &'a Region,
    bytes: u64,
    /// Whether it may be reached by this change.
    near: bool,
}

impl<'a> Quota<'a> {
    /// To be asked for before the transaction that changes the function or publishes the layer.
    pub(crate) async fn of(lambda: &Lambda, holder: impl Into<Holder<'a>>) -> Result<Self, StoreError> {
        let Holder { account, region, .. } = holder.into();
        let bytes = lambda.code_storage_bytes;
        let used = total(&lambda.store.snapshot().await?, account, region).await?.code_bytes;
        Ok(Self { account, region, bytes, near: used.saturating_add(AMPLE_BYTES) > bytes })
    }

    /// To be asked in the transaction, after everything has been counted.
    pub(crate) async fn check(self, transaction: &Transaction) -> Result<(), LambdaError> {
        if self.near && total(transaction, self.account, self.region).await?.code_bytes > self.bytes {
            return Err(LambdaError::CodeStorageExceeded);
        }
        Ok(())
    }
}
