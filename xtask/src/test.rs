//! Everything that CI checks, in order: the cheap and frequent failures first. Each step prints its time; at the end
//! stand the tests that were skipped, counted and named.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{machine, run};

/// How a test says that it was skipped: a line of its own that starts with this word.
const SKIPPED: &str = "SKIPPED";

type Step = (&'static str, fn(&mut Vec<String>) -> Result<()>);

const STEPS: &[Step] = &[
    ("format", |_| run::checked(&mut run::cargo(&["fmt", "--all", "--check"]))),
    ("packages", |_| machine::install_packages()),
    ("clippy", |_| {
        run::checked(&mut run::cargo(&[
            "clippy",
            "-q",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    }),
    ("unit and property tests", unit_tests),
    ("documentation", |_| {
        let mut command = run::cargo(&["doc", "-q", "--workspace", "--no-deps", "--document-private-items"]);
        run::checked(command.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("end-to-end tests", end_to_end_tests),
];

/// Runs the steps whose names contain `only`, or all of them.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let start = Instant::now();
    let mut skipped = Vec::new();
    let mut done = 0;
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))) {
        println!("=== {name}");
        let step_start = Instant::now();
        step(&mut skipped).with_context(|| format!("step '{name}'"))?;
        println!("=== {name}: {:.0} s", step_start.elapsed().as_secs_f64());
        done += 1;
    }
    if done == 0 {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step has that in its name; the steps are: {}", names.join(", "));
    }
    println!("\n{} tests were skipped", skipped.len());
    for line in &skipped {
        println!("  {line}");
    }
    println!("{done} steps passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn unit_tests(skipped: &mut Vec<String>) -> Result<()> {
    let mut command = run::cargo(&["test", "-q", "--workspace", "--", "--show-output"]);
    command.env("FREEHOLD_TEST_RUNTIMES", node_path()?);
    run::watched(&mut command, |line| note_skip(line, skipped))
}

fn node_path() -> Result<OsString> {
    Ok(std::env::join_paths(machine::node_folders()?)?)
}

fn end_to_end_tests(skipped: &mut Vec<String>) -> Result<()> {
    run::checked(&mut run::cargo(&["build", "-q", "-p", "freehold"]))?;
    let binary = run::root().join("target/debug/freehold");
    let mut command =
        run::command(machine::python()?, &["-m", "pytest", "tests/e2e", "-q", "-rs", "--durations=10"]);
    command.env("FREEHOLD_BIN", binary).env("FREEHOLD_RUNTIME_FOLDERS", node_path()?);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run::watched(&mut command, |line| note_skip(line, skipped))
}

fn note_skip(line: &str, skipped: &mut Vec<String>) {
    if let Some(rest) = line.trim_start().strip_prefix(SKIPPED) {
        skipped.push(rest.trim().to_owned());
    }
}
