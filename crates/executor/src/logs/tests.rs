//! What is written can be read, what is too much goes, and names lead nowhere else.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::file::FileLogSink;
use super::read::LogReader;
use super::{group_folder, segments};
use crate::event::{LogBatch, LogSink};

fn batch(group: &str, stream: &str, lines: &[&str]) -> LogBatch {
    let line = |line: &&str| (1_795_435_200_123, Bytes::copy_from_slice(line.as_bytes()));
    LogBatch { group: Arc::from(group), stream: Arc::from(stream), lines: lines.iter().map(line).collect() }
}

#[test]
fn what_is_written_is_read_back_and_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = FileLogSink::open(folder.path()).expect("a sink");
    let mut reader = LogReader::open(folder.path(), "/aws/lambda/hello");
    assert!(reader.next_lines().expect("no group yet").is_empty());
    sink.write(batch("/aws/lambda/hello", "s1", &["START", "tab\tand\nline end", "END"]));
    sink.write(batch("/aws/lambda/other", "s9", &["not mine"]));
    sink.flush();
    let lines = reader.next_lines().expect("readable");
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["START", "tab\tand line end", "END"]);
    assert_eq!((lines[0].time.as_str(), lines[0].stream.as_str()), ("2026-11-23T12:00:00.123Z", "s1"));
    assert!(reader.next_lines().expect("readable").is_empty());
    sink.write(batch("/aws/lambda/hello", "s2", &["more"]));
    sink.flush();
    assert_eq!(reader.next_lines().expect("readable")[0].text, "more");
    let last = LogReader::open(folder.path(), "/aws/lambda/hello").last_lines(2).expect("readable");
    assert_eq!(last.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["END", "more"]);
    drop(sink);
    let sink = FileLogSink::open(folder.path()).expect("opened again");
    sink.write(batch("/aws/lambda/hello", "s3", &["after a restart"]));
    drop(sink);
    assert_eq!(reader.next_lines().expect("readable")[0].text, "after a restart");
}

#[test]
fn a_groups_files_are_bounded_and_a_slow_reader_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = FileLogSink::open(folder.path()).expect("a sink");
    let line = "x".repeat(100_000);
    let mut reader = LogReader::open(folder.path(), "/g");
    sink.write(batch("/g", "s", &["first"]));
    sink.flush();
    assert_eq!(reader.next_lines().expect("readable")[0].text, "first");
    for number in 0..1_000 {
        sink.write(batch("/g", "s", &[&format!("{number} {line}")]));
        if number % 100 == 0 {
            sink.flush();
        }
    }
    sink.write(batch("/g", "s", &["last"]));
    sink.flush();
    let numbers = segments(&folder.path().join("g")).expect("a folder");
    assert!(numbers.len() <= 8 && numbers[0] > 1, "{numbers:?}");
    let mut last = String::new();
    loop {
        let lines = reader.next_lines().expect("readable");
        let Some(line) = lines.last() else { break };
        last.clone_from(&line.text);
    }
    assert_eq!(last, "last");
}

#[test]
fn a_groups_name_leads_nowhere_else() {
    let folder = Path::new("/logs");
    for (group, expected) in [
        ("/aws/lambda/hello", "/logs/aws/lambda/hello"),
        ("/../../etc/passwd", "/logs/__/__/etc/passwd"),
        ("..", "/logs/__"),
        ("/a//b/./c", "/logs/a/b/_/c"),
        ("/a\0b\\c d", "/logs/a_b_c_d"),
    ] {
        assert_eq!(group_folder(folder, group), Path::new(expected), "{group}");
    }
}
