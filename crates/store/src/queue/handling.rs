//! What a consumer does with a message that it has received: acknowledge it, keep it longer, or give it back.
//!
//! **Receipts** hold as SQS documents: the newest receipt of a message counts. In a standard queue it counts until the
//! message is received again, even after its visibility timeout; in a FIFO queue only until that timeout. (SQS answers a
//! deletion with an old receipt of a standard queue as if it had succeeded, and deletes nothing: a service does the same
//! with [`QueueError::ReceiptStale`].)
//!
//! The store decides, not memory: so receipts hold across restarts and owners, and memory hears after the commit.

use std::sync::Arc;

use super::error::{QueueError, Stale};
use super::limits::VISIBILITY_LONGEST_MS;
use super::owner::{QueueOwner, Shared};
use super::receipt::Receipt;
use super::records::{MessageRecord, Place};
use super::settings::within;
use crate::record;
use crate::transaction::Transaction;

impl QueueOwner {
    /// Deletes a message: it was dealt with. [`QueueError::ReceiptStale`] if it is gone, or the receipt too old.
    pub async fn acknowledge(&self, receipt: &Receipt) -> Result<(), QueueError> {
        self.transact(|tx| async move { self.acknowledge_in(&tx, receipt).await }).await
    }

    /// As [`QueueOwner::acknowledge`], within the caller's transaction: the message is deleted if that commits. Several
    /// may be acknowledged in one.
    pub async fn acknowledge_in(&self, tx: &Transaction, receipt: &Receipt) -> Result<(), QueueError> {
        let (place, _) = self.shared.validate(tx, receipt).await?;
        tx.delete(place.message(&receipt.key));
        tx.delete(place.body(&receipt.key));
        let (shared, key) = (self.shared.clone(), receipt.key.clone());
        tx.on_commit(move || shared.with_core(|core| core.remove(&key)));
        Ok(())
    }

    /// Keeps a message in flight for `visibility_ms` from now; with 0 it is visible at once. In all it can be in flight
    /// for [`VISIBILITY_LONGEST_MS`] after it was received. [`QueueError::NotInFlight`] if it is visible again already.
    pub async fn extend(&self, receipt: &Receipt, visibility_ms: u64) -> Result<(), QueueError> {
        within("the visibility timeout, in ms,", visibility_ms, VISIBILITY_LONGEST_MS)?;
        self.change(receipt, |record, now_ms| {
            let visible_at_ms = now_ms.saturating_add(visibility_ms);
            let since_ms = visible_at_ms.saturating_sub(record.received_at_ms.unwrap_or(now_ms));
            within("the time in flight since the receive, in ms,", since_ms, VISIBILITY_LONGEST_MS)?;
            Ok(MessageRecord { visible_at_ms, ..record })
        })
        .await
    }

    /// Gives a message back: it is visible again in `delay_ms`, counts as delayed until then, and the receipt holds no
    /// longer. The receive stays counted. In a FIFO queue its group waits for it.
    pub async fn negative_acknowledge(&self, receipt: &Receipt, delay_ms: u64) -> Result<(), QueueError> {
        within("the delay, in ms,", delay_ms, VISIBILITY_LONGEST_MS)?;
        self.change(receipt, |record, now_ms| {
            Ok(MessageRecord { visible_at_ms: now_ms.saturating_add(delay_ms), nonce: None, ..record })
        })
        .await
    }

    async fn change(
        &self,
        receipt: &Receipt,
        change: impl Fn(MessageRecord, u64) -> Result<MessageRecord, QueueError> + Send + Sync,
    ) -> Result<(), QueueError> {
        let change = &change;
        self.transact(|tx| async move {
            let (place, record) = self.shared.validate(&tx, receipt).await?;
            let now_ms = self.shared.clock.wall_ms();
            if record.visible_at_ms <= now_ms {
                return Err(QueueError::NotInFlight);
            }
            let version = record.version + 1;
            let record = MessageRecord { version, ..change(record, now_ms)? };
            tx.put(place.message(&receipt.key), record::encode(&record)?);
            let (shared, key) = (self.shared.clone(), receipt.key.clone());
            tx.on_commit(move || shared.with_core(|core| core.update(now_ms, &key, record)));
            Ok(())
        })
        .await
    }

    async fn transact<T, F>(&self, body: impl Fn(Transaction) -> F + Send) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>> + Send,
    {
        self.shared.check()?;
        self.shared.store.transact(body).await.map_err(|error| self.shared.failed(error))
    }
}

impl Shared {
    /// The message that a receipt stands for, if it still does.
    async fn validate(
        self: &Arc<Self>,
        tx: &Transaction,
        receipt: &Receipt,
    ) -> Result<(Place, MessageRecord), QueueError> {
        if receipt.queue_digest != self.digest {
            return Err(QueueError::ReceiptInvalid { receipt: receipt.to_string() });
        }
        let place = self.place();
        let key = place.message(&receipt.key);
        let ((), stored) = tokio::try_join!(self.lease.check(tx), tx.get(&key))?;
        let Some(stored) = stored else { return Err(QueueError::ReceiptStale(Stale::Gone)) };
        let record: MessageRecord = record::decode(&stored)?;
        if record.nonce != Some(receipt.nonce) {
            return Err(QueueError::ReceiptStale(Stale::Replaced));
        }
        if self.state().core.is_fifo() && record.visible_at_ms <= self.clock.wall_ms() {
            return Err(QueueError::ReceiptStale(Stale::Expired));
        }
        Ok((place, record))
    }
}
