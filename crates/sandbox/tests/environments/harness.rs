//! Runs the tests one after the other, and what they share.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_sandbox::spec::{Beginning, Channels, Companions, Environment, Exit, Network, Sandbox, Spec};
use freehold_sandbox::{NamespaceSandbox, Options};
use tokio::io::AsyncReadExt;

/// How long anything may take before it counts as stuck, on a machine whose processors and disks are busy with much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// A test's name and body.
pub(crate) type Case = (&'static str, Test);

/// What panics have said since this was emptied last.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes a list of cases from async functions.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::harness::Case] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}

/// Runs those whose name contains one of the filters; gives the exit status.
pub(crate) fn run(tests: &[Case], arguments: &[String]) -> i32 {
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    let chosen = chosen(tests, arguments);
    note_panics();
    println!("running {} tests", chosen.len());
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        PANICS.lock().unwrap().clear();
        let since = Instant::now();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, test()).await.expect("stuck") });
        }));
        runtime.shutdown_timeout(Duration::from_secs(5));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", since.elapsed().as_millis());
        if outcome.is_err() {
            failed.push((*name, std::mem::take(&mut *PANICS.lock().unwrap())));
        }
    }
    tell(chosen.len(), &failed);
    i32::from(!failed.is_empty())
}

/// Names the tests that need root.
pub(crate) fn skip(tests: &[Case], arguments: &[String]) {
    chosen(tests, arguments).iter().for_each(|(name, _)| println!("SKIPPED {name}: needs root"));
}

fn chosen<'a>(tests: &'a [Case], arguments: &[String]) -> Vec<&'a Case> {
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    tests.iter().filter(|(name, _)| is_chosen(name)).collect()
}

/// Notes what panics say, of whatever thread, beside having it printed.
fn note_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
        print(panic);
    }));
}

/// Says what failed and why, as the built-in harness does: whoever runs all tests finds it by that.
fn tell(count: usize, failed: &[(&str, Vec<String>)]) {
    if !failed.is_empty() {
        println!("\nfailures:\n");
        for (name, panics) in failed {
            println!("---- {name} ----\n{}\n", panics.join("\n"));
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {} failed", count - failed.len(), failed.len());
}

/// A duration in seconds, longer than any test, that no other process of this host has in its command line.
pub(crate) fn long() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("86400.{:07}{:03}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A temporary folder on a disk: `/tmp` may be a tmpfs, on which the files behind loop devices have no name to be found by.
pub(crate) fn folder() -> tempfile::TempDir {
    match nix::unistd::geteuid().is_root() {
        true => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        // Who needs no loop devices.
        false => tempfile::tempdir().unwrap(),
    }
}

/// The defaults, but for what an ordinary user has to do without.
pub(crate) fn options(state: impl Into<PathBuf>) -> Options {
    let mut options = Options::new(state);
    crate::ordinary::do_without(&mut options);
    options
}

/// A sandbox with a state folder of its own.
pub(crate) struct Host {
    pub(crate) sandbox: Arc<NamespaceSandbox>,
    pub(crate) folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn start() -> Host {
        Host::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Host {
        let folder = folder();
        let mut options = options(folder.path().join("sandbox"));
        change(&mut options);
        Host { sandbox: NamespaceSandbox::start(options).unwrap(), folder }
    }

    pub(crate) async fn run(&self, spec: Spec) -> Running {
        let (environment, channels) = self.sandbox.start(spec).await.unwrap();
        Running::new(environment, channels)
    }

    /// Runs a shell script to its end; gives how it ended and what it wrote.
    pub(crate) async fn shell(&self, script: &str) -> (Exit, String) {
        self.run(shell(script)).await.finish().await
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        self.sandbox.shutdown().await;
    }
}

/// A running environment and its output.
pub(crate) struct Running {
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) output: tokio::net::unix::pipe::Receiver,
    pub(crate) companions_output: Option<tokio::net::unix::pipe::Receiver>,
    pub(crate) listeners: Vec<OwnedFd>,
}

impl Running {
    fn new(environment: Arc<dyn Environment>, channels: Channels) -> Running {
        let output = tokio::net::unix::pipe::Receiver::from_owned_fd(channels.output).unwrap();
        let companions_output = channels
            .companions_output
            .map(|output| tokio::net::unix::pipe::Receiver::from_owned_fd(output).unwrap());
        Running { environment, output, companions_output, listeners: channels.listeners }
    }

    /// Waits for the end.
    pub(crate) async fn finish(mut self) -> (Exit, String) {
        let mut text = Vec::new();
        let exit = tokio::time::timeout(PATIENCE, async {
            self.output.read_to_end(&mut text).await.unwrap();
            self.environment.exited().await
        });
        let exit = exit.await.expect("the program did not end");
        (exit, String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until the output contains `text`; gives all of it so far.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        tokio::time::timeout(PATIENCE, async {
            while !String::from_utf8_lossy(&seen).contains(text) {
                let mut buffer = [0; 4096];
                let length = self.output.read(&mut buffer).await.unwrap();
                assert!(length > 0, "the output ended without {text:?}: {}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&buffer[..length]);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {text:?} in {}", String::from_utf8_lossy(&seen)));
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A program with the usual limits.
pub(crate) fn program(program: &str, arguments: &[&str]) -> Spec {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    Spec {
        beginning: Beginning::Program,
        name: format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        mounts: vec![],
        files: vec![],
        program: program.into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        variables: vec![("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin".to_owned())],
        working_directory: PathBuf::from("/"),
        memory_mib: 128,
        tmp_mib: 512,
        cpu_millis: 72,
        network: Network::Isolated,
        listeners: vec![],
        companions: Companions::default(),
    }
}

/// A shell script.
pub(crate) fn shell(script: &str) -> Spec {
    program("/bin/sh", &["-c", script])
}

/// A Python script; isolated, so that nothing of the environment is imported.
pub(crate) fn python(script: &str) -> Spec {
    program("/usr/bin/python3", &["-I", "-c", script])
}
