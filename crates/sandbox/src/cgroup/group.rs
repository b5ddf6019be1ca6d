//! The groups of one environment: one folder in each hierarchy, the same name everywhere.
//!
//! Made and entered by the process that becomes the environment (entering is what takes long: the kernel waits for a grace
//! period in each hierarchy), limited when the environment learns what it is to be.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::prepare::Tops;
use super::{Roles, Version};
use crate::message::FreezeKind;
use crate::options::PROCESSES_MAX;
use crate::system::{open_at, read_small, write_at};

/// The period over which the CPU ceiling is counted, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// A function may always use this much when the CPU is idle, in thousandths: small ones are not slowed down for nothing.
const CPU_CEILING_MIN_MILLIS: u32 = 1000;

/// One environment's folders.
pub(crate) struct Group {
    folders: Vec<Folder>,
}

struct Folder {
    version: Version,
    roles: Roles,
    /// What limits are written to, opened by the maker: where cgroup namespaces are boundaries (`nsdelegate`, as systemd mounts v2),
    /// whoever opens them in the environment's own namespace may not write.
    controls: Vec<(&'static str, OwnedFd)>,
}

impl Folder {
    fn open(version: Version, roles: Roles, folder: BorrowedFd<'_>) -> io::Result<Folder> {
        let mut controls = Vec::new();
        for (_, names) in CONTROLS.iter().filter(|((of, role), _)| *of == version && role(&roles)) {
            for name in *names {
                match open_at(folder, name, true) {
                    Ok(file) => controls.push((*name, file)),
                    // Not in this kernel.
                    Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Folder { version, roles, controls })
    }

    fn control(&self, name: &str) -> io::Result<&OwnedFd> {
        let found = self.controls.iter().find(|(control, _)| *control == name);
        found.map(|(_, file)| file).ok_or_else(|| Errno::ENOENT.into())
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        nix::unistd::write(self.control(name)?, value.as_bytes())?;
        Ok(())
    }
}

type Role = fn(&Roles) -> bool;

/// The files that limits are written to.
const CONTROLS: &[((Version, Role), &[&str])] = &[
    (
        (Version::V1, |roles| roles.memory),
        &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"],
    ),
    ((Version::V2, |roles| roles.memory), &["memory.max", "memory.swap.max", "memory.oom.group"]),
    ((Version::V1, |roles| roles.cpu), &["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"]),
    ((Version::V2, |roles| roles.cpu), &["cpu.weight", "cpu.max"]),
];

/// The descriptors by which an environment is frozen and watched.
pub(crate) struct Watched {
    pub(crate) freeze_kind: FreezeKind,
    /// The freeze control, then (v2) its events.
    pub(crate) freeze: Vec<OwnedFd>,
    /// The most memory used.
    pub(crate) peak: Option<OwnedFd>,
    /// v1: becomes readable when memory runs out.
    pub(crate) memory_event: Option<OwnedFd>,
}

/// Open control files and what is to be written to them: opened with a right that the writer no longer has.
pub(crate) struct CpuShare(Vec<(OwnedFd, String)>);

impl CpuShare {
    /// Sets it.
    pub(crate) fn set(self) -> io::Result<()> {
        for (file, value) in self.0 {
            nix::unistd::write(file, value.as_bytes())?;
        }
        Ok(())
    }
}

/// The paths of an environment's folders.
pub(crate) fn paths(tops: &Tops, name: &str) -> Vec<PathBuf> {
    tops.folders.iter().map(|(_, top)| top.join(name)).collect()
}

impl Group {
    /// Makes the folders and moves the calling process into them. To be called before it has a cgroup namespace of its own.
    pub(crate) fn create_and_enter(tops: &Tops, name: &str) -> io::Result<Group> {
        let mut folders = Vec::new();
        for (hierarchy, top) in &tops.folders {
            let path = top.join(name);
            fs::create_dir(&path)?;
            let folder = OwnedFd::from(fs::File::open(&path)?);
            if hierarchy.roles.pids {
                // One more for the init.
                write_at(folder.as_fd(), "pids.max", &(PROCESSES_MAX + 1).to_string())?;
            }
            write_at(folder.as_fd(), "cgroup.procs", "0")?;
            folders.push(Folder::open(hierarchy.version, hierarchy.roles, folder.as_fd())?);
        }
        Ok(Group { folders })
    }

    fn with(&self, role: Role) -> Option<&Folder> {
        self.folders.iter().find(|folder| role(&folder.roles))
    }

    /// Sets the memory limit.
    pub(crate) fn limit_memory(&self, memory_mib: u32) -> io::Result<()> {
        let bytes = (u64::from(memory_mib) << 20).to_string();
        let Some(folder) = self.with(|roles| roles.memory) else { return Ok(()) };
        match folder.version {
            Version::V1 => {
                folder.set("memory.limit_in_bytes", &bytes)?;
                // Memory and swap together; the file is missing where swap is not counted.
                let _ = folder.set("memory.memsw.limit_in_bytes", &bytes);
                // What the blank used so far is not the function's.
                folder.set("memory.max_usage_in_bytes", "0")
            }
            Version::V2 => {
                folder.set("memory.max", &bytes)?;
                let _ = folder.set("memory.swap.max", "0");
                folder.set("memory.oom.group", "1")
            }
        }
    }

    /// The CPU share, to be set once the program runs: until then an environment is the platform's work, not the function's.
    pub(crate) fn cpu_share(&self, cpu_millis: u32) -> io::Result<CpuShare> {
        let quota = u64::from(cpu_millis.max(CPU_CEILING_MIN_MILLIS)) * CPU_PERIOD_US / 1000;
        let Some(folder) = self.with(|roles| roles.cpu) else { return Ok(CpuShare(vec![])) };
        let values = match folder.version {
            Version::V1 => vec![
                ("cpu.shares", shares(cpu_millis).to_string()),
                ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
            Version::V2 => vec![
                ("cpu.weight", weight(cpu_millis).to_string()),
                ("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
            ],
        };
        let keep = |(name, value)| Ok((folder.control(name)?.try_clone()?, value));
        values.into_iter().map(keep).collect::<io::Result<_>>().map(CpuShare)
    }
}

impl Watched {
    /// Opens what the helper and the server watch, and freeze by. For the helper, which is outside of the group.
    pub(crate) fn open(tops: &Tops, name: &str) -> io::Result<Watched> {
        let open = |folder: &Path, name: &str, write: bool| {
            fs::OpenOptions::new().read(true).write(write).open(folder.join(name)).map(OwnedFd::from)
        };
        let (freeze_kind, freeze) = match place(tops, name, |roles| roles.freeze) {
            Some((Version::V2, folder)) => (
                FreezeKind::V2,
                vec![open(&folder, "cgroup.freeze", true)?, open(&folder, "cgroup.events", false)?],
            ),
            Some((Version::V1, folder)) => (FreezeKind::V1, vec![open(&folder, "freezer.state", true)?]),
            None => (FreezeKind::None, vec![]),
        };
        let (peak, memory_event) = match place(tops, name, |roles| roles.memory) {
            // Before Linux 5.19 there is no peak; what is used now is the nearest.
            Some((Version::V2, folder)) => (
                Some(
                    open(&folder, "memory.peak", false)
                        .or_else(|_| open(&folder, "memory.current", false))?,
                ),
                None,
            ),
            Some((Version::V1, folder)) => {
                let peak = open(&folder, "memory.max_usage_in_bytes", false)?;
                (Some(peak), Some(register_event(&folder)?))
            }
            None => (None, None),
        };
        Ok(Watched { freeze_kind, freeze, peak, memory_event })
    }
}

/// The folder of an environment in the hierarchy that has this role.
fn place(tops: &Tops, name: &str, role: Role) -> Option<(Version, PathBuf)> {
    let (hierarchy, top) = tops.folders.iter().find(|(hierarchy, _)| role(&hierarchy.roles))?;
    Some((hierarchy.version, top.join(name)))
}

/// v1: asks to be told when a group's memory has run out.
fn register_event(folder: &Path) -> io::Result<OwnedFd> {
    let control = fs::File::open(folder.join("memory.oom_control"))?;
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    fs::OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.event_control"))?
        .write_all(line.as_bytes())?;
    event.as_fd().try_clone_to_owned()
}

/// v1's weight: 1,024 is one vCPU.
fn shares(cpu_millis: u32) -> u64 {
    (u64::from(cpu_millis) * 1024 / 1000).clamp(2, 262_144)
}

/// v2's weight: 100 is one vCPU.
fn weight(cpu_millis: u32) -> u64 {
    (u64::from(cpu_millis) / 10).clamp(1, 10_000)
}

/// How many processes of an environment the kernel has killed for want of memory.
pub(crate) fn kills_for_memory(tops: &Tops, name: &str) -> u64 {
    let Some((version, folder)) = place(tops, name, |roles| roles.memory) else { return 0 };
    let file = if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// The most memory that an environment has used, in bytes.
pub(crate) fn peak_bytes(tops: &Tops, name: &str) -> u64 {
    let Some((version, folder)) = place(tops, name, |roles| roles.memory) else { return 0 };
    let names: &[&str] = match version {
        Version::V2 => &["memory.peak", "memory.current"],
        Version::V1 => &["memory.max_usage_in_bytes"],
    };
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A file that holds one number.
pub(crate) fn number(file: BorrowedFd<'_>) -> u64 {
    read_small(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    #[test]
    fn weights_follow_the_vcpu_and_stay_in_the_kernels_range() {
        assert_eq!((shares(1000), weight(1000)), (1024, 100));
        assert_eq!((shares(72), weight(72)), (73, 7));
        assert_eq!((shares(1), weight(1)), (2, 1));
        assert_eq!((shares(6000), weight(6000)), (6144, 600));
    }

    /// A v2 folder made of plain files gets what a real one would.
    #[test]
    fn a_v2_group_gets_its_limits() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "cpu.weight",
            "cpu.max",
            "cgroup.freeze",
            "cgroup.events",
        ] {
            fs::write(root.path().join(name), "").unwrap();
        }
        fs::write(root.path().join("memory.peak"), "4096\n").unwrap();
        fs::write(root.path().join("memory.events"), "low 0\noom 1\noom_kill 3\noom_group_kill 1\n").unwrap();
        let roles = Roles { memory: true, pids: true, cpu: true, freeze: true };
        let folder = OwnedFd::from(fs::File::open(root.path()).unwrap());
        let group = Group { folders: vec![Folder::open(Version::V2, roles, folder.as_fd()).unwrap()] };
        group.limit_memory(128).unwrap();
        group.cpu_share(72).unwrap().set().unwrap();
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(read("memory.max"), "134217728");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.weight"), "7");
        assert_eq!(read("cpu.max"), "100000 100000");
        let hierarchy = Hierarchy { version: Version::V2, parent: root.path().to_owned(), roles };
        // The environment's folder is the root itself.
        let tops = Tops { folders: vec![(hierarchy, root.path().to_owned())] };
        let watched = Watched::open(&tops, "").unwrap();
        assert_eq!(watched.freeze_kind, FreezeKind::V2);
        assert_eq!(number(watched.peak.unwrap().as_fd()), 4096);
        assert_eq!((kills_for_memory(&tops, ""), peak_bytes(&tops, "")), (3, 4096));
        assert!(watched.memory_event.is_none());
        assert_eq!(paths(&tops, "e1"), [root.path().join("e1")]);
    }
}
