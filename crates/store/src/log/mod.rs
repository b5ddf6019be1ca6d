//! Logs: records in a fixed order, kept until they are trimmed, read by any number of consumers.
//!
//! ```text
//! Log::append (anyone, in any transaction)        LogOwner (one per shard, by lease)          Consumer (one per name and shard)
//!   LOG_INBOX [log, shard, key, version]  ──watch──>  one fenced transaction per batch:  ──watch──>  next(): from its position on
//!              no order but per key                  inbox entry -> LOG_RECORDS at the next position   checkpoint(): in the caller's transaction
//! ```
//!
//! - [`Log`]: create, append, read, delete; holds nothing
//! - [`LogOwner`]: gives positions to what was appended, trims
//! - [`Consumer`]: follows one shard from its checkpoint
//! - `inbox`: where appended records wait; their keys and order; `pages`: where its owner looks
//! - `record`: the values; `shard`: how far a shard goes; `trim`: its oldest records go
//!
//! **No gap that may still fill.** A number taken inside a transaction is not the order of commits: who reads up to 7 while
//! 6 is still to commit loses 6. So positions are given after the commit, by one owner, one after the other: once a record
//! can be read, everything before it can be.
//!
//! **Order.** Records of one key come in the order in which their transactions committed, and in one transaction in the
//! order of the calls. Different keys never conflict, and their order in a shard is about that of their time.
//!
//! **Exactly once.** A record moves from the inbox to its position in one transaction, which fails unless its owner still
//! holds the lease and nothing was moved since the entries were read. A consumer writes its checkpoint in the transaction
//! of what it does, fenced by a lease of its own.
//!
//! This module doesn't know what a record means.

mod consumer;
mod descriptor;
mod error;
mod inbox;
mod owner;
mod pages;
mod record;
mod shard;
mod trim;

pub use consumer::{Batch, Consumer, Start};
pub use descriptor::Log;
pub use error::LogError;
pub use owner::{LogOwner, Retention};
pub use record::LogRecord;
pub use shard::Ends;
