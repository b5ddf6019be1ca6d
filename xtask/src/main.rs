//! The project's own tasks: `cargo xtask test` and `cargo xtask bench NAME`.
//!
//! - [`mod@test`]: everything that CI checks, in order
//! - [`machine`]: what the tests need of the machine, installed where it is missing
//! - [`mod@bench`]: the benchmarks, whose figures stand in `docs/benchmarks.md`, and the long crash run
//! - [`run`]: one child process at a time, its output shown as it comes
#![forbid(unsafe_code)]

mod bench;
mod machine;
mod run;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Freehold's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the tests need, then check and run everything, as CI does.
    Test {
        /// Only the steps whose names contain this text.
        only: Option<String>,
    },
    /// Run a benchmark and print its table.
    Bench {
        /// Which one.
        #[command(subcommand)]
        name: bench::Name,
    },
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().task {
        Task::Test { only } => test::run(only.as_deref()),
        Task::Bench { name } => bench::run(name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
