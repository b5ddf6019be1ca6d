//! The benchmarks, and the long run of the crash suite. Each is a program of the crate that it measures, built for release.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::run;

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Name {
    /// The data plane: cold starts, the warm path, bursts, what idleness costs, each beside its floor.
    Invoke {
        /// Fewer of everything.
        #[arg(long)]
        quick: bool,
        /// Only these parts, such as cold-python or throughput.
        parts: Vec<String>,
    },
    /// Lambda's control plane with 10,000 functions: reads, mixed calls, creation to the first answer, a package of 50 MB.
    Control,
    /// The store's engines, beside the machine's own limits: writers, reads, scans, ten million keys.
    Store {
        /// Leave out the ten million keys.
        #[arg(long)]
        quick: bool,
        /// Where the stores are made; the folder for temporary files unless told.
        folder: Option<PathBuf>,
    },
    /// Kills and losses of power: whether everything acknowledged is there.
    Crash {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        kills: u64,
        /// The seed of a run that is to be made again; random unless told.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// How long the sandbox takes to start an environment.
    Sandbox,
    /// The executor's core alone: a million events of random schedules, every invariant checked.
    Executor,
}

/// Runs one and lets it print its table.
pub(crate) fn run(name: Name) -> Result<()> {
    run::checked(&mut match name {
        Name::Invoke { quick, parts } => {
            let mut command = run::cargo(&["bench", "-q", "-p", "freehold", "--bench", "invoke", "--"]);
            command.args(quick.then_some("--quick")).args(parts);
            command
        }
        Name::Control => run::cargo(&["bench", "-q", "-p", "freehold", "--bench", "control"]),
        Name::Store { quick, folder } => {
            let mut command = run::cargo(&["bench", "-q", "-p", "freehold-store", "--bench", "store", "--"]);
            command.args(quick.then_some("--quick")).args(folder);
            command
        }
        Name::Crash { kills, seed } => {
            let mut command =
                run::cargo(&["test", "-q", "--release", "-p", "freehold-store", "--test", "crash"]);
            command.args(["--", "--ignored", "--exact", "full_run", "--nocapture"]);
            command.env("FREEHOLD_TEST_CRASH_KILLS", kills.to_string());
            if let Some(seed) = seed {
                command.env("FREEHOLD_TEST_CRASH_SEED", seed.to_string());
            }
            command
        }
        Name::Executor => {
            let mut command = run::cargo(&["test", "-q", "--release", "-p", "freehold-executor", "--lib"]);
            command.args(["--", "--ignored", "--exact", "core::simulation::a_million_events", "--nocapture"]);
            command
        }
        Name::Sandbox => {
            run::cargo(&["run", "-q", "--release", "-p", "freehold-sandbox", "--example", "latency"])
        }
    })
}
