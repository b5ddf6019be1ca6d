//! Everything that CI checks, in order: the cheap and frequent failures first. Each step prints its time. One that fails
//! keeps no other from being taken, so that one run shows everything that is wrong; at the end stand the tests that were
//! skipped, counted and named, and the steps and tests that failed.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{machine, run};

/// How a test says that it was skipped: a line of its own that starts with this word.
const SKIPPED: &str = "SKIPPED";

type Step = (&'static str, fn(&mut Told) -> Result<()>);

/// What the tests of all steps have told.
#[derive(Default)]
struct Told {
    skipped: Vec<String>,
    /// The names of the tests that failed in the step that is running.
    failed: Vec<String>,
}

/// A step that failed, why, and which of its tests did.
struct Failed {
    step: &'static str,
    reason: String,
    tests: Vec<String>,
}

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

/// Runs the steps whose names contain `only`, or all of them. An error names those that failed.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let start = Instant::now();
    let chosen: Vec<Step> =
        STEPS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))).copied().collect();
    if chosen.is_empty() {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step has that in its name; the steps are: {}", names.join(", "));
    }
    let mut told = Told::default();
    let failed = take(&chosen, &mut told);
    println!("\n{} tests were skipped", told.skipped.len());
    told.skipped.iter().for_each(|line| println!("  {line}"));
    let passed = chosen.len() - failed.len();
    println!("{passed} of {} steps passed in {:.0} s", chosen.len(), start.elapsed().as_secs_f64());
    if failed.is_empty() {
        return Ok(());
    }
    bail!("what failed:\n{}", summary(&failed))
}

/// Takes every step, whatever became of those before.
fn take(steps: &[Step], told: &mut Told) -> Vec<Failed> {
    let mut failed = Vec::new();
    for (name, step) in steps {
        println!("=== {name}");
        let start = Instant::now();
        let result = step(told);
        let tests = std::mem::take(&mut told.failed);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("=== {name}: {took:.0} s"),
            Err(error) => {
                println!("=== {name}: FAILED after {took:.0} s: {error:#}");
                failed.push(Failed { step: name, reason: format!("{error:#}"), tests });
            }
        }
    }
    failed
}

/// A line for each step, with a line for each of its tests below.
fn summary(failed: &[Failed]) -> String {
    let mut lines = Vec::new();
    for Failed { step, reason, tests } in failed {
        lines.push(format!("  {step}: {reason}"));
        lines.extend(tests.iter().map(|test| format!("    {test}")));
    }
    lines.join("\n")
}

fn unit_tests(told: &mut Told) -> Result<()> {
    let mut command = run::cargo(&["test", "-q", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    command.env("FREEHOLD_TEST_RUNTIMES", node_path()?);
    let mut report = Report::default();
    let result = run::watched(&mut command, |line| {
        note_skip(line, &mut told.skipped);
        report.shows(line)
    });
    told.failed = report.names();
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

    /// The tests that failed, by the lines above what each has said: `---- name stdout ----`.
    fn names(&self) -> Vec<String> {
        let headings =
            self.failures.iter().filter_map(|line| line.strip_prefix("---- ")?.strip_suffix(" ----"));
        headings.map(|name| name.strip_suffix(" stdout").unwrap_or(name).to_owned()).collect()
    }
}

fn node_path() -> Result<OsString> {
    Ok(std::env::join_paths(machine::node_folders()?)?)
}

fn end_to_end_tests(told: &mut Told) -> Result<()> {
    run::checked(&mut run::cargo(&["build", "-q", "-p", "freehold"]))?;
    let binary = run::root().join("target/debug/freehold");
    let mut command =
        run::command(machine::python()?, &["-m", "pytest", "tests/e2e", "-q", "-rfEs", "--durations=10"]);
    command.env("FREEHOLD_BIN", binary).env("FREEHOLD_RUNTIME_FOLDERS", node_path()?);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run::watched(&mut command, |line| {
        note_skip(line, &mut told.skipped);
        told.failed.extend(end_to_end_failure(line));
        true
    })
}

/// The name of a test in a line of pytest's last summary, if it says that the test failed.
fn end_to_end_failure(line: &str) -> Option<String> {
    let rest = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "))?;
    let name = rest.split(" - ").next().unwrap_or(rest);
    name.starts_with("tests/").then(|| name.to_owned())
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
        assert_eq!(report.names(), ["bad"]);
        // A harness of its own has no output to tell apart.
        for line in ["failures:", "---- worse ----", "test result: FAILED"] {
            report.shows(line);
        }
        assert_eq!(report.names(), ["bad", "worse"]);
    }

    #[test]
    fn end_to_end_failures_are_known_by_their_lines() {
        let line = "FAILED tests/e2e/test_api.py::test_delete[a b] - AssertionError: 1 - 2";
        assert_eq!(end_to_end_failure(line).as_deref(), Some("tests/e2e/test_api.py::test_delete[a b]"));
        assert_eq!(end_to_end_failure("ERROR tests/e2e/x.py::y").as_deref(), Some("tests/e2e/x.py::y"));
        assert_eq!(end_to_end_failure("ERROR freehold: a line of a server's"), None);
        assert_eq!(end_to_end_failure("SKIPPED [1] tests/e2e/x.py:1: why"), None);
    }

    #[test]
    fn a_failing_step_keeps_no_other_from_being_taken() {
        let steps: [Step; 4] = [
            ("first", |told| {
                told.failed = vec!["one::test".to_owned(), "another".to_owned()];
                bail!("exit status 101")
            }),
            ("second", |told| {
                told.skipped.push("a test: why".to_owned());
                Ok(())
            }),
            ("third", |_| bail!("no compiler")),
            ("fourth", |told| {
                told.skipped.push("another: why".to_owned());
                Ok(())
            }),
        ];
        let mut told = Told::default();
        let failed = take(&steps, &mut told);
        assert_eq!(
            summary(&failed),
            "  first: exit status 101\n    one::test\n    another\n  third: no compiler"
        );
        assert_eq!(told.skipped, ["a test: why", "another: why"]);
    }
}
