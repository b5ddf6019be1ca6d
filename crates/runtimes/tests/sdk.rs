//! Fetching an SDK, with a stand-in for the interpreter whose `pip` does what each test says: what is seen meanwhile and
//! afterwards. The real package managers are in the end-to-end tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use freehold_runtimes::catalog::{Installed, known};
use freehold_runtimes::sdk::{Sdks, fetch::FetchError};

/// The start of a `pip` that knows where it is to put things; `$target` is that folder.
const PIP: &str = "#!/bin/sh
if [ \"$3\" = --version ]; then exit 0; fi
while [ $# -gt 0 ]; do if [ \"$1\" = --target ]; then target=$2; fi; shift; done
";

struct Machine {
    folder: tempfile::TempDir,
    sdks: Sdks,
}

/// By another process: a program that this one has open for writing while another test starts a child cannot be run.
fn write_program(file: &Path, text: &str) {
    let script = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    assert!(Command::new("sh").args(["-c", script]).arg(file).arg(text).status().unwrap().success());
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sdks = Sdks::new(folder.path().join("data/runtimes"));
        Self { folder, sdks }
    }

    /// A Python whose `pip install` runs this.
    fn python(&self, install: &str) -> Installed {
        let executable = self.folder.path().join("python");
        write_program(&executable, &format!("{PIP}{install}\n"));
        Installed {
            runtime: known().iter().find(|runtime| runtime.id == "python3.12").unwrap().clone(),
            version: "3.12.1".into(),
            executable,
            prefix: "/usr".into(),
            program: "/usr/bin/python3.12".into(),
            mounts: Vec::new(),
            options: Vec::new(),
            files: Vec::new(),
        }
    }

    fn entries(&self) -> Vec<PathBuf> {
        let place = self.folder.path().join("data/runtimes/python3.12");
        std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn what_was_fetched_is_whole_and_readable_by_all() {
    let machine = Machine::new();
    let python =
        machine.python("umask 077; mkdir $target/boto3 $target/bin; echo x > $target/boto3/__init__.py");
    let mut told = Vec::new();
    let fetched = machine.sdks.fetch(&python, &mut |text| told.push(text.to_owned())).unwrap();
    assert!(fetched.was_missing && fetched.sdk.is_pinned, "{fetched:?}");
    assert!(told[0].starts_with("fetching boto3 1."), "{told:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let package = fetched.sdk.folder.join("boto3");
    assert_eq!((mode(&fetched.sdk.folder), mode(&package)), (0o755, 0o755));
    assert_eq!(mode(&package.join("__init__.py")), 0o644);
    assert!(!fetched.sdk.folder.join("bin").exists(), "scripts of the packages");
    assert_eq!(machine.sdks.mount(&python).unwrap().source, fetched.sdk.folder);

    let again = machine.sdks.fetch(&machine.python("exit 9"), &mut |_| ()).unwrap();
    assert!(!again.was_missing, "it is there");
}

#[test]
fn what_breaks_off_is_never_seen_and_leaves_what_was_there() {
    let machine = Machine::new();
    let python = machine.python("mkdir $target/boto3; echo 'no route to the mirror' >&2; exit 1");
    let error = machine.sdks.fetch(&python, &mut |_| ()).unwrap_err();
    assert!(matches!(error, FetchError::PackageManager { .. }));
    assert!(error.to_string().contains("no route to the mirror"), "{error}");
    assert_eq!(machine.entries(), Vec::<PathBuf>::new());
    assert_eq!(machine.sdks.mount(&python), None);

    // An older one stays, and so does what a fetch that was killed has left, until the next succeeds.
    let place = machine.folder.path().join("data/runtimes/python3.12");
    for name in ["1.0.0-old", ".partial-1"] {
        std::fs::create_dir(place.join(name)).unwrap();
        std::fs::write(place.join(name).join(".freehold-sdk"), "").unwrap();
    }
    std::os::unix::fs::symlink("1.0.0-old", place.join("current")).unwrap();
    machine.sdks.fetch(&python, &mut |_| ()).unwrap_err();
    assert_eq!(machine.sdks.find(&python.runtime).unwrap().version, "1.0.0");
    let fetched = machine.sdks.fetch(&machine.python("mkdir $target/boto3"), &mut |_| ()).unwrap();
    assert!(fetched.was_missing);
    assert!(place.join("1.0.0-old").exists(), "an environment may still use it");
    assert!(!place.join(".partial-1").exists());
    machine.sdks.tidy().unwrap();
    assert_eq!(machine.entries().len(), 2, "{:?}", machine.entries());
}

#[test]
fn two_at_once_fetch_one() {
    let machine = Machine::new();
    let runs = machine.folder.path().join("runs");
    let gate = machine.folder.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let install =
        format!("echo run >> {}; cat {} > /dev/null; mkdir $target/boto3", runs.display(), gate.display());
    let python = machine.python(&install);
    let (sender, told) = channel();
    let fetched = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..2)
            .map(|_| {
                let (sdks, python, sender) = (&machine.sdks, &python, sender.clone());
                scope.spawn(move || {
                    let tell = &mut |text: &str| sender.send(text.to_owned()).unwrap();
                    sdks.fetch(python, tell).unwrap().was_missing
                })
            })
            .collect();
        // One fetches and one waits; then the gate is opened, which waits until it is read.
        while !told.recv().unwrap().starts_with("waiting for another") {}
        std::fs::write(&gate, "").unwrap();
        fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(fetched.iter().filter(|was_missing| **was_missing).count(), 1);
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
}

#[test]
fn without_a_package_manager_it_says_what_to_do() {
    let machine = Machine::new();
    let mut python = machine.python("");
    write_program(&python.executable, "#!/bin/sh\nexit 1\n");
    let text = machine.sdks.fetch(&python, &mut |_| ()).unwrap_err().to_string();
    assert!(text.starts_with("pip is needed to fetch boto3"), "{text}");
    assert!(text.contains("-m ensurepip --user"), "{text}");
    python.runtime = known().iter().find(|runtime| runtime.id == "provided.al2023").unwrap().clone();
    let error = machine.sdks.fetch(&python, &mut |_| ()).unwrap_err();
    assert!(matches!(error, FetchError::NothingCarried(_)), "{error}");
}
