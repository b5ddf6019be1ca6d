//! What the sandboxes of this host have made, in a folder that all of them know.
//!
//! ```text
//! /run/freehold/lock                     held while anything below changes hands
//!              /<mark>.json              one sandbox's record, locked by its helper for life
//!              /forwards-<netns>-<name>  this interface forwards only because of us
//! ```
//!
//! A record that nobody holds is a dead sandbox's: whoever comes next removes what it names, even if its state folder is gone. A
//! record is never believed blindly: everything that is removed carries the mark in its name. `/run` is emptied when the host
//! starts, as is everything that a record can name.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::state::lock;
use crate::cgroup::prepare::remove_tree;
use crate::network::range::Range;
use crate::network::{link, namespace, prefix, rules, uplink};

/// The folder, of those that root makes; an ordinary user has one of his own.
pub(crate) const FOLDER: &str = "/run/freehold";
/// How long another sandbox that is just starting or ending is waited for.
const TURN_TIME: Duration = Duration::from_secs(15);

/// What one sandbox has made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its cgroups, one per hierarchy.
    pub(crate) groups: Vec<PathBuf>,
    /// What it needs for functions that reach the internet.
    pub(crate) network: Option<NetworkRecord>,
}

/// Interfaces and rules bear the mark in their names; this is the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    /// The network namespace that all of it lies in.
    pub(crate) namespace: u64,
    /// The addresses of its environments.
    pub(crate) range: Range,
    /// The interfaces that must forward.
    pub(crate) uplinks: Vec<String>,
}

/// One sandbox's place in the folder.
pub(crate) struct Registry {
    folder: PathBuf,
    mark: u64,
    own: Flock<fs::File>,
    record: Record,
}

/// The right to change what sandboxes share; others wait meanwhile.
pub(crate) struct Turn {
    _lock: Flock<fs::File>,
}

