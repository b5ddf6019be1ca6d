//! Receiving: picked in memory, written, then handed over.
//!
//! ```text
//! wait until something is available ─> pick ─> (own task) write: receives + 1, visible later ─> parcel ─> caller
//!                                                 │ not written: put back                         │ nobody takes it:
//!                                                 └ dead: moved to the dead-letter queue          └ written back
//! ```
//!
//! A receive can be dropped at any moment. What it had picked goes back as long as it isn't written; the writing is done by
//! a task of its own, which ends whatever becomes of the receive, and a parcel that nobody opens is written back, so
//! that its messages are visible again at once and count as never received.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::core::{Core, OverLimit, Picked, Wanted};
use super::error::QueueError;
use super::limits::{IN_FLIGHT, RECEIVE_BYTES, RECEIVE_MESSAGES, VISIBILITY_LONGEST_MS};
use super::message::Received;
use super::owner::{QueueOwner, Shared};
use super::receipt::Receipt;
use super::records::{MessageKey, MessageRecord, Place, decode_body};
use super::settings::{MaxReceives, within, within_bytes};
use crate::error::StoreError;
use crate::record;
use crate::retry::random;
use crate::transaction::Transaction;

impl QueueOwner {
    /// Receives up to `max` messages (at most [`RECEIVE_MESSAGES`], and about [`RECEIVE_BYTES`]), which nobody else gets
    /// for `visibility_ms` (by default the queue's visibility timeout; at most [`VISIBILITY_LONGEST_MS`]). Waits up to
    /// `wait` for the first, at no cost; gives none when there was none.
    ///
    /// Each receive is counted, and synced, before it is answered. If the returned future is dropped, nothing was received.
    /// [`QueueError::OverLimit`] if [`IN_FLIGHT`] messages of a standard queue are in flight; a FIFO queue waits then.
    pub async fn receive(
        &self,
        max: usize,
        visibility_ms: Option<u64>,
        wait: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        if max == 0 {
            return Err(QueueError::TooSmall { what: "the number of messages to receive" });
        }
        within_bytes("the number of messages to receive", max, RECEIVE_MESSAGES)?;
        within("the visibility timeout, in ms,", visibility_ms.unwrap_or(0), VISIBILITY_LONGEST_MS)?;
        let shared = &self.shared;
        let deadline = shared.clock.monotonic() + wait;
        loop {
            let mut available = std::pin::pin!(shared.available.notified());
            // Registered before looking, so that nothing is missed.
            available.as_mut().enable();
            shared.check()?;
            if let Some(batch) = Batch::pick(shared, max, visibility_ms)? {
                let received = batch.receive().await.map_err(|error| shared.failed(error))?;
                if !received.is_empty() {
                    return Ok(received);
                }
                continue;
            }
            if wait.is_zero() {
                return Ok(Vec::new());
            }
            tokio::select! {
                () = available => {}
                () = shared.clock.until(deadline) => return Ok(Vec::new()),
            }
        }
    }
}

/// Messages that were picked and not yet written. Dropped, they are put back.
struct Batch {
    shared: Arc<Shared>,
    place: Place,
    visibility_ms: u64,
    max_receives: Option<MaxReceives>,
    picked: Vec<Picked>,
}

