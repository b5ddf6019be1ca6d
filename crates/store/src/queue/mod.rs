//! Queues: messages that are given to one consumer at a time, until one acknowledges them.
//!
//! ```text
//!  any process                          │ the owner of the queue (lease `queue/<name>`)
//!  Queue::enqueue(tx) ──> store ─watch──┼─> window in memory ─> receive ─> consumer ─> acknowledge
//!                                       │      ▲   ▲                          │
//!                    beyond the window ─┼─fill─┘   └─ visible again ── too late, or negative_acknowledge
//!                                       │                     └─ received too often ─> dead-letter queue
//! ```
//!
//! - [`Queue`] (`descriptor`): makes, changes, purges and deletes queues, and enqueues; in any process's transaction
//! - [`QueueOwner`] (`owner`): hands messages out; one per queue, held by a lease
//!   - `core`: what it knows, as a state machine without I/O
//!   - `receiving`, `handling`: what consumers call
//!   - `following`: the task behind it, which learns of messages, wakes and expires them
//!   - `chores`: what is moved or collected in batches: dead letters, expired messages, deduplication
//! - [`settings`], [`message`], [`receipt`], [`error`], [`limits`]: what both speak of
//! - `records`: what lies in the store, and where
//!
//! **Guarantees.** A message whose transaction committed is given out until it is acknowledged, expires, is purged, or
//! moves to the dead-letter queue; after a restart and with a new owner too. While it is in flight nobody else gets it.
//! What was acknowledged never comes back. In a FIFO queue a group's messages are given out in the order of their commits,
//! and none while an earlier one of the group is in flight, except in the same batch. Everything that is answered is
//! synced. A receive that is dropped loses nothing: what it had taken is visible again.
//!
//! **What contends.** Producers of a standard queue never conflict with anyone; of a FIFO queue with those of the same
//! group. The owner's transactions read the lease and their own
//! messages only, so consumers don't conflict with each other.
//!
//! This module doesn't know what is in a message, nor who may use a queue.

mod chores;
mod core;
mod descriptor;
pub mod error;
mod following;
mod handling;
pub mod limits;
pub mod message;
mod owner;
pub mod receipt;
mod receiving;
mod records;
pub mod settings;

pub use self::core::Counts;
pub use descriptor::{Queue, collect_deleted};
pub use error::{QueueError, Stale};
pub use message::{Enqueued, Message, MessageId, Received};
pub use owner::QueueOwner;
pub use receipt::Receipt;
pub use settings::{DeduplicationScope, MaxReceives, Settings};
