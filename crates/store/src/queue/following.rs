//! The task behind an owner. It alone learns of messages, by watching and by reading pages; it wakes delayed and timed-out
//! ones by the clock, deletes expired ones, and follows changes of the queue itself. It sleeps while there is nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::core::Fill;
use super::error::QueueError;
use super::limits::{DEDUPLICATION_MS, LOOK_AGAIN_MS, PAGE, RETRY_MS};
use super::owner::{Shared, State};
use super::records::{MessageKey, MessageRecord, Place, QUEUES, message_key};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange, Part};
use crate::keyspace;
use crate::record;
use crate::transaction::Read;
use crate::watch::{Change, Watch};

/// What the task follows.
pub(super) struct Following {
    place: Place,
    /// New messages.
    messages: Watch,
    /// The queue's own record.
    queue: Watch,
    /// When to look for deduplication ids to forget, in ms since 1970.
    forget_at_ms: Option<u64>,
    /// Whether what a purge left is to be collected.
    collect: bool,
}

impl Following {
    /// Begins to watch, then reads what there is.
    pub(super) async fn begin(shared: &Arc<Shared>) -> Result<Self, QueueError> {
        let place = shared.place();
        let following = Self {
            messages: shared.store.watch(place.prefix(keyspace::QUEUE_MESSAGES)),
            queue: shared.store.watch(QUEUES.key(&[Part::Text(shared.queue.name())])),
            place,
            forget_at_ms: Some(0),
            collect: true,
        };
        following.fill_all(shared).await?;
        Ok(following)
    }

    /// Goes on until the owner has stopped.
    pub(super) async fn run(mut self, shared: Arc<Shared>) {
        // What changed between the owner's first look and the watch would else never be told.
        let mut outcome = self.reconfigure(&shared).await;
        while shared.check().is_ok() {
            if let Err(error) = outcome {
                let error = shared.failed(error);
                if shared.check().is_err() {
                    tracing::info!(queue = shared.queue.name(), %error, "this process no longer owns the queue");
                    break;
                }
                tracing::warn!(queue = shared.queue.name(), %error, "the queue's owner tries again");
                shared.with_core(|core| core.read_again());
                shared.clock.until(shared.clock.monotonic() + Duration::from_millis(RETRY_MS)).await;
                outcome = self.reconfigure(&shared).await;
                continue;
            }
            outcome = self.step(&shared).await;
        }
    }

