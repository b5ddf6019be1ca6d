//! The helper is killed, not the server: its environments end, everything is cleaned up, and the next one can be made.

use std::path::PathBuf;

use freehold_sandbox::HELPER_ARGUMENT;
use freehold_sandbox::spec::{Exit, Sandbox, SandboxError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Host, long, shell, until};
use crate::orphans::{processes, recorded};

crate::cases![
    a_killed_helper_is_replaced,
    a_shutdown_after_the_helpers_death_leaves_nothing,
    a_helper_that_dies_again_and_again_is_given_up,
];

/// How often a helper is replaced within a minute.
const RESTARTS_MAX: usize = 5;

/// This process's helper, if there is one that lives.
fn helper() -> Option<Pid> {
    let parent = format!("PPid:\t{}\n", std::process::id());
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_it = status.contains(&parent) && command.contains(HELPER_ARGUMENT);
        is_it.then(|| Pid::from_raw(entry.file_name().to_str().unwrap().parse().unwrap()))
    })
}

async fn kill_helper() {
    until("there is a helper", || helper().is_some()).await;
    let old = helper().unwrap();
    kill(old, Signal::SIGKILL).unwrap();
    until("it has gone", || helper() != Some(old)).await;
}

async fn a_killed_helper_is_replaced() {
    let host = Host::start();
    let state = host.folder.path().join("sandbox");
    let text = long();
    let mut running = host.run(shell(&format!("echo ready; sleep {text}"))).await;
    running.wait_for("ready").await;
    let cgroups = entries(&recorded(&state));
    kill_helper().await;
    assert_eq!(running.environment.exited().await, Exit::Killed);
    until("the processes are gone", || processes(&text).is_empty()).await;
    assert_eq!(host.shell("echo fine").await, (Exit::Status(0), "fine\n".to_owned()));
    host.end().await;
    assert!(!cgroups.iter().any(|folder| folder.exists()), "cgroups are left: {cgroups:?}");
}

async fn a_shutdown_after_the_helpers_death_leaves_nothing() {
    let host = Host::start();
    let state = host.folder.path().join("sandbox");
    let text = long();
    let mut running = host.run(shell(&format!("echo ready; sleep {text}"))).await;
    running.wait_for("ready").await;
    let cgroups = recorded(&state);
    assert!(cgroups.iter().all(|folder| folder.exists()));
    kill_helper().await;
    host.sandbox.shutdown().await;
    assert!(!cgroups.iter().any(|folder| folder.exists()), "cgroups are left: {cgroups:?}");
    assert!(processes(&text).is_empty() && helper().is_none());
}

async fn a_helper_that_dies_again_and_again_is_given_up() {
    let host = Host::start();
    for _ in 0..RESTARTS_MAX {
        kill_helper().await;
        assert_eq!(host.shell("echo fine").await.1, "fine\n");
    }
    kill_helper().await;
    host.sandbox.ended().await;
    let refused = host.sandbox.start(shell("true")).await;
    assert!(matches!(refused, Err(SandboxError::HelperGone)));
}

/// The folders in these folders.
fn entries(folders: &[PathBuf]) -> Vec<PathBuf> {
    let inside = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    inside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
