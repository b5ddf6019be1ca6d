//! Looks for interpreters on this host.
//!
//! - [`candidates`]: where one could be
//! - [`probe`]: runs a candidate and asks it what it is
//! - `layout`: how the one that was found gets into an environment
//!
//! A candidate counts only if it runs and says that it is what was asked for: a name on the `PATH` may be a shim of a
//! version manager that fails, or another version altogether.

mod candidates;
mod layout;
mod probe;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::{Family, Installed, Runtime, RuntimeError};

/// How long a candidate may take to say what it is: a hundred times what an interpreter needs, as it may have to be read
/// from a disk that is busy with much else. One that is not waited for is not found.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The variables by which version managers are told where to keep what they install, and the folder of versions in there.
const VERSION_FOLDERS: [(&str, &str); 7] = [
    ("PYENV_ROOT", "versions"),
    ("UV_PYTHON_INSTALL_DIR", ""),
    ("NVM_DIR", "versions/node"),
    ("FNM_DIR", "node-versions"),
    ("VOLTA_HOME", "tools/image/node"),
    ("N_PREFIX", "n/versions/node"),
    ("RBENV_ROOT", "versions"),
];

/// Where to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folders to look in first: interpreters, their `bin` folders or the prefixes around those.
    pub folders: Vec<PathBuf>,
    /// Folders of version managers, with one folder per version, beside those in the home folder.
    pub version_folders: Vec<PathBuf>,
    /// The search path for programs, as in the variable `PATH`.
    pub path: Option<OsString>,
    /// The home folder, in which version managers keep what they install.
    pub home: Option<PathBuf>,
    /// Whether to look in `/opt` and the usual folders for programs, too.
    pub system_folders: bool,
    /// How long one candidate may take to say what it is.
    pub probe_timeout: Duration,
}

impl Default for Options {
    /// What this process's own environment says.
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            version_folders: VERSION_FOLDERS
                .iter()
                .filter_map(|(variable, folder)| {
                    Some(PathBuf::from(std::env::var_os(variable)?).join(folder))
                })
                .collect(),
            path: std::env::var_os("PATH"),
            home: std::env::home_dir(),
            system_folders: true,
            probe_timeout: PROBE_TIMEOUT,
        }
    }
}

impl Options {
    /// No place at all: only runtimes that need no interpreter are found.
    pub fn nowhere() -> Self {
        Self {
            folders: Vec::new(),
            version_folders: Vec::new(),
            path: None,
            home: None,
            system_folders: false,
            probe_timeout: PROBE_TIMEOUT,
        }
    }
}

/// Looks for one runtime: runs candidates until one is it.
pub(crate) fn find(runtime: &Runtime, options: &Options) -> Result<Installed, RuntimeError> {
    if runtime.family == Family::Provided {
        return Ok(provided(runtime));
    }
    let found = candidates::candidates(runtime, options).into_iter().find_map(|candidate| {
        let probed = probe::probe(runtime, &candidate, options);
        match &probed {
            Ok(installed) => {
                tracing::debug!(runtime = runtime.id, executable = %installed.executable.display(), "found")
            }
            Err(reason) => {
                tracing::debug!(runtime = runtime.id, candidate = %candidate.display(), reason, "not it")
            }
        }
        probed.ok()
    });
    found.ok_or_else(|| RuntimeError::NotInstalled {
        id: runtime.id.to_owned(),
        needs: match runtime.family {
            Family::Python => format!("Python {}", runtime.release()),
            Family::Node => format!("Node.js {}", runtime.release()),
            Family::Ruby => format!("Ruby {}", runtime.release()),
            Family::Java => format!("Java {}", runtime.release().trim_start_matches("1.")),
            Family::Provided => String::new(),
        },
        advice: candidates::advice(runtime),
    })
}

/// Every host has what a program of the function's own needs.
fn provided(runtime: &Runtime) -> Installed {
    Installed {
        runtime: runtime.clone(),
        version: String::new(),
        executable: PathBuf::new(),
        prefix: PathBuf::new(),
        program: PathBuf::new(),
        mounts: Vec::new(),
        options: Vec::new(),
        files: Vec::new(),
    }
}
