//! Segments: the ledger's files, `<number>.usage`, and their format.
//!
//! A record is one line: the CRC-32 of the JSON in eight hexadecimal digits, a space, the JSON, a line feed. A line that
//! doesn't check is not a record: the last one, torn by a crash, or, after a loss of power, one whose page was never
//! written. Lines are independent, so such a line costs no other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::UsageRecord;

/// The extension of segments.
const EXTENSION: &str = "usage";
/// Hexadecimal digits of the checksum.
const CHECKSUM_DIGITS: usize = 8;
/// Only the owner.
const FILE_MODE: u32 = 0o600;

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) number: u64,
    pub(crate) file: Arc<File>,
    pub(crate) bytes: u64,
    /// Bytes that the last sync covers.
    pub(crate) synced_bytes: u64,
}

impl ActiveSegment {
    /// Makes the file of segment `number`, which must not be there.
    pub(crate) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().create_new(true).append(true).mode(FILE_MODE).open(path(folder, number))?;
        Ok(Self { number, file: Arc::new(file), bytes: 0, synced_bytes: 0 })
    }

    /// Hands a line to the kernel, in one write.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let written = (&*self.file).write(line)?;
        self.bytes += written as u64;
        if written < line.len() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "only a part of a record could be written",
            ));
        }
        Ok(())
    }
}

/// The path of segment `number`.
pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.{EXTENSION}"))
}

/// The numbers and sizes of the segments in a folder, the oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) =
            number.filter(|_| path.extension().is_some_and(|extension| extension == EXTENSION))
        {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Writes a record as a line.
pub(crate) fn encode(record: &UsageRecord) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = vec![b' '; CHECKSUM_DIGITS + 1];
    serde_json::to_writer(&mut line, record)?;
    let checksum = crc32fast::hash(&line[CHECKSUM_DIGITS + 1..]);
    line[..CHECKSUM_DIGITS].copy_from_slice(format!("{checksum:08x}").as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// Reads the records of a segment, and counts the lines that aren't records.
pub(crate) fn decode(bytes: &[u8]) -> (Vec<UsageRecord>, usize) {
    let mut records = Vec::new();
    let mut damaged = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match decode_line(line) {
            Some(record) => records.push(record),
            None => damaged += 1,
        }
    }
    (records, damaged)
}

fn decode_line(line: &[u8]) -> Option<UsageRecord> {
    let line = line.strip_suffix(b"\n")?;
    let (checksum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    let checksum = u32::from_str_radix(str::from_utf8(checksum).ok()?, 16).ok()?;
    (checksum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use freehold_base::id::RequestId;
    use proptest::prelude::*;

    use super::*;

    fn record(number: u64) -> UsageRecord {
        UsageRecord {
            request_id: RequestId::new(format!("request-{number}")),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello\n".to_owned(),
            version: "$LATEST".to_owned(),
            at_ms: number,
            duration_us: number * 3,
            billed_ms: number,
            init_us: number.is_multiple_of(2).then_some(number),
            memory_mib: 128,
            max_memory_mib: 40,
            failed: false,
        }
    }

    proptest! {
        #[test]
        fn a_torn_tail_costs_only_the_last_record(count in 0..6_u64, cut in 0..2_000_usize) {
            let lines: Vec<Vec<u8>> = (0..count).map(|number| encode(&record(number)).unwrap()).collect();
            let whole: Vec<u8> = lines.concat();
            let cut = cut.min(whole.len());
            let (records, damaged) = decode(&whole[..cut]);
            let mut end = 0;
            let kept = lines.iter().take_while(|line| { end += line.len(); end <= cut }).count();
            prop_assert_eq!(records, (0..kept as u64).map(record).collect::<Vec<_>>());
            prop_assert_eq!(damaged, usize::from(cut > lines[..kept].concat().len()));
        }

        #[test]
        fn a_hole_costs_only_the_records_that_it_touches(start in 0..600_usize, length in 1..100_usize) {
            let lines: Vec<Vec<u8>> = (0..8).map(|number| encode(&record(number)).unwrap()).collect();
            let mut bytes = lines.concat();
            let end = (start + length).min(bytes.len());
            bytes[start..end].fill(0);
            let (records, damaged) = decode(&bytes);
            prop_assert!(damaged >= 1);
            prop_assert!(records.len() >= 5, "{} left", records.len());
            prop_assert!(records.iter().all(|found| *found == record(found.at_ms)));
        }

        #[test]
        fn nonsense_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).0.is_empty());
        }
    }
}
