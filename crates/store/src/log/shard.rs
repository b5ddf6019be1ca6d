//! What is kept about a log and about each of its shards, and scans that stay within what one may return.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::keyspace;
use crate::limits::{SCAN_BYTES, VALUE_BYTES};
use crate::record::Record;
use crate::table::Table;
use crate::transaction::Read;

pub(super) static LOGS: Table<LogSettings> = Table::new(keyspace::LOGS);
pub(super) static SHARDS: Table<ShardRecord> = Table::new(keyspace::LOG_SHARDS);
pub(super) static CHECKPOINTS: Table<Checkpoint> = Table::new(keyspace::LOG_CHECKPOINTS);

/// The position of a shard's first record ever.
pub(super) const FIRST_POSITION: u64 = 1;

/// Settings of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogSettings {
    /// A random name of this log, so that one that is created anew under the same name is another.
    pub(super) id: String,
    pub(super) shards: u32,
    /// Whether its deletion has begun.
    pub(super) deleting: bool,
}

impl Record for LogSettings {
    const VERSION: u8 = 1;
}

/// How far a shard goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    /// The first position that is left.
    pub(super) first: u64,
    /// The position that comes next.
    pub(super) next: u64,
    /// Keys and data of the records that are left, in bytes.
    pub(super) bytes: u64,
    /// When the last record was appended, in milliseconds since 1970: times never go back along a shard.
    pub(super) last_ms: u64,
}

impl Default for ShardRecord {
    fn default() -> Self {
        Self { first: FIRST_POSITION, next: FIRST_POSITION, bytes: 0, last_ms: 0 }
    }
}

impl Record for ShardRecord {
    const VERSION: u8 = 1;
}

/// How far a consumer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The first position that it is not done with.
    pub(super) next: u64,
}

impl Record for Checkpoint {
    const VERSION: u8 = 1;
}

/// How far a shard goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first position that is left, or will be there next.
    pub first: u64,
    /// The position that the next record will have: all from `first` up to but without it are there.
    pub next: u64,
    /// Keys and data of these records, in bytes.
    pub bytes: u64,
}

impl From<ShardRecord> for Ends {
    fn from(shard: ShardRecord) -> Self {
        Self { first: shard.first, next: shard.next, bytes: shard.bytes }
    }
}

/// So many of the largest entries fit in one scan.
const ALWAYS_FIT: usize = SCAN_BYTES / (2 * VALUE_BYTES);

/// Up to `limit` entries of `range` in order, or fewer if those would be too many bytes; whether there may be more.
pub(super) async fn scan_what_fits(
    read: &impl Read,
    range: &KeyRange,
    mut limit: usize,
) -> Result<(Vec<(Key, Bytes)>, bool), StoreError> {
    loop {
        match read.scan(range.clone(), Direction::Forward, limit).await {
            Err(StoreError::TooLarge { .. }) if limit > ALWAYS_FIT => limit = (limit / 8).max(ALWAYS_FIT),
            Err(error) => return Err(error),
            Ok(entries) => {
                let more = entries.len() == limit;
                return Ok((entries, more));
            }
        }
    }
}
