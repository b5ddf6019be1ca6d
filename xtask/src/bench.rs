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
    let (package, bench) = match name {
        Name::Invoke => ("freehold", "invoke"),
        Name::Store => ("freehold-store", "store"),
        Name::Sandbox => ("freehold-sandbox", "sandbox"),
    };
    run::checked(&mut run::cargo(&["build", "--release", "-p", "freehold"]))?;
    run::checked(&mut run::cargo(&["bench", "-q", "-p", package, "--bench", bench]))
}
