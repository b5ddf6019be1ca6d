//! Trimming: the oldest records of a shard go, in transactions of bounded size, each fenced by the shard's owner.

use std::time::Duration;

use super::error::LogError;
use super::owner::{LogOwner, Retention};
use super::record::malformed;
use super::shard::SHARDS;
use crate::limits::LOG_BATCH;

/// How far to trim.
#[derive(Clone, Copy)]
enum Until {
    /// The first position that stays.
    Position(u64),
    /// The bytes that stay at most.
    Bytes(u64),
}

impl LogOwner {
    /// Deletes the records before `position`; how many there were.
    pub async fn trim_before(&self, position: u64) -> Result<u64, LogError> {
        self.trim(Until::Position(position)).await
    }

    /// Deletes the records that were appended longer ago than `age`; how many there were.
    pub async fn trim_older_than(&self, age: Duration) -> Result<u64, LogError> {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let at_ms = self.clock.wall_ms().saturating_sub(age_ms);
        let position = self.log.first_at(&self.store.snapshot().await?, self.shard, at_ms).await?;
        self.trim_before(position).await
    }

    /// Deletes the oldest records until what is left has no more than `bytes` of keys and data; how many there were.
    pub async fn trim_to_bytes(&self, bytes: u64) -> Result<u64, LogError> {
        self.trim(Until::Bytes(bytes)).await
    }

    pub(super) async fn retain(&self, retention: Retention) -> Result<(), LogError> {
        let mut trimmed = 0;
        if let Some(age) = retention.age {
            trimmed += self.trim_older_than(age).await?;
        }
        if let Some(bytes) = retention.bytes {
            trimmed += self.trim_to_bytes(bytes).await?;
        }
        if trimmed > 0 {
            tracing::debug!(log = self.log.name(), shard = self.shard, trimmed, "records were trimmed");
        }
        Ok(())
    }

    async fn trim(&self, until: Until) -> Result<u64, LogError> {
        let mut trimmed = 0;
        while let Some(count) = self.trim_batch(until).await? {
            trimmed += count;
        }
        Ok(trimmed)
    }

    /// How many records one batch deleted; `None` if none were left to delete.
    async fn trim_batch(&self, until: Until) -> Result<Option<u64>, LogError> {
        let snapshot = self.store.snapshot().await?;
        let seen = self.log.shard(&snapshot, self.shard).await?;
        let (end, mut surplus) = match until {
            Until::Position(position) => (position.min(seen.next), u64::MAX),
            Until::Bytes(bytes) => (seen.next, seen.bytes.saturating_sub(bytes)),
        };
        if seen.first >= end || surplus == 0 {
            return Ok(None);
        }
        let (mut bytes, mut next) = (0, seen.first);
        for record in self.log.records(&snapshot, self.shard, seen.first..end, LOG_BATCH).await? {
            if surplus == 0 {
                break;
            }
            let size = record.size() as u64;
            (bytes, next) = (bytes + size, record.position + 1);
            surplus = surplus.saturating_sub(size);
        }
        if next == seen.first {
            return Err(malformed("it is not at its position").into());
        }
        let delete = self.store.transact(|tx| async move {
            let mut shard = self.check(&tx).await?;
            if shard.first != seen.first {
                return Ok::<_, LogError>(0);
            }
            (shard.first..next).for_each(|position| tx.delete(self.log.record_key(self.shard, position)));
            (shard.first, shard.bytes) = (next, shard.bytes.saturating_sub(bytes));
            SHARDS.put(&tx, &self.log.shard_key(self.shard), &shard)?;
            Ok(next - seen.first)
        });
        Ok(Some(delete.await?))
    }
}
