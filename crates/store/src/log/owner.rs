//! The owner of a shard: gives positions to what was appended, and trims.
//!
//! ```text
//!   watch: these keys ──> look up those keys' entries ─┐
//!   watch: read all ────> page through the whole inbox ┴─> arrange ─> one transaction: lease? log? nothing moved since?
//!                                                                      records written, entries deleted, shard moved on
//! ```
//!
//! What it remembers is only where to look, never what it found: after any failure it looks at everything again.

use std::time::Duration;

use freehold_base::clock::SharedClock;
use tokio::sync::watch;

use super::descriptor::Log;
use super::error::LogError;
use super::inbox::{self, Entry};
use super::pages::Pages;
use super::record::LogRecord;
use super::shard::{SHARDS, ShardRecord};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::store::Store;
use crate::transaction::{Snapshot, Transaction};

/// How often an owner trims by its retention.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// How long an owner waits after an error that may pass.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a log keeps; all of it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long a record is kept after it was appended.
    pub age: Option<Duration>,
    /// How many bytes of keys and data each shard keeps; the oldest go first.
    pub bytes: Option<u64>,
}

/// Gives positions to what is appended to one shard, and trims it. Holds its lease. Clones are the same owner.
///
/// Once something fails with [`StoreError::Fenced`] another process owns the shard, and this owner is of no more use.
#[derive(Clone)]
pub struct LogOwner {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    lease: Lease,
    pub(super) log: Log,
    pub(super) shard: u32,
    /// The id of the log as it was when this began.
    id: String,
}

impl LogOwner {
    /// Begins to own a shard. The log must have been created.
    ///
    /// # Panics
    ///
    /// If the lease is not the shard's ([`Log::lease_name`]).
    pub async fn open(
        store: &Store,
        clock: &SharedClock,
        lease: Lease,
        log: &Log,
        shard: u32,
    ) -> Result<Self, LogError> {
        assert_eq!(lease.name(), log.lease_name(shard), "a shard is owned by its own lease");
        let snapshot = store.snapshot().await?;
        lease.check(&snapshot).await?;
        let id = log.settings(&snapshot).await?.id;
        log.shard(&snapshot, shard).await?;
        Ok(Self { store: store.clone(), clock: clock.clone(), lease, log: log.clone(), shard, id })
    }

    /// Gives positions to whatever is appended, and trims by `retention` once a minute, until `stop` says so or is
    /// dropped. Errors that may pass are logged and tried again; others end it.
    pub async fn run(&self, mut stop: watch::Receiver<bool>, retention: Retention) -> Result<(), LogError> {
        let mut changes = self.store.watch(inbox::prefix(self.log.name(), self.shard));
        let mut pages = Pages::new(self.log.name(), self.shard);
        let mut trim_at = self.clock.monotonic();
        loop {
            let mut wake_at = trim_at;
            match self.step(&mut pages).await {
                Ok(true) => wake_at = self.clock.monotonic(),
                Ok(false) => {}
                Err(LogError::Store(error)) if may_pass(&error) => {
                    tracing::warn!(%error, log = self.log.name(), shard = self.shard, "appended records wait");
                    pages.restart();
                    wake_at = self.clock.monotonic() + AGAIN_AFTER;
                }
                Err(error) => return Err(error),
            }
            if trim_at <= self.clock.monotonic() {
                trim_at = self.clock.monotonic() + TRIM_EVERY;
                match self.retain(retention).await {
                    Err(LogError::Store(error)) if may_pass(&error) => {
                        tracing::warn!(%error, log = self.log.name(), shard = self.shard, "old records stay for now");
                    }
                    result => result?,
                }
                wake_at = wake_at.min(trim_at);
            }
            tokio::select! {
                biased;
                // An error means that whoever could stop it is gone.
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                change = changes.changed() => pages.note(change.ok_or(StoreError::Closed)?),
                () = self.clock.until(wake_at) => {}
            }
        }
    }

    /// Gives positions to all that was appended before this call.
    pub async fn move_all(&self) -> Result<(), LogError> {
        let mut pages = Pages::new(self.log.name(), self.shard);
        while self.step(&mut pages).await? {}
        Ok(())
    }

    /// Moves one batch; whether there may be more to move.
    pub(super) async fn step(&self, pages: &mut Pages) -> Result<bool, LogError> {
        if pages.is_empty() {
            return Ok(false);
        }
        let snapshot = self.store.snapshot().await?;
        let (entries, seen) = self.gather(pages, &snapshot).await?;
        if !self.give_positions(&entries, &seen).await? {
            pages.restart();
        }
        Ok(true)
    }

    /// The entries of the next batch in the order of their positions-to-be, and the shard at the same moment.
    pub(super) async fn gather(
        &self,
        pages: &mut Pages,
        snapshot: &Snapshot,
    ) -> Result<(Vec<Entry>, ShardRecord), LogError> {
        let seen = self.log.shard(snapshot, self.shard).await?;
        Ok((inbox::arrange(pages.next(snapshot).await?), seen))
    }

    /// Moves `entries` to the next positions in one transaction. `false`, and nothing is written, if anything was moved
    /// since `seen`: by a transaction of this same owner whose outcome it never heard of.
    pub(super) async fn give_positions(
        &self,
        entries: &[Entry],
        seen: &ShardRecord,
    ) -> Result<bool, LogError> {
        if entries.is_empty() {
            return Ok(true);
        }
        let now_ms = self.clock.wall_ms();
        let give = self.store.transact(|tx| async move {
            let mut shard = self.check(&tx).await?;
            if shard.next != seen.next {
                return Ok::<_, LogError>(false);
            }
            for entry in entries {
                let key = match &entry.name {
                    inbox::Name::Keyed(key, ..) => Some(key.clone()),
                    inbox::Name::Unkeyed(..) => None,
                };
                // A clock that is ahead must not carry all that follows with it.
                shard.last_ms = shard.last_ms.max((entry.appended_at_us / 1_000).min(now_ms));
                let (position, data) = (shard.next, entry.data.clone());
                let record = LogRecord { position, key, data, appended_at_ms: shard.last_ms };
                tx.put(self.log.record_key(self.shard, position), record.encode());
                tx.delete(entry.stored_at.clone());
                shard.next += 1;
                shard.bytes += record.size() as u64;
            }
            SHARDS.put(&tx, &self.log.shard_key(self.shard), &shard)?;
            Ok(true)
        });
        give.await
    }

    /// What every transaction of an owner begins with: the lease and the log are still what they were.
    pub(super) async fn check(&self, tx: &Transaction) -> Result<ShardRecord, LogError> {
        self.lease.check(tx).await?;
        if self.log.settings(tx).await?.id != self.id {
            return Err(LogError::NotFound { log: self.log.name().to_owned() });
        }
        self.log.shard(tx, self.shard).await
    }
}

/// Whether the same may succeed later.
fn may_pass(error: &StoreError) -> bool {
    error.retryable() || matches!(error, StoreError::OutcomeUnknown { .. })
}

impl std::fmt::Debug for LogOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogOwner")
            .field("log", &self.log)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
