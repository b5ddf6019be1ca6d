//! AWS's runtime identifiers and what was found for them on this host.
//!
//! A runtime is looked for when somebody first asks for it, by running candidates (module `find`). What was found stays
//! true for the life of the process; what was not found is looked for again after a while, so that an interpreter
//! installed meanwhile is seen without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use freehold_sandbox::spec::Mount;

use crate::find;
pub use crate::find::Options;
use crate::sdk::Sdks;

/// How long a runtime that was not found counts as missing: a failed search takes up to a second, and a deployment tool
/// asks again and again.
const MISSING_FOR: Duration = Duration::from_secs(5);

/// The kinds of runtime that Freehold can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// CPython.
    Python,
    /// Node.js.
    Node,
    /// CRuby.
    Ruby,
    /// A Java virtual machine; the function's package brings AWS's runtime interface client along.
    Java,
    /// A `bootstrap` program of the function's own (`provided.al2`, `provided.al2023`).
    Provided,
}

/// One of AWS's runtime identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Such as `python3.12`.
    pub id: &'static str,
    /// Its kind.
    pub family: Family,
}

/// A runtime that this host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// What it serves as.
    pub runtime: Runtime,
    /// The interpreter's own full version, such as `3.12.1` (empty for provided runtimes).
    pub version: String,
    /// The interpreter on the host (empty for provided runtimes).
    pub executable: PathBuf,
    /// The interpreter's own prefix on the host (empty for provided runtimes).
    pub prefix: PathBuf,
    /// The interpreter inside an environment (empty for provided runtimes).
    pub program: PathBuf,
    /// What an environment needs of the host for it, beside the base root.
    pub mounts: Vec<Mount>,
    /// What of the interpreter's own options it takes to find its standard library where it now lies.
    pub options: Vec<String>,
    /// The bootstrap's files (path inside, content).
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// Why a runtime cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// AWS has no such runtime, or Freehold cannot run it yet: the identifier, and those that are supported.
    #[error("{}. Supported: {supported}", describe_unknown(.id))]
    Unknown {
        /// What was asked for.
        id: String,
        /// The identifiers of [`known`], separated by commas.
        supported: String,
    },
    /// The host lacks it; the text says what to install.
    #[error("the runtime {id} needs {needs}, which was not found on this host. {advice}")]
    NotInstalled {
        /// The runtime's identifier.
        id: String,
        /// What is missing, such as `Python 3.12`.
        needs: String,
        /// What to do about it.
        advice: String,
    },
}

/// Every runtime that Freehold can start, oldest first within its family.
const KNOWN: [Runtime; 18] = [
    Runtime { id: "python3.10", family: Family::Python },
    Runtime { id: "python3.11", family: Family::Python },
    Runtime { id: "python3.12", family: Family::Python },
    Runtime { id: "python3.13", family: Family::Python },
    Runtime { id: "python3.14", family: Family::Python },
    Runtime { id: "nodejs20.x", family: Family::Node },
    Runtime { id: "nodejs22.x", family: Family::Node },
    Runtime { id: "nodejs24.x", family: Family::Node },
    Runtime { id: "java8.al2", family: Family::Java },
    Runtime { id: "java11", family: Family::Java },
    Runtime { id: "java17", family: Family::Java },
    Runtime { id: "java21", family: Family::Java },
    Runtime { id: "java25", family: Family::Java },
    Runtime { id: "ruby3.2", family: Family::Ruby },
    Runtime { id: "ruby3.3", family: Family::Ruby },
    Runtime { id: "ruby3.4", family: Family::Ruby },
    Runtime { id: "provided.al2", family: Family::Provided },
    Runtime { id: "provided.al2023", family: Family::Provided },
];

/// How the identifiers of AWS's runtimes begin, other versions of ours among them.
const FAMILIES_OF_AWS: [&str; 7] = ["java", "dotnet", "ruby", "go1.", "nodejs", "python", "provided"];

/// Every runtime that Freehold can start, whether this host has it or not.
pub fn known() -> &'static [Runtime] {
    &KNOWN
}

