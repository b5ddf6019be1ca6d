//! Fjall's journals, checked before fjall opens them.
//!
//! ```text
//! N.jnl   batch batch … batch, then zeros, then the end
//! batch   start: 1, entries u32, number u64 │ entries │ end: 3, checksum u64, "FJL" 3
//! entry   put or deletion: 2, kind u8, compression u8, tree u64, lengths u16 u32 u32, key, value │ tree emptied: 4, tree u64
//! ```
//!
//! Little-endian; the checksum is the XXH3 of the entries. Journals are numbered without a gap; only the newest is written.
//!
//! Fjall itself is not enough here: it stops reading at the first entry that makes no sense and cuts the file there, so
//! that one damaged page would silently take every later batch with it; and it refuses to open when the end of a torn
//! batch reached the disk and its middle did not. What is told apart here:
//!
//! - **torn**: the newest journal ends in a batch that isn't whole, and no whole batch follows. Every batch is synced
//!   before the next is begun, so nobody was told of this one: it is cut off, and kept beside the journal.
//! - **damaged**: anything else. Nothing is changed, and opening fails.
//!
//! What looks like a torn batch and isn't: a disk that later damages the very last batch, or a file that was cut short.
//!
//! **After a failed sync** the system's page cache may show what never reached the disk. So a newest journal with batches
//! in it is written anew and synced before it is used: what is served after a restart is on disk again.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::damaged;
use crate::engine::folder::sync_folder;
use crate::error::StoreError;

/// The extension of fjall's journals.
const JOURNAL: &str = "jnl";
/// What each batch ends with.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Entries that one batch may have: what one group of commits can write, many times over. Bounds what a damaged count
/// makes the reader try.
const BATCH_ENTRIES: u32 = 1 << 24;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// How a journal ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing but zeros follows the last batch.
    Clean,
    /// What follows the last whole batch is no whole batch, and none comes later.
    Torn,
    /// Whole batches follow something that is none.
    Damaged,
}

/// What is in a journal.
#[derive(Debug)]
struct Scan {
    /// Where the last whole batch ends, in bytes.
    length: u64,
    end: End,
}

/// Checks all journals of a database and repairs what a loss of power may leave.
pub(super) fn prepare(engine: &Path) -> Result<(), StoreError> {
    let mut journals = list(engine).map_err(|error| StoreError::io("list", engine, error))?;
    let gap = journals.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0);
    if let Some(pair) = gap {
        return Err(damaged(engine, format!("the journal {}.jnl is missing", pair[0].0 + 1)));
    }
    let Some((_, newest)) = journals.pop() else {
        return Err(damaged(engine, "the journal is missing"));
    };
    for (_, journal) in &journals {
        let scan = scan(journal).map_err(|error| StoreError::io("read", journal, error))?;
        if scan.end != End::Clean {
            return Err(damaged(journal, format!("the batch at byte {} is not whole", scan.length)));
        }
    }
    let scan = scan(&newest).map_err(|error| StoreError::io("read", &newest, error))?;
    match scan.end {
        End::Damaged => {
            let reason = format!("the batch at byte {} is not whole, and others follow it", scan.length);
            return Err(damaged(&newest, reason));
        }
        End::Torn => {
            let copy = newest.with_extension("torn");
            keep_rest(&newest, scan.length, &copy)
                .map_err(|error| StoreError::io("keep the end of", &newest, error))?;
            tracing::warn!(
                journal = %newest.display(), copy = %copy.display(), position = scan.length,
                "the last batch of the journal was torn and is dropped; it had never been acknowledged",
            );
        }
        End::Clean if scan.length == 0 => return Ok(()),
        End::Clean => {}
    }
    rewrite(&newest, scan.length).map_err(|error| StoreError::io("write anew", &newest, error))?;
    sync_folder(engine)
}

/// Empties the newest journal, of a database that is closed and has all its batches in tables.
pub(super) fn empty(engine: &Path) -> Result<(), StoreError> {
    let journals = list(engine).map_err(|error| StoreError::io("list", engine, error))?;
    // An older one would mean that something in it is not in a table yet.
    let [(_, journal)] = &journals[..] else { return Ok(()) };
    let empty = || {
        let file = File::options().write(true).open(journal)?;
        file.set_len(0)?;
        file.sync_all()
    };
    empty().map_err(|error| StoreError::io("empty", journal, error))
}

