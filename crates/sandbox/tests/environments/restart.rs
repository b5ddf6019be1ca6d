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
    a_killed_nursery_is_replaced,
    many_at_once_are_all_made,
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

/// The process that inits are forked from, a child of the helper by a name of its own.
fn nursery() -> Option<Pid> {
    let helper = helper()?;
    std::fs::read_to_string(format!("/proc/{helper}/task/{helper}/children"))
        .ok()?
        .split_whitespace()
        .find(|child| {
            std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "freehold-nurs\n")
        })
        .map(|child| Pid::from_raw(child.parse().unwrap()))
}

async fn a_killed_nursery_is_replaced() {
    let host = Host::start();
    until("there is a nursery", || nursery().is_some()).await;
    let mut running = host.run(shell("echo ready; read line; echo $line")).await;
    running.wait_for("ready").await;
    let old = nursery().unwrap();
    kill(old, Signal::SIGKILL).unwrap();
    until("it has gone", || nursery() != Some(old)).await;
    // More than stood ready: some are made by another one.
    for _ in 0..8 {
        assert_eq!(host.shell("echo fine").await.1, "fine\n");
    }
    assert_ne!(nursery(), Some(old));
    // What it had forked before is not its child, and goes on.
    assert_eq!(running.finish().await.0, Exit::Status(0));
    host.end().await;
}

async fn many_at_once_are_all_made() {
    const COUNT: usize = 60;
    let host = Host::start();
    let sandbox = &host.sandbox;
    let starts = (0..COUNT).map(|number| {
        let mut spec = shell("echo fine");
        // Of three kinds: only the first is made ahead of need.
        spec.tmp_mib += [0, 0, 0, 8, 16][number % 5];
        tokio::spawn({
            let sandbox = sandbox.clone();
            async move { sandbox.start(spec).await }
        })
    });
    let mut environments = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        environments.push(start.await.unwrap().unwrap());
    }
    for (environment, _) in &environments {
        assert_eq!(environment.exited().await, Exit::Status(0));
    }
    let cgroups = recorded(&host.folder.path().join("sandbox"));
    drop(environments);
    // Of those that were made, none but the blanks is left, and of these no more than are kept after such a rush.
    until("they are removed", || entries(&cgroups).len() <= 33 * cgroups.len()).await;
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
