//! One file per command. Each takes its words, does its work and says how it went.

mod delete;
mod deploy;
mod doctor;
mod invoke;
mod list;
mod logs;
mod quickstart;
mod runtimes;
mod serve;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Command, CommandLine};
use crate::exit;

/// Carries out one command line.
pub fn run(command_line: CommandLine) -> Result<ExitCode> {
    let json = command_line.json;
    match command_line.command {
        Command::Serve(words) => wait(serve::run(words, json)),
        Command::Quickstart => wait(quickstart::run(json)),
        Command::Deploy(words) => wait(deploy::run(words, json)),
        Command::Invoke(words) => wait(invoke::run(words, json)),
        Command::List(words) => wait(list::run(words, json)),
        Command::Delete(words) => wait(delete::run(words, json)),
        Command::Logs(words) => wait(logs::run(words, json)),
        Command::Runtimes(words) => runtimes::run(words, json),
        Command::Doctor => doctor::run(json),
    }
}

/// Runs a command's future to its end on the program's one async runtime.
fn wait(work: impl Future<Output = Result<u8>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(work)?;
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}

/// Prints one JSON value on stdout.
fn print_json(value: &serde_json::Value) -> Result<u8> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(exit::OK)
}

/// Rows under a heading, each column as wide as its widest cell; the last one is not padded.
fn print_table(heading: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let last = cells.len().saturating_sub(1);
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(index, (cell, width))| if index == last { cell.clone() } else { format!("{cell:width$}") })
            .collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(&heading.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
}