impl Batch {
    /// Picks what is available; `None` if nothing is.
    fn pick(
        shared: &Arc<Shared>,
        max: usize,
        visibility_ms: Option<u64>,
    ) -> Result<Option<Self>, QueueError> {
        let now_ms = shared.clock.wall_ms();
        let mut state = shared.state();
        let max_receives = state.settings.max_receives.clone();
        let visibility_ms = visibility_ms.unwrap_or(state.settings.visibility_timeout_ms);
        let place = shared.queue.place(state.incarnation);
        let count = max_receives.as_ref().map(|max_receives| max_receives.count);
        let wanted = Wanted { messages: max, bytes: RECEIVE_BYTES, max_receives: count };
        let picked = state.core.pick(now_ms, wanted);
        let mut signals = state.core.take_signals();
        // Whoever was told of what has been left here may have been this one.
        signals.available += usize::from(state.core.has_available());
        drop(state);
        shared.signal(&signals);
        let picked = picked.map_err(|OverLimit| QueueError::OverLimit {
            queue: shared.queue.name().to_owned(),
            limit: IN_FLIGHT,
        })?;
        if picked.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { shared: shared.clone(), place, visibility_ms, max_receives, picked }))
    }

    async fn receive(mut self) -> Result<Vec<Received>, QueueError> {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let written = self.move_dead().await;
            let result = match written {
                Ok(()) => self.write().await,
                Err(error) => Err(error),
            };
            // Refused by a receiver that is gone, the parcel is dropped, and so goes back.
            let _ = answer.send(result);
        });
        match answered.await {
            Ok(result) => Ok(result?.open()),
            // The runtime is being shut down.
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// Moves those that were received too often; where that can't be done, they are given out once more.
    async fn move_dead(&mut self) -> Result<(), QueueError> {
        let Some(max_receives) = self.max_receives.clone() else { return Ok(()) };
        let dead: Vec<Picked> = self.picked.iter().filter(|picked| picked.dead).cloned().collect();
        if dead.is_empty() {
            return Ok(());
        }
        if self.shared.move_dead(&self.place, &max_receives.dead_letter, &dead).await? {
            self.picked.retain(|picked| !picked.dead);
        } else {
            tracing::warn!(
                queue = self.shared.queue.name(),
                dead_letter = max_receives.dead_letter,
                "messages that were received too often can't move to the dead-letter queue, and are given out again",
            );
        }
        Ok(())
    }

    /// Writes that they are received. Those that others have changed meanwhile are left out.
    async fn write(mut self) -> Result<Parcel, QueueError> {
        if self.picked.is_empty() {
            return Ok(Parcel {
                shared: self.shared.clone(),
                place: self.place.clone(),
                messages: Vec::new(),
            });
        }
        let now_ms = self.shared.clock.wall_ms();
        let this = &self;
        let write = this.shared.store.transact(|tx| async move {
            let read = try_join_all(this.picked.iter().map(|picked| this.read_one(&tx, picked, now_ms)));
            let ((), mut outcomes) = tokio::try_join!(this.lease_check(&tx), read)?;
            keep_groups_whole(&mut outcomes, &this.picked);
            for (picked, outcome) in this.picked.iter().zip(&outcomes) {
                if let Outcome::Received(received) = outcome {
                    tx.put(this.place.message(&picked.key), record::encode(&received.0)?);
                }
            }
            Ok::<_, QueueError>(outcomes)
        });
        let outcomes: Vec<Outcome> = write.await?;
        let mut messages = Vec::with_capacity(outcomes.len());
        let picked = std::mem::take(&mut self.picked);
        self.shared.with_core(|core| {
            for (picked, outcome) in picked.into_iter().zip(outcomes) {
                settle(core, now_ms, picked, outcome, &mut messages);
            }
        });
        Ok(Parcel { shared: self.shared.clone(), place: self.place.clone(), messages })
    }

    async fn lease_check(&self, tx: &Transaction) -> Result<(), QueueError> {
        Ok(self.shared.lease.check(tx).await?)
    }

    async fn read_one(&self, tx: &Transaction, picked: &Picked, now_ms: u64) -> Result<Outcome, QueueError> {
        let key = self.place.message(&picked.key);
        let body_key = self.place.body(&picked.key);
        let (stored, body) = tokio::try_join!(tx.get(&key), tx.get(&body_key))?;
        let (Some(stored), Some(body)) = (stored, body) else { return Ok(Outcome::Gone) };
        let stored: MessageRecord = record::decode(&stored)?;
        if stored.version != picked.record.version {
            return Ok(Outcome::Changed(stored));
        }
        let nonce = random();
        let record = stored.received(now_ms, self.visibility_ms, nonce);
        let (body, attributes) = decode_body(&body)?;
        let group = &picked.key.group;
        let received = Received {
            receipt: Receipt { queue_digest: self.shared.digest, key: picked.key.clone(), nonce },
            id: record.id(&picked.key),
            body,
            attributes,
            group: (!group.is_empty()).then(|| group.to_string()),
            sequence: picked.key.order,
            receives: record.receives,
            sent_at_ms: record.sent_at_ms,
            first_received_at_ms: record.first_received_at_ms.unwrap_or(now_ms),
            visible_at_ms: record.visible_at_ms,
        };
        Ok(Outcome::Received(Box::new((record, received))))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.picked.is_empty() {
            return;
        }
        let now_ms = self.shared.clock.wall_ms();
        self.shared.with_core(|core| {
            self.picked.iter().for_each(|picked| core.put_back(now_ms, &picked.key));
        });
    }
}

