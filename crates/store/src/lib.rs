//! State: an ordered transactional key-value store on interchangeable engines, and blobs.
//!
//! ```text
//!   caller's closure ──reads/writes──> transaction ──what it read + what it writes──> engine
//!        ▲                                  │                                           │ one batch, one sync
//!        └────────── run again ◄── conflict ┘          watchers ◄── what changed ───────┘
//! ```
//!
//! - [`Store`]: opened by URL; gives transactions, snapshots, watches, blobs
//! - [`transaction`]: reads from one consistent snapshot, buffers writes, remembers what it read
//! - [`key`]: keys, ranges, and the order-preserving encoding of key parts
//! - [`keyspace`]: the one list of every key prefix
//! - [`record`], [`table`]: typed records with a version, and typed tables of them
//! - [`watch`]: whoever caches something is told when it changed
//! - [`blobs`]: large immutable content by its hash
//! - [`lease`]: who owns what, one at a time, with a fencing token
//! - [`timer`], [`log`], [`queue`]: what services are built from; each on transactions alone, so it runs on every engine
//! - [`transfer`]: whole stores: copied, backed up, restored, checked
//! - `engine`: what keeps the keys; embedded in a folder, in a PostgreSQL database, or in memory
//!   for tests
//!
//! Promises, held on every engine by the one suite in `tests/conformance.rs`: transactions are serializable; what is
//! acknowledged is durable (`tests/crash.rs`); a conflict is one typed error, retried here; a failed sync poisons the
//! store. No lock is held across an await.
//!
//! This crate doesn't know what is stored in it, beyond the names of the prefixes.
#![forbid(unsafe_code)]

pub mod blobs;
mod engine;
pub mod error;
pub mod key;
pub mod keyspace;
pub mod lease;
pub mod limits;
pub mod log;
pub mod queue;
pub mod record;
mod retry;
mod store;
pub mod table;
pub mod timer;
pub mod transaction;
pub mod transfer;
pub mod watch;

pub use blobs::{BlobError, BlobId, Blobs};
pub use bytes::Bytes;
pub use error::StoreError;
pub use key::{Direction, Key, KeyRange, Part, PartValue};
pub use keyspace::Prefix;
pub use lease::{Lease, Session};
pub use record::{Record, RecordError};
pub use store::{Options, Store};
pub use table::Table;
pub use transaction::{Read, Snapshot, Transaction};
pub use watch::{Change, Watch};
