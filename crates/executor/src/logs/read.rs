//! Reads a group's log lines back, also from another process, and follows what is added.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{group_folder, segment_name, segments};

/// How much is read at once, in bytes.
const READ_BYTES: u64 = 1024 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The environment that wrote it.
    pub stream: String,
    /// What it wrote.
    pub text: String,
}

/// Reads one group from its oldest line on.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    position: Option<(u64, u64)>,
}

impl LogReader {
    /// A reader of `group` below the folder that [`FileLogSink`](super::file::FileLogSink) writes to. The group need not
    /// exist yet.
    pub fn open(folder: &Path, group: &str) -> Self {
        Self { folder: group_folder(folder, group), position: None }
    }

    /// The next lines, at most about a MiB of them; none if there is nothing new, in which case a follower asks again a
    /// little later.
    pub fn next_lines(&mut self) -> io::Result<Vec<LogLine>> {
        loop {
            let numbers = segments(&self.folder)?;
            let Some(oldest) = numbers.first().copied() else { return Ok(Vec::new()) };
            // What was being read may have been removed meanwhile.
            let (number, offset) = match self.position {
                Some((number, offset)) if numbers.contains(&number) => (number, offset),
                Some((number, _)) => {
                    (numbers.iter().copied().find(|other| *other > number).unwrap_or(oldest), 0)
                }
                None => (oldest, 0),
            };
            let later = numbers.iter().copied().find(|other| *other > number);
            let (lines, bytes) = self.read(number, offset)?;
            self.position = Some((number, offset + bytes));
            match later {
                Some(later) if bytes == 0 => self.position = Some((later, 0)),
                _ => return Ok(lines),
            }
        }
    }

    /// Skips to the last `count` lines of what is there now, and returns them.
    pub fn last_lines(&mut self, count: usize) -> io::Result<Vec<LogLine>> {
        let mut kept = std::collections::VecDeque::new();
        loop {
            let lines = self.next_lines()?;
            if lines.is_empty() {
                return Ok(kept.into());
            }
            kept.extend(lines);
            kept.drain(..kept.len().saturating_sub(count));
        }
    }

    /// Whole lines from `offset` on, and how many bytes they take.
    fn read(&self, number: u64, offset: u64) -> io::Result<(Vec<LogLine>, u64)> {
        let mut file = match File::open(self.folder.join(segment_name(number))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            file => file?,
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = String::from_utf8_lossy(&bytes[..whole]).lines().filter_map(parse).collect();
        Ok((lines, whole as u64))
    }
}

/// An entry of several lines is stored as one, with CR between its parts.
fn parse(line: &str) -> Option<LogLine> {
    let mut parts = line.splitn(3, '\t');
    let (time, stream, text) = (parts.next()?, parts.next()?, parts.next()?);
    Some(LogLine { time: time.to_owned(), stream: stream.to_owned(), text: text.replace('\r', "\n") })
}