/// What became of a picked message.
enum Outcome {
    Received(Box<(MessageRecord, Received)>),
    Changed(MessageRecord),
    /// One before it in its group is not given out.
    Behind,
    Gone,
}

/// In a FIFO queue, nothing is given out behind a message that isn't.
fn keep_groups_whole(outcomes: &mut [Outcome], picked: &[Picked]) {
    for index in 0..outcomes.len() {
        let group = &picked[index].key.group;
        if group.is_empty() || !matches!(outcomes[index], Outcome::Changed(_)) {
            continue;
        }
        for later in index + 1..outcomes.len() {
            if picked[later].key.group == *group && matches!(outcomes[later], Outcome::Received(_)) {
                outcomes[later] = Outcome::Behind;
            }
        }
    }
}

fn settle(
    core: &mut Core,
    now_ms: u64,
    picked: Picked,
    outcome: Outcome,
    messages: &mut Vec<(MessageRecord, Received)>,
) {
    match outcome {
        Outcome::Received(received) => {
            core.update(now_ms, &picked.key, received.0.clone());
            messages.push((picked.record, received.1));
        }
        Outcome::Changed(record) => {
            core.put_back(now_ms, &picked.key);
            core.update(now_ms, &picked.key, record);
        }
        Outcome::Behind => core.put_back(now_ms, &picked.key),
        Outcome::Gone => core.remove(&picked.key),
    }
}

/// Received messages on their way to the caller, each with its record as it was before.
struct Parcel {
    shared: Arc<Shared>,
    place: Place,
    messages: Vec<(MessageRecord, Received)>,
}

impl Parcel {
    fn open(mut self) -> Vec<Received> {
        std::mem::take(&mut self.messages).into_iter().map(|(_, received)| received).collect()
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let (shared, place) = (self.shared.clone(), self.place.clone());
        let messages: Vec<_> = std::mem::take(&mut self.messages)
            .into_iter()
            .map(|(before, received)| (received.receipt, before))
            .collect();
        // Without a runtime the process is ending, and they become visible again in their time.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = shared.give_back(&place, &messages).await {
                let error = shared.failed(error);
                tracing::warn!(%error, "messages that nobody waits for any more stay in flight until their time");
            }
        });
    }
}

impl Shared {
    /// Writes messages back as they were before they were received.
    async fn give_back(
        &self,
        place: &Place,
        messages: &[(Receipt, MessageRecord)],
    ) -> Result<(), QueueError> {
        let write = self.store.transact(|tx| async move {
            self.lease.check(&tx).await?;
            let mut written: Vec<(MessageKey, MessageRecord)> = Vec::new();
            for (receipt, before) in messages {
                let key = place.message(&receipt.key);
                let Some(stored) = tx.get(&key).await? else { continue };
                let stored: MessageRecord = record::decode(&stored)?;
                if stored.nonce == Some(receipt.nonce) {
                    let record = MessageRecord { version: stored.version + 1, ..before.clone() };
                    tx.put(key, record::encode(&record)?);
                    written.push((receipt.key.clone(), record));
                }
            }
            Ok::<_, QueueError>(written)
        });
        let written = write.await?;
        let now_ms = self.clock.wall_ms();
        self.with_core(|core| {
            for (key, record) in written {
                core.update(now_ms, &key, record);
            }
        });
        Ok(())
    }
}
