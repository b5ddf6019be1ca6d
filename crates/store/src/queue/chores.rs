//! What an owner moves or deletes in batches: dead letters, expired messages, deduplication ids that may be forgotten.

use super::core::Picked;
use super::descriptor::{Queue, collect, next_key};
use super::error::QueueError;
use super::limits::CHORE_BATCH;
use super::owner::Shared;
use super::records::{FORGET, MessageKey, MessageRecord, Place, SEEN};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange, Part, PartValue};
use crate::keyspace;
use crate::record;
use crate::transaction::{Read, Transaction};

impl Shared {
    /// Moves messages to the dead-letter queue, in one transaction; `false`, and nothing is moved, if that queue is gone or
    /// of another kind. They keep their ids, bodies, attributes, groups and times of sending. As SQS has it, in a standard
    /// queue their retention goes on counting from when they were sent, in a FIFO one from now.
    pub(super) async fn move_dead(
        &self,
        place: &Place,
        dead_letter: &str,
        dead: &[Picked],
    ) -> Result<bool, QueueError> {
        let target = Queue::new(dead_letter)?;
        let target = &target;
        let move_all = self.store.transact(|tx| async move {
            self.lease.check(&tx).await?;
            let found = target.find(&tx).await?;
            let fifo = self.state().settings.fifo;
            let Some(found) = found.filter(|found| found.settings.fifo == fifo) else { return Ok(false) };
            let to = target.place(found.incarnation);
            for picked in dead {
                self.move_one(&tx, place, &to, &picked.key).await?;
            }
            Ok::<_, QueueError>(true)
        });
        let moved = move_all.await?;
        if moved {
            self.with_core(|core| dead.iter().for_each(|picked| core.remove(&picked.key)));
        }
        Ok(moved)
    }

    async fn move_one(
        &self,
        tx: &Transaction,
        from: &Place,
        to: &Place,
        key: &MessageKey,
    ) -> Result<(), QueueError> {
        let (old_message, old_body) = (from.message(key), from.body(key));
        let (stored, body) = tokio::try_join!(tx.get(&old_message), tx.get(&old_body))?;
        let (Some(stored), Some(body)) = (stored, body) else { return Ok(()) };
        let before: MessageRecord = record::decode(&stored)?;
        let now_ms = self.clock.wall_ms();
        let fifo = !key.group.is_empty();
        let moved = MessageRecord {
            sent_at_ms: before.sent_at_ms,
            kept_since_ms: if fifo { now_ms } else { before.kept_since_ms },
            moved_from: before.moved_from.or(Some((key.order, key.tie))),
            ..MessageRecord::sent(now_ms, 0, before.size_bytes)
        };
        let target = if fifo {
            MessageKey { tie: key.tie, ..next_key(tx, to, &*self.clock, Some(&key.group)).await? }
        } else {
            key.clone()
        };
        tx.put(to.message(&target), record::encode(&moved)?);
        tx.put(to.body(&target), body);
        tx.delete(old_message);
        tx.delete(old_body);
        Ok(())
    }

    /// Deletes a batch of expired messages.
    pub(super) async fn delete_expired(&self, place: &Place) -> Result<(), QueueError> {
        let expired = self.with_core(|core| core.take_expired(CHORE_BATCH));
        if expired.is_empty() {
            return Ok(());
        }
        let expired = &expired;
        let delete = self.store.transact(|tx| async move {
            self.lease.check(&tx).await?;
            for key in expired {
                tx.delete(place.message(key));
                tx.delete(place.body(key));
            }
            Ok::<_, StoreError>(())
        });
        let deleted = delete.await;
        if deleted.is_err() {
            self.with_core(|core| core.read_again());
        }
        Ok(deleted?)
    }

    /// Deletes a batch of deduplication ids whose time is over. Says when the next is over, if there is one.
    pub(super) async fn forget(&self, place: &Place) -> Result<Option<u64>, QueueError> {
        let range = KeyRange::prefix(&place.prefix(keyspace::QUEUE_FORGET));
        let found = self.store.snapshot().await?.scan(range, Direction::Forward, CHORE_BATCH).await?;
        let mut over: Vec<(Key, String, String)> = Vec::new();
        let mut next_ms = None;
        let now_ms = self.clock.wall_ms();
        for (key, _) in found {
            let parts = FORGET.parts(&key);
            let Some([_, _, PartValue::Number(at_ms), PartValue::Text(scope), PartValue::Text(id)]) =
                parts.as_deref()
            else {
                let error = record::RecordError::malformed::<MessageKey>("the key of a deduplication id");
                return Err(error.into());
            };
            next_ms = Some(*at_ms);
            if *at_ms > now_ms {
                break;
            }
            over.push((key, scope.clone(), id.clone()));
        }
        if !over.is_empty() {
            self.forget_all(place, &over, now_ms).await?;
        }
        Ok(next_ms)
    }

    async fn forget_all(
        &self,
        place: &Place,
        over: &[(Key, String, String)],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let [queue, incarnation] = place.root();
        let forget = self.store.transact(|tx| async move {
            self.lease.check(&tx).await?;
            for (key, scope, id) in over {
                let seen = [queue, incarnation, Part::Text(scope), Part::Text(id)];
                // It may have been seen again since.
                if SEEN.get(&tx, &seen).await?.is_some_and(|seen| seen.until_ms <= now_ms) {
                    SEEN.delete(&tx, &seen);
                }
                tx.delete(key.clone());
            }
            Ok(())
        });
        forget.await
    }

    /// Deletes what purges have left of this queue.
    pub(super) async fn collect_purged(&self) -> Result<(), QueueError> {
        let deleted = collect(&self.store, &[Part::Text(self.queue.name())]).await?;
        if deleted > 0 {
            tracing::debug!(queue = self.queue.name(), deleted, "collected what a purge had left");
        }
        Ok(())
    }
}
