//! Reads a zip file's structures: the end record, the central directory, and where each entry's data lies.
//!
//! ```text
//! [prefix] local header + data … | central directory | [zip64 end record + locator] | end record + comment
//! ```
//!
//! Source: PKWARE's APPNOTE.TXT, sections 4.3 and 4.4. Every number is checked against the file before it is used. Refused
//! beside what is broken: encrypted entries, several disks, compression other than stored and deflate, local headers that
//! contradict the directory, and entries whose data overlap (how small files declare petabytes).

use std::ops::Range;

use super::{DEFLATE_RATIO, NODES, PackageError};

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const END64_LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const END64_LOCATOR_BYTES: usize = 20;
/// The longest comment after the end record.
const COMMENT_BYTES: usize = 0xffff;
/// The extra field that holds what does not fit into 32 bits.
const ZIP64_EXTRA: u16 = 0x0001;
/// Flag bits: encrypted (0), strongly encrypted (6), directory masked (13).
const ENCRYPTED_FLAGS: u16 = 1 | 1 << 6 | 1 << 13;

/// How an entry's data are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// What an entry says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { executable: bool },
    Link,
}

/// One entry of the central directory, its data found.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) checksum: u32,
    /// The size that the zip declares for the unpacked data.
    pub(super) size: u64,
    /// Where the packed data lie in the file.
    pub(super) data: Range<usize>,
}

/// The central directory's place.
struct Directory {
    entries: u64,
    range: Range<usize>,
    /// What comes before the zip proper (self-extracting zips have a program there); all offsets count from its end.
    prefix: usize,
}

/// All entries, in the directory's order.
pub(super) fn entries(zip: &[u8]) -> Result<Vec<Entry>, PackageError> {
    let directory = find_directory(zip)?;
    if directory.entries == 0 {
        return Err(PackageError::Empty);
    }
    if directory.entries > NODES as u64 {
        return Err(PackageError::refused(format!("It has more than {NODES} entries.")));
    }
    let mut entries = Vec::new();
    let mut position = directory.range.start;
    let mut claimed: Vec<Range<usize>> = Vec::new();
    for _ in 0..directory.entries {
        let (entry, header_start, next) = read_entry(zip, position, &directory)?;
        claimed.push(header_start..entry.data.end);
        entries.push(entry);
        position = next;
    }
    if position != directory.range.end {
        return Err(PackageError::refused("Its directory is longer than its entries."));
    }
    claimed.sort_by_key(|range| range.start);
    if claimed.windows(2).any(|pair| pair[1].start < pair[0].end) {
        return Err(PackageError::refused("Some of its entries overlap."));
    }
    Ok(entries)
}

fn find_directory(zip: &[u8]) -> Result<Directory, PackageError> {
    let last = zip.len().checked_sub(END_BYTES).ok_or(if zip.is_empty() {
        PackageError::Empty
    } else {
        PackageError::NotAZip
    })?;
    // The comment's length must lead exactly to the file's end: a truncated zip has no such place.
    let end = (last.saturating_sub(COMMENT_BYTES)..=last)
        .rev()
        .find(|&at| {
            u32_at(zip, at) == Some(END_SIGNATURE) && u16_at(zip, at + 20).map(usize::from) == Some(last - at)
        })
        .ok_or(PackageError::NotAZip)?;
    let wide = |at| u16_at(zip, at).map(u64::from).ok_or(PackageError::NotAZip);
    let long = |at| u32_at(zip, at).map(u64::from).ok_or(PackageError::NotAZip);
    let (disk, directory_disk) = (wide(end + 4)?, wide(end + 6)?);
    let (mut entries, mut size, mut offset) = (wide(end + 10)?, long(end + 12)?, long(end + 16)?);
    let mut directory_end = end;
    if let Some(at) = zip64_end(zip, end) {
        let long64 = |at| u64_at(zip, at).ok_or(PackageError::NotAZip);
        (entries, size, offset) = (long64(at + 32)?, long64(at + 40)?, long64(at + 48)?);
        directory_end = at;
    } else if disk != 0 || directory_disk != 0 {
        return Err(PackageError::refused("It is a part of a zip in several parts."));
    }
    // An offset and a size that do not fit into the file mean that its end was cut off and another zip's end found.
    let (size, offset) = (as_index(size)?, as_index(offset)?);
    let start = directory_end.checked_sub(size).ok_or(PackageError::NotAZip)?;
    let prefix = start.checked_sub(offset).ok_or(PackageError::NotAZip)?;
    Ok(Directory { entries, range: start..directory_end, prefix })
}

/// Where the zip64 end record is, if there is one. It is looked for where it must be, right before its locator, since the
/// locator's own offset does not know of a prefix.
fn zip64_end(zip: &[u8], end: usize) -> Option<usize> {
    let locator = end.checked_sub(END64_LOCATOR_BYTES)?;
    if u32_at(zip, locator)? != END64_LOCATOR_SIGNATURE {
        return None;
    }
    let at = locator.checked_sub(END64_BYTES)?;
    (u32_at(zip, at)? == END64_SIGNATURE).then_some(at)
}

