//! Whole stores: copied, backed up, restored, checked. Built on snapshots and transactions alone, so each works from and
//! to every engine.
//!
//! ```text
//! copy     a snapshot ──pages──> transactions ──> read back, compared ──> whole
//! backup   a snapshot ──pages──> frames, trailer
//! restore                        frames, trailer ──> transactions ──> read back, compared ──> whole
//! check    a snapshot ──pages──> what is wrong with it
//! ```
//!
//! - [`copy`](fn@copy), [`backup`](fn@backup), [`restore`](fn@restore), [`verify`], [`check`](fn@check)
//! - [`open_source`], [`open_target`]: opening a store in order to move it
//! - `pages`: a snapshot read in pages; `summary`: what was moved, and its checksum
//! - `target`: a store that is being filled, and its mark; `format`: the backup's file
//!
//! **Never half.** A store that is being filled has a mark (`keyspace::UNFINISHED`) from the first write on, which goes
//! in a last transaction when all has been read back. While it is there [`crate::Store::open`] refuses the store; another
//! copy or restore into it begins by removing what is there.
//!
//! **What moves.** All keys but sessions, which are those of living processes, and the mark; so leases move with their
//! tokens, which never go back, and are free. All blobs; those that are deleted while they are read are reported. Blobs
//! that the target has already do no harm and stay.
//!
//! Memory is bounded by a page, a part of a blob, and some 50 bytes per blob for its name.

mod backup;
mod check;
mod copy;
mod error;
mod format;
mod open;
mod pages;
mod restore;
mod summary;
mod target;

pub use backup::backup;
pub use check::{CheckReport, FINDINGS_SHOWN, Finding, PrefixCount, Problem, check};
pub use copy::copy;
pub use error::TransferError;
pub use open::{open_source, open_target};
pub use restore::{restore, verify};
pub use summary::{Fingerprint, Phase, Progress, Summary};
pub(crate) use target::refuse_unfinished;