/// The journals with their numbers, oldest first.
fn list(engine: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) =
            number.filter(|_| path.extension().is_some_and(|extension| extension == JOURNAL))
        {
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

/// Copies what is written in a journal from `start` on.
fn keep_rest(journal: &Path, start: u64, copy: &Path) -> io::Result<()> {
    let mut file = File::open(journal)?;
    let end = last_written(&mut file, start)?.map_or(start, |last| last + 1);
    file.seek(SeekFrom::Start(start))?;
    io::copy(&mut file.take(end - start), &mut File::create(copy)?).map(drop)
}

/// Replaces a journal by a synced copy of its first `length` bytes.
fn rewrite(journal: &Path, length: u64) -> io::Result<()> {
    let unfinished = journal.with_extension("new");
    let mut copy = File::create(&unfinished)?;
    let copied = io::copy(&mut File::open(journal)?.take(length), &mut copy)?;
    if copied != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    copy.set_permissions(fs::metadata(journal)?.permissions())?;
    copy.sync_all()?;
    fs::rename(unfinished, journal)
}

fn scan(journal: &Path) -> io::Result<Scan> {
    let mut file = File::open(journal)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, &file);
    let mut length = 0;
    let mut space = Vec::new();
    loop {
        match read_batch(&mut reader, &mut space) {
            Ok(bytes) => length += bytes,
            Err(error) if is_no_batch(&error) => break,
            Err(error) => return Err(error),
        }
    }
    let Some(written) = last_written(&mut file, length)? else {
        return Ok(Scan { length, end: End::Clean });
    };
    let mut rest = vec![0; usize::try_from(written + 1 - length).map_err(io::Error::other)?];
    file.seek(SeekFrom::Start(length))?;
    file.read_exact(&mut rest)?;
    let end = if has_batch(&rest[1..], &mut space) { End::Damaged } else { End::Torn };
    Ok(Scan { length, end })
}

/// Where the last byte is that isn't zero, from `start` on.
fn last_written(file: &mut File, start: u64) -> io::Result<Option<u64>> {
    let (mut position, mut last) = (file.seek(SeekFrom::Start(start))?, None);
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut bytes)?;
        if count == 0 {
            return Ok(last);
        }
        if let Some(offset) = bytes[..count].iter().rposition(|&byte| byte != 0) {
            last = Some(position + offset as u64);
        }
        position += count as u64;
    }
}

/// Whether a whole batch begins anywhere.
fn has_batch(bytes: &[u8], space: &mut Vec<u8>) -> bool {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == 1);
    starts.into_iter().any(|(start, _)| read_batch(&mut &bytes[start..], space).is_ok())
}

fn is_no_batch(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

/// Reads one batch and gives its length in bytes; [`io::ErrorKind::InvalidData`] if it isn't whole.
fn read_batch(reader: &mut impl Read, space: &mut Vec<u8>) -> io::Result<u64> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let start: [u8; 13] = read(reader)?;
    let entries = u32::from_le_bytes(start[1..5].try_into().expect("four bytes"));
    if start[0] != 1 || entries == 0 || entries > BATCH_ENTRIES {
        return Err(invalid());
    }
    let mut hash = Xxh3::new();
    let mut length = start.len() as u64;
    for _ in 0..entries {
        let [tag] = read(reader)?;
        space.clear();
        space.push(tag);
        match tag {
            2 => {
                let head: [u8; 20] = read(reader)?;
                space.extend(head);
                let key = u16::from_le_bytes(head[10..12].try_into().expect("two bytes"));
                let value = u32::from_le_bytes(head[16..20].try_into().expect("four bytes"));
                let body = u64::from(key) + u64::from(value);
                if reader.by_ref().take(body).read_to_end(space)? as u64 != body {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            4 => space.extend(read::<8>(reader)?),
            _ => return Err(invalid()),
        }
        hash.update(space);
        length += space.len() as u64;
    }
    let end: [u8; 13] = read(reader)?;
    if end[0] != 3 || end[9..] != TRAILER || end[1..9] != hash.digest().to_le_bytes() {
        return Err(invalid());
    }
    Ok(length + end.len() as u64)
}

fn read<const LENGTH: usize>(reader: &mut impl Read) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
