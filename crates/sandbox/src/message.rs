//! What server, helper and inits say to each other.
//!
//! ```text
//! server            helper                     maker, init
//!   Hello    ----->
//!            <-----   Ready | Refused
//!   Start    ----->   (a blank) -- Start ----->
//!            <-----   Started <--- Started ----
//!   Terminate ---->            -- Terminate -->  SIGTERM to the program
//!            <-----   Captured <-- AtGate -----   (of a template; another child of the helper captures it)
//!            <-----   Exited  <--- Exited -----
//!   Proceed  ----->            -- Proceed --->  starts the program, where companions came first
//!            <-----   Proceeded <-- Proceeded --
//!            <-----   CompanionEnded <---------
//!   Socket   ----->            -- Socket ---->
//!            <-----   Socket   <--- Socket -----
//!   Kill     ----->   SIGKILL
//!            <-----   Removed
//! ```
//!
//! Every answer names the request's `id`, which the server chooses. Descriptors travel beside the packet, in the order that the
//! variant's text gives. Knows nothing of how any of it is done.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::spec::{Companions, Exit, Mount, Network};

/// The step that fails when the kernel refuses to execute the program: the one failure that is the program's own fault.
pub(crate) const EXECUTE: &str = "execute the program of";

/// The same of a companion; the reason begins with its place and a space.
pub(crate) const EXECUTE_COMPANION: &str = "execute a companion of";

/// From the server to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first packet.
    Hello(Options),
    /// Make an environment. Descriptors: the files' content, one after the other (only if there are files), and of
    /// an image its memory and its stub.
    Start(Box<Order>),
    /// Send SIGTERM to the program.
    Terminate { id: u64 },
    /// Start the program, now that the companions run.
    Proceed { id: u64 },
    /// Make a TCP socket inside.
    Socket { id: u64 },
    /// End it and remove it.
    Kill { id: u64 },
    /// End all, remove all, exit.
    Shutdown,
}

/// From the helper to the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The first blank environment stands: everything that is configured works here.
    Ready,
    /// This host cannot do what is configured.
    Refused { reason: String },
    /// The program runs. Descriptors: output, then freeze, then freeze events if `has_events`, then peak if `has_peak`,
    /// then the listeners, then the companions' output if there are companions.
    Started { id: u64, freeze: FreezeKind, has_peak: bool },
    /// Nothing was started, and nothing is left of the attempt.
    Failed { id: u64, step: String, reason: String },
    /// The program waited at its gate and was captured; the environment ends. Descriptors: the image's memory, its stub.
    Captured { id: u64, bytes: u64 },
    /// It could not be; the environment ends.
    NotCaptured { id: u64, reason: String },
    /// The program ended.
    Exited { id: u64, exit: Exit, peak_bytes: u64 },
    /// The program runs now, or could not be started.
    Proceeded { id: u64, failure: Option<(String, String)> },
    /// A companion ended.
    CompanionEnded { id: u64, index: usize, exit: Exit },
    /// What was asked for. Descriptor: the socket, unless that failed.
    Socket { id: u64 },
    /// Nothing is left of it.
    Removed { id: u64 },
}

/// How the server freezes an environment through the descriptors that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FreezeKind {
    /// `cgroup.freeze` and `cgroup.events`.
    V2,
    /// `freezer.state`.
    V1,
    /// There is no freezer, and the server was told to do without.
    None,
}

/// One file of the root; its content lies in the descriptor that comes with the order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) path: PathBuf,
    pub(crate) length: usize,
    pub(crate) executable: bool,
}

/// A [`crate::spec::Beginning`] as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Beginning {
    Program,
    Template,
    Copy,
}

/// A [`crate::spec::Spec`] as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) beginning: Beginning,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) working_directory: PathBuf,
    pub(crate) memory_mib: u32,
    pub(crate) tmp_mib: u32,
    pub(crate) cpu_millis: u32,
    pub(crate) network: Network,
    pub(crate) listeners: Vec<SocketAddrV4>,
    #[serde(default)]
    pub(crate) companions: Companions,
}

/// From the helper to an init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Become this environment. Descriptors: the mounts in order, then the files' content if there are files, then an
    /// image's memory and stub.
    Start(Box<Order>),
    /// Send SIGTERM to the program.
    Terminate,
    /// Start the program, now that the companions run.
    Proceed,
    /// Make a TCP socket and pass it on.
    Socket,
}

/// From a maker, an init or what captures to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The maker has cloned the init, which has this process id for the helper.
    Cloned { init: i32 },
    /// The blank is complete. Descriptors: see [`crate::cgroup::HandleKinds`].
    Blank(crate::cgroup::HandleKinds),
    /// The program runs, or its companions do. Descriptors: output, then the listeners, then the companions' output if there
    /// are companions.
    Started,
    /// The program of a template waits at its gate. Descriptor: its process.
    AtGate,
    /// What has captured it is done. Descriptors: the image's memory, its stub.
    Captured { bytes: u64 },
    /// It cannot be captured.
    NotCaptured { reason: String },
    /// A step failed; the sender exits.
    Failed { step: String, reason: String },
    /// The program ended.
    Exited(Exit),
    /// The program runs now, or could not be started.
    Proceeded { failure: Option<(String, String)> },
    /// A companion ended.
    CompanionEnded { index: usize, exit: Exit },
    /// What was asked for. Descriptor: the socket, unless that failed.
    Socket,
}
