//! A log: what anyone may do with it, mostly inside a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use sha2::{Digest, Sha256};

use super::error::LogError;
use super::inbox::{self, Name};
use super::record::{LogRecord, encode_entry, malformed};
use super::shard::{CHECKPOINTS, Checkpoint, Ends, LOGS, LogSettings, SHARDS, ShardRecord, scan_what_fits};
use crate::error::{StoreError, within};
use crate::key::{Direction, Key, KeyRange, Part, PartValue};
use crate::keyspace::{LOG_INBOX, LOG_RECORDS};
use crate::limits::{LOG_BATCH, LOG_DATA_BYTES, LOG_KEY_BYTES, LOG_NAME_BYTES, LOG_SHARDS_MOST};
use crate::store::Store;
use crate::transaction::{Read, Transaction};

/// Counts the appends of this process that have a key.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// A log by its name, with a number of shards that it keeps for ever. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    name: Arc<str>,
    shards: u32,
    clock: SharedClock,
}

impl Log {
    /// The log `name` (up to [`LOG_NAME_BYTES`]), which has or will be created with `shards` shards (1 to
    /// [`LOG_SHARDS_MOST`]). `clock` says when a record was appended.
    pub fn new(name: impl Into<Arc<str>>, shards: u32, clock: &SharedClock) -> Self {
        Self { name: name.into(), shards, clock: clock.clone() }
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its shards.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The shard that a key's records lie in: the first eight bytes of the key's SHA-256, as a number, modulo the number
    /// of shards.
    pub fn shard_of(&self, key: &str) -> u32 {
        let hash = Sha256::digest(key.as_bytes());
        let start = hash.first_chunk::<8>().expect("a SHA-256 has 32 bytes");
        self.spread(u64::from_be_bytes(*start))
    }

    /// The lease that the owner of a shard holds.
    pub fn lease_name(&self, shard: u32) -> String {
        format!("log/{}/{shard}", escaped(&self.name))
    }

    /// The lease that a consumer holds while it follows a shard.
    pub fn consumer_lease_name(&self, consumer: &str, shard: u32) -> String {
        format!("log/{}/{}/{shard}", escaped(&self.name), escaped(consumer))
    }

    /// Creates the log when the transaction commits; does nothing if it exists. [`LogError::Shards`] if it exists with
    /// another number of shards, [`LogError::Deleting`] while what was there before is being deleted.
    pub async fn create(&self, tx: &Transaction) -> Result<(), LogError> {
        within("a log's name, in bytes,", self.name.len(), LOG_NAME_BYTES)?;
        within("the number of a log's shards", self.shards as usize, LOG_SHARDS_MOST as usize)?;
        match self.settings(tx).await {
            Err(LogError::NotFound { .. }) if self.shards > 0 => {
                let id = uuid::Uuid::new_v4().to_string();
                let settings = LogSettings { id, shards: self.shards, deleting: false };
                Ok(LOGS.put(tx, &self.key(), &settings)?)
            }
            Err(LogError::NotFound { .. }) => Err(self.no_shard(0)),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Appends `data` (up to [`LOG_DATA_BYTES`]) when the transaction commits, after everything that was appended with
    /// the same key (up to [`LOG_KEY_BYTES`]) before. Two transactions that append with one key at the same time
    /// conflict, and one is run again; with different keys they never do.
    pub async fn append(
        &self,
        tx: &Transaction,
        key: &str,
        data: impl AsRef<[u8]> + Send,
    ) -> Result<(), LogError> {
        within("the key of a log's record, in bytes,", key.len(), LOG_KEY_BYTES)?;
        within("the data of a log's record, in bytes,", data.as_ref().len(), LOG_DATA_BYTES)?;
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard_of(key);
        let entries = KeyRange::prefix(&inbox::key_prefix(&self.name, shard, key));
        let newest = async { Ok(tx.scan(entries, Direction::Reverse, 1).await?) };
        let (_, newest) = futures_util::try_join!(self.settings(tx), newest)?;
        let version = match newest.first() {
            None => 1,
            Some((newest, _)) => match inbox::name(&inbox::prefix(&self.name, shard), newest) {
                Some(Name::Keyed(_, version, _)) => version + 1,
                _ => return Err(malformed("its key is not an inbox entry's").into()),
            },
        };
        let name = Name::Keyed(key.to_owned(), version, call);
        tx.put(inbox::entry_key(&self.name, shard, &name), encode_entry(self.now_us(), data.as_ref()));
        Ok(())
    }

    /// Appends `data` (up to [`LOG_DATA_BYTES`]) to any shard when the transaction commits, in no order with others but
    /// about that of time. Conflicts with nothing.
    pub async fn append_unkeyed(
        &self,
        tx: &Transaction,
        data: impl AsRef<[u8]> + Send,
    ) -> Result<(), LogError> {
        within("the data of a log's record, in bytes,", data.as_ref().len(), LOG_DATA_BYTES)?;
        self.settings(tx).await?;
        let (spread, random) = uuid::Uuid::new_v4().as_u64_pair();
        let now_us = self.now_us();
        let entry = inbox::entry_key(&self.name, self.spread(spread), &Name::Unkeyed(now_us, random));
        tx.put(entry, encode_entry(now_us, data.as_ref()));
        Ok(())
    }

    /// Up to `limit` records of a shard (at most [`LOG_BATCH`], and fewer if they are large) from a position on; none if
    /// there are none yet. [`LogError::Trimmed`] if that position is no longer there.
    pub async fn read(
        &self,
        read: &impl Read,
        shard: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        let first = self.ends(read, shard).await?.first;
        if from < first {
            return Err(LogError::Trimmed { position: from, first });
        }
        self.records(read, shard, from..u64::MAX, limit).await
    }

    /// How far a shard goes.
    pub async fn ends(&self, read: &impl Read, shard: u32) -> Result<Ends, LogError> {
        self.settings(read).await?;
        Ok(self.shard(read, shard).await?.into())
    }

    /// The position of the first record that was appended at or after `at_ms` (milliseconds since 1970), or the next
    /// one if there is none. Takes some twenty reads for each million of records.
    pub async fn first_at(&self, read: &impl Read, shard: u32, at_ms: u64) -> Result<u64, LogError> {
        let Ends { mut first, mut next, .. } = self.ends(read, shard).await?;
        while first < next {
            let middle = first + (next - first) / 2;
            let record = read.get(&self.record_key(shard, middle)).await?;
            let record = record.ok_or_else(|| malformed("it is not at its position"))?;
            if LogRecord::decode(middle, &record)?.appended_at_ms < at_ms {
                first = middle + 1;
            } else {
                next = middle;
            }
        }
        Ok(first)
    }

    /// How many records of a shard a consumer is not done with; `None` if it never began. What has no position yet is
    /// not counted. Takes three reads.
    pub async fn lag(&self, read: &impl Read, consumer: &str, shard: u32) -> Result<Option<u64>, LogError> {
        let ends = self.ends(read, shard).await?;
        let checkpoint = self.checkpoint_of(read, consumer, shard).await?;
        Ok(checkpoint.map(|checkpoint| ends.next.saturating_sub(checkpoint.next.max(ends.first))))
    }

    /// Deletes the log with all its records and checkpoints, in transactions of bounded size. From the first on nothing
    /// can be appended or read, and owners and consumers fail. If it is stopped midway, call it again.
    pub async fn delete(&self, store: &Store) -> Result<(), LogError> {
        let begin = store.transact(|tx| async move {
            let Some(settings) = LOGS.get(&tx, &self.key()).await? else { return Ok::<_, LogError>(false) };
            LOGS.put(&tx, &self.key(), &LogSettings { deleting: true, ..settings })?;
            Ok(true)
        });
        if !begin.await? {
            return Ok(());
        }
        let name = [Part::Text(&self.name)];
        for all in [LOG_INBOX.key(&name), LOG_RECORDS.key(&name), SHARDS.key(&name), CHECKPOINTS.key(&name)] {
            self.delete_all(store, &KeyRange::prefix(&all)).await?;
        }
        let end = store.transact(|tx| async move {
            LOGS.delete(&tx, &self.key());
            Ok::<_, LogError>(())
        });
        end.await
    }

    async fn delete_all(&self, store: &Store, range: &KeyRange) -> Result<(), LogError> {
        loop {
            let (found, _) = scan_what_fits(&store.snapshot().await?, range, LOG_BATCH).await?;
            if found.is_empty() {
                return Ok(());
            }
            let found = &found;
            let delete = store.transact(|tx| async move {
                // Another that deletes it may be done, and a new log have taken its name.
                if LOGS.get(&tx, &self.key()).await?.is_none_or(|settings| !settings.deleting) {
                    return Ok(false);
                }
                found.iter().for_each(|(key, _)| tx.delete(key.clone()));
                Ok::<_, LogError>(true)
            });
            if !delete.await? {
                return Ok(());
            }
        }
    }

    /// The log's settings, if it is there as this says it is.
    pub(super) async fn settings(&self, read: &impl Read) -> Result<LogSettings, LogError> {
        let log = self.name.to_string();
        match LOGS.get(read, &self.key()).await? {
            None => Err(LogError::NotFound { log }),
            Some(settings) if settings.deleting => Err(LogError::Deleting { log }),
            Some(settings) if settings.shards != self.shards => {
                Err(LogError::Shards { log, given: self.shards, found: settings.shards })
            }
            Some(settings) => Ok(settings),
        }
    }

    pub(super) async fn shard(&self, read: &impl Read, shard: u32) -> Result<ShardRecord, LogError> {
        if shard >= self.shards {
            return Err(self.no_shard(shard));
        }
        Ok(SHARDS.get(read, &self.shard_key(shard)).await?.unwrap_or_default())
    }

    pub(super) async fn checkpoint_of(
        &self,
        read: &impl Read,
        consumer: &str,
        shard: u32,
    ) -> Result<Option<Checkpoint>, LogError> {
        Ok(CHECKPOINTS.get(read, &self.checkpoint_key(consumer, shard)).await?)
    }

    /// Records whose positions are in `positions`.
    pub(super) async fn records(
        &self,
        read: &impl Read,
        shard: u32,
        positions: std::ops::Range<u64>,
        limit: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        let range =
            KeyRange::new(self.record_key(shard, positions.start), self.record_key(shard, positions.end));
        let (found, _) = scan_what_fits(read, &range, limit.min(LOG_BATCH)).await?;
        let prefix = self.record_prefix(shard);
        let decode = |(key, value): (Key, Bytes)| {
            let rest = key.as_bytes().strip_prefix(prefix.as_bytes()).and_then(PartValue::decode_all);
            match rest.as_deref() {
                Some([PartValue::Number(position)]) => LogRecord::decode(*position, &value),
                _ => Err(malformed("its key is not a record's")),
            }
        };
        Ok(found.into_iter().map(decode).collect::<Result<_, StoreError>>()?)
    }

    pub(super) fn record_key(&self, shard: u32, position: u64) -> Key {
        LOG_RECORDS.key(&[Part::Text(&self.name), Part::Number(shard.into()), Part::Number(position)])
    }

    fn record_prefix(&self, shard: u32) -> Key {
        LOG_RECORDS.key(&[Part::Text(&self.name), Part::Number(shard.into())])
    }

    pub(super) fn shard_key(&self, shard: u32) -> [Part<'_>; 2] {
        [Part::Text(&self.name), Part::Number(shard.into())]
    }

    pub(super) fn checkpoint_key<'a>(&'a self, consumer: &'a str, shard: u32) -> [Part<'a>; 3] {
        [Part::Text(&self.name), Part::Text(consumer), Part::Number(shard.into())]
    }

    fn key(&self) -> [Part<'_>; 1] {
        [Part::Text(&self.name)]
    }

    fn no_shard(&self, shard: u32) -> LogError {
        LogError::NoShard { log: self.name.to_string(), shard, shards: self.shards }
    }

    fn spread(&self, number: u64) -> u32 {
        u32::try_from(number % u64::from(self.shards.max(1))).expect("less than the number of shards")
    }

    fn now_us(&self) -> u64 {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Log")
            .field("name", &self.name)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// A name as one part of a lease's name, so that no two logs or consumers share a lease.
fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}