    /// Does what is to be done, then waits until there is more.
    async fn step(&mut self, shared: &Arc<Shared>) -> Result<(), QueueError> {
        shared.with_core(|core| core.tick(shared.clock.wall_ms()));
        shared.delete_expired(&self.place).await?;
        if std::mem::take(&mut self.collect) {
            let collected = shared.collect_purged().await;
            self.collect = collected.is_err();
            collected?;
        }
        self.forget(shared).await?;
        let next = shared.with_core(|core| core.wants());
        if let Some(fill) = next {
            return self.fill(shared, &fill).await;
        }
        let next_ms = shared.with_core(|core| core.arm()).into_iter().chain(self.forget_at_ms).min();
        let now_ms = shared.clock.wall_ms();
        let sleep = async {
            match next_ms {
                Some(at_ms) => {
                    let wait_ms = at_ms.saturating_sub(now_ms).min(LOOK_AGAIN_MS);
                    let deadline = shared.clock.monotonic() + Duration::from_millis(wait_ms);
                    shared.clock.until(deadline).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = self.messages.changed() => match change.ok_or(StoreError::Closed)? {
                Change::Keys(keys) => self.learn(shared, keys).await,
                Change::Reset => {
                    shared.with_core(|core| core.read_again());
                    self.fill_all(shared).await
                }
            },
            change = self.queue.changed() => {
                change.ok_or(StoreError::Closed)?;
                self.reconfigure(shared).await
            }
            () = shared.work.notified() => Ok(()),
            () = sleep => Ok(()),
        }
    }

    /// Looks at messages that changed; most are the owner's own, and known.
    async fn learn(&mut self, shared: &Arc<Shared>, keys: Vec<Key>) -> Result<(), QueueError> {
        let keys = keys.iter().map(message_key).collect::<Result<Vec<_>, _>>()?;
        let unknown: Vec<MessageKey> = shared.with_core(|core| {
            core.begin_reading();
            keys.into_iter().filter(|key| !core.knows(key)).collect()
        });
        let mut records = Vec::new();
        if !unknown.is_empty() {
            let snapshot = shared.store.snapshot().await?;
            let keys: Vec<Key> = unknown.iter().map(|key| self.place.message(key)).collect();
            records = try_join_all(keys.iter().map(|key| snapshot.get(key))).await?;
        }
        let mut found: Vec<(MessageKey, MessageRecord)> = Vec::with_capacity(records.len());
        for (key, bytes) in unknown.into_iter().zip(records) {
            if let Some(bytes) = bytes {
                found.push((key, record::decode(&bytes)?));
            }
        }
        let now_ms = shared.clock.wall_ms();
        if !found.is_empty() {
            // They may have come with deduplication ids.
            self.forget_at_ms.get_or_insert(now_ms.saturating_add(DEDUPLICATION_MS));
        }
        shared.with_core(|core| {
            found.into_iter().for_each(|(key, record)| core.learn(now_ms, &key, record));
            core.end_reading();
        });
        Ok(())
    }

    /// Reads pages as long as there is room, and counts the rest if that isn't all.
    async fn fill_all(&self, shared: &Arc<Shared>) -> Result<(), QueueError> {
        while let Some(fill) = shared.with_core(|core| core.wants()) {
            self.fill(shared, &fill).await?;
        }
        if !shared.with_core(|core| core.is_whole()) {
            let total = self.count(shared).await?;
            shared.with_core(|core| core.counted(total));
        }
        Ok(())
    }

    /// Reads one page.
    async fn fill(&self, shared: &Arc<Shared>, fill: &Fill) -> Result<(), QueueError> {
        let mut range = self.place.from(&fill.from);
        if let Some(group) = &fill.group {
            range.end = KeyRange::prefix(&self.place.group(group)).end;
        }
        shared.with_core(|core| core.begin_reading());
        let entries = shared.store.snapshot().await?.scan(range, Direction::Forward, PAGE).await?;
        let mut page = Vec::with_capacity(entries.len());
        for (key, bytes) in entries {
            page.push((message_key(&key)?, record::decode(&bytes)?));
        }
        let (now_ms, end) = (shared.clock.wall_ms(), page.len() < PAGE);
        shared.with_core(|core| {
            core.filled(now_ms, fill, page, end);
            core.end_reading();
        });
        Ok(())
    }

    async fn count(&self, shared: &Arc<Shared>) -> Result<usize, StoreError> {
        let mut range = self.place.from(&MessageKey::first());
        let mut total = 0;
        loop {
            // A new snapshot for each page: a long one would keep what it sees from being collected.
            let page = shared.store.snapshot().await?.scan(range.clone(), Direction::Forward, PAGE).await?;
            total += page.len();
            match page.last() {
                Some((last, _)) if page.len() == PAGE => range.start = last.successor(),
                _ => return Ok(total),
            }
        }
    }

    async fn forget(&mut self, shared: &Arc<Shared>) -> Result<(), QueueError> {
        if self.forget_at_ms.is_some_and(|at_ms| at_ms <= shared.clock.wall_ms()) {
            self.forget_at_ms = shared.forget(&self.place).await?;
        }
        Ok(())
    }

    /// Follows a change of the queue itself.
    async fn reconfigure(&mut self, shared: &Arc<Shared>) -> Result<(), QueueError> {
        let snapshot = shared.store.snapshot().await?;
        shared.lease.check(&snapshot).await?;
        let record = shared.queue.record(&snapshot).await;
        drop(snapshot);
        let record = match record {
            Err(error @ QueueError::NoSuchQueue { .. }) => {
                shared.collect_purged().await?;
                return Err(error);
            }
            record => record?,
        };
        if record.incarnation == self.place.incarnation {
            let mut state = shared.state();
            state.core.set_retention(record.settings.retention_ms);
            state.settings = record.settings;
            return Ok(());
        }
        *shared.state() = State::new(record);
        let begun = Self::begin(shared).await;
        *self = begun?;
        Ok(())
    }
}
