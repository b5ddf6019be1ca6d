//! What commands print on stdout. A reader that goes away early (`… | head`) is no failure: the program just ends.

use std::fmt;
use std::io::{self, Write};

use anyhow::Result;

/// Prints one line.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints one JSON value, indented.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    Ok(line(serde_json::to_string_pretty(value)?)?)
}

/// Prints rows under a heading, each column as wide as its widest cell; the last one is not padded.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// Whether an error only says that whoever read stdout has gone.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
