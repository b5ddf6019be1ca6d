//! One file per command. Each takes its words, does its work and says how it went.

mod delete;
mod deploy;
mod dev;
mod doctor;
mod doctor_store;
mod invoke;
mod list;
mod logs;
mod quickstart;
mod runtimes;
mod serve;
mod store;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Command, CommandLine};
use crate::config::StorePlace;

/// Carries out one command line.
pub fn run(command_line: CommandLine) -> Result<ExitCode> {
    let json = command_line.json;
    match command_line.command {
        Command::Serve(words) => wait(serve::run(words, json)),
        Command::Quickstart => wait(quickstart::run(json)),
        Command::Deploy(words) => wait(deploy::run(words, json)),
        Command::Dev(words) => wait(dev::run(words, json)),
        Command::Invoke(words) => wait(invoke::run(words, json)),
        Command::List(words) => wait(list::run(words, json)),
        Command::Delete(words) => wait(delete::run(words, json)),
        Command::Logs(words) => wait(logs::run(words, json)),
        Command::Runtimes(words) => runtimes::run(words, json),
        Command::Store(words) => wait(store::run(words, json)),
        Command::Doctor(words) if words.store.is_some() => {
            wait(doctor_store::run(StorePlace::of_doctor(words)?, json))
        }
        Command::Doctor(_) => doctor::run(json),
    }
}

/// Of how many processors one is the program's own: the others are for the functions that it runs. Each worker more costs
/// wake-ups between workers at every invocation.
const PROCESSORS_PER_WORKER: usize = 2;

/// Runs a command's future to its end on the program's one async runtime.
fn wait(work: impl Future<Output = Result<u8>>) -> Result<ExitCode> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / PROCESSORS_PER_WORKER).max(1))
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(work)?;
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
