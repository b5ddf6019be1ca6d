//! Makes our folder in every hierarchy, and takes such folders away, with everything in them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};

use super::{Hierarchy, Roles, Version};

/// How long the removal of a group is tried: its last processes may still be exiting.
const REMOVAL_TIME: Duration = Duration::from_secs(5);
/// Between two tries, in milliseconds.
const REMOVAL_PAUSE_MS: u16 = 2;
/// Where processes of our own group go on v2, so that it may have children with controllers.
const HOST_LEAF: &str = "freehold-host";

/// Our folder in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Tops {
    /// With the hierarchy it lies in.
    pub(crate) folders: Vec<(Hierarchy, PathBuf)>,
}

/// What the found hierarchies cannot do, of what every environment needs.
pub(crate) fn lacking(hierarchies: &[Hierarchy]) -> Roles {
    let any = |role: fn(&Roles) -> bool| hierarchies.iter().any(|hierarchy| role(&hierarchy.roles));
    Roles {
        memory: !any(|roles| roles.memory),
        pids: !any(|roles| roles.pids),
        cpu: !any(|roles| roles.cpu),
        freeze: !any(|roles| roles.freeze),
    }
}

/// Whether an ordinary user may make groups below this one, and move himself into them.
pub(crate) fn is_writable(version: Version, folder: &Path) -> bool {
    let names: &[&str] = match version {
        Version::V1 => &[""],
        Version::V2 => &["", "cgroup.procs", "cgroup.subtree_control"],
    };
    names.iter().all(|name| access(&folder.join(name), AccessFlags::W_OK).is_ok())
}

/// The folder's path in a hierarchy.
pub(crate) fn top(hierarchy: &Hierarchy, mark: &str) -> PathBuf {
    hierarchy.parent.join(format!("freehold-{mark}"))
}

/// Makes our folder in each hierarchy. What is left of a predecessor must be gone.
pub(crate) fn prepare(hierarchies: &[Hierarchy], mark: &str) -> io::Result<Tops> {
    let mut folders = Vec::new();
    for hierarchy in hierarchies {
        let top = top(hierarchy, mark);
        match fs::create_dir(&top) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| named(&top, &error))?,
        }
        match hierarchy.version {
            // Before Linux 5.11 a v1 memory group does not count its children unless told to.
            Version::V1 if hierarchy.roles.memory => drop(fs::write(top.join("memory.use_hierarchy"), "1")),
            Version::V1 => {}
            Version::V2 => enable(hierarchy, &top)?,
        }
        folders.push((hierarchy.clone(), top));
    }
    Ok(Tops { folders })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Hands the controllers down from the parent to our folder, and from there to the environments.
fn enable(hierarchy: &Hierarchy, top: &Path) -> io::Result<()> {
    let Roles { memory, pids, cpu, .. } = hierarchy.roles;
    let wanted: Vec<&str> = [(memory, "memory"), (pids, "pids"), (cpu, "cpu")]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| *name)
        .collect();
    for folder in [hierarchy.parent.as_path(), top] {
        for controller in &wanted {
            let file = folder.join("cgroup.subtree_control");
            let enabled = fs::read_to_string(&file).map_err(|error| named(&file, &error))?;
            if enabled.split_whitespace().any(|name| name == *controller) {
                continue;
            }
            let value = format!("+{controller}");
            let mut result = fs::write(&file, &value);
            if matches!(&result, Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32)) {
                move_to_leaf(folder)?;
                result = fs::write(&file, &value);
            }
            result.map_err(|error| named(&file, &error))?;
        }
    }
    Ok(())
}

/// Moves the processes of a group into a child of it: v2 allows either processes or children with controllers.
fn move_to_leaf(folder: &Path) -> io::Result<()> {
    let leaf = folder.join(HOST_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|error| named(&leaf, &error))?,
    }
    for process in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
        // One that has ended meanwhile needs no move; one that cannot be moved shows as EBUSY in the caller's second try.
        let _ = fs::write(leaf.join("cgroup.procs"), process);
    }
    Ok(())
}

/// Kills everything in a group and below, and removes the folders. A group that does not exist is fine.
pub(crate) fn remove_tree(top: &Path) -> io::Result<()> {
    let deadline = Instant::now() + REMOVAL_TIME;
    loop {
        match try_remove_tree(top) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) && Instant::now() < deadline => {
                pause()
            }
            Err(error) => return Err(named(top, &error)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Waits a moment, in the single-threaded helper where nothing else may run meanwhile.
pub(crate) fn pause() {
    let _ = nix::poll::poll(&mut [], REMOVAL_PAUSE_MS);
}

fn try_remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut result = Ok(());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            result = result.and(try_remove_tree(&entry.path()));
        }
    }
    kill_all(folder);
    result.and(match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })
}

fn kill_all(folder: &Path) {
    let all = fs::OpenOptions::new().write(true).open(folder.join("cgroup.kill"));
    if all.and_then(|mut file| file.write_all(b"1")).is_err() {
        for process in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            match process.parse() {
                // 0 stands for a process of another namespace; a signal to 0 would reach our own group.
                Ok(process) if process > 1 => drop(kill(Pid::from_raw(process), Signal::SIGKILL)),
                _ => {}
            }
        }
    }
    // A group that was frozen by v1's freezer dies only when thawed.
    let state = folder.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake_v2(parent_enabled: &str) -> (tempfile::TempDir, Hierarchy) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), parent_enabled).unwrap();
        fs::create_dir(root.path().join("freehold-test")).unwrap();
        fs::write(root.path().join("freehold-test/cgroup.subtree_control"), "").unwrap();
        let roles = Roles { memory: true, pids: true, cpu: true, freeze: true };
        let hierarchy = Hierarchy { version: Version::V2, parent: root.path().to_owned(), roles };
        (root, hierarchy)
    }

    #[test]
    fn v2_controllers_are_handed_down_to_the_environments() {
        let (root, hierarchy) = fake_v2("cpu memory pids");
        let tops = prepare(&[hierarchy], "test").unwrap();
        assert_eq!(tops.folders[0].1, root.path().join("freehold-test"));
        // The parent had them already and was not written; ours got each (a plain file keeps the last).
        let parent = fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(parent, "cpu memory pids");
        let ours = fs::read_to_string(root.path().join("freehold-test/cgroup.subtree_control")).unwrap();
        assert_eq!(ours, "+cpu");
    }

    #[test]
    fn processes_of_the_parent_move_into_a_leaf() {
        let (root, _) = fake_v2("");
        fs::write(root.path().join("cgroup.procs"), "41\n42\n").unwrap();
        move_to_leaf(root.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("freehold-host/cgroup.procs")).unwrap(), "42");
    }

    #[test]
    fn what_is_lacking_is_named() {
        let roles = Roles { memory: false, pids: true, cpu: true, freeze: true };
        let hierarchy = Hierarchy { version: Version::V2, parent: PathBuf::new(), roles };
        assert_eq!(lacking(&[hierarchy]), Roles { memory: true, ..Roles::default() });
    }

    #[test]
    fn removing_a_tree_that_is_not_there_succeeds() {
        remove_tree(Path::new("/nonexistent/freehold-test")).unwrap();
    }
}
