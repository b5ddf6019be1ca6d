//! What an account has in a region: how many functions, and the bytes of all their packages, each version's counted as AWS
//! counts them.
//!
//! It is counted in the transactions that create, publish and delete, so it agrees with what is stored, always. A single
//! counter would be written by all of them, and so make each conflict with every other; there are [`SHARDS`], one of which a
//! function's name chooses. Reading them all is one short scan, however many functions there are.
//!
//! To hold the quota exactly, a transaction must have read all counters, and then conflicts with all others again. So it does
//! that only where less than [`AMPLE_BYTES`] is free.

use freehold_base::id::{AccountId, Region};
use freehold_store::{Part, Read, Store, StoreError, Transaction};
use sha2::{Digest, Sha256};

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::FunctionId;
use crate::records::{FUNCTIONS, USAGE, UsageRecord, VERSIONS};

/// Bytes of all packages of an account in a region. Source: "Lambda quotas", function and layer storage.
pub(crate) const CODE_STORAGE_BYTES: u64 = 75 << 30;
/// Counters of an account in a region.
const SHARDS: u8 = 64;
/// Bytes that must be free for a change not to look at the others': more than all changes that are under way at once add, of
/// which each holds a package of up to 50 MiB in memory.
const AMPLE_BYTES: u64 = 8 << 30;

/// Counts functions and bytes of packages, up or down.
pub(crate) async fn add(
    transaction: &Transaction,
    id: &FunctionId,
    functions: i64,
    code_bytes: i64,
) -> Result<(), StoreError> {
    if (functions, code_bytes) == (0, 0) {
        return Ok(());
    }
    let place = parts(id);
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
pub(crate) struct Quota {
    bytes: u64,
    /// Whether it may be reached by this change.
    near: bool,
}

impl Quota {
    /// To be asked for before the transaction that changes the function.
    pub(crate) async fn of(lambda: &Lambda, id: &FunctionId) -> Result<Self, StoreError> {
        let bytes = lambda.code_storage_bytes;
        let used = total(&lambda.store.snapshot().await?, &id.account, &id.region).await?.code_bytes;
        Ok(Self { bytes, near: used.saturating_add(AMPLE_BYTES) > bytes })
    }

    /// To be asked in the transaction, after everything has been counted.
    pub(crate) async fn check(self, transaction: &Transaction, id: &FunctionId) -> Result<(), LambdaError> {
        if self.near && total(transaction, &id.account, &id.region).await?.code_bytes > self.bytes {
            return Err(LambdaError::CodeStorageExceeded);
        }
        Ok(())
    }
}

/// Counts everything once, in a store whose functions were made before they were counted.
pub(crate) async fn count_once(store: &Store) -> Result<(), StoreError> {
    store
        .transact(|transaction| async move {
            // A record without parts says that it has been done; no account has that place.
            if USAGE.get(&transaction, &[]).await?.is_some() {
                return Ok(());
            }
            USAGE.put(&transaction, &[], &UsageRecord::default())?;
            for (key, function) in FUNCTIONS.all(&transaction, &[]).await? {
                if let Some(id) = FUNCTIONS.parts(&key).and_then(FunctionId::from_parts) {
                    add(&transaction, &id, 1, signed(function.latest.code.size_bytes)).await?;
                }
            }
            for (key, published) in VERSIONS.all(&transaction, &[]).await? {
                if let Some(id) = VERSIONS.parts(&key).and_then(FunctionId::from_parts) {
                    add(&transaction, &id, 0, signed(published.version.code.size_bytes)).await?;
                }
            }
            Ok::<_, StoreError>(())
        })
        .await
}

/// The place of the counter of a function.
fn parts(id: &FunctionId) -> [Part<'_>; 3] {
    let shard = Sha256::digest(&id.name)[0] % SHARDS;
    let [account, region, _] = id.parts();
    [account, region, Part::Number(shard.into())]
}
