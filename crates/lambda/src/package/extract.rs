//! Inflates a planned package and writes it to a folder.
//!
//! Order: folders, then files, then links (so that no write can go through a link), then folders' modes from the inside
//! out. Files end as 0444, or 0555 where the zip has any execute bit; folders as 0555: functions of any user can read
//! them, and nobody writes to what several environments share.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::PackageError;
use super::archive::{Entry, Method};
use super::tree::{Node, Plan};

/// How much is inflated at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Files up to which each is synced by itself; more are synced with their whole file system at once, which costs one
/// flush instead of thousands.
const SYNCED_ONE_BY_ONE: usize = 16;

/// Writes the package to `folder`, which must not exist, and syncs it.
pub(super) fn write(zip: &[u8], plan: &Plan, folder: &Path) -> Result<(), PackageError> {
    make_folder(folder)?;
    let one_by_one = plan.nodes.len() <= SYNCED_ONE_BY_ONE;
    for (path, node) in &plan.nodes {
        match node {
            Node::Folder => make_folder(&folder.join(path))?,
            Node::File { entry, executable } => {
                write_file(zip, &plan.entries[*entry], &folder.join(path), *executable, one_by_one)?;
            }
            Node::Link { .. } => {}
        }
    }
    for (path, node) in &plan.nodes {
        if let Node::Link { target } = node {
            std::os::unix::fs::symlink(target, folder.join(path)).map_err(failed("make a link"))?;
        }
    }
    for (path, _) in plan.nodes.iter().rev().filter(|(_, node)| matches!(node, Node::Folder)) {
        close_folder(&folder.join(path), one_by_one)?;
    }
    close_folder(folder, one_by_one)?;
    if !one_by_one {
        let handle = File::open(folder).map_err(failed("open a folder"))?;
        nix::unistd::syncfs(&handle).map_err(|error| failed("sync")(error.into()))?;
    }
    Ok(())
}

/// Inflates everything and keeps nothing.
pub(super) fn verify(zip: &[u8], plan: &Plan) -> Result<(), PackageError> {
    for node in plan.nodes.values() {
        if let Node::File { entry, .. } = node {
            inflate(zip, &plan.entries[*entry], |_| Ok(()))?;
        }
    }
    Ok(())
}

/// Hands the entry's unpacked data to `sink`, piece by piece: never more than declared, and in the end exactly that, its
/// checksum right.
pub(super) fn inflate(
    zip: &[u8],
    entry: &Entry,
    mut sink: impl FnMut(&[u8]) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let damaged = || PackageError::refused(format!("Its entry '{}' is damaged.", entry.name.escape_debug()));
    let packed = &zip[entry.data.clone()];
    let mut checksum = Crc::new();
    let mut take = |chunk: &[u8]| {
        checksum.update(chunk);
        sink(chunk)
    };
    match entry.method {
        Method::Stored => packed.chunks(CHUNK_BYTES).try_for_each(&mut take)?,
        // Some writers deflate nothing to nothing.
        Method::Deflated if packed.is_empty() && entry.size == 0 => {}
        Method::Deflated => {
            let mut decoder = DeflateDecoder::new(packed);
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut left = entry.size;
            loop {
                let count = decoder.read(&mut buffer).map_err(|_| damaged())?;
                if count == 0 {
                    break;
                }
                left = left.checked_sub(count as u64).ok_or_else(damaged)?;
                take(&buffer[..count])?;
            }
            if left != 0 || decoder.total_in() != packed.len() as u64 {
                return Err(damaged());
            }
        }
    }
    if checksum.sum() == entry.checksum { Ok(()) } else { Err(damaged()) }
}

/// Gives folders their write permission back, so that what they hold can be removed by an ordinary user too.
pub(super) fn make_folders_writable(folder: &Path) {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir());
        if !is_folder || fs::set_permissions(&folder, Permissions::from_mode(0o700)).is_err() {
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(folders.map(|entry| entry.path()));
    }
}

fn make_folder(path: &Path) -> Result<(), PackageError> {
    DirBuilder::new().mode(0o700).create(path).map_err(failed("make a folder"))
}

fn write_file(
    zip: &[u8],
    entry: &Entry,
    path: &Path,
    executable: bool,
    sync: bool,
) -> Result<(), PackageError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.map_err(failed("make a file"))?;
    inflate(zip, entry, |chunk| file.write_all(chunk).map_err(failed("write a file")))?;
    let mode = if executable { 0o555 } else { 0o444 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set a file's mode"))?;
    if sync {
        file.sync_all().map_err(failed("sync a file"))?;
    }
    Ok(())
}

fn close_folder(path: &Path, sync: bool) -> Result<(), PackageError> {
    let handle = File::open(path).map_err(failed("open a folder"))?;
    handle.set_permissions(Permissions::from_mode(0o555)).map_err(failed("set a folder's mode"))?;
    if sync {
        handle.sync_all().map_err(failed("sync a folder"))?;
    }
    Ok(())
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> PackageError {
    move |source| PackageError::Io { step, source }
}
