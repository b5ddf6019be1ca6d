//! Nothing survives the server, however it ends: no process, cgroup, mount, namespace, loop device, file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use freehold_sandbox::spec::{Network, Sandbox, Spec};
use freehold_sandbox::{NamespaceSandbox, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Host, options, shell, until};

/// The argument with which this program becomes a server to be killed: a state folder, a text for command lines and the network follow.
pub(crate) const SERVER_ARGUMENT: &str = "sandbox-test-server";

crate::cases![
    a_normal_stop_leaves_nothing,
    a_killed_server_leaves_nothing,
    a_killed_server_and_helper_leave_only_what_the_next_start_removes,
    two_servers_do_not_touch_each_other,
    what_a_dead_server_left_goes_even_without_its_folder,
    one_folder_has_one_server,
    a_terminal_signal_does_not_end_the_helper,
];

/// A server with three environments, one of them frozen, that waits to be killed.
pub(crate) fn server(arguments: &[String]) -> ! {
    let [folder, text, network, kind] = arguments else { std::process::exit(2) };
    crate::ordinary::become_kind(kind);
    let network = if network == "internet" { Network::Internet } else { Network::Isolated };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut options = Options { network, ..options(folder) };
        options.internet.resolvers = vec![[192, 0, 2, 53].into()];
        let sandbox = NamespaceSandbox::start(options).unwrap();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let script = format!("(setsid sleep {text} &); echo x > /tmp/x; sleep {text}");
            kept.push(sandbox.start(Spec { network, ..shell(&script) }).await.unwrap());
        }
        until("they run", || processes(text).len() >= 9).await;
        kept[0].0.freeze().await.unwrap();
        println!("ready");
        std::future::pending::<()>().await;
    });
    std::process::exit(0)
}

/// A server in a process of its own.
pub(crate) struct Server {
    process: Child,
    pub(crate) folder: tempfile::TempDir,
    text: String,
}

impl Server {
    pub(crate) fn start(text: &str) -> Server {
        Server::with_network(text, "isolated")
    }

    pub(crate) fn with_network(text: &str, network: &str) -> Server {
        let folder = crate::harness::folder();
        let state = folder.path().join("sandbox");
        let mut process = Command::new("/proc/self/exe")
            .args([SERVER_ARGUMENT, state.to_str().unwrap(), text, network, crate::ordinary::kind()])
            .env("SERVER_SECRET", "secret")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server { process, folder, text: text.to_owned() }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("sandbox")
    }

    pub(crate) fn helper(&self) -> Pid {
        let parent = format!("PPid:\t{}\n", self.process.id());
        let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
            std::fs::read_to_string(entry.path().join("status")).is_ok_and(|status| status.contains(&parent))
        });
        Pid::from_raw(found.expect("a helper").file_name().to_str().unwrap().parse().unwrap())
    }

    /// Kills the helper and the server, which must not have the time to start another.
    pub(crate) fn kill_both(&mut self) {
        let helper = self.helper();
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGSTOP).unwrap();
        kill(helper, Signal::SIGKILL).unwrap();
        self.kill();
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One that a failed test leaves running would fail others.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processes of the host with this text in their command line, but for the server itself.
pub(crate) fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) && !line.contains(SERVER_ARGUMENT) {
            found.push(line);
        }
    }
    found
}

/// The namespaces of all processes of the host.
pub(crate) fn namespaces() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for entry in std::fs::read_dir(process.path().join("ns")).into_iter().flatten().flatten() {
            found.extend(std::fs::read_link(entry.path()));
        }
    }
    found
}

/// The cgroup folders that this state folder's record names.
pub(crate) fn recorded(state: &Path) -> Vec<PathBuf> {
    std::fs::read_to_string(state.join("cgroups")).unwrap_or_default().lines().map(PathBuf::from).collect()
}

/// Loop devices whose file lies in this folder, also if it has no name any more.
fn loops(folder: &Path) -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files =
        devices.filter_map(|entry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(folder.to_str().unwrap())).count()
}

pub(crate) async fn nothing_is_left(
    text: &str,
    state: &Path,
    cgroups: &[PathBuf],
    before: &BTreeSet<PathBuf>,
) {
    until("the processes are gone", || processes(text).is_empty()).await;
    until("the cgroups are gone", || !cgroups.iter().any(|folder| folder.exists())).await;
    until("the loop devices are gone", || loops(state) == 0).await;
    until("the namespaces are gone", || namespaces().is_subset(before)).await;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(state.to_str().unwrap()), "{mounts}");
    let left: BTreeSet<_> =
        std::fs::read_dir(state).unwrap().flatten().map(|entry| entry.file_name()).collect();
    // An ordinary user without a folder in /run has the record here.
    let allowed: BTreeSet<_> = ["lock".into(), "stage".into(), "registry".into()].into();
    assert!(left.is_subset(&allowed), "{left:?}");
    assert_eq!(std::fs::read_dir(state.join("stage")).unwrap().count(), 0);
}

