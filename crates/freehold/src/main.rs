//! The `freehold` program: read the command line, do what it says, exit with the code that says how it went.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freehold::cli::CommandLine;
use freehold::{commands, exit};

fn main() -> ExitCode {
    // The sandbox's helper is this same binary. It must be itself before anything else here has run.
    if std::env::args_os().nth(1).is_some_and(|word| word == freehold_sandbox::HELPER_ARGUMENT) {
        freehold_sandbox::helper_main(std::env::args_os().skip(2));
    }
    let command_line = CommandLine::parse();
    match commands::run(command_line) {
        Ok(code) => code,
        Err(error) => exit::explain(&error),
    }
}
