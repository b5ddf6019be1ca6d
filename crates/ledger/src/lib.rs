//! The usage ledger: what each function consumed, exactly, without a disk sync on the path of an invocation.
//!
//! ```text
//! append ── one write(2) ──> active segment ── sealed by size or age ──> fold: one store transaction per segment:
//!  (kernel has it: a killed      │ synced every                           totals += segment, "folded up to N"
//!   process loses nothing)       ▼ SYNC_INTERVAL                            └─> the segment's file is deleted
//!                             the disk (a loss of power loses at most the last interval)
//! ```
//!
//! - [`Ledger`]: append, fold, totals, and the loop that does the rest
//! - [`record`]: what one invocation consumed, and what a function consumed in all
//! - `segment`: the files and their format
//!
//! Folding is idempotent: the segment's number is recorded in the transaction that adds it up, so a crash between the
//! transaction and the deletion counts nothing twice. Disk use is bounded: when folding fails for long, appends are
//! refused rather than to fill the disk.
//!
//! This is the one named exception to "acknowledged means durable". The crate doesn't know what an invocation is.
#![forbid(unsafe_code)]

mod folding;
mod ledger;
pub mod record;
mod segment;

pub use ledger::{Ledger, LedgerError};
pub use record::{Totals, UsageRecord};
