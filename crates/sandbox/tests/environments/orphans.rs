//! Nothing survives the server, however it ends: no process, cgroup, mount, namespace, loop device, file.
//!
//! The host has other processes, which come and go and make namespaces: a test knows its own by what their command lines
//! contain, and by who started them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use freehold_sandbox::spec::{Network, Sandbox, Spec};
use freehold_sandbox::{NamespaceSandbox, Options};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Host, long, options, shell, until};

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
        for number in 0..3 {
            let script = format!(": {number}; (setsid sleep {text} &); echo x > /tmp/x; sleep {text}");
            kept.push(sandbox.start(Spec { network, ..shell(&script) }).await.unwrap());
        }
        // Then each has a shell too, and nothing more happens in it.
        until("they run", || sleeping(text) == 6).await;
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
    /// What its environments' command lines contain.
    pub(crate) text: String,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with_network("isolated")
    }

    pub(crate) fn with_network(network: &str) -> Server {
        let text = long();
        let folder = crate::harness::folder();
        let state = folder.path().join("sandbox");
        let mut process = Command::new("/proc/self/exe")
            .args([SERVER_ARGUMENT, state.to_str().unwrap(), &text, network, crate::ordinary::kind()])
            .env("SERVER_SECRET", "secret")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server { process, folder, text }
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

    /// Kills the helper and the server, which must not have the time to start another. Nor does any other server of this host
    /// remove what they leave, for as long as what this gives is held.
    pub(crate) fn kill_both(&mut self) -> Option<Flock<File>> {
        // An ordinary user has no other server.
        let undisturbed = (crate::ordinary::kind() == "root").then(|| {
            let lock = File::options().write(true).open("/run/freehold/lock").unwrap();
            Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
        });
        let helper = self.helper();
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGSTOP).unwrap();
        kill(helper, Signal::SIGKILL).unwrap();
        self.kill();
        undisturbed
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn inside(&self) -> Inside {
        Inside::of(self.process.id())
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

/// How many processes of the host do nothing but sleep for this long.
pub(crate) fn sleeping(text: &str) -> usize {
    processes(text).into_iter().filter(|line| *line == format!("sleep {text} ")).count()
}

/// The namespaces that the processes below a server are in, and the server is not.
pub(crate) struct Inside {
    namespaces: BTreeSet<PathBuf>,
}

impl Inside {
    pub(crate) fn of(server: u32) -> Inside {
        let mut children = BTreeMap::<u32, Vec<u32>>::new();
        for process in every_process() {
            if let Some(fields) = stat(process) {
                children.entry(fields[1].parse().unwrap()).or_default().push(process);
            }
        }
        let (mut found, mut waiting) = (BTreeSet::new(), vec![server]);
        while let Some(process) = waiting.pop() {
            found.extend(namespaces(process));
            waiting.extend(children.remove(&process).unwrap_or_default());
        }
        let own = namespaces(std::process::id());
        let namespaces: BTreeSet<_> =
            found.into_iter().filter(|namespace| !own.contains(namespace)).collect();
        assert!(!namespaces.is_empty(), "there is none of its own");
        Inside { namespaces }
    }

    /// Waits until no process is in them any more. The kernel gives their numbers to others: who was started later than
    /// this is called is somebody else.
    async fn is_gone(&self) {
        let ended = ticks();
        let is_in = |process| {
            stat(process).is_some_and(|fields| fields[19].parse::<u64>().unwrap() <= ended)
                && namespaces(process).iter().any(|namespace| self.namespaces.contains(namespace))
        };
        until("the namespaces are gone", || !every_process().into_iter().any(is_in)).await;
    }
}

fn every_process() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The namespaces of a process; none if it is gone.
fn namespaces(process: u32) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{process}/ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

/// What `/proc/<pid>/stat` says after the name: state, parent, …, and as the twentieth when the process was started.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// The time in the unit of [`stat`]: hundredths of a second since the host was started.
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split(' ').next().unwrap().replace('.', "").parse().unwrap()
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

pub(crate) async fn nothing_is_left(text: &str, state: &Path, cgroups: &[PathBuf], inside: &Inside) {
    until("the processes are gone", || processes(text).is_empty()).await;
    until("the cgroups are gone", || !cgroups.iter().any(|folder| folder.exists())).await;
    until("the loop devices are gone", || loops(state) == 0).await;
    // The helper has one of its own, so that it is gone too.
    inside.is_gone().await;
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
    let host = Host::start();
    let state = host.folder.path().join("sandbox");
    let cgroups = recorded(&state);
    assert!(!cgroups.is_empty() && cgroups.iter().all(|folder| folder.exists()));
    let text = long();
    let mut running = host.run(shell(&format!("(setsid sleep {text} &); echo ready; sleep {text}"))).await;
    running.wait_for("ready").await;
    assert!(loops(&state) > 0);
    let inside = Inside::of(std::process::id());
    host.sandbox.shutdown().await;
    assert!(!cgroups.iter().any(|folder| folder.exists()), "shutdown returned too early");
    nothing_is_left(&text, &state, &cgroups, &inside).await;
}

async fn a_killed_server_leaves_nothing() {
    let mut server = Server::start();
    let cgroups = recorded(&server.state());
    assert!(cgroups.iter().all(|folder| folder.exists()) && loops(&server.state()) >= 3);
    let inside = server.inside();
    server.kill();
    nothing_is_left(&server.text, &server.state(), &cgroups, &inside).await;
}

async fn a_killed_server_and_helper_leave_only_what_the_next_start_removes() {
    let mut server = Server::start();
    let cgroups = recorded(&server.state());
    let inside = server.inside();
    let undisturbed = server.kill_both();
    until("the processes are gone", || processes(&server.text).is_empty()).await;
    inside.is_gone().await;
    until("the loop devices are gone", || loops(&server.state()) == 0).await;
    assert!(cgroups.iter().any(|folder| folder.exists()), "nothing was left to be removed");
    drop(undisturbed);
    let next = NamespaceSandbox::start(Options::new(server.state())).unwrap();
    let stale = cgroups.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let names: BTreeSet<_> =
        stale.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    // The new one's own blanks, at most two, are called e1, e2; the killed one had made at least five.
    assert!(names.len() <= 3, "{names:?}");
    let inside = Inside::of(std::process::id());
    next.shutdown().await;
    nothing_is_left(&server.text, &server.state(), &cgroups, &inside).await;
}

async fn two_servers_do_not_touch_each_other() {
    let mut first = Server::start();
    let count = processes(&first.text).len();
    let mut second = Server::start();
    second.kill();
    let state = second.state();
    until("the second is gone", || processes(&second.text).is_empty() && recorded(&state).is_empty()).await;
    assert_eq!(processes(&first.text).len(), count);
    assert!(recorded(&first.state()).iter().all(|folder| folder.exists()));
    first.kill();
    until("the first is gone", || processes(&first.text).is_empty()).await;
}

async fn what_a_dead_server_left_goes_even_without_its_folder() {
    let mut living = Server::start();
    let mut dead = Server::start();
    let cgroups = recorded(&dead.state());
    let undisturbed = dead.kill_both();
    until("the processes are gone", || processes(&dead.text).is_empty()).await;
    drop(dead);
    assert!(cgroups.iter().any(|folder| folder.exists()), "nothing was left to be removed");
    drop(undisturbed);
    let host = Host::start();
    assert!(!cgroups.iter().any(|folder| folder.exists()));
    assert!(recorded(&living.state()).iter().all(|folder| folder.exists()));
    host.end().await;
    living.kill();
    until("the other is gone", || processes(&living.text).is_empty()).await;
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
    let mut server = Server::start();
    let helper = server.helper();
    let environment = std::fs::read(format!("/proc/{helper}/environ")).unwrap();
    assert!(environment.is_empty(), "{environment:?}");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(helper, signal).unwrap();
    }
    // Only a helper notices that an environment has ended, and one that died would have been followed by another.
    let environments = || {
        let folders = recorded(&server.state());
        let inside = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        inside.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect::<BTreeSet<_>>()
    };
    let ending = every_process()
        .into_iter()
        .find(|process| {
            let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.starts_with("/bin/sh") && line.contains(": 2;") && line.contains(&server.text)
        })
        .unwrap();
    let before = environments();
    kill(Pid::from_raw(ending as i32), Signal::SIGKILL).unwrap();
    until("it was removed", || !before.is_subset(&environments())).await;
    assert_eq!(server.helper(), helper);
    assert_eq!(sleeping(&server.text), 4);
    server.kill();
    until("it is gone", || processes(&server.text).is_empty()).await;
}
