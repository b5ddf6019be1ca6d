//! How long the bootstraps take: from the start of the process to its first `next`, and one warm echo. A report, not a
//! check: `cargo test --release -p freehold-runtimes --test timing -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use freehold_runtimes::catalog::{Family, Installed};
use support::{Session, installed};

const STARTS: usize = 30;
const ECHOES: usize = 2_000;

const PYTHON: &[(&str, &str)] = &[("m.py", "def h(event, context):\n    return event\n")];
const COMMON_JS: &[(&str, &str)] = &[("m.js", "exports.h = async (event) => event;\n")];
const MODULE: &[(&str, &str)] = &[("m.mjs", "export const h = async (event) => event;\n")];

#[test]
#[ignore = "a report of times, not a check"]
fn report() {
    for found in installed(Family::Python) {
        measure(found, "", PYTHON);
    }
    for found in installed(Family::Node) {
        measure(found, "CommonJS", COMMON_JS);
        measure(found, "ES module", MODULE);
    }
}

fn measure(found: &Installed, kind: &str, files: &[(&str, &str)]) {
    let starts = times(STARTS, || {
        let mut session = Session::start(found, files, "m.h");
        session.ready();
        session.started.elapsed()
    });
    let mut session = Session::start(found, files, "m.h");
    let echoes = times(ECHOES, || {
        session.ready();
        let started = Instant::now();
        session.event(r#"{"name": "Alice"}"#);
        started.elapsed()
    });
    println!(
        "{:12} {kind:10} start to first next: median {:6.2} ms, least {:6.2} ms; echo: median {:6.3} ms, p99 {:6.3} ms",
        found.runtime.id,
        milliseconds(starts[STARTS / 2]),
        milliseconds(starts[0]),
        milliseconds(echoes[ECHOES / 2]),
        milliseconds(echoes[ECHOES * 99 / 100]),
    );
}

fn times(count: usize, mut run: impl FnMut() -> Duration) -> Vec<Duration> {
    let mut times: Vec<_> = (0..count).map(|_| run()).collect();
    times.sort();
    times
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
