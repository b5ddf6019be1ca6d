//! A limit on everything that a caller can make grow. All engines have the same, so that what works on one works on
//! every other.

use std::time::Duration;

/// Length of a key, in bytes. PostgreSQL's B-tree takes index rows up to 2,704 bytes.
pub const KEY_BYTES: usize = 2_560;
/// Length of a value, in bytes: the largest message that a service keeps as a record (1 MiB), with room for its
/// encoding. Larger content belongs in a blob.
pub const VALUE_BYTES: usize = 4 << 20;
/// Keys that one transaction writes: what one batch may hold up the others with.
pub const TRANSACTION_WRITES: usize = 10_000;
/// Keys and values that one transaction writes, in bytes: what a commit may take of memory and of the journal.
pub const TRANSACTION_BYTES: usize = 32 << 20;
/// Keys and ranges that one transaction reads: each is checked at commit.
pub const TRANSACTION_READS: usize = 50_000;
/// How often a transaction is run before its conflict is given to the caller. With the back-off below, 64 writers of
/// one key all get through.
pub const TRANSACTION_ATTEMPTS: u32 = 64;
/// The first back-off after a conflict, before jitter: about one synced write.
pub const RETRY_DELAY_FIRST: Duration = Duration::from_micros(500);
/// The longest back-off after a conflict, before jitter.
pub const RETRY_DELAY_LONGEST: Duration = Duration::from_millis(100);
/// Entries that one scan returns: what fits in memory many times over. Page through what is larger.
pub const SCAN_ENTRIES: usize = 10_000;
/// Keys and values that one scan returns, in bytes.
pub const SCAN_BYTES: usize = 64 << 20;
/// Scans of at most this many entries are read in place; longer ones move to a thread that may block.
pub const SCAN_INLINE_ENTRIES: usize = 256;
/// Commits that wait for the committer; more wait before they queue.
pub const COMMIT_QUEUE: usize = 1_024;
/// Bytes that one group of commits writes before the next group begins: what one sync may take.
pub const GROUP_BYTES: usize = 64 << 20;
/// Written keys that are remembered to find conflicts. A transaction whose snapshot is older than all of them conflicts.
pub const RECENT_KEYS: usize = 65_536;
/// Changed keys that wait for one watcher; beyond it the watcher is told to read all again.
pub const WATCH_KEYS: usize = 1_024;
/// Size of a blob, in bytes: the largest unpacked deployment package that AWS takes is 250 MiB.
pub const BLOB_BYTES: usize = 1 << 30;
/// Name of a partition of timers, in bytes: such as a service and an account.
pub const TIMER_PARTITION_BYTES: usize = 256;
/// Id of a timer, in bytes: room for an ARN with what follows it.
pub const TIMER_ID_BYTES: usize = 1_024;
/// Payload of a timer, in bytes. It says what is to be done; what is large lies elsewhere and is named by it.
pub const TIMER_PAYLOAD_BYTES: usize = 64 << 10;
/// Timers that are read at once: with the largest payloads half of [`SCAN_BYTES`].
pub const TIMER_PAGE: usize = 512;
/// Timers that an owner has in memory, given out or about to be: some batches of what is due at once.
pub const TIMER_WINDOW: usize = 4_096;
/// Ids and payloads that an owner has in memory, in bytes: one page of the largest timers fits.
pub const TIMER_WINDOW_BYTES: usize = 40 << 20;
/// Name of a log or of a consumer, in bytes: room for an ARN.
pub const LOG_NAME_BYTES: usize = 512;
/// Key of a log's record, in bytes: the longest partition key of a stream (256 characters of four bytes).
pub const LOG_KEY_BYTES: usize = 1_024;
/// Data of a log's record, in bytes: a value, less its key and what is kept with it.
pub const LOG_DATA_BYTES: usize = VALUE_BYTES - 2 * LOG_KEY_BYTES;
/// Shards of a log: each has an owner with a watch and a task.
pub const LOG_SHARDS_MOST: u32 = 1_024;
/// Records that are read, given positions or trimmed at once; each takes two writes of a transaction's.
pub const LOG_BATCH: usize = 1_000;
/// Data that is given positions in one transaction, in bytes, if there is more than one record: half of what a
/// transaction writes.
pub const LOG_BATCH_BYTES: usize = TRANSACTION_BYTES / 2;
