//! What any process can do with a queue, inside any transaction: make it, change it, end it, and enqueue.
//!
//! Purging and deleting are one small write: they end the queue's incarnation. What lies under the old one is out of
//! reach at once, and is collected in batches by the queue's owner or by [`collect_deleted`].

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use freehold_base::clock::Clock;

use super::error::QueueError;
use super::limits::{
    CHORE_BATCH, DEDUPLICATION_BYTES, DEDUPLICATION_MS, DELAY_LONGEST_MS, GROUP_BYTES, MESSAGE_BYTES,
    NAME_BYTES,
};
use super::message::{Enqueued, Message, MessageId};
use super::records::{
    DOOMED, Empty, FORGET, MessageKey, MessageRecord, Place, QUEUES, QueueRecord, SEEN, SeenRecord,
    encode_body, message_key,
};
use super::settings::{DeduplicationScope, Settings, within, within_bytes};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange, Part, PartValue};
use crate::keyspace::{self, Prefix};
use crate::record;
use crate::retry::random;
use crate::store::Store;
use crate::transaction::{Read, Transaction};

/// A queue by its name, whether it is there or not. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    name: Arc<str>,
}

impl Queue {
    /// The queue of this name, of 1 to [`NAME_BYTES`] bytes.
    pub fn new(name: &str) -> Result<Self, QueueError> {
        if name.is_empty() {
            return Err(QueueError::TooSmall { what: "the name of a queue" });
        }
        within_bytes("the name of a queue, in bytes,", name.len(), NAME_BYTES)?;
        Ok(Self { name: Arc::from(name) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the lease that its owner holds.
    pub fn lease_name(&self) -> String {
        format!("queue/{}", self.name)
    }

    /// Makes the queue. [`QueueError::Exists`] if it is there.
    pub async fn create(&self, tx: &Transaction, settings: &Settings) -> Result<(), QueueError> {
        self.check(tx, settings).await?;
        if self.find(tx).await?.is_some() {
            return Err(QueueError::Exists { queue: self.name.to_string() });
        }
        self.put(tx, settings.clone(), random())
    }

    /// How the queue behaves; `None` if there is no such queue.
    pub async fn settings(&self, read: &impl Read) -> Result<Option<Settings>, QueueError> {
        Ok(self.find(read).await?.map(|record| record.settings))
    }

    /// Changes how the queue behaves, for the messages that are there too.
    pub async fn configure(&self, tx: &Transaction, settings: &Settings) -> Result<(), QueueError> {
        self.check(tx, settings).await?;
        let record = self.record(tx).await?;
        if record.settings.fifo != settings.fifo {
            return Err(QueueError::KindFixed { queue: self.name.to_string() });
        }
        self.put(tx, settings.clone(), record.incarnation)
    }

    /// Deletes all messages that are in the queue when this commits, in flight ones too, and what it remembers of
    /// deduplication ids. An owner that hasn't noticed yet may still give out some of them.
    pub async fn purge(&self, tx: &Transaction) -> Result<(), QueueError> {
        let record = self.record(tx).await?;
        self.doom(tx, record.incarnation)?;
        self.put(tx, record.settings, random())
    }

    /// Deletes the queue and its messages. A new queue of the same name has none of them.
    pub async fn delete(&self, tx: &Transaction) -> Result<(), QueueError> {
        let record = self.record(tx).await?;
        self.doom(tx, record.incarnation)?;
        QUEUES.delete(tx, &[Part::Text(&self.name)]);
        Ok(())
    }

    /// Sends a message, if `tx` commits. In a standard queue this conflicts with nothing but a change of the queue
    /// itself; in a FIFO one also with other sends to the same group.
    pub async fn enqueue(
        &self,
        tx: &Transaction,
        clock: &dyn Clock,
        message: &Message,
    ) -> Result<Enqueued, QueueError> {
        let QueueRecord { settings, incarnation } = self.record(tx).await?;
        self.check_message(&settings, message)?;
        let place = Place { queue: self.name.clone(), incarnation };
        let now_ms = clock.wall_ms();
        let seen = seen_parts(&place, &settings, message);
        if let Some(seen) = &seen
            && let Some(first) = SEEN.get(tx, seen).await?
            && first.until_ms > now_ms
        {
            let id = MessageId::of(first.order, first.tie);
            return Ok(Enqueued { id, sequence: first.order, deduplicated: true });
        }
        let key = next_key(tx, &place, clock, message.group.as_deref()).await?;
        let size_bytes = message.body.len() + message.attributes.len();
        let delay_ms = message.delay_ms.unwrap_or(settings.delay_ms);
        let record = MessageRecord::sent(now_ms, delay_ms, size_bytes);
        tx.put(place.message(&key), record::encode(&record)?);
        tx.put(place.body(&key), encode_body(&message.body, &message.attributes));
        if let Some([queue, incarnation, scope, id]) = seen {
            let until_ms = now_ms.saturating_add(DEDUPLICATION_MS);
            let first = SeenRecord { order: key.order, tie: key.tie, until_ms };
            SEEN.put(tx, &[queue, incarnation, scope, id], &first)?;
            FORGET.put(tx, &[queue, incarnation, Part::Number(until_ms), scope, id], &Empty {})?;
        }
        let id = MessageId::of(key.order, key.tie);
        Ok(Enqueued { id, sequence: key.order, deduplicated: false })
    }

    fn check_message(&self, settings: &Settings, message: &Message) -> Result<(), QueueError> {
        let queue = || self.name.to_string();
        match (&message.group, settings.fifo) {
            (None, true) => return Err(QueueError::GroupMissing { queue: queue() }),
            (Some(_), false) => return Err(QueueError::GroupNotAllowed { queue: queue() }),
            (Some(group), true) if group.is_empty() => {
                return Err(QueueError::TooSmall { what: "the name of a group" });
            }
            _ => {}
        }
        if settings.fifo && message.delay_ms.is_some() {
            return Err(QueueError::DelayNotAllowed { queue: queue() });
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        within_bytes("the name of a group, in bytes,", length(&message.group), GROUP_BYTES)?;
        within_bytes("a deduplication id, in bytes,", length(&message.deduplication), DEDUPLICATION_BYTES)?;
        let size_bytes = message.body.len() + message.attributes.len();
        within_bytes("a message's body and attributes, in bytes,", size_bytes, MESSAGE_BYTES)?;
        within("the delay, in ms,", message.delay_ms.unwrap_or(0), DELAY_LONGEST_MS)
    }

    /// Checks settings, with what they say of another queue.
    async fn check(&self, read: &impl Read, settings: &Settings) -> Result<(), QueueError> {
        settings.check()?;
        let Some(max_receives) = &settings.max_receives else { return Ok(()) };
        let other = Self::new(&max_receives.dead_letter)?;
        let kind = other.settings(read).await?.map(|settings| settings.fifo);
        if other == *self || kind != Some(settings.fifo) {
            let (queue, dead_letter) = (self.name.to_string(), max_receives.dead_letter.clone());
            return Err(QueueError::DeadLetter { queue, dead_letter });
        }
        Ok(())
    }

    pub(super) async fn find(&self, read: &impl Read) -> Result<Option<QueueRecord>, StoreError> {
        QUEUES.get(read, &[Part::Text(&self.name)]).await
    }

    pub(super) async fn record(&self, read: &impl Read) -> Result<QueueRecord, QueueError> {
        let found = self.find(read).await?;
        found.ok_or_else(|| QueueError::NoSuchQueue { queue: self.name.to_string() })
    }

    pub(super) fn place(&self, incarnation: u64) -> Place {
        Place { queue: self.name.clone(), incarnation }
    }

    fn put(&self, tx: &Transaction, settings: Settings, incarnation: u64) -> Result<(), QueueError> {
        Ok(QUEUES.put(tx, &[Part::Text(&self.name)], &QueueRecord { settings, incarnation })?)
    }

    fn doom(&self, tx: &Transaction, incarnation: u64) -> Result<(), QueueError> {
        Ok(DOOMED.put(tx, &[Part::Text(&self.name), Part::Number(incarnation)], &Empty {})?)
    }
}

/// The parts of the key under which a message's deduplication id is remembered.
fn seen_parts<'a>(place: &'a Place, settings: &Settings, message: &'a Message) -> Option<[Part<'a>; 4]> {
    let id = message.deduplication.as_deref()?;
    let scope = match settings.deduplication_scope {
        DeduplicationScope::Queue => "",
        DeduplicationScope::Group => message.group.as_deref().unwrap_or(""),
    };
    let [queue, incarnation] = place.root();
    Some([queue, incarnation, Part::Text(scope), Part::Text(id)])
}

/// The key of a new message. In a group it follows all others of the group, so that their order is that of their commits:
/// only those that aren't older than this moment are looked at, and a producer that commits one of them meanwhile is a
/// conflict. So neither what consumers do with older ones, nor how many there were, is in the way.
pub(super) async fn next_key(
    tx: &Transaction,
    place: &Place,
    clock: &dyn Clock,
    group: Option<&str>,
) -> Result<MessageKey, StoreError> {
    let since = clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let mut key = MessageKey { group: Arc::from(group.unwrap_or("")), order: now_us, tie: 0 };
    if let Some(group) = group {
        let mut range = KeyRange::prefix(&place.group(group));
        range.start = place.message(&key);
        if let Some((last, _)) = tx.scan(range, Direction::Reverse, 1).await?.first() {
            key.order = message_key(last)?.order.saturating_add(1);
        }
    }
    key.tie = random();
    Ok(key)
}

/// Deletes, in bounded batches, what purged and deleted queues have left. Gives the number of keys deleted. May be called
/// by any process at any time; a queue's owner does it for its own queue.
pub async fn collect_deleted(store: &Store) -> Result<usize, StoreError> {
    collect(store, &[]).await
}

/// As [`collect_deleted`], for the queue that `parts` name, or for all.
pub(super) async fn collect(store: &Store, parts: &[Part<'_>]) -> Result<usize, StoreError> {
    let mut deleted = 0;
    loop {
        let snapshot = store.snapshot().await?;
        let Some((doomed, _)) = DOOMED.scan(&snapshot, parts, None, 1).await?.pop() else {
            return Ok(deleted);
        };
        let place = match DOOMED.parts(&doomed).as_deref() {
            Some([PartValue::Text(queue), PartValue::Number(incarnation)]) => {
                Place { queue: Arc::from(queue.as_str()), incarnation: *incarnation }
            }
            _ => return Err(record::RecordError::malformed::<Empty>("the key of a doomed queue").into()),
        };
        deleted += delete_all(store, &place, keyspace::QUEUE_MESSAGES).await?;
        deleted += delete_all(store, &place, keyspace::QUEUE_SEEN).await?;
        deleted += delete_all(store, &place, keyspace::QUEUE_FORGET).await?;
        // Last, so that a collection that was cut short is done again.
        let finish = store.transact(|tx| {
            DOOMED.delete(&tx, &place.root());
            async { Ok::<_, StoreError>(()) }
        });
        finish.await?;
    }
}

/// Deletes what lies in one table, and with messages their bodies.
async fn delete_all(store: &Store, place: &Place, table: Prefix) -> Result<usize, StoreError> {
    let range = KeyRange::prefix(&place.prefix(table));
    let mut deleted = 0;
    loop {
        let found = store.snapshot().await?.scan(range.clone(), Direction::Forward, CHORE_BATCH).await?;
        if found.is_empty() {
            return Ok(deleted);
        }
        let delete = store.transact(|tx| {
            let written = delete_keys(&tx, place, table, &found);
            async move { written }
        });
        delete.await?;
        deleted += found.len();
    }
}

fn delete_keys(
    tx: &Transaction,
    place: &Place,
    table: Prefix,
    found: &[(Key, Bytes)],
) -> Result<(), StoreError> {
    for (key, _) in found {
        if table == keyspace::QUEUE_MESSAGES {
            tx.delete(place.body(&message_key(key)?));
        }
        tx.delete(key.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::records::MESSAGES;

    #[test]
    fn names_have_limits() {
        assert!(matches!(Queue::new(""), Err(QueueError::TooSmall { .. })));
        assert!(matches!(Queue::new(&"n".repeat(NAME_BYTES + 1)), Err(QueueError::TooLarge { .. })));
        let longest = Queue::new(&"\0".repeat(NAME_BYTES)).unwrap();
        let key = MessageKey::last_of(Arc::from("\0".repeat(GROUP_BYTES)));
        let stored = longest.place(u64::MAX).message(&key);
        assert!(stored.as_bytes().len() <= crate::limits::KEY_BYTES);
        assert!(MESSAGES.parts(&stored).is_some());
    }
}
