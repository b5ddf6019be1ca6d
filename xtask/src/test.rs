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
    let mut command = run::cargo(&["test", "-q", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    command.env("FREEHOLD_TEST_RUNTIMES", node_path()?);
    let mut report = Report::default();
    let result = run::watched(&mut command, |line| {
        note_skip(line, skipped);
        report.shows(line)
    });
    if result.is_err() {
        println!("\n=== what failed, once more\n{}", report.failures.join("\n"));
    }
    result
}

/// Reads what `cargo test -q -- --show-output` prints: what tests that passed have printed is not worth showing, what
/// failed is worth showing again at the end.
#[derive(Default)]
struct Report {
    part: Part,
    failures: Vec<String>,
}

#[derive(Default, PartialEq)]
enum Part {
    #[default]
    Progress,
    Successes,
    Failures,
}

impl Report {
    /// Whether a line is to be shown.
    fn shows(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            _ if line.starts_with("test result:") || line.starts_with("running ") => {
                self.part = Part::Progress
            }
            _ => {}
        }
        if self.part == Part::Failures {
            self.failures.push(line.to_owned());
        }
        let empty = line.is_empty() || line.starts_with("running 0 tests") || line.contains(" ok. 0 passed");
        self.part == Part::Failures || (self.part == Part::Progress && !empty)
    }
}

fn node_path() -> Result<OsString> {
    Ok(std::env::join_paths(machine::node_folders()?)?)
}

fn end_to_end_tests(skipped: &mut Vec<String>) -> Result<()> {
    run::checked(&mut run::cargo(&["build", "-q", "-p", "freehold"]))?;
    let binary = run::root().join("target/debug/freehold");
    let mut command =
        run::command(machine::python()?, &["-m", "pytest", "tests/e2e", "-q", "-rfEs", "--durations=10"]);
    command.env("FREEHOLD_BIN", binary).env("FREEHOLD_RUNTIME_FOLDERS", node_path()?);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run::watched(&mut command, |line| {
        note_skip(line, skipped);
        true
    })
}

fn note_skip(line: &str, skipped: &mut Vec<String>) {
    if let Some(rest) = line.trim_start().strip_prefix(SKIPPED) {
        skipped.push(rest.trim().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_shown_and_kept_and_what_passed_printed_is_not() {
        let lines = [
            "running 2 tests",
            ".F",
            "",
            "successes:",
            "---- good stdout ----",
            "panicked at",
            "failures:",
            "---- bad stdout ----",
            "why",
            "test result: FAILED. 1 passed",
            "",
            "running 0 tests",
        ];
        let mut report = Report::default();
        let shown: Vec<_> = lines.into_iter().filter(|line| report.shows(line)).collect();
        assert_eq!(
            shown,
            [
                "running 2 tests",
                ".F",
                "failures:",
                "---- bad stdout ----",
                "why",
                "test result: FAILED. 1 passed"
            ]
        );
        assert_eq!(report.failures, ["failures:", "---- bad stdout ----", "why"]);
    }
}
