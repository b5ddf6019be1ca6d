//! One partition's timers: what anyone may do with them inside a transaction.

use std::sync::Arc;

use bytes::Bytes;

use super::window::Moment;
use crate::error::{StoreError, within};
use crate::key::{Direction, Key, KeyRange, Part, PartValue};
use crate::keyspace::{TIMERS, TIMERS_DUE};
use crate::limits::{TIMER_ID_BYTES, TIMER_PAGE, TIMER_PARTITION_BYTES, TIMER_PAYLOAD_BYTES};
use crate::record::RecordError;
use crate::transaction::{Read, Transaction};

/// The version of both values; each begins with it.
const VERSION: u8 = 1;

/// The timers of one partition: they have one owner at a time. Clones are the same partition.
#[derive(Clone, Debug)]
pub struct Timers {
    partition: Arc<str>,
}

/// A timer that has not been completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingTimer {
    /// Its name in its partition.
    pub id: String,
    /// When it falls due, in milliseconds since 1970.
    pub due_ms: u64,
    /// What it was set with.
    pub payload: Bytes,
}

impl Timers {
    /// The timers of `partition` (up to [`TIMER_PARTITION_BYTES`]).
    pub fn new(partition: impl Into<Arc<str>>) -> Self {
        Self { partition: partition.into() }
    }

    /// The partition's name.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The lease that the partition's owner holds.
    pub fn lease_name(&self) -> String {
        format!("timer/{}", self.partition)
    }

    /// Sets the timer `id` to fall due at `due_ms` (milliseconds since 1970; at once if that is past), or moves it
    /// there if it is set. Ids are up to [`TIMER_ID_BYTES`], payloads up to [`TIMER_PAYLOAD_BYTES`].
    pub async fn set(
        &self,
        tx: &Transaction,
        id: &str,
        due_ms: u64,
        payload: impl AsRef<[u8]> + Send,
    ) -> Result<(), StoreError> {
        let payload = payload.as_ref();
        within("a timer partition's name, in bytes,", self.partition.len(), TIMER_PARTITION_BYTES)?;
        within("a timer's id, in bytes,", id.len(), TIMER_ID_BYTES)?;
        within("a timer's payload, in bytes,", payload.len(), TIMER_PAYLOAD_BYTES)?;
        let key = self.key(id);
        let before = self.when(tx, &key).await?;
        if before != Some(due_ms) {
            if let Some(before) = before {
                tx.delete(self.due_key(before, id));
            }
            let mut value = Vec::with_capacity(1 + size_of::<u64>());
            value.push(VERSION);
            value.extend_from_slice(&due_ms.to_be_bytes());
            tx.put(key, value);
        }
        let mut value = Vec::with_capacity(1 + payload.len());
        value.push(VERSION);
        value.extend_from_slice(payload);
        tx.put(self.due_key(due_ms, id), value);
        Ok(())
    }

    /// Takes the timer `id` away; whether it was there. If it has been given out, completing it has no effect any more.
    pub async fn cancel(&self, tx: &Transaction, id: &str) -> Result<bool, StoreError> {
        let key = self.key(id);
        let Some(due_ms) = self.when(tx, &key).await? else { return Ok(false) };
        tx.delete(self.due_key(due_ms, id));
        tx.delete(key);
        Ok(true)
    }

    /// The timer `id`, if it is set.
    pub async fn get(&self, read: &impl Read, id: &str) -> Result<Option<PendingTimer>, StoreError> {
        let Some(due_ms) = self.when(read, &self.key(id)).await? else { return Ok(None) };
        let payload = self.payload(read, &Moment::new(due_ms, id)).await?;
        Ok(payload.map(|payload| PendingTimer { id: id.to_owned(), due_ms, payload }))
    }

