//! Where functions' log lines go until the Logs API exists: plain files that `freehold logs` reads.
//!
//! - [`mod@file`]: [`FileLogSink`] writes them, on a thread of its own, bounded in memory and on disk
//! - [`read`]: [`LogReader`] reads them back and follows what comes
//!
//! ```text
//! <folder>/aws/lambda/hello/000000000001.log     oldest segment
//! <folder>/aws/lambda/hello/000000000002.log     the one being written
//! ```
//!
//! A line is `2026-11-23T12:00:00.000Z<TAB>stream<TAB>text<LF>`. One file for all streams of a group keeps what a
//! function wrote in one order, and thousands of environments need no thousands of files.

pub mod file;
pub mod read;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::file::FileLogSink;
pub use self::read::{LogLine, LogReader};

/// The folder of a log group: its `/` are folders, and no part of it can lead out of `folder`.
pub fn group_folder(folder: &Path, group: &str) -> PathBuf {
    let mut path = folder.to_owned();
    for part in group.split('/').filter(|part| !part.is_empty()) {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '#');
        let clean: String = part.chars().map(|c| if safe(c) { c } else { '_' }).collect();
        path.push(if clean.bytes().all(|byte| byte == b'.') { clean.replace('.', "_") } else { clean });
    }
    path
}

/// The name of a group's segment.
fn segment_name(number: u64) -> String {
    format!("{number:012}.log")
}

/// The numbers of a group's segments, oldest first.
fn segments(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|digits| digits.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
