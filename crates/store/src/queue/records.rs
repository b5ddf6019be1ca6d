//! What lies in the store, and where. Everything of a queue but its own record lies under its name and *incarnation*, a
//! random number that purging and deleting change: what lies under an old one belongs to nobody and is collected.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::message::MessageId;
use super::settings::Settings;
use crate::error::StoreError;
use crate::key::{Key, KeyRange, Part, PartValue};
use crate::keyspace::{self, Prefix};
use crate::record::{Record, RecordError};
use crate::table::Table;

pub(super) static QUEUES: Table<QueueRecord> = Table::new(keyspace::QUEUES);
pub(super) static MESSAGES: Table<MessageRecord> = Table::new(keyspace::QUEUE_MESSAGES);
pub(super) static SEEN: Table<SeenRecord> = Table::new(keyspace::QUEUE_SEEN);
pub(super) static FORGET: Table<Empty> = Table::new(keyspace::QUEUE_FORGET);
pub(super) static DOOMED: Table<Empty> = Table::new(keyspace::QUEUE_DOOMED);

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueRecord {
    pub(super) settings: Settings,
    /// Under which its messages lie.
    pub(super) incarnation: u64,
}

impl Record for QueueRecord {
    const VERSION: u8 = 1;
}

/// The small, changing part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageRecord {
    /// From when on it can be given out, in ms since 1970.
    pub(super) visible_at_ms: u64,
    /// When it was sent, in ms since 1970.
    pub(super) sent_at_ms: u64,
    /// From when on its retention counts, in ms since 1970: when it was sent, or when it came to a FIFO dead-letter queue.
    pub(super) kept_since_ms: u64,
    /// Body and attributes.
    pub(super) size_bytes: usize,
    /// How often this record was written before: tells which of two is newer.
    pub(super) version: u64,
    pub(super) receives: u32,
    /// The number of its last receive; none if it wasn't received, or was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) received_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_received_at_ms: Option<u64>,
    /// Order and tie-breaker of where it was first sent to, if it was moved since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) moved_from: Option<(u64, u64)>,
}

impl Record for MessageRecord {
    const VERSION: u8 = 1;
}

impl MessageRecord {
    /// Of a message that is sent now.
    pub(super) fn sent(now_ms: u64, delay_ms: u64, size_bytes: usize) -> Self {
        Self {
            visible_at_ms: now_ms.saturating_add(delay_ms),
            sent_at_ms: now_ms,
            kept_since_ms: now_ms,
            size_bytes,
            version: 0,
            receives: 0,
            nonce: None,
            received_at_ms: None,
            first_received_at_ms: None,
            moved_from: None,
        }
    }

    /// Once it was received.
    pub(super) fn received(&self, now_ms: u64, visibility_ms: u64, nonce: u64) -> Self {
        Self {
            visible_at_ms: now_ms.saturating_add(visibility_ms),
            version: self.version + 1,
            receives: self.receives.saturating_add(1),
            nonce: Some(nonce),
            received_at_ms: Some(now_ms),
            first_received_at_ms: self.first_received_at_ms.or(Some(now_ms)),
            ..self.clone()
        }
    }

    pub(super) fn id(&self, key: &MessageKey) -> MessageId {
        let (order, tie) = self.moved_from.unwrap_or((key.order, key.tie));
        MessageId::of(order, tie)
    }
}

/// What was sent with a deduplication id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeenRecord {
    pub(super) order: u64,
    pub(super) tie: u64,
    /// Until when duplicates are dropped, in ms since 1970.
    pub(super) until_ms: u64,
}

impl Record for SeenRecord {
    const VERSION: u8 = 1;
}

/// A record whose key says it all.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Empty {}

impl Record for Empty {
    const VERSION: u8 = 1;
}

/// Where a message lies within its queue; ordered as the stored keys are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MessageKey {
    /// Empty in a standard queue.
    pub(super) group: Arc<str>,
    /// Standard: when it was sent, in microseconds since 1970. FIFO: the same, or more, to follow the group's last.
    pub(super) order: u64,
    /// Random.
    pub(super) tie: u64,
}

impl MessageKey {
    /// Comes before every other.
    pub(super) fn first() -> Self {
        Self { group: Arc::from(""), order: 0, tie: 0 }
    }

