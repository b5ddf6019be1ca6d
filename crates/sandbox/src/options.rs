//! How a sandbox is configured, and the limits that hold for every environment.
//!
//! The limits that AWS documents (processes, descriptors) are constants here; what a host's owner decides is a field.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::range::Range;
use crate::protection::Protection;
use crate::spec::Network;

/// Processes and threads of one environment (AWS: 1,024).
pub const PROCESSES_MAX: u32 = 1024;
/// Open descriptors of one process of an environment (AWS: 1,024).
pub const DESCRIPTORS_MAX: u64 = 1024;
/// Size of `/dev/shm`, in MiB. Its pages count as the function's memory. AWS has none; Python's `multiprocessing` wants one.
pub const SHARED_MEMORY_MIB: u32 = 64;
/// Size of the private root that carries the mount points and [`crate::spec::Spec::files`], in MiB. Read-only once the
/// program runs.
pub const ROOT_MIB: u32 = 32;
/// Mounts of one environment; each is a descriptor in one message, of which the kernel takes 253.
pub const MOUNTS_MAX: usize = 64;
/// Files of one environment.
pub const FILES_MAX: usize = 64;
/// Content of all files of one environment, in bytes: bootstraps are some tens of KiB.
pub const FILES_BYTES_MAX: usize = 8 << 20;
/// Listeners of one environment.
pub const LISTENERS_MAX: usize = 8;
/// Companions of one environment (AWS: 10 extensions).
pub const COMPANIONS_MAX: usize = 10;
/// A request without its files, in bytes: variables are at most 4 KiB, paths at most 4 KiB each. Below the kernel's default
/// for one packet (212,992 bytes).
pub const REQUEST_BYTES_MAX: usize = 160 << 10;
/// Environments beside each other on one host, unless configured otherwise.
pub const ENVIRONMENTS_DEFAULT: usize = 4000;
/// Descriptors of the server's that an environment takes: its output, two listeners, a connection, the memory's peak, the
/// freezer's control and (v2) its events.
pub const DESCRIPTORS_EACH: u64 = 7;
/// Environments beside each other that can be configured: their user ids come out of a range of this size.
pub const ENVIRONMENTS_MAX: usize = 8000;
/// Blank environments kept ready, unless configured otherwise: two cover a request that arrives while one is being made.
pub const POOL_DEFAULT: usize = 2;
/// The size of `/tmp` for which blanks are kept ready, in MiB (AWS's default).
pub const TMP_DEFAULT_MIB: u32 = 512;

/// Where the pages of an environment's `/tmp` live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TmpBacking {
    /// A file system of the exact size, in a nameless sparse file in the state folder. What a function writes there is page
    /// cache, which the kernel writes out rather than count it as used memory. Needs loop devices and `mkfs.ext4`.
    Disk,
    /// A tmpfs. What a function writes there counts as its memory: unlike AWS. For hosts without loop devices.
    Memory,
}

/// How environments reach the internet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InternetOptions {
    /// The addresses of environments, used nowhere else on this host. None: an unused part of 198.18.0.0/15.
    pub range: Option<Range>,
    /// Who resolves names, always reachable on port 53; never the host itself. Empty: the host's own resolvers.
    pub resolvers: Vec<Ipv4Addr>,
    /// Let environments reach private networks (RFC 1918, RFC 6598) too. Link-local addresses, among them the metadata
    /// address, stay out of reach.
    pub allow_private: bool,
}

/// How a sandbox is configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// A folder of this sandbox alone: its lock, its record of cgroups, the space behind `/tmp`. Made if missing.
    pub state_dir: PathBuf,
    /// The most that an environment may reach; a [`crate::spec::Spec`] that asks for more is refused.
    pub network: Network,
    /// How environments reach the internet, where they may.
    pub internet: InternetOptions,
    /// Run functions even where no cgroup can limit their memory.
    pub allow_without_memory_limit: bool,
    /// What else a server without root may do without.
    pub allow_without: Vec<Protection>,
    /// Where `/tmp` lives.
    pub tmp_backing: TmpBacking,
    /// Environments beside each other; one more is refused.
    pub max_environments: usize,
    /// Blank environments kept ready.
    pub pool: usize,
}

impl Options {
    /// Environments that exist at the same time at most, blanks included: how many slots, users and addresses there are.
    pub(crate) fn slots(&self) -> usize {
        (self.max_environments + self.pool).min(ENVIRONMENTS_MAX)
    }

    /// The defaults, with this state folder: no network, `/tmp` on disk, nothing weaker than designed.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Options {
            state_dir: state_dir.into(),
            network: Network::Isolated,
            internet: InternetOptions::default(),
            allow_without_memory_limit: false,
            allow_without: Vec::new(),
            tmp_backing: TmpBacking::Disk,
            max_environments: ENVIRONMENTS_DEFAULT,
            pool: POOL_DEFAULT,
        }
    }
}
