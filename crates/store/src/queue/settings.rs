//! How a queue behaves.

use serde::{Deserialize, Serialize};

use super::error::QueueError;
use super::limits::{DELAY_LONGEST_MS, RETENTION_LONGEST_MS, VISIBILITY_LONGEST_MS};

/// How a queue behaves. All but `fifo` can be changed later, and then hold for the messages that are there too, except
/// `delay_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether each message has a group whose messages are given out in order.
    pub fifo: bool,
    /// How long a received message stays invisible, in milliseconds, unless the receive says otherwise.
    pub visibility_timeout_ms: u64,
    /// How long after it was sent a message is deleted, in milliseconds.
    pub retention_ms: u64,
    /// How long after it was sent a message becomes visible, in milliseconds, unless the message says otherwise.
    pub delay_ms: u64,
    /// When a message is given up; never, if this isn't set.
    pub max_receives: Option<MaxReceives>,
    /// Among which messages a deduplication id is unique.
    pub deduplication_scope: DeduplicationScope,
}

/// How often a message is received before it moves to another queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxReceives {
    /// The receives that are allowed, at least 1. A message that would be received once more moves instead.
    pub count: u32,
    /// The queue that it moves to. Must be there, and be of the same kind (FIFO or not).
    pub dead_letter: String,
}

/// Among which messages a deduplication id is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeduplicationScope {
    /// All of the queue's.
    Queue,
    /// Those of the same group.
    Group,
}

impl Default for Settings {
    /// A standard queue as SQS makes it: 30 seconds of visibility timeout, 4 days of retention, no delay.
    fn default() -> Self {
        Self {
            fifo: false,
            visibility_timeout_ms: 30_000,
            retention_ms: 4 * 24 * 3_600_000,
            delay_ms: 0,
            max_receives: None,
            deduplication_scope: DeduplicationScope::Queue,
        }
    }
}

impl Settings {
    /// Checks what can be checked without the store.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        within("the visibility timeout, in ms,", self.visibility_timeout_ms, VISIBILITY_LONGEST_MS)?;
        within("the retention, in ms,", self.retention_ms, RETENTION_LONGEST_MS)?;
        within("the delay, in ms,", self.delay_ms, DELAY_LONGEST_MS)?;
        if self.retention_ms == 0 {
            return Err(QueueError::TooSmall { what: "the retention, in ms," });
        }
        if self.max_receives.as_ref().is_some_and(|max| max.count == 0) {
            return Err(QueueError::TooSmall { what: "the number of receives" });
        }
        Ok(())
    }
}

/// An error if `value` is over `limit`.
pub(super) fn within(what: &'static str, value: u64, limit: u64) -> Result<(), QueueError> {
    if value > limit { Err(QueueError::TooLarge { what, value, limit }) } else { Ok(()) }
}

/// An error if `length` is over `limit`.
pub(super) fn within_bytes(what: &'static str, length: usize, limit: usize) -> Result<(), QueueError> {
    within(what, length as u64, limit as u64)
}
