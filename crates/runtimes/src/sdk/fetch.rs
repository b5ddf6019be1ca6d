//! Fetches an SDK with the package manager that belongs to the runtime: `pip` of the same interpreter, `npm` beside the same
//! `node` (else the one on the `PATH`). Both check every package against the hash that is pinned, and use the proxies,
//! mirrors and caches that their user has configured.
//!
//! ```text
//! lock -> .partial-N (package manager) -> readable by all -> MARK -> synced -> renamed -> `current` replaced
//! ```
//!
//! Whatever breaks off leaves at most a `.partial-N`, which nobody sees and the next fetch removes.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::pinned::{Pinned, pinned};
use super::{CURRENT, MARK, PARTIAL, Sdk, Sdks, children};
use crate::catalog::{Family, Installed};

/// How long a package manager may say nothing: it has shorter limits of its own for each request.
const SILENCE: Duration = Duration::from_secs(600);
/// How many of the last lines of a package manager that failed are shown.
const LAST_LINES: usize = 12;
/// After how many packages the count is told.
const COUNTED: usize = 10;
/// How deep folders are, at most.
const DEPTH: usize = 64;
/// For everybody to read: functions run as somebody else.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// Why an SDK was not fetched. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The runtime's identifier.
    #[error("the runtime {0} carries no AWS SDK that can be fetched; the Python and Node.js runtimes do")]
    NothingCarried(String),
    /// No package manager runs.
    #[error("{program} is needed to fetch {sdk} and was not found. {advice}")]
    NoPackageManager {
        /// `pip` or `npm`.
        program: &'static str,
        /// What was to be fetched.
        sdk: &'static str,
        /// What to do.
        advice: String,
    },
    /// It ran and failed; the last lines that it printed.
    #[error("{program} could not fetch {sdk}:\n{lines}")]
    PackageManager {
        /// `pip` or `npm`.
        program: &'static str,
        /// What was to be fetched.
        sdk: &'static str,
        /// What it said.
        lines: String,
    },
    /// The folder could not be written.
    #[error("cannot write to {}: {source}", .folder.display())]
    Folder {
        /// The folder of the SDKs.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a fetch came to.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What environments get now.
    pub sdk: Sdk,
    /// Whether anything had to be done.
    pub was_missing: bool,
}

impl Sdks {
    /// Fetches the SDK that this runtime carries, unless it is there. Environments that are started afterwards get it.
    /// `progress` hears each step. Blocking, for as long as the network takes.
    pub fn fetch(
        &self,
        installed: &Installed,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Fetched, FetchError> {
        let runtime = &installed.runtime;
        let pinned =
            pinned(runtime.family).ok_or_else(|| FetchError::NothingCarried(runtime.id.to_owned()))?;
        let folder_error = |source| FetchError::Folder { folder: self.folder.clone(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder).map_err(folder_error)?;
        let lock = self.open_lock().map_err(folder_error)?;
        if lock.try_lock().is_err() {
            progress("waiting for another fetch to end");
            lock.lock().map_err(folder_error)?;
        }
        if let Some(sdk) = self.find(runtime).filter(|sdk| sdk.is_pinned) {
            return Ok(Fetched { sdk, was_missing: false });
        }
        let place = self.place(runtime);
        fs::create_dir_all(&place).map_err(folder_error)?;
        let partial = fresh_partial(&place).map_err(folder_error)?;
        let done = run_package_manager(installed, &pinned, &partial, progress)
            .and_then(|()| finish(&place, &partial, &pinned).map_err(folder_error));
        if let Err(error) = done {
            // What cannot be removed now is removed by the next fetch.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        let sdk = self.find(runtime).ok_or_else(|| folder_error(io::ErrorKind::NotFound.into()))?;
        Ok(Fetched { sdk, was_missing: true })
    }
}

/// An empty folder, the only unfinished one. The lock is held: what else is unfinished is nobody's.
fn fresh_partial(place: &Path) -> io::Result<PathBuf> {
    for child in children(place)? {
        if child.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL)) {
            fs::remove_dir_all(child)?;
        }
    }
    let partial = place.join(format!("{PARTIAL}{}", std::process::id()));
    fs::create_dir(&partial)?;
    Ok(partial)
}

fn run_package_manager(
    installed: &Installed,
    pinned: &Pinned,
    partial: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), FetchError> {
    for (name, content) in pinned.files {
        let file = partial.join(name);
        fs::write(&file, content).map_err(|source| FetchError::Folder { folder: file, source })?;
    }
    progress(&format!("fetching {} {} ({} packages)", pinned.name, pinned.version, pinned.packages));
    let (program, command) = if installed.runtime.family == Family::Node {
        ("npm", npm(installed, pinned)?)
    } else {
        ("pip", pip(installed, pinned, partial)?)
    };
    let mut reader = Reader { packages: pinned.packages, ..Reader::default() };
    let ended = converse(command, partial, &mut |line| reader.hear(line, progress));
    match ended {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(FetchError::PackageManager { program, sdk: pinned.name, lines: reader.last.join("\n") })
        }
        Err(error) => Err(FetchError::PackageManager { program, sdk: pinned.name, lines: error.to_string() }),
    }
}

