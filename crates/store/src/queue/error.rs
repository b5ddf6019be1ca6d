//! What can go wrong with a queue.

use crate::error::StoreError;

/// Why a queue didn't do what was asked. Nothing was changed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no such queue (any more).
    #[error("there is no queue '{queue}'")]
    NoSuchQueue {
        /// The name asked for.
        queue: String,
    },
    /// A queue of this name is there already.
    #[error("there is a queue '{queue}' already")]
    Exists {
        /// Its name.
        queue: String,
    },
    /// The queue that dead letters shall move to isn't there, is of the other kind, or is the queue itself.
    #[error(
        "'{dead_letter}' can't take the dead letters of '{queue}': it must be another queue of the same kind"
    )]
    DeadLetter {
        /// The queue whose settings name it.
        queue: String,
        /// The queue named.
        dead_letter: String,
    },
    /// A queue can't become FIFO or cease to be.
    #[error("the queue '{queue}' can't change its kind (FIFO or not)")]
    KindFixed {
        /// Its name.
        queue: String,
    },
    /// A message of a FIFO queue must name its group.
    #[error("a message for the FIFO queue '{queue}' must name its group")]
    GroupMissing {
        /// The queue.
        queue: String,
    },
    /// A message of a standard queue can't have a group.
    #[error("the queue '{queue}' isn't FIFO, so its messages have no group")]
    GroupNotAllowed {
        /// The queue.
        queue: String,
    },
    /// A message of a FIFO queue can't have a delay of its own, which would hold up its group; the queue can.
    #[error("a message for the FIFO queue '{queue}' can't have a delay of its own")]
    DelayNotAllowed {
        /// The queue.
        queue: String,
    },
    /// Something is over its limit.
    #[error("{what} is {value}, and the limit is {limit}")]
    TooLarge {
        /// What, with its unit.
        what: &'static str,
        /// How much it is.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Something that must not be 0 or empty is.
    #[error("{what} must not be 0 or empty")]
    TooSmall {
        /// What, with its unit.
        what: &'static str,
    },
    /// Not a receipt, or one of another queue.
    #[error("'{receipt}' is not a receipt of this queue")]
    ReceiptInvalid {
        /// The text as given.
        receipt: String,
    },
    /// The receipt no longer stands for its message.
    #[error("the receipt no longer holds: {0}")]
    ReceiptStale(Stale),
    /// The message is not in flight (any more), so how long it stays so can't be changed.
    #[error("the message is not in flight")]
    NotInFlight,
    /// As many messages are in flight as may be; acknowledge some first. Standard queues only: a FIFO one gives nothing
    /// out then, and reports no error, as SQS does.
    #[error("{limit} messages of the queue '{queue}' are in flight, which is the limit")]
    OverLimit {
        /// The queue.
        queue: String,
        /// The limit, in messages.
        limit: usize,
    },
    /// The lease given is not the one for this queue.
    #[error("the queue '{queue}' is owned by the lease '{expected}', not by '{lease}'")]
    WrongLease {
        /// The queue.
        queue: String,
        /// The lease that it takes.
        expected: String,
        /// The lease that was given.
        lease: String,
    },
    /// The store failed; with [`StoreError::Fenced`], another process owns the queue now, and this owner is done for good.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a receipt no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The message was acknowledged, expired, purged or moved.
    #[error("the message is gone")]
    Gone,
    /// The message was given to another since, or given back.
    #[error("the message was received again or given back since")]
    Replaced,
    /// FIFO only: the message's visibility timeout has passed.
    #[error("the message's visibility timeout has passed")]
    Expired,
}

impl QueueError {
    /// Whether the same request may succeed later, unchanged.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.retryable(),
            Self::OverLimit { .. } => true,
            _ => false,
        }
    }

    /// Whether another process owns the queue now.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_fenced())
    }
}

impl From<crate::record::RecordError> for QueueError {
    fn from(error: crate::record::RecordError) -> Self {
        Self::Store(error.into())
    }
}
