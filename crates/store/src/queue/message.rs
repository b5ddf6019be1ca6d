//! Messages as producers give them and consumers get them.

use std::fmt;

use bytes::Bytes;

use super::receipt::Receipt;

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What it says.
    pub body: Bytes,
    /// What else its sender and receiver agree on; opaque here.
    pub attributes: Bytes,
    /// The group, in a FIFO queue.
    pub group: Option<String>,
    /// Another message with the same one, sent within [`super::limits::DEDUPLICATION_MS`] after the first, is accepted and not
    /// stored.
    pub deduplication: Option<String>,
    /// How long it stays invisible, in milliseconds; if not set, as long as the queue says. Not in a FIFO queue.
    pub delay_ms: Option<u64>,
}

impl Message {
    /// A message with this body and nothing else.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The same in a group.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }
}

/// A message's name; no other message has it, and it keeps it when it moves to another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl MessageId {
    pub(super) fn of(order: u64, tie: u64) -> Self {
        Self((u128::from(order) << 64) | u128::from(tie))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// What becomes of an enqueued message, if its transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// Its name; if it is a duplicate, that of the first.
    pub id: MessageId,
    /// In a FIFO queue, its place in its group: larger than that of every message of the group that is there.
    pub sequence: u64,
    /// Whether it is a duplicate, and so was not stored.
    pub deduplicated: bool,
}

/// A message that was received. It is in flight until `visible_at_ms`.
#[derive(Clone, Debug)]
pub struct Received {
    /// What it is acknowledged with. Each receive of a message has its own.
    pub receipt: Receipt,
    /// Its name.
    pub id: MessageId,
    /// What it says.
    pub body: Bytes,
    /// What was sent with it.
    pub attributes: Bytes,
    /// Its group, in a FIFO queue.
    pub group: Option<String>,
    /// In a FIFO queue, its place in its group.
    pub sequence: u64,
    /// How often it was received, with this time.
    pub receives: u32,
    /// When it was sent, in milliseconds since 1970.
    pub sent_at_ms: u64,
    /// When it was first received, in milliseconds since 1970.
    pub first_received_at_ms: u64,
    /// When it becomes visible again, in milliseconds since 1970.
    pub visible_at_ms: u64,
}
