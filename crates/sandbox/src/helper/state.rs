//! The state folder: who owns it, and what a dead owner left.
//!
//! `lock` is held by the helper for life: whoever gets it knows that no other helper lives on this folder. `cgroups` lists the
//! folders that were made, so that they are found again even by a successor that runs somewhere else in the hierarchy. The same
//! and what the network needs is in the host's [`super::registry`], for the case that this folder is gone by then. Mounts, loop
//! devices and network interfaces vanish with the last process of their namespace.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::events::CLOSING_TIME;
use super::registry::{NetworkRecord, Registry, mark_text};
use crate::cgroup::Hierarchy;
use crate::cgroup::prepare::{pause, remove_tree, top};
use crate::network::{Internet, namespace, rules};
use crate::options::Options;

/// How long a predecessor that is still cleaning up is waited for: longer than it goes on trying.
const LOCK_TIME: Duration = Duration::from_secs(12);
const _: () = assert!(LOCK_TIME.as_secs() > CLOSING_TIME.as_secs());

/// The state folder, locked.
pub(crate) struct State {
    record: PathBuf,
    mark: u64,
    folders: Vec<PathBuf>,
    registry: Registry,
    _lock: Flock<fs::File>,
}

impl State {
    /// Makes the folder if need be and locks it.
    pub(crate) fn open(folder: &Path, registry: &Path) -> Result<State, String> {
        let named = |error: &io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(|error| named(&error))?;
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(|error| named(&error))?;
        let lock = lock(&folder.join("lock"), LOCK_TIME).map_err(|error| named(&error))?;
        let status = fs::metadata(folder).map_err(|error| named(&error))?;
        let path = fs::canonicalize(folder).map_err(|error| named(&error))?;
        let identity = format!("{}:{}:{}", path.display(), status.dev(), status.ino());
        let mark = fnv(identity.as_bytes());
        let registry = Registry::open(registry, mark)
            .map_err(|error| format!("the record in {}: {error}", registry.display()))?;
        Ok(State { record: folder.join("cgroups"), mark, registry, folders: Vec::new(), _lock: lock })
    }

    /// A number that another state folder does not have.
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// The mark as part of a name.
    pub(crate) fn mark_text(&self) -> String {
        mark_text(self.mark)
    }

    /// Removes what a predecessor left, and records what will be made now.
    pub(crate) fn take_over(&mut self, hierarchies: &[Hierarchy]) -> Result<(), String> {
        let mark = self.mark_text();
        self.folders = hierarchies.iter().map(|hierarchy| top(hierarchy, &mark)).collect();
        let recorded = fs::read_to_string(&self.record).unwrap_or_default();
        let name = format!("freehold-{mark}");
        // A record that somebody changed must not make us remove anything else.
        let recorded = recorded.lines().map(PathBuf::from).chain(self.registry.groups().iter().cloned());
        let recorded = recorded.filter(|path| path.ends_with(&name));
        for stale in recorded.chain(self.folders.iter().cloned()) {
            remove_tree(&stale)
                .map_err(|error| format!("cannot remove what an earlier server left: {error}"))?;
        }
        let text = |error: io::Error| error.to_string();
        let turn = self.registry.turn().map_err(text)?;
        self.registry.sweep(&turn)?;
        self.registry.write(|record| record.groups.clone_from(&self.folders)).map_err(text)?;
        let text: String = self.folders.iter().map(|folder| format!("{}\n", folder.display())).collect();
        fs::write(&self.record, text).map_err(|error| format!("{}: {error}", self.record.display()))
    }

    /// Finds the way to the internet, opens it for environments and closes it for everything else.
    pub(crate) fn connect(&mut self, options: &Options) -> Result<Internet, String> {
        let text = |error: io::Error| error.to_string();
        let turn = self.registry.turn().map_err(text)?;
        let environments = options.slots();
        let taken = self.registry.ranges(&turn)?;
        let mut internet = Internet::plan(&options.internet, self.mark, environments, &taken)?;
        let record = NetworkRecord {
            namespace: namespace().map_err(text)?,
            range: internet.range,
            uplinks: internet.uplinks.iter().map(|uplink| uplink.name.clone()).collect(),
        };
        self.registry.write(|own| own.network = Some(record)).map_err(text)?;
        for uplink in &mut internet.uplinks {
            uplink.ours_only = self
                .registry
                .forward(&uplink.name, &turn)
                .map_err(|error| format!("cannot let {} forward packets: {error}", uplink.name))?;
        }
        rules::load(&internet)?;
        Ok(internet)
    }

    /// Removes the folders and the record. Whatever fails is left to the next start.
    pub(crate) fn finish(mut self) {
        let mut clean = true;
        let turn = self.registry.turn().map_err(|error| error.to_string());
        if let Err(error) =
            turn.as_ref().map_err(String::clone).and_then(|turn| self.registry.remove_network(turn))
        {
            eprintln!("sandbox helper: {error}");
            clean = false;
        }
        for folder in &self.folders {
            if let Err(error) = remove_tree(folder) {
                eprintln!("sandbox helper: {error}");
                clean = false;
            }
        }
        if clean {
            let _ = fs::remove_file(&self.record);
        }
        self.registry.close(clean);
    }
}

/// Locks a file, made if missing; waits so long for whoever has it.
pub(crate) fn lock(path: &Path, patience: Duration) -> io::Result<Flock<fs::File>> {
    let deadline = Instant::now() + patience;
    let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, nix::errno::Errno::EAGAIN)) if Instant::now() < deadline => {
                file = again;
                pause();
            }
            Err((_, nix::errno::Errno::EAGAIN)) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another server uses this folder"));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

/// FNV-1a: the same on every build, unlike the standard library's hash.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
