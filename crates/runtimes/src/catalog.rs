//! AWS's runtime identifiers and what was found for them on this host.

use std::path::PathBuf;

/// The kinds of runtime that Freehold can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// CPython.
    Python,
    /// Node.js.
    Node,
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
    /// The interpreter (empty for provided runtimes).
    pub executable: PathBuf,
    /// The interpreter's own prefix (empty for provided runtimes).
    pub prefix: PathBuf,
}

/// Why a runtime cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// AWS has no such runtime, or Freehold does not know it.
    #[error("Freehold does not know the runtime {0}. Known: {1}")]
    Unknown(String, String),
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
