//! The benchmarks. Each is a program of the crate that it measures, built for release.

use anyhow::Result;
use clap::ValueEnum;

use crate::run;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Warm and cold invocations of the hello function, and how soon `serve` is ready, beside their floors.
    Invoke,
    /// The store's engine on its own pattern of work.
    Store,
    /// How long the sandbox takes to start an environment.
    Sandbox,
}

/// Runs one and lets it print its table.
pub(crate) fn run(name: Name) -> Result<()> {
    run::checked(&mut match name {
        Name::Invoke => run::cargo(&["bench", "-q", "-p", "freehold", "--bench", "invoke"]),
        Name::Store => run::cargo(&["bench", "-q", "-p", "freehold-store", "--bench", "store"]),
        Name::Sandbox => {
            run::cargo(&["run", "-q", "--release", "-p", "freehold-sandbox", "--example", "latency"])
        }
    })
}
