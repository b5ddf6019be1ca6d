//! What the executor asks for ([`Spec`]) and what it gets back ([`Environment`]).
//!
//! ```text
//! Spec --start--> Environment --freeze/thaw--> … --kill--> gone
//!                      \--(process ends)--> Exit
//! ```

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::image::Image;

/// A host file or folder that the environment sees, read-only, without setuid bits and devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path on the host.
    pub source: PathBuf,
    /// The absolute path inside.
    pub target: PathBuf,
}

/// What the environment reaches beside its own listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Network {
    /// Nothing: only its own loopback.
    Isolated,
    /// The internet by IPv4, by routing and address translation; never the host, its loopback, the metadata address or another
    /// environment, and private networks only where that is configured.
    Internet,
}

/// How the program comes to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is executed.
    Program,
    /// It is executed, with a gate: at descriptor 3 it writes something, then reads, and is captured while it waits
    /// ([`Environment::capture`]).
    Template,
    /// It is made again from an image, instead of being executed. What it then reads at its gate are the
    /// [`variables`](Spec::variables), each `NAME=VALUE` with a zero byte behind it. If that is not possible it ends with
    /// [`FAILED`](crate::image::FAILED).
    Copy(Arc<Image>),
}

/// Programs that run beside the main one, under the same user, limits and namespaces. They are started first; the main
/// program then waits for [`Environment::proceed`]. The end of one of them ends nothing else, and where there are any, the
/// end of the main program does not end them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companions {
    /// Paths inside, at most [`COMPANIONS_MAX`](crate::options::COMPANIONS_MAX).
    pub programs: Vec<PathBuf>,
    /// The whole environment of each.
    pub variables: Vec<(String, String)>,
    /// Where each starts.
    pub working_directory: PathBuf,
}

/// Everything that decides what an environment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Names the environment in messages; letters, digits and `-`. (Not its cgroup: that exists before the name is known.)
    pub name: String,
    /// Host files beside the base root, in order (a later one may lie inside an earlier one).
    pub mounts: Vec<Mount>,
    /// Files with fixed content that the root carries (path inside, content, executable), such as a runtime's bootstrap.
    pub files: Vec<(PathBuf, Vec<u8>, bool)>,
    /// How the program comes to run.
    pub beginning: Beginning,
    /// The program, a path inside.
    pub program: PathBuf,
    /// The arguments, without the program's own name.
    pub arguments: Vec<String>,
    /// The whole environment of the program.
    pub variables: Vec<(String, String)>,
    /// Where the program starts.
    pub working_directory: PathBuf,
    /// Memory of all its processes together, in MiB.
    pub memory_mib: u32,
    /// Size of `/tmp`, in MiB, not charged to the memory.
    pub tmp_mib: u32,
    /// CPU, in thousandths of a vCPU: the weight under contention.
    pub cpu_millis: u32,
    /// What it reaches.
    pub network: Network,
    /// The addresses inside (loopback) on which the host listens, in the order in which the listeners are given back.
    pub listeners: Vec<SocketAddrV4>,
    /// What runs beside the program.
    pub companions: Companions,
}

/// How an environment's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// The memory limit was reached and the kernel killed it.
    OutOfMemory,
    /// The host killed it, or the sandbox helper is gone.
    Killed,
}

/// A running environment's descriptors, to be taken once.
#[derive(Debug)]
pub struct Channels {
    /// Listening sockets inside the environment's network namespace, in the order of [`Spec::listeners`]; non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// The read end of what the program writes to stdout and stderr; non-blocking.
    pub output: OwnedFd,
    /// The same of what the companions write, where there are any.
    pub companions_output: Option<OwnedFd>,
}

/// Why an environment could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The host lacks what the configured isolation needs; the text says what to do.
    #[error("this host cannot isolate functions as configured: {0}")]
    Unsupported(String),
    /// The helper process is gone; no environment can be made any more.
    #[error("the sandbox helper process has ended")]
    HelperGone,
    /// The kernel refused to execute the program: it is missing, is no program, or is one for another machine.
    #[error("cannot start environment {name}: {}: {reason}", .program.display())]
    NotExecutable {
        /// The environment's name.
        name: String,
        /// The program, a path inside.
        program: PathBuf,
        /// What the system said, such as `Exec format error`.
        reason: String,
    },
    /// A process cannot be captured, by what it is: it has open connections, processes of its own, shared memory.
    #[error("cannot keep environment {name} as an image: {reason}")]
    NotCaptured {
        /// The environment's name.
        name: String,
        /// What stands against it.
        reason: String,
    },
    /// The kernel refused to execute a companion.
    #[error("cannot start environment {name}: {}: {reason}", .program.display())]
    CompanionNotExecutable {
        /// The environment's name.
        name: String,
        /// The program, a path inside.
        program: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A step failed.
    #[error("cannot {step} environment {name}: {reason}")]
    Failed {
        /// The environment's name.
        name: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// How the companions have ended, by their places in [`Companions::programs`]; `None` for those that have not.
pub type CompanionExits = [Option<Exit>; crate::options::COMPANIONS_MAX];

/// Makes environments. Namespaces and cgroups now; a microVM implementation comes later.
#[async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// Whether processes can be captured and begun from images here.
    fn has_images(&self) -> bool;

    /// Makes an environment and starts its program. Cancel-safe: if the future is dropped, the environment is removed.
    async fn start(&self, spec: Spec) -> Result<(Arc<dyn Environment>, Channels), SandboxError>;

    /// How many environments may exist at once. One more can be made as soon as one of them is gone.
    fn most_environments(&self) -> usize {
        usize::MAX
    }
}

/// One running environment. Dropping the last handle kills and removes it.
#[async_trait]
pub trait Environment: Send + Sync + 'static {
    /// Stops all its processes from running, without their noticing. Idempotent.
    async fn freeze(&self) -> Result<(), SandboxError>;

    /// Lets them go on. Idempotent.
    async fn thaw(&self) -> Result<(), SandboxError>;

    /// Waits until the program of a [template](Beginning::Template) waits at its gate, and captures it; the environment ends
    /// by that. Once; an error if it ends before.
    async fn capture(&self) -> Result<Arc<Image>, SandboxError>;

    /// The largest memory that it used so far, in bytes (0 where the host cannot tell).
    fn memory_peak_bytes(&self) -> u64;

    /// Asks the program to end (SIGTERM), waits up to `grace`, then kills all and removes everything. Returns when nothing
    /// of it is left. Idempotent.
    async fn stop(&self, grace: Duration);

    /// Waits until the program has ended. May be called many times.
    async fn exited(&self) -> Exit;

    /// Starts the main program, which waits for this where there are companions; elsewhere it does nothing. To be called
    /// once.
    async fn proceed(&self) -> Result<(), SandboxError>;

    /// Waits until more than `known` of the companions have ended, or the environment has. May be called many times.
    async fn companions_ended(&self, known: usize) -> CompanionExits;

    /// Asks the main program to end (SIGTERM), and does not wait. It must not be frozen.
    fn terminate(&self);

    /// Makes a TCP socket inside, non-blocking and not connected: what it is connected to is inside, whatever the address.
    /// Waits for as long as the environment is frozen.
    async fn socket(&self) -> Result<OwnedFd, SandboxError>;
}