impl Registry {
    /// Takes the place with this mark, which is free: its state folder is locked.
    pub(crate) fn open(folder: &Path, mark: u64) -> io::Result<Registry> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        // Somebody else's folder would let him name what we remove, and pull locks away.
        let status = fs::symlink_metadata(folder)?;
        if !status.is_dir() || status.uid() != nix::unistd::geteuid().as_raw() || status.mode() & 0o022 != 0 {
            return Err(io::Error::other("is not a folder of this user alone"));
        }
        let _turn = turn(folder)?;
        let path = folder.join(file_name(mark));
        let own = lock(&path, TURN_TIME)?;
        let record = read(&path);
        Ok(Registry { folder: folder.to_owned(), mark, own, record })
    }

    /// Waits for the right to change what is shared.
    pub(crate) fn turn(&self) -> io::Result<Turn> {
        turn(&self.folder)
    }

    /// The cgroups that an earlier sandbox with this mark left.
    pub(crate) fn groups(&self) -> &[PathBuf] {
        &self.record.groups
    }

    /// Writes down what is about to be made.
    pub(crate) fn write(&mut self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        change(&mut self.record);
        let text = serde_json::to_vec(&self.record)?;
        // Never empty in between: a process can be killed at any time.
        self.own.write_all_at(&text, 0)?;
        self.own.set_len(text.len() as u64)
    }

    /// Removes what sandboxes left that ended without being able to, and what one with this very mark left. What cannot be
    /// removed of others is told and left to the next one that comes.
    pub(crate) fn sweep(&mut self, turn: &Turn) -> Result<(), String> {
        self.remove_network(turn)?;
        for mark in self.others()? {
            let path = self.folder.join(file_name(mark));
            let Ok(file) = fs::File::open(&path) else { continue };
            let Ok(_dead) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            match self.sweep_dead(mark, &read(&path)) {
                Ok(()) => fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?,
                Err(reason) => eprintln!("sandbox helper: what a dead sandbox left stays: {reason}"),
            }
        }
        Ok(())
    }

    fn sweep_dead(&self, mark: u64, record: &Record) -> Result<(), String> {
        let name = format!("freehold-{}", mark_text(mark));
        for group in record.groups.iter().filter(|group| group.ends_with(&name)) {
            remove_tree(group).map_err(|error| error.to_string())?;
        }
        record.network.as_ref().map_or(Ok(()), |network| self.remove_network_of(mark, network))
    }

    /// The addresses that other sandboxes use.
    pub(crate) fn ranges(&self, _turn: &Turn) -> Result<Vec<Range>, String> {
        let networks = self.others()?.into_iter().filter_map(|mark| self.read(mark).network);
        Ok(networks.map(|network| network.range).collect())
    }

    /// Lets an interface forward, if it does not. Gives whether it forwards only because of sandboxes.
    pub(crate) fn forward(&self, name: &str, _turn: &Turn) -> io::Result<bool> {
        let sign = self.sign(namespace()?, name);
        if !uplink::forwards(name)? {
            fs::write(&sign, "")?;
            uplink::forward(name)?;
        }
        Ok(sign.exists())
    }

    /// Removes interfaces, rules and what else there is for the internet. Without it, nothing happens.
    pub(crate) fn remove_network(&mut self, _turn: &Turn) -> Result<(), String> {
        match self.record.network.take() {
            None => Ok(()),
            Some(network) => self.remove_network_of(self.mark, &network),
        }
    }

    fn remove_network_of(&self, mark: u64, network: &NetworkRecord) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        // Another namespace's are not in reach; when its last process has gone, they are gone too.
        if network.namespace != namespace().map_err(text)? {
            return Ok(());
        }
        let removed = link::remove_all(&prefix(mark)).map_err(text).and_then(|()| rules::remove(mark));
        let used: Vec<_> = self
            .others()?
            .into_iter()
            .filter(|other| *other != mark)
            .filter_map(|other| self.read(other).network)
            .chain(self.record.network.clone())
            .filter(|other| other.namespace == network.namespace)
            .flat_map(|other| other.uplinks)
            .collect();
        for name in network.uplinks.iter().filter(|name| !used.contains(name)) {
            let sign = self.sign(network.namespace, name);
            if sign.exists() {
                uplink::forward_no_more(name).map_err(text)?;
                fs::remove_file(&sign).map_err(text)?;
            }
        }
        removed
    }

    fn sign(&self, namespace: u64, name: &str) -> PathBuf {
        self.folder.join(format!("forwards-{namespace}-{name}"))
    }

    fn others(&self) -> Result<Vec<u64>, String> {
        let entries =
            fs::read_dir(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let marks = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            u64::from_str_radix(name.to_str()?.strip_suffix(".json")?, 16).ok()
        });
        Ok(marks.filter(|mark| *mark != self.mark).collect())
    }

    fn read(&self, mark: u64) -> Record {
        read(&self.folder.join(file_name(mark)))
    }

    /// Gives the place up. What is still there by then is left to the next start, with the record.
    pub(crate) fn close(self, clean: bool) {
        if clean {
            let _ = fs::remove_file(self.folder.join(file_name(self.mark)));
        }
    }
}

/// The mark as part of a name.
pub(crate) fn mark_text(mark: u64) -> String {
    format!("{:012x}", mark & 0xffff_ffff_ffff)
}

fn file_name(mark: u64) -> String {
    format!("{mark:016x}.json")
}

fn turn(folder: &Path) -> io::Result<Turn> {
    Ok(Turn { _lock: lock(&folder.join("lock"), TURN_TIME)? })
}

/// An empty or half-written record names nothing: it was written before anything was made.
fn read(path: &Path) -> Record {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_swept_and_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("registry");
        let group = |mark: u64| folder.path().join(format!("freehold-{}", mark_text(mark)));
        let foreign = folder.path().join("foreign");
        for path in [group(1), group(2), foreign.clone()] {
            fs::create_dir(path).unwrap();
        }
        let mut dead = Registry::open(&place, 1).unwrap();
        dead.write(|record| record.groups = vec![group(1), foreign.clone()]).unwrap();
        dead.close(false);
        let mut living = Registry::open(&place, 2).unwrap();
        living.write(|record| record.groups = vec![group(2)]).unwrap();
        let mut next = Registry::open(&place, 3).unwrap();
        let turn = next.turn().unwrap();
        next.sweep(&turn).unwrap();
        assert!(!group(1).exists() && !place.join(file_name(1)).exists());
        assert!(group(2).exists() && foreign.exists());
        assert_eq!(next.others().unwrap(), [2]);
    }

    #[test]
    fn a_place_that_others_could_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Registry::open(folder.path(), 1).is_err());
    }
}
