//! Why a store couldn't be moved, or a backup isn't one.

use std::path::PathBuf;

use crate::blobs::BlobError;
use crate::error::StoreError;

/// Why a copy, backup or restore failed. Nothing that failed is ever taken for a whole store.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob couldn't be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is no store to read from.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// The target has keys already.
    #[error("the target is not empty: a store is only ever copied or restored into an empty one")]
    NotEmpty,
    /// Another copy or restore has begun to fill the same target, or somebody has removed its mark.
    #[error("another copy or restore has taken the target over")]
    TakenOver,
    /// What was read back from the target isn't what was written.
    #[error("the target does not hold what was written to it: {what} should be {expected}, and is {found}")]
    Mismatch {
        /// What was compared.
        what: &'static str,
        /// What was written.
        expected: String,
        /// What was read back.
        found: String,
    },
    /// The backup couldn't be written.
    #[error("cannot write the backup after {offset} bytes: {source}")]
    Write {
        /// How much of it was written, in bytes.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The backup couldn't be read.
    #[error("cannot read the backup at byte {offset}: {source}")]
    Read {
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file doesn't begin as a backup does.
    #[error("this is not a backup of Freehold: it does not begin as one does (byte 0)")]
    Foreign,
    /// A backup in a form that this version doesn't know.
    #[error(
        "this backup has the format {found}, made by a newer version; this one reads up to {known} (byte {offset})"
    )]
    Newer {
        /// Its format.
        found: u64,
        /// The newest that this version reads.
        known: u64,
        /// Where it says so, in bytes from the file's beginning.
        offset: u64,
    },
    /// The file ends before the backup does.
    #[error("the backup is cut short: it ends at byte {offset}, in the middle")]
    Truncated {
        /// Where it ends, in bytes.
        offset: u64,
    },
    /// The file has changed since it was written.
    #[error("the backup is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// Where what is wrong begins, in bytes from the file's beginning.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}