/// `pip install`, of wheels only: nothing of theirs is run here.
fn pip(installed: &Installed, pinned: &Pinned, partial: &Path) -> Result<Command, FetchError> {
    let python = &installed.executable;
    let command = || {
        let mut command = Command::new(python);
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").args(["-m", "pip"]);
        command
    };
    if !answers(command().arg("--version")) {
        let python = python.display();
        return Err(FetchError::NoPackageManager {
            program: "pip",
            sdk: pinned.name,
            advice: format!(
                "Install it with `{python} -m ensurepip --user` (for a system's own Python: `apt-get install \
                 python3-pip`), then try again."
            ),
        });
    }
    let mut install = command();
    install.args([
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    install.args(["--require-hashes", "--no-warn-script-location", "--progress-bar=off"]);
    install.env("PIP_ROOT_USER_ACTION", "ignore");
    install.arg("--target").arg(partial).arg("-r").arg(partial.join("requirements.txt"));
    Ok(install)
}

/// `npm ci`, without the packages' own scripts: nothing of theirs is run here.
fn npm(installed: &Installed, pinned: &Pinned) -> Result<Command, FetchError> {
    let node = &installed.executable;
    let beside = installed.prefix.join("lib/node_modules/npm/bin/npm-cli.js");
    let mut path = vec![node.parent().map(Path::to_owned).unwrap_or_default()];
    path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let path = std::env::join_paths(path).unwrap_or_default();
    let command = |own: bool| {
        let mut command = Command::new(if own { node.as_os_str() } else { "npm".as_ref() });
        if own {
            command.arg(&beside);
        }
        // Its own start line asks the path for `node`.
        command.env("PATH", &path);
        command
    };
    let found = [true, false].into_iter().find(|own| answers(command(*own).arg("--version")));
    let Some(own) = found else {
        return Err(FetchError::NoPackageManager {
            program: "npm",
            sdk: pinned.name,
            advice: "Node.js usually brings it along; Debian has it in a package of its own, `apt-get install npm`."
                .to_owned(),
        });
    };
    let mut install = command(own);
    install.args(["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=http"]);
    Ok(install)
}

fn answers(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes of a package manager's lines what is worth telling.
#[derive(Default)]
struct Reader {
    packages: usize,
    fetched: usize,
    last: Vec<String>,
}

impl Reader {
    fn hear(&mut self, line: &str, progress: &mut dyn FnMut(&str)) {
        let line = line.trim_end();
        if line.starts_with("npm http fetch GET 200") {
            // The rest are descriptions of packages.
            if line.contains(".tgz") {
                self.fetched += 1;
                self.count(progress);
            }
            return;
        }
        if line.starts_with("Collecting ") || line.starts_with("Installing ") {
            progress(line.split(" (from ").next().unwrap_or(line));
        }
        if self.last.len() == LAST_LINES {
            self.last.remove(0);
        }
        self.last.push(line.to_owned());
    }
}

impl Reader {
    fn count(&self, progress: &mut dyn FnMut(&str)) {
        let (fetched, packages) = (self.fetched.min(self.packages), self.packages);
        if fetched.is_multiple_of(COUNTED) || fetched == packages {
            progress(&format!("fetched {fetched} of {packages} packages"));
        }
    }
}

/// Runs it to its end: whether it succeeded. Its lines are heard as they come.
fn converse(mut command: Command, folder: &Path, hear: &mut dyn FnMut(&str)) -> io::Result<bool> {
    let (read, write) = io::pipe()?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write);
    let mut child = command.spawn()?;
    // Its ends of the pipe must be the child's alone, for the pipe to end with it.
    drop(command);
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(read).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => hear(&line),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?.success()),
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child);
                hear(&format!("it said nothing for {} s and was ended", SILENCE.as_secs()));
                return Ok(false);
            }
        }
    }
}

fn end(child: &mut Child) {
    // An error means that it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Makes what was fetched the one that environments get.
fn finish(place: &Path, partial: &Path, pinned: &Pinned) -> io::Result<()> {
    let scripts = partial.join("bin");
    if scripts.is_dir() {
        fs::remove_dir_all(scripts)?;
    }
    fs::write(partial.join(MARK), format!("{} {}\n", pinned.name, pinned.version))?;
    make_readable(partial, DEPTH)?;
    nix::unistd::syncfs(File::open(partial)?)?;
    let name = pinned.folder_name();
    let folder = place.join(&name);
    if folder.exists() {
        // Left by one that broke off between the two renames, or older and current once more.
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(partial, &folder)?;
    let next = place.join(format!("{PARTIAL}{CURRENT}"));
    if next.is_symlink() {
        fs::remove_file(&next)?;
    }
    symlink(&name, &next)?;
    fs::rename(&next, place.join(CURRENT))?;
    File::open(place)?.sync_all()
}

/// Whatever the umask was.
fn make_readable(path: &Path, depth: usize) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_symlink() {
        return Ok(());
    }
    if !kind.is_dir() {
        return fs::set_permissions(path, Permissions::from_mode(FILE_MODE));
    }
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
    if depth == 0 {
        return Err(io::Error::other("folders that are nested too deep"));
    }
    for entry in fs::read_dir(path)? {
        make_readable(&entry?.path(), depth - 1)?;
    }
    Ok(())
}
