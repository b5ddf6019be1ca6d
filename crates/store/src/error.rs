//! What can go wrong in the store, with the same meaning on every engine. Errors can be cloned, since one failed sync is
//! the answer to every commit of its group.

use std::path::PathBuf;
use std::sync::Arc;

use crate::record::RecordError;

/// Why the store didn't do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// What the transaction read was changed by another before it committed. Nothing of it was written.
    #[error("another transaction changed what this one had read ({attempts} attempts)")]
    Conflict {
        /// How often it was run.
        attempts: u32,
    },
    /// A write or sync failed earlier: what is on disk is no longer known, so nothing is accepted until a restart.
    #[error("the store stopped accepting work because a write failed: {0}. Check the disk, then restart")]
    Poisoned(Arc<str>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Another process has the folder open.
    #[error("the data folder {} is in use by another process", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The URL names no engine.
    #[error("'{url}' is not a store: use file:/path, postgres://user@host/database or memory:")]
    Url {
        /// The URL as given, without its password.
        url: String,
    },
    /// The store can't be opened with these options together.
    #[error("the store cannot be opened so: {reason}")]
    Options {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// The folder holds data of another format.
    #[error("the data folder {} has the format '{found}', and this version reads '{expected}'", folder.display())]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What its format file says.
        found: String,
        /// What this version writes.
        expected: &'static str,
    },
    /// The database holds data of another format.
    #[error("the database {database} has the format '{found}', and this version reads '{expected}'")]
    DatabaseFormat {
        /// The database's URL, without its password.
        database: String,
        /// What its format mark says.
        found: String,
        /// What this version writes.
        expected: &'static str,
    },
    /// A copy or restore into the store was begun and not finished: it isn't whole.
    #[error(
        "the store is not whole: a {what} into it was interrupted. Repeat the {what}, or remove the store"
    )]
    Unfinished {
        /// `copy` or `restore`.
        what: String,
    },
    /// A limit of `limits` was passed; nothing was written.
    #[error("{what} is {size}, and the limit is {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The operating system refused something.
    #[error("cannot {step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// What is on disk can't be what was written. Nothing was changed; a backup has to be restored.
    #[error("the store's files are damaged at {}: {reason}. Restore a backup", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The engine failed to open or read.
    #[error("the store engine cannot {step}: {reason}")]
    Engine {
        /// What was being done.
        step: &'static str,
        /// What the engine said.
        reason: Arc<str>,
    },
    /// Another has taken the lease over: what its former owner was about to write was not written.
    #[error("the lease '{lease}' has been taken over by another process")]
    Fenced {
        /// The lease's name.
        lease: String,
    },
    /// The connection to the database was lost or could not be made; nothing was written.
    #[error("no connection to the database: {reason}")]
    Disconnected {
        /// What the client said.
        reason: Arc<str>,
    },
    /// Every connection for reading was in use for too long.
    #[error(
        "all {connections} connections for reading from the database are in use: snapshots and transactions that are \
         made inside one another, or kept, may use them up"
    )]
    Busy {
        /// How many there are.
        connections: usize,
    },
    /// The connection was lost while a commit was under way, and whether it happened, whole, could not be found out.
    #[error("the connection to the database was lost during a commit, which may have happened: {reason}")]
    OutcomeUnknown {
        /// What the client said.
        reason: Arc<str>,
    },
    /// A stored record cannot be read, or one cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl StoreError {
    /// Whether this is a conflict with another transaction.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the store accepts nothing any more because a write failed.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned(_))
    }

    /// Whether the same request may succeed later, unchanged, against this same open store.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Disconnected { .. } | Self::Busy { .. })
    }

    /// Whether a lease was lost to another.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    pub(crate) fn engine(step: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Engine { step, reason: reason.to_string().into() }
    }

    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { step, path: path.into(), source: Arc::new(source) }
    }
}

/// An error if `size` is over `limit`.
pub(crate) fn within(what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size > limit { Err(StoreError::TooLarge { what, size, limit }) } else { Ok(()) }
}
