//! The limits of queues. Those of a service (SQS: 256 KiB to 1 MiB, 15 minutes of delay, …) are narrower and its own.

/// Length of a queue's name, in bytes: an ARN fits. With the two below, a key stays within [`crate::limits::KEY_BYTES`].
pub const NAME_BYTES: usize = 512;
/// Length of a group's name, in bytes. SQS takes 128 characters.
pub const GROUP_BYTES: usize = 256;
/// Length of a deduplication id, in bytes. SQS takes 128 characters.
pub const DEDUPLICATION_BYTES: usize = 256;
/// A message's body and attributes together, in bytes: twice what SQS takes, and half of what a value may be.
pub const MESSAGE_BYTES: usize = 2 << 20;
/// How long a message can be kept, in milliseconds: 14 days, as SQS has it.
pub const RETENTION_LONGEST_MS: u64 = 14 * 24 * 3_600_000;
/// How long a message can be delayed, in milliseconds: as long as it can be kept.
pub const DELAY_LONGEST_MS: u64 = RETENTION_LONGEST_MS;
/// How long a message can be in flight after it was received, in milliseconds: 12 hours, as SQS has it.
pub const VISIBILITY_LONGEST_MS: u64 = 12 * 3_600_000;
/// How long a deduplication id is remembered, in milliseconds: 5 minutes, as SQS has it.
pub const DEDUPLICATION_MS: u64 = 5 * 60_000;
/// Messages of one receive. SQS gives up to 10.
pub const RECEIVE_MESSAGES: usize = 1_000;
/// Bodies and attributes of one receive, in bytes, unless its first message alone has more: what an answer may hold.
pub const RECEIVE_BYTES: usize = 8 << 20;
/// Messages of one queue that are in flight: 120,000, as SQS has it for both kinds.
pub const IN_FLIGHT: usize = 120_000;
/// Messages of a standard queue that are held ready in memory; more are read when there is room.
pub const READY: usize = 10_000;
/// Delayed messages of a standard queue that are held in memory, those that are due first.
pub const DELAYED: usize = 120_000;
/// Messages of a FIFO queue that are held in memory: as many as SQS looks through to find a group that is free.
pub const FIFO_LOADED: usize = 120_000;
/// Messages of one group that are held in memory, so that a long one doesn't keep the others out.
pub const GROUP_LOADED: usize = 1_000;
/// Records that are read at once when messages are looked for.
pub(super) const PAGE: usize = 1_000;
/// Messages that are moved or deleted in one transaction by a chore.
pub(super) const CHORE_BATCH: usize = 500;
/// Expired messages that wait in memory for their deletion; others are found again later.
pub(super) const EXPIRED: usize = 10_000;
/// The longest wait for a moment by the wall clock, in milliseconds: how late an owner notices that the clock jumped.
pub(super) const LOOK_AGAIN_MS: u64 = 60_000;
/// How long the owner's task waits after an error that may pass, in milliseconds.
pub(super) const RETRY_MS: u64 = 1_000;