    /// Up to `limit` timers (at most [`TIMER_PAGE`]) in the order in which they fall due, beginning after `after`. Fewer
    /// than both limits means that there are no more.
    pub async fn pending(
        &self,
        read: &impl Read,
        after: Option<&PendingTimer>,
        limit: usize,
    ) -> Result<Vec<PendingTimer>, StoreError> {
        let start = after.map(|after| Moment::new(after.due_ms, &after.id).successor());
        let found = self.scan(read, start.as_ref(), None, limit.min(TIMER_PAGE)).await?;
        let pending = |(moment, payload): (Moment, Bytes)| PendingTimer {
            id: moment.id,
            due_ms: moment.due_ms,
            payload,
        };
        Ok(found.into_iter().map(pending).collect())
    }

    /// Timers from `start` up to but without `end`, in the order in which they fall due.
    pub(super) async fn scan(
        &self,
        read: &impl Read,
        start: Option<&Moment>,
        end: Option<&Moment>,
        limit: usize,
    ) -> Result<Vec<(Moment, Bytes)>, StoreError> {
        let mut range = KeyRange::prefix(&self.prefix());
        if let Some(start) = start {
            range.start = self.moment_key(start);
        }
        if let Some(end) = end {
            range.end = Some(self.moment_key(end));
        }
        let entries = read.scan(range, Direction::Forward, limit).await?;
        let read_back = |(key, value): (Key, Bytes)| {
            let moment = self.moment(&key).ok_or_else(|| malformed("its key is not a timer's"))?;
            Ok((moment, unwrap(value)?))
        };
        entries.into_iter().map(read_back).collect()
    }

    /// The payload of the timer that stands at this moment.
    pub(super) async fn payload(
        &self,
        read: &impl Read,
        moment: &Moment,
    ) -> Result<Option<Bytes>, StoreError> {
        read.get(&self.moment_key(moment)).await?.map(unwrap).transpose()
    }

    /// Deletes a timer that is known to stand at this moment.
    pub(super) fn remove(&self, tx: &Transaction, due_ms: u64, id: &str) {
        tx.delete(self.due_key(due_ms, id));
        tx.delete(self.key(id));
    }

    /// What all timers' keys start with, in the order in which they fall due.
    pub(super) fn prefix(&self) -> Key {
        TIMERS_DUE.key(&[Part::Text(&self.partition)])
    }

    /// The timer that a key is of; `None` if it is not one of this partition's.
    pub(super) fn moment(&self, key: &Key) -> Option<Moment> {
        let parts = PartValue::decode_all(key.as_bytes().strip_prefix(self.prefix().as_bytes())?)?;
        let [PartValue::Number(due_ms), PartValue::Text(id)] = <[_; 2]>::try_from(parts).ok()? else {
            return None;
        };
        Some(Moment { due_ms, id })
    }

    async fn when(&self, read: &impl Read, key: &Key) -> Result<Option<u64>, StoreError> {
        let Some(value) = read.get(key).await? else { return Ok(None) };
        let due = unwrap(value)?;
        let due = <[u8; 8]>::try_from(due.as_ref()).map_err(|_| malformed("its time is not eight bytes"))?;
        Ok(Some(u64::from_be_bytes(due)))
    }

    fn moment_key(&self, moment: &Moment) -> Key {
        self.due_key(moment.due_ms, &moment.id)
    }

    fn due_key(&self, due_ms: u64, id: &str) -> Key {
        TIMERS_DUE.key(&[Part::Text(&self.partition), Part::Number(due_ms), Part::Text(id)])
    }

    fn key(&self, id: &str) -> Key {
        TIMERS.key(&[Part::Text(&self.partition), Part::Text(id)])
    }
}

/// A value without its version.
fn unwrap(value: Bytes) -> Result<Bytes, StoreError> {
    match value.first() {
        Some(&VERSION) => Ok(value.slice(1..)),
        Some(&version) => Err(RecordError::UnknownVersion { record: "timer", version }.into()),
        None => Err(malformed("it is empty")),
    }
}

fn malformed(reason: &str) -> StoreError {
    RecordError::Malformed { record: "timer", reason: reason.to_owned() }.into()
}