async fn a_normal_stop_leaves_nothing() {
    let before = namespaces();
    let host = Host::start();
    let state = host.folder.path().join("sandbox");
    let cgroups = recorded(&state);
    assert!(!cgroups.is_empty() && cgroups.iter().all(|folder| folder.exists()));
    let mut running = host.run(shell("(setsid sleep 31415 &); echo ready; sleep 31415")).await;
    running.wait_for("ready").await;
    assert!(loops(&state) > 0 && !namespaces().is_subset(&before));
    host.sandbox.shutdown().await;
    assert!(!cgroups.iter().any(|folder| folder.exists()), "shutdown returned too early");
    nothing_is_left("31415", &state, &cgroups, &before).await;
}

async fn a_killed_server_leaves_nothing() {
    let before = namespaces();
    let mut server = Server::start("27182");
    let cgroups = recorded(&server.state());
    assert!(cgroups.iter().all(|folder| folder.exists()) && loops(&server.state()) >= 3);
    server.kill();
    nothing_is_left(&server.text, &server.state(), &cgroups, &before).await;
}

async fn a_killed_server_and_helper_leave_only_what_the_next_start_removes() {
    let before = namespaces();
    let mut server = Server::start("16180");
    let cgroups = recorded(&server.state());
    server.kill_both();
    until("the processes are gone", || processes(&server.text).is_empty()).await;
    until("the namespaces are gone", || namespaces().is_subset(&before)).await;
    until("the loop devices are gone", || loops(&server.state()) == 0).await;
    assert!(cgroups.iter().any(|folder| folder.exists()), "nothing was left to be removed");
    let next = NamespaceSandbox::start(Options::new(server.state())).unwrap();
    let stale = cgroups.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let names: BTreeSet<_> =
        stale.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    // The new one's own blanks, at most two, are called e1, e2; the killed one had made at least five.
    assert!(names.len() <= 3, "{names:?}");
    next.shutdown().await;
    nothing_is_left(&server.text, &server.state(), &cgroups, &before).await;
}

async fn two_servers_do_not_touch_each_other() {
    let mut first = Server::start("14142");
    let count = processes("14142").len();
    let mut second = Server::start("17320");
    second.kill();
    let state = second.state();
    until("the second is gone", || processes("17320").is_empty() && recorded(&state).is_empty()).await;
    assert_eq!(processes("14142").len(), count);
    assert!(recorded(&first.state()).iter().all(|folder| folder.exists()));
    first.kill();
    until("the first is gone", || processes("14142").is_empty()).await;
}

async fn what_a_dead_server_left_goes_even_without_its_folder() {
    let mut living = Server::start("22360");
    let mut dead = Server::start("24494");
    let cgroups = recorded(&dead.state());
    dead.kill_both();
    until("the processes are gone", || processes("24494").is_empty()).await;
    drop(dead);
    assert!(cgroups.iter().any(|folder| folder.exists()), "nothing was left to be removed");
    let host = Host::start();
    assert!(!cgroups.iter().any(|folder| folder.exists()));
    assert!(recorded(&living.state()).iter().all(|folder| folder.exists()));
    host.end().await;
    living.kill();
    until("the other is gone", || processes("22360").is_empty()).await;
}

async fn one_folder_has_one_server() {
    let host = Host::start();
    let second = options(host.folder.path().join("sandbox"));
    let second = tokio::task::spawn_blocking(|| NamespaceSandbox::start(second).map(drop)).await.unwrap();
    assert!(second.unwrap_err().to_string().contains("another server uses this folder"));
    assert_eq!(host.shell("echo fine").await.1, "fine\n");
    host.end().await;
}

async fn a_terminal_signal_does_not_end_the_helper() {
    let mut server = Server::start("22360");
    let helper = server.helper();
    let environment = std::fs::read(format!("/proc/{helper}/environ")).unwrap();
    assert!(environment.is_empty(), "{environment:?}");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(helper, signal).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(processes("22360").len() >= 9);
    server.kill();
    until("it is gone", || processes("22360").is_empty()).await;
}
