//! What can go wrong with a log.

use crate::error::StoreError;
use crate::record::RecordError;

/// Why a log didn't do what was asked. Nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The store's own reasons.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was never created, or it has been deleted.
    #[error("there is no log '{log}'")]
    NotFound {
        /// The log's name.
        log: String,
    },
    /// Its deletion has begun and has not come to its end.
    #[error("the log '{log}' is being deleted: finish that first")]
    Deleting {
        /// The log's name.
        log: String,
    },
    /// The number of shards is part of where each key lies, so it can never change.
    #[error(
        "the log '{log}' was created with {found} shards, not {given}: use another name to have another number"
    )]
    Shards {
        /// The log's name.
        log: String,
        /// The number that was given now.
        given: u32,
        /// The number that it has.
        found: u32,
    },
    /// It has no such shard.
    #[error("the log '{log}' has {shards} shards, so there is no shard {shard}: the first is 0")]
    NoShard {
        /// The log's name.
        log: String,
        /// The shard that was given.
        shard: u32,
        /// The number of its shards.
        shards: u32,
    },
    /// What was to be read has been trimmed away.
    #[error("position {position} has been trimmed: the first that is left is {first}")]
    Trimmed {
        /// The position that was given.
        position: u64,
        /// The first that is left.
        first: u64,
    },
    /// A checkpoint past what the consumer was given.
    #[error(
        "position {position} can't be a checkpoint: the consumer was given no more than what is before {next}"
    )]
    Ahead {
        /// The position that was given.
        position: u64,
        /// The first that the consumer has not been given.
        next: u64,
    },
}

impl LogError {
    /// Whether the lease was lost to another.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_fenced())
    }
}

impl From<RecordError> for LogError {
    fn from(error: RecordError) -> Self {
        Self::Store(error.into())
    }
}
