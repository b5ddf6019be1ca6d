//! The data folder: its layout, its format mark and its lock.
//!
//! ```text
//! <folder>/lock     locked while a process has the folder open
//! <folder>/format   one line: what the folder holds; written before anything else
//! <folder>/engine/  the engine's own files (engine.new while they are first made)
//! <folder>/blobs/   blobs
//! ```
//!
//! The lock is the kernel's and goes with the process that holds it, so a lock that can be taken proves that the
//! predecessor is dead.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// What this version writes and reads.
const FORMAT: &str = "freehold-store 1 fjall-3";
/// Only the owner: the store holds secrets of functions.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A data folder that this process has locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough: a child that has been forked and not yet executed still holds a copy of the descriptor.
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Makes the folder if it isn't there, locks it and checks its format.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        create_folder(path)?;
        let path = path.canonicalize().map_err(|error| StoreError::io("find", path, error))?;
        let lock = lock(&path)?;
        check_format(&path)?;
        Ok(Self { path, lock })
    }

    /// Where the engine's files are.
    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// Where the blobs are.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
}

/// Makes a folder and all above it; its name is on disk when this returns.
pub(crate) fn create_folder(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::io("make the folder", path, error))
        }
        _ => sync_folder(
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        ),
    }
}

/// Puts the names in a folder on disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::io("sync", path, error))
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(|error| StoreError::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", path, error)),
    }
}

fn check_format(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join("format");
    let found = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if folder.join("engine").exists() {
                "unmarked".to_owned()
            } else {
                return mark_format(folder, &path);
            }
        }
        Err(error) => return Err(StoreError::io("read", path, error)),
    };
    if found == FORMAT {
        return Ok(());
    }
    Err(StoreError::Format { folder: folder.to_owned(), found, expected: FORMAT })
}

fn mark_format(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let unfinished = folder.join("format.new");
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&unfinished)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| StoreError::io("write", path, error))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_format_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        drop(Folder::open(&path).unwrap());
        drop(Folder::open(&path).unwrap());
        fs::write(path.join("format"), "freehold-store 9 other\n").unwrap();
        let error = Folder::open(&path).unwrap_err();
        assert!(
            matches!(&error, StoreError::Format { found, .. } if found == "freehold-store 9 other"),
            "{error}"
        );

        fs::remove_file(path.join("format")).unwrap();
        fs::create_dir(path.join("engine")).unwrap();
        assert!(matches!(Folder::open(&path), Err(StoreError::Format { .. })));
    }

    #[test]
    fn a_folder_is_open_once() {
        let home = tempfile::tempdir().unwrap();
        let first = Folder::open(home.path()).unwrap();
        let error = Folder::open(home.path()).unwrap_err();
        assert!(error.to_string().contains(home.path().to_str().unwrap()), "{error}");
        assert!(matches!(error, StoreError::Locked { .. }));
        drop(first);
        Folder::open(home.path()).unwrap();
    }
}
