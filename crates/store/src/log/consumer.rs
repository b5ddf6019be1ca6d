//! A consumer: follows one shard of a log from its checkpoint.

use super::descriptor::Log;
use super::error::LogError;
use super::record::LogRecord;
use super::shard::{CHECKPOINTS, Checkpoint, SHARDS};
use crate::error::{StoreError, within};
use crate::lease::Lease;
use crate::limits::LOG_NAME_BYTES;
use crate::store::Store;
use crate::transaction::{Snapshot, Transaction};
use crate::watch::Watch;

/// Where a consumer begins that has no checkpoint yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is left.
    Oldest,
    /// After the last record that has a position.
    Latest,
    /// At the first record that was appended at or after this time, in milliseconds since 1970.
    At(u64),
}

/// Records that a consumer was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many records before these were trimmed away before this consumer was given them.
    pub missed: u64,
    /// The records, in the order of their positions.
    pub records: Vec<LogRecord>,
}

/// Follows one shard under a name, with a checkpoint in the store. Holds a lease, so that no two processes follow the same
/// shard under the same name; consumers of different names know nothing of each other.
///
/// Once something fails with [`StoreError::Fenced`] another process follows in its place, and this one is of no more use.
pub struct Consumer {
    store: Store,
    lease: Lease,
    log: Log,
    /// The id of the log as it was when this began.
    id: String,
    name: String,
    shard: u32,
    watch: Watch,
    /// The first position that it has not been given.
    next: u64,
}

impl Consumer {
    /// Goes on after the checkpoint, or begins at `start`, which then is the checkpoint.
    ///
    /// # Panics
    ///
    /// If the lease is not this consumer's ([`Log::consumer_lease_name`]).
    pub async fn open(
        store: &Store,
        lease: Lease,
        log: &Log,
        name: &str,
        shard: u32,
        start: Start,
    ) -> Result<Self, LogError> {
        assert_eq!(lease.name(), log.consumer_lease_name(name, shard), "a consumer holds its own lease");
        within("the name of a log's consumer, in bytes,", name.len(), LOG_NAME_BYTES)?;
        let mut consumer = Self {
            watch: store.watch(SHARDS.key(&log.shard_key(shard))),
            store: store.clone(),
            lease,
            log: log.clone(),
            id: log.settings(&store.snapshot().await?).await?.id,
            name: name.to_owned(),
            shard,
            next: 0,
        };
        // Found outside the transaction: that the shard grows meanwhile is no conflict.
        let snapshot = store.snapshot().await?;
        let ends = log.ends(&snapshot, shard).await?;
        let begin = match start {
            Start::Oldest => ends.first,
            Start::Latest => ends.next,
            Start::At(at_ms) => log.first_at(&snapshot, shard, at_ms).await?,
        };
        let this = &consumer;
        let open = store.transact(|tx| async move {
            if let Some(checkpoint) = this.stored(&tx).await? {
                return Ok::<_, LogError>(checkpoint.next);
            }
            CHECKPOINTS.put(&tx, &log.checkpoint_key(name, shard), &Checkpoint { next: begin })?;
            Ok(begin)
        });
        consumer.next = open.await?;
        Ok(consumer)
    }

    /// Waits until there are records, then gives up to `max` of them (at most [`crate::limits::LOG_BATCH`], and fewer if
    /// they are large), or says at once that some were missed. Each record is given once, until [`Consumer::rewind`] or a
    /// new consumer. May be dropped at any time.
    pub async fn next(&mut self, max: usize) -> Result<Batch, LogError> {
        loop {
            let batch = self.next_now(max).await?;
            if batch.missed > 0 || !batch.records.is_empty() {
                return Ok(batch);
            }
            self.watch.changed().await.ok_or(StoreError::Closed)?;
        }
    }

    /// As [`Consumer::next`], without waiting: an empty batch if there is nothing.
    pub async fn next_now(&mut self, max: usize) -> Result<Batch, LogError> {
        let snapshot = self.store.snapshot().await?;
        self.check(&snapshot).await?;
        let ends = self.log.ends(&snapshot, self.shard).await?;
        let from = self.next.max(ends.first);
        let records = match from < ends.next {
            true => self.log.records(&snapshot, self.shard, from..ends.next, max.max(1)).await?,
            false => Vec::new(),
        };
        let missed = from - self.next;
        self.next = records.last().map_or(from, |last| last.position + 1);
        Ok(Batch { missed, records })
    }

    /// The first position that it has not been given.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Remembers when the transaction commits that this consumer is done with all up to and with `position`. Never goes
    /// back. [`StoreError::Fenced`] if the lease is lost, [`LogError::Ahead`] if it was not given that far.
    pub async fn checkpoint(&self, tx: &Transaction, position: u64) -> Result<(), LogError> {
        if position >= self.next {
            return Err(LogError::Ahead { position, next: self.next });
        }
        let next = position + 1;
        if self.stored(tx).await?.is_none_or(|stored| stored.next < next) {
            CHECKPOINTS.put(tx, &self.log.checkpoint_key(&self.name, self.shard), &Checkpoint { next })?;
        }
        Ok(())
    }

    /// Goes back to the checkpoint: what was given and not done is given again.
    pub async fn rewind(&mut self) -> Result<(), LogError> {
        let snapshot = self.store.snapshot().await?;
        if let Some(checkpoint) = self.log.checkpoint_of(&snapshot, &self.name, self.shard).await? {
            self.next = checkpoint.next;
        }
        Ok(())
    }

    async fn check(&self, snapshot: &Snapshot) -> Result<(), LogError> {
        Ok(self.lease.check(snapshot).await?)
    }

    /// The checkpoint, in a transaction that holds only if the lease and the log are what they were.
    async fn stored(&self, tx: &Transaction) -> Result<Option<Checkpoint>, LogError> {
        self.lease.check(tx).await?;
        if self.log.settings(tx).await?.id != self.id {
            return Err(LogError::NotFound { log: self.log.name().to_owned() });
        }
        self.log.checkpoint_of(tx, &self.name, self.shard).await
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Consumer");
        shown
            .field("log", &self.log)
            .field("name", &self.name)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
