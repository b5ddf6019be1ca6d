//! A process that writes under load is killed, or its disk loses power, again and again: every acknowledged write is
//! there, nothing is half-applied, nothing is there twice.
//!
//! ```text
//! test ── starts itself in a mount namespace of its own ──> rounds ── starts itself ──> writer
//!                                                             └─ kill -9, or the disk is cut off; check; again
//! ```
//!
//! - `workload`: what is written and how it is checked: `transactions`, `leases`, `timers`, `queues`, `logs`, `bulk`
//! - `disk`: a disk that loses power
//! - `round`: one kill
//! - here: the rounds, their seeds, and the summary
//!
//! `cargo xtask bench crash [--kills N] [--seed S]` runs the same with more kills. A failing round's folder is kept and
//! named, with the seed that leads to it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash/bulk.rs"]
mod bulk;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/leases.rs"]
mod leases;
#[path = "crash/logs.rs"]
mod logs;
#[path = "crash/queues.rs"]
mod queues;
#[path = "crash/round.rs"]
mod round;
#[path = "crash/timers.rs"]
mod timers;
#[path = "crash/transactions.rs"]
mod transactions;
#[path = "crash/workload.rs"]
mod workload;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use round::{Random, Subject};
use workload::Workload;

/// Kills in the test; the full run makes more.
const KILLS: u64 = 50;
/// The seed of the test. The full run's is random unless it is given.
const SEED: u64 = 0x5EED;
/// Kills that one store goes through; then a new one is begun, so that making it is killed too.
const KILLS_OF_A_STORE: u64 = 12;

const KILLS_VARIABLE: &str = "FREEHOLD_TEST_CRASH_KILLS";
const SEED_VARIABLE: &str = "FREEHOLD_TEST_CRASH_SEED";
const POWER_VARIABLE: &str = "FREEHOLD_TEST_CRASH_POWER";

/// Says a line that the harness doesn't keep to itself.
fn say(line: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{line}").unwrap();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Starts the rounds in a process that can lose power, where that is possible.
fn start_rounds(kills: u64, seed: u64) {
    let program = std::env::current_exe().unwrap();
    let private = disk::private(&program);
    if private.is_none() {
        say(
            "SKIPPED the loss of power: it needs root, loop devices, unshare, mkfs.ext4 and python3; kills only",
        );
    }
    let power = if private.is_some() { "yes" } else { "no" };
    let mut command = private.unwrap_or_else(|| Command::new(&program));
    command.args(["--ignored", "--exact", "rounds", "--nocapture"]);
    command.env(KILLS_VARIABLE, kills.to_string()).env(SEED_VARIABLE, seed.to_string());
    assert!(command.env(POWER_VARIABLE, power).status().unwrap().success(), "see above");
}

#[test]
fn what_was_acknowledged_survives_kills_and_losses_of_power() {
    start_rounds(KILLS, SEED);
}

#[test]
#[ignore = "the full run: cargo xtask bench crash"]
fn full_run() {
    let seed = number(SEED_VARIABLE)
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    start_rounds(number(KILLS_VARIABLE).unwrap_or(1_000), seed);
}

#[test]
#[ignore = "the process that is killed; run by the rounds"]
fn writer_process() {
    tokio::runtime::Runtime::new().unwrap().block_on(round::write());
}

#[test]
#[ignore = "run by the tests above, in a mount namespace of its own"]
fn rounds() {
    let (kills, seed) = (number(KILLS_VARIABLE).unwrap(), number(SEED_VARIABLE).unwrap());
    let power = std::env::var(POWER_VARIABLE).is_ok_and(|power| power == "yes");
    let (mut done, mut losses, mut found) = (0, 0, 0);
    let mut acknowledged = BTreeMap::<Workload, u64>::new();
    while done < kills {
        // Each store has a seed of its own, so that its rounds can be made again without those before.
        let store_seed = seed.wrapping_add(done);
        let home = tempfile::Builder::new().prefix("freehold-crash-").tempdir().unwrap();
        let mut subject = Subject::new(home.path(), power).unwrap();
        let mut random = Random(store_seed);
        for round in 0..KILLS_OF_A_STORE.min(kills - done) {
            match subject.round(&mut random) {
                Ok(round) => {
                    losses += u64::from(round.power);
                    for (workload, steps) in round.acknowledged {
                        *acknowledged.entry(workload).or_default() += steps;
                    }
                    found += round.found;
                }
                Err(error) => {
                    drop(subject);
                    let kept = home.keep();
                    panic!("seed {store_seed}, round {round}: {error}; kept in {}", kept.display());
                }
            }
            done += 1;
            if done.is_multiple_of(100) {
                say(&format!("{done} of {kills} kills"));
            }
        }
    }
    assert!(Workload::ALL.iter().all(|workload| acknowledged.contains_key(workload)), "{acknowledged:?}");
    let each: Vec<String> =
        acknowledged.iter().map(|(workload, steps)| format!("{} {steps}", workload.name())).collect();
    say(&format!(
        "crash suite, seed {seed}: {done} kills, of them {losses} with loss of power; {} steps acknowledged ({}), \
         {found} transactions found; lost = 0, duplicated = 0, half-applied = 0",
        acknowledged.values().sum::<u64>(),
        each.join(", "),
    ));
}