impl Runtime {
    /// The version that the identifier names, such as `3.12` or `20` (Java's eighth calls itself 1.8); empty for provided
    /// runtimes.
    pub fn release(&self) -> &'static str {
        match self.family {
            Family::Python => self.id.trim_start_matches("python"),
            Family::Node => self.id.trim_start_matches("nodejs").trim_end_matches(".x"),
            Family::Ruby => self.id.trim_start_matches("ruby"),
            Family::Java if self.id.starts_with("java8") => "1.8",
            Family::Java => self.id.trim_start_matches("java"),
            Family::Provided => "",
        }
    }
}

/// Finds runtimes, and remembers what it found. Safe to share between threads.
#[derive(Debug)]
pub struct Catalog {
    options: Options,
    sdks: Option<Sdks>,
    shelves: [Shelf; KNOWN.len()],
}

/// What is known of one runtime. The lock is held while it is looked for, so that it is looked for once.
#[derive(Debug, Default)]
struct Shelf {
    found: OnceLock<Arc<Installed>>,
    missing: Mutex<Option<(Instant, RuntimeError)>>,
}

impl Catalog {
    /// A catalog that will look where `options` say. Looks for nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, sdks: None, shelves: std::array::from_fn(|_| Shelf::default()) }
    }

    /// The same, with the SDKs of this machine.
    pub fn with_sdks(self, sdks: Sdks) -> Self {
        Self { sdks: Some(sdks), ..self }
    }

    /// The AWS SDK that an environment of this runtime is shown, beside what it needs anyway: looked for at every start, so
    /// that one that was fetched meanwhile is seen.
    pub fn sdk(&self, installed: &Installed) -> Option<Mount> {
        self.sdks.as_ref()?.mount(installed)
    }

    /// The runtime with this identifier. The first call for one runs candidates, which takes some tens of milliseconds
    /// (bounded by [`Options::probe_timeout`] per candidate): not for an async thread.
    pub fn resolve(&self, id: &str) -> Result<Arc<Installed>, RuntimeError> {
        let position = KNOWN.iter().position(|runtime| runtime.id == id).ok_or_else(|| not_known(id))?;
        let (runtime, shelf) = (&KNOWN[position], &self.shelves[position]);
        if let Some(found) = shelf.found.get() {
            return Ok(Arc::clone(found));
        }
        // A search that panicked left nothing half-written behind.
        let mut missing = shelf.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shelf.found.get() {
            return Ok(Arc::clone(found));
        }
        if let Some((since, error)) = &*missing
            && since.elapsed() < MISSING_FOR
        {
            return Err(error.clone());
        }
        match find::find(runtime, &self.options) {
            Ok(found) => Ok(Arc::clone(shelf.found.get_or_init(|| Arc::new(found)))),
            Err(error) => {
                *missing = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// What this host has of every known runtime. Looks for all of them: blocking, like [`resolve`](Self::resolve).
    pub fn all(&self) -> Vec<(Runtime, Result<Arc<Installed>, RuntimeError>)> {
        std::thread::scope(|scope| {
            let searches: Vec<_> =
                KNOWN.iter().map(|runtime| (runtime, scope.spawn(|| self.resolve(runtime.id)))).collect();
            searches
                .into_iter()
                .map(|(runtime, search)| {
                    let result = search.join().unwrap_or_else(|_| self.resolve(runtime.id));
                    (runtime.clone(), result)
                })
                .collect()
        })
    }
}

fn not_known(id: &str) -> RuntimeError {
    RuntimeError::Unknown { id: id.to_owned(), supported: KNOWN.map(|runtime| runtime.id).join(", ") }
}

/// One of AWS's that is not supported, or none at all.
fn describe_unknown(id: &str) -> String {
    if FAMILIES_OF_AWS.iter().any(|beginning| id.starts_with(beginning)) {
        format!("Freehold does not support the runtime {id} yet")
    } else {
        format!("there is no runtime {id}")
    }
}
