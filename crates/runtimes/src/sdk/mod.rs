//! The AWS SDKs that AWS's Python and Node.js runtimes carry: fetched once per machine, shown to every environment.
//!
//! ```text
//! <data>/runtimes/python3.12/current -> 1.44.5-0123456789ab        the one that environments get
//!                            1.44.5-0123456789ab/                  boto3, botocore, …, and MARK
//!                            .partial-…/                           being fetched, or left by one that broke off
//! <data>/runtimes/nodejs/…                                         one for all releases of Node.js
//! <data>/runtimes/lock                                             held while one is fetched or removed
//! ```
//!
//! - `pinned`: which versions, and the hashes that their packages must have
//! - [`fetch`]: gets them with the runtime's own `pip` or `npm`
//!
//! A folder gets its name when all of it is on the disk, and never changes after that; `current` is replaced in one step.
//! So an environment sees all of one or nothing, and one that is started after a fetch sees what was fetched. The reasons
//! stand in `docs/decisions/0007-runtime-sdks.md`.

pub mod fetch;
mod pinned;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use freehold_sandbox::spec::Mount;

pub use self::pinned::{Pinned, pinned};
use crate::catalog::{Family, Installed, Runtime};
use crate::launch::{INTERPRETER_DIR, RUNTIME_DIR};

/// The link to the folder that environments get.
const CURRENT: &str = "current";
/// How the name of a folder begins that is not whole.
const PARTIAL: &str = ".partial-";
/// The lock's file name.
const LOCK: &str = "lock";
/// The file by which the bootstrap tells an SDK's folder from the interpreter's own packages, which are the host's.
pub(crate) const MARK: &str = ".freehold-sdk";
/// How many entries of a folder are looked at when it is tidied: there are a few of each.
const FOLDER_ENTRIES: usize = 1_000;

/// The folder that holds the SDKs of this machine.
#[derive(Clone, Debug)]
pub struct Sdks {
    folder: PathBuf,
}

/// An SDK that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdk {
    /// `boto3` or `@aws-sdk`.
    pub name: &'static str,
    /// Such as `1.44.5`.
    pub version: String,
    /// Where it lies on the host.
    pub folder: PathBuf,
    /// Whether it is exactly the one that this program would fetch.
    pub is_pinned: bool,
}

impl Sdks {
    /// The SDKs in this folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The one that environments of this runtime get, if it was fetched. Stands in the way of every start: two system calls.
    pub fn find(&self, runtime: &Runtime) -> Option<Sdk> {
        let pinned = pinned(runtime.family)?;
        let place = self.place(runtime);
        let name = std::fs::read_link(place.join(CURRENT)).ok()?;
        let name = name.to_str()?;
        let (version, _) = name.rsplit_once('-')?;
        // Somebody may have cleared the folder by hand.
        place.join(name).join(MARK).exists().then(|| Sdk {
            name: pinned.name,
            version: version.to_owned(),
            is_pinned: name == pinned.folder_name(),
            folder: place.join(name),
        })
    }

    /// What an environment of this runtime is shown: at the place where AWS has it, after the function's own packages and
    /// its layers in the order of search.
    pub fn mount(&self, installed: &Installed) -> Option<Mount> {
        let sdk = self.find(&installed.runtime)?;
        if installed.runtime.family == Family::Node {
            let (source, target) =
                (sdk.folder.join("node_modules"), Path::new(RUNTIME_DIR).join("node_modules"));
            return Some(Mount { source, target });
        }
        let Some(target) = site_packages(installed) else {
            tracing::warn!(runtime = installed.runtime.id, "the interpreter has no place for the AWS SDK");
            return None;
        };
        Some(Mount { source: sdk.folder, target })
    }

    /// Removes what no environment gets any more and what broke off. Only while no environment runs: one may still use
    /// what was current when it began. Does nothing while something is being fetched.
    pub fn tidy(&self) -> io::Result<()> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        let lock = self.open_lock()?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        for place in children(&self.folder)? {
            let Ok(current) = std::fs::read_link(place.join(CURRENT)) else {
                remove_all_but(&place, |name| !name.starts_with(PARTIAL))?;
                continue;
            };
            remove_all_but(&place, |name| name == CURRENT || Path::new(name) == current)?;
        }
        Ok(())
    }

    /// Releases of Node.js share one; a Python's holds its own bytecode.
    fn place(&self, runtime: &Runtime) -> PathBuf {
        self.folder.join(if runtime.family == Family::Node { "nodejs" } else { runtime.id })
    }

    fn open_lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).open(self.folder.join(LOCK))
    }
}