    /// Comes after every message of the group, and before the next group.
    pub(super) fn last_of(group: Arc<str>) -> Self {
        Self { group, order: u64::MAX, tie: u64::MAX }
    }
}

/// Where the messages of one queue lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) queue: Arc<str>,
    pub(super) incarnation: u64,
}

impl Place {
    /// The key of a message's small part.
    pub(super) fn message(&self, key: &MessageKey) -> Key {
        MESSAGES.key(&self.parts(key))
    }

    /// The key of a message's body.
    pub(super) fn body(&self, key: &MessageKey) -> Key {
        keyspace::QUEUE_BODIES.key(&self.parts(key))
    }

    /// What the keys of one table start with.
    pub(super) fn prefix(&self, table: Prefix) -> Key {
        table.key(&self.root())
    }

    /// What the keys of a group's messages start with.
    pub(super) fn group(&self, group: &str) -> Key {
        let [queue, incarnation] = self.root();
        MESSAGES.key(&[queue, incarnation, Part::Text(group)])
    }

    /// The messages from `key` on.
    pub(super) fn from(&self, key: &MessageKey) -> KeyRange {
        let mut range = KeyRange::prefix(&self.prefix(keyspace::QUEUE_MESSAGES));
        range.start = self.message(key);
        range
    }

    pub(super) fn root(&self) -> [Part<'_>; 2] {
        [Part::Text(&self.queue), Part::Number(self.incarnation)]
    }

    fn parts<'a>(&'a self, key: &'a MessageKey) -> [Part<'a>; 5] {
        let [queue, incarnation] = self.root();
        [queue, incarnation, Part::Text(&key.group), Part::Number(key.order), Part::Number(key.tie)]
    }
}

/// Reads a key of [`MESSAGES`] back.
pub(super) fn message_key(key: &Key) -> Result<MessageKey, StoreError> {
    let parts = MESSAGES.parts(key);
    match parts.as_deref() {
        Some([_, _, PartValue::Text(group), PartValue::Number(order), PartValue::Number(tie)]) => {
            Ok(MessageKey { group: Arc::from(group.as_str()), order: *order, tie: *tie })
        }
        _ => Err(RecordError::malformed::<MessageKey>(format!("{key:?} is not a message's key")).into()),
    }
}

const BODY_VERSION: u8 = 1;

/// Writes a body and its attributes down: version, length of the attributes (4 bytes), attributes, body. Not JSON, which
/// has no bytes.
pub(super) fn encode_body(body: &Bytes, attributes: &Bytes) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + attributes.len() + body.len());
    bytes.put_u8(BODY_VERSION);
    bytes.put_u32(u32::try_from(attributes.len()).expect("a message's size was checked"));
    bytes.put_slice(attributes);
    bytes.put_slice(body);
    bytes.freeze()
}

/// Reads a body and its attributes.
pub(super) fn decode_body(bytes: &Bytes) -> Result<(Bytes, Bytes), StoreError> {
    struct Body;
    let malformed = |reason: &str| StoreError::from(RecordError::malformed::<Body>(reason));
    match *bytes.first().ok_or_else(|| malformed("it is empty"))? {
        BODY_VERSION => {
            let length = bytes[1..].first_chunk::<4>().ok_or_else(|| malformed("it is cut short"))?;
            let end = 5 + u32::from_be_bytes(*length) as usize;
            if bytes.len() < end {
                return Err(malformed("it is cut short"));
            }
            Ok((bytes.slice(end..), bytes.slice(5..end)))
        }
        version => Err(RecordError::UnknownVersion { record: "message body", version }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_back_and_damaged_ones_are_errors() {
        let stored = encode_body(&Bytes::from("body"), &Bytes::from("attributes"));
        assert_eq!(decode_body(&stored).unwrap(), (Bytes::from("body"), Bytes::from("attributes")));
        for damaged in [Bytes::new(), stored.slice(..3), stored.slice(..9), Bytes::from("\x02....")] {
            assert!(matches!(decode_body(&damaged), Err(StoreError::Record(_))), "{damaged:?}");
        }
    }

    #[test]
    fn keys_read_back() {
        let place = Place { queue: Arc::from("queue"), incarnation: 7 };
        let key = MessageKey { group: Arc::from("group"), order: 3, tie: 4 };
        assert_eq!(message_key(&place.message(&key)).unwrap(), key);
        assert!(message_key(&place.group("group")).is_err());
    }
}
