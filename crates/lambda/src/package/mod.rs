//! Deployment packages: the zip file that a client uploads, checked and unpacked.
//!
//! ```text
//! bytes --archive--> entries --tree--> a checked plan of folders, files and links --extract--> a read-only folder
//! ```
//!
//! - `archive`: reads the zip's own structures; trusts none of their numbers
//! - `tree`: what the entries' names mean: one tree in which nothing leaves the package and nothing is named twice
//! - `extract`: inflates and writes; what is written is what was declared, or nothing
//!
//! Everything that can be refused is refused before the first file is written, except what only inflating shows (sizes
//! and checksums). The reader is our own because a deployment package is hostile input whose ambiguities matter: common
//! readers let the last of two equal names win, or believe the local header where the directory says something else.
//!
//! This module knows neither functions nor AWS's errors beyond the texts.

mod archive;
mod extract;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

use std::io;
use std::path::Path;

use freehold_base::limits::UNZIPPED_BYTES;

/// Entries of a zip, and folders that their names imply: what one package may cost in inodes. Large dependency folders
/// have tens of thousands.
const NODES: usize = 100_000;
/// Length of an entry's path, in bytes: leaves room for the code folder's own path under Linux's 4,096.
const PATH_BYTES: usize = 3_072;
/// Length of one component of a path, in bytes: Linux's own limit.
const COMPONENT_BYTES: usize = 255;
/// Components of a path: real packages stay under 30, and each one may be a folder to make.
const DEPTH: usize = 128;
/// Length of a symbolic link's target, in bytes.
const LINK_TARGET_BYTES: u64 = 1_024;
/// Steps that following all links of a package may take together: bounds the work that links through links can cause.
const LINK_STEPS: usize = 1_000_000;
/// Links that one path may go through: Linux's own limit, after which it gives up too.
const LINK_HOPS: usize = 40;
/// How much larger than its compressed form deflated data can be: the format's own bound. Who declares more lies.
const DEFLATE_RATIO: u64 = 1_032;

/// AWS's text for any zip that it cannot read.
const CANNOT_UNZIP: &str = "Could not unzip uploaded file. Please check your file, then try to upload again.";

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not a zip at all, or only the beginning of one.
    #[error("{CANNOT_UNZIP}")]
    NotAZip,
    /// A zip with something in it that is broken or not allowed.
    #[error("{CANNOT_UNZIP} {0}")]
    Refused(String),
    /// A zip without files.
    #[error("Uploaded file must be a non-empty zip")]
    Empty,
    /// Larger than a function's code may be, declared or in fact.
    #[error("Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")]
    TooLarge,
    /// The host's file system did not do its part.
    #[error("cannot {step} while unpacking: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl PackageError {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

/// Checks `zip` and unpacks it into `folder`, which must not exist. On success the folder is complete, read-only and
/// synced; on failure it is gone. Blocking.
pub fn unpack(zip: &[u8], folder: &Path) -> Result<(), PackageError> {
    let plan = tree::plan(zip)?;
    extract::write(zip, &plan, folder).inspect_err(|_| remove(folder))
}

/// Checks `zip` as [`unpack`] does, inflating everything, without writing anything. Blocking.
pub fn check(zip: &[u8]) -> Result<(), PackageError> {
    extract::verify(zip, &tree::plan(zip)?)
}

/// How large `zip` says that it is unpacked, in bytes: what counts against a function's limit.
pub fn unzipped_bytes(zip: &[u8]) -> Result<u64, PackageError> {
    Ok(archive::entries(zip)?.iter().fold(0, |total, entry| total.saturating_add(entry.size)))
}

/// Removes an unpacked folder, read-only as it is. What is not there is fine; what cannot be removed is left for the
/// next start to try again. Blocking.
pub fn remove(folder: &Path) {
    extract::make_folders_writable(folder);
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove an unpacked package");
    }
}