/// Where AWS has the SDK of a Python: among the interpreter's own packages. Nowhere, if the interpreter lacks that folder:
/// nothing can be added to what is mounted.
fn site_packages(installed: &Installed) -> Option<PathBuf> {
    let library = format!("lib/python{}/site-packages", installed.runtime.release());
    let target = Path::new(INTERPRETER_DIR).join(&library);
    let around =
        installed.mounts.iter().rfind(|mount| target.starts_with(&mount.target) && target != mount.target);
    if let Some(mount) = around {
        let inside = target.strip_prefix(&mount.target).expect("it starts with that");
        return mount.source.join(inside).is_dir().then_some(target);
    }
    Some(target)
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.take(FOLDER_ENTRIES);
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    Ok(paths?.into_iter().filter(|path| path.is_dir() && !path.is_symlink()).collect())
}

fn remove_all_but(folder: &Path, keeps: impl Fn(&str) -> bool) -> io::Result<()> {
    for child in children(folder)? {
        if !child.file_name().and_then(|name| name.to_str()).is_some_and(&keeps) {
            std::fs::remove_dir_all(child)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::known;

    fn runtime(id: &str) -> Runtime {
        known().iter().find(|runtime| runtime.id == id).unwrap().clone()
    }

    fn python(mounts: Vec<Mount>) -> Installed {
        Installed {
            runtime: runtime("python3.12"),
            version: "3.12.1".into(),
            executable: "/x/bin/python3.12".into(),
            prefix: "/x".into(),
            program: "/var/lang/bin/python3.12".into(),
            mounts,
            options: Vec::new(),
            files: Vec::new(),
        }
    }

    fn lay(place: &Path, name: &str) {
        std::fs::create_dir_all(place.join(name)).unwrap();
        std::fs::write(place.join(name).join(MARK), "").unwrap();
    }

    #[test]
    fn what_was_fetched_is_found_and_what_is_old_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let sdks = Sdks::new(folder.path().to_owned());
        let place = folder.path().join("python3.12");
        assert_eq!(sdks.find(&runtime("python3.12")), None);
        lay(&place, "1.2.3-abc");
        std::os::unix::fs::symlink("1.2.3-abc", place.join(CURRENT)).unwrap();
        let sdk = sdks.find(&runtime("python3.12")).unwrap();
        assert_eq!((sdk.name, sdk.version.as_str(), sdk.is_pinned), ("boto3", "1.2.3", false));
        assert_eq!(sdks.find(&runtime("python3.13")), None);
        assert_eq!(sdks.find(&runtime("provided.al2023")), None);

        let mount = sdks.mount(&python(Vec::new())).unwrap();
        assert_eq!(mount.source, place.join("1.2.3-abc"));
        assert_eq!(mount.target, PathBuf::from("/var/lang/lib/python3.12/site-packages"));
        std::fs::remove_dir_all(place.join("1.2.3-abc")).unwrap();
        assert_eq!(sdks.find(&runtime("python3.12")), None, "somebody cleared it by hand");
    }

    #[test]
    fn an_interpreter_without_a_place_for_it_gets_none() {
        let prefix = tempfile::tempdir().unwrap();
        let whole = Mount { source: prefix.path().to_owned(), target: INTERPRETER_DIR.into() };
        assert_eq!(site_packages(&python(vec![whole.clone()])), None);
        lay(&prefix.path().join("lib/python3.12"), "site-packages");
        assert!(site_packages(&python(vec![whole])).is_some());
    }

    #[test]
    fn tidying_leaves_what_is_current() {
        let folder = tempfile::tempdir().unwrap();
        let sdks = Sdks::new(folder.path().join("runtimes"));
        sdks.tidy().unwrap();
        let place = folder.path().join("runtimes/nodejs");
        for name in ["1-a", "2-b", ".partial-1"] {
            lay(&place, name);
        }
        std::os::unix::fs::symlink("2-b", place.join(CURRENT)).unwrap();
        let busy = sdks.open_lock().unwrap();
        busy.lock().unwrap();
        sdks.tidy().unwrap();
        assert!(place.join("1-a").exists(), "something was being fetched");
        drop(busy);
        sdks.tidy().unwrap();
        assert!(place.join("2-b").exists() && place.join(CURRENT).exists());
        assert!(!place.join("1-a").exists() && !place.join(".partial-1").exists());
    }
}