/// Reads the entry at `at` of the directory: the entry, where its local header starts, and where the next one is.
fn read_entry(zip: &[u8], at: usize, directory: &Directory) -> Result<(Entry, usize, usize), PackageError> {
    let broken = || PackageError::refused("Its directory is damaged.");
    let header = zip.get(at..).filter(|rest| rest.len() >= CENTRAL_BYTES).ok_or_else(broken)?;
    if u32_at(header, 0) != Some(CENTRAL_SIGNATURE) {
        return Err(broken());
    }
    let short = |at| u16_at(header, at).unwrap_or_default();
    let long = |at| u32_at(header, at).unwrap_or_default();
    let (name_length, extra_length, comment_length) =
        (usize::from(short(28)), usize::from(short(30)), usize::from(short(32)));
    let next = at + CENTRAL_BYTES + name_length + extra_length + comment_length;
    if next > directory.range.end {
        return Err(broken());
    }
    let raw_name = &header[CENTRAL_BYTES..CENTRAL_BYTES + name_length];
    let extra = &header[CENTRAL_BYTES + name_length..CENTRAL_BYTES + name_length + extra_length];
    let name = String::from_utf8(raw_name.to_vec()).map_err(|_| {
        let shown = raw_name.escape_ascii();
        PackageError::refused(format!("The name of its entry '{shown}' is not UTF-8."))
    })?;
    if short(8) & ENCRYPTED_FLAGS != 0 {
        return Err(PackageError::refused(format!("Its entry '{name}' is encrypted.")));
    }
    let method = match short(10) {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => {
            let reason = format!(
                "Its entry '{name}' is compressed by method {other}; only stored and deflate are read."
            );
            return Err(PackageError::refused(reason));
        }
    };
    let wide = Wide::read(extra, long(24), long(20), long(42), &name)?;
    if method == Method::Stored && wide.size != wide.packed
        || method == Method::Deflated && wide.size / DEFLATE_RATIO > wide.packed
    {
        return Err(PackageError::refused(format!("The size of its entry '{name}' cannot be true.")));
    }
    let kind = kind_of(&name, long(38), wide.size)?;
    let start = as_index(wide.offset)?.checked_add(directory.prefix).ok_or_else(broken)?;
    let data = find_data(zip, start, raw_name, wide.packed, directory.range.start)?;
    let entry = Entry { name, kind, method, checksum: long(16), size: wide.size, data };
    Ok((entry, start, next))
}

/// The three numbers of an entry that may be in its zip64 extra field instead.
struct Wide {
    size: u64,
    packed: u64,
    offset: u64,
}

impl Wide {
    fn read(extra: &[u8], size: u32, packed: u32, offset: u32, name: &str) -> Result<Self, PackageError> {
        let mut field: &[u8] = &[];
        let mut rest = extra;
        while let (Some(tag), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) {
            let Some(body) = rest.get(4..4 + usize::from(length)) else { break };
            if tag == ZIP64_EXTRA {
                field = body;
                break;
            }
            rest = &rest[4 + usize::from(length)..];
        }
        let mut widen = |number: u32| -> Result<u64, PackageError> {
            if number != u32::MAX || field.is_empty() {
                return Ok(u64::from(number));
            }
            let value = u64_at(field, 0).ok_or_else(|| {
                PackageError::refused(format!("The sizes of its entry '{name}' are damaged."))
            })?;
            field = &field[8..];
            Ok(value)
        };
        // The order is the format's: unpacked size, packed size, offset; only those that did not fit.
        Ok(Self { size: widen(size)?, packed: widen(packed)?, offset: widen(offset)? })
    }
}

/// The data of the entry whose local header is at `start`.
fn find_data(
    zip: &[u8],
    start: usize,
    name: &[u8],
    packed: u64,
    directory_start: usize,
) -> Result<Range<usize>, PackageError> {
    let shown = || name.escape_ascii().to_string();
    let broken = || PackageError::refused(format!("Its entry '{}' is damaged.", shown()));
    let header = zip.get(start..).filter(|rest| rest.len() >= LOCAL_BYTES).ok_or_else(broken)?;
    if u32_at(header, 0) != Some(LOCAL_SIGNATURE) {
        return Err(broken());
    }
    let name_length = usize::from(u16_at(header, 26).unwrap_or_default());
    let extra_length = usize::from(u16_at(header, 28).unwrap_or_default());
    if header.get(LOCAL_BYTES..LOCAL_BYTES + name_length) != Some(name) {
        let reason = format!("Its entry '{}' has another name in its own header.", shown());
        return Err(PackageError::refused(reason));
    }
    let data_start = start + LOCAL_BYTES + name_length + extra_length;
    let data_end = as_index(packed)?.checked_add(data_start).ok_or_else(broken)?;
    if data_end > directory_start {
        return Err(broken());
    }
    Ok(data_start..data_end)
}

/// What the entry is, by its name's end and the Unix mode in the upper half of its attributes. Writers on other systems
/// leave the mode zero (a plain file) or set it too, as .NET and Python do.
fn kind_of(name: &str, attributes: u32, size: u64) -> Result<Kind, PackageError> {
    const FORMAT: u32 = 0o170_000;
    let mode = attributes >> 16;
    if name.ends_with('/') {
        return if size == 0 && matches!(mode & FORMAT, 0 | 0o040_000) {
            Ok(Kind::Folder)
        } else {
            Err(PackageError::refused(format!("Its entry '{name}' is a folder with content.")))
        };
    }
    match mode & FORMAT {
        0 | 0o100_000 => Ok(Kind::File { executable: mode & 0o111 != 0 }),
        0o120_000 => Ok(Kind::Link),
        0o040_000 if size == 0 => Ok(Kind::Folder),
        _ => Err(PackageError::refused(format!(
            "Its entry '{name}' is neither a file, a folder nor a symbolic link."
        ))),
    }
}

fn as_index(number: u64) -> Result<usize, PackageError> {
    usize::try_from(number).map_err(|_| PackageError::NotAZip)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
