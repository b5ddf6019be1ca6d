//! Finds the hierarchies, from the kernel's own tables.
//!
//! Pure but for looking at the files below `root` (a folder of a test, or `/`), so that hosts of every kind can be tested.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Hierarchy, Roles, Version};

/// Judges folders of a hierarchy.
pub(crate) type Writable<'a> = dyn Fn(Version, &Path) -> bool + 'a;

/// What the search starts from.
pub(crate) struct Sources<'a> {
    /// `/proc/self/mountinfo`
    pub(crate) mounts: &'a str,
    /// `/proc/self/cgroup`
    pub(crate) own: &'a str,
    /// What every path is below.
    pub(crate) root: &'a Path,
    /// Whether this cgroup v2 folder was handed over to us (systemd's `Delegate=`), or may only be used because we are root.
    pub(crate) delegated: &'a dyn Fn(&Path) -> bool,
    /// Whether an ordinary user may make folders here. Nothing: this is root, who may everywhere.
    pub(crate) writable: Option<&'a Writable<'a>>,
}

impl Sources<'_> {
    fn may_use(&self, version: Version, folder: &Path) -> bool {
        self.writable.is_none_or(|writable| writable(version, folder))
    }
}

/// The hierarchies of this host that can be used for something, v1 first.
pub(crate) fn detect(sources: &Sources<'_>) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut missing = Roles { memory: true, pids: true, cpu: true, freeze: true };
    let mut v1_freezer = None;
    let mounts: Vec<Mounted<'_>> = sources.mounts.lines().filter_map(parse_mount).collect();

    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup") {
        let roles = Roles {
            memory: mount.has("memory") && missing.memory,
            pids: mount.has("pids") && missing.pids,
            cpu: mount.has("cpu") && missing.cpu,
            freeze: mount.has("freezer"),
        };
        let Some(parent) = v1_parent(mount, sources).filter(|parent| sources.may_use(Version::V1, parent))
        else {
            continue;
        };
        let hierarchy = Hierarchy { version: Version::V1, parent, roles };
        if roles.freeze {
            v1_freezer = Some(hierarchy);
        } else if roles.any() {
            missing.memory &= !roles.memory;
            missing.pids &= !roles.pids;
            missing.cpu &= !roles.cpu;
            found.push(hierarchy);
        }
    }
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup2").take(1) {
        let Some(parent) = v2_parent(mount, sources) else { continue };
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
        let roles = Roles {
            memory: missing.memory && has("memory"),
            pids: missing.pids && has("pids"),
            cpu: missing.cpu && has("cpu"),
            freeze: true,
        };
        found.push(Hierarchy { version: Version::V2, parent, roles });
        v1_freezer = None;
    }
    found.extend(v1_freezer);
    found
}

/// One line of `mountinfo`.
struct Mounted<'a> {
    inside: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mounted<'_> {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }
}

fn parse_mount(line: &str) -> Option<Mounted<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (inside, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    Some(Mounted { inside, point, kind, options: right.nth(1)? })
}

/// This process's path in the hierarchy whose line `matches`.
fn own_path(own: &str, matches: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        matches(controllers).then_some(path)
    })
}

/// The folder of `path` as seen through a mount that may show only a part of the hierarchy.
fn folder(mount: &Mounted<'_>, path: &str, root: &Path) -> PathBuf {
    let point = root.join(mount.point.trim_start_matches('/'));
    let below = path.strip_prefix(mount.inside).unwrap_or("");
    let below = below.trim_matches('/');
    if below.is_empty() { point } else { point.join(below) }
}

fn v1_parent(mount: &Mounted<'_>, sources: &Sources<'_>) -> Option<PathBuf> {
    let path = own_path(sources.own, |controllers| {
        !controllers.is_empty() && controllers.split(',').any(|controller| mount.has(controller))
    })?;
    let own = folder(mount, path, sources.root);
    own.is_dir().then_some(own)
}

/// On v2, a group with processes cannot hand controllers to its children. A folder that was delegated to us is ours to
/// rearrange; anywhere else (a login session, a container's root) the root of what we see is the only place that is nobody's.
///
/// An ordinary user has only what was handed over. Where systemd named the folder, being able to write is not enough: it arranges
/// the folders of a user's session itself, unless it has marked one as delegated.
fn v2_parent(mount: &Mounted<'_>, sources: &Sources<'_>) -> Option<PathBuf> {
    let own = folder(mount, own_path(sources.own, str::is_empty).unwrap_or("/"), sources.root);
    let delegated = own.is_dir() && (sources.delegated)(&own);
    if sources.writable.is_some() {
        let is_systemds = [".scope", ".service", ".slice"]
            .iter()
            .any(|end| own.as_os_str().as_bytes().ends_with(end.as_bytes()));
        return ((delegated || !is_systemds) && sources.may_use(Version::V2, &own)).then_some(own);
    }
    Some(if delegated { own } else { folder(mount, mount.inside, sources.root) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(controllers: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (folder, content) in controllers {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.controllers"), content).unwrap();
        }
        root
    }

    fn search(root: &Path, mounts: &str, own: &str, delegated: bool) -> Vec<Hierarchy> {
        detect(&Sources { mounts, own, root, delegated: &|_| delegated, writable: None })
    }

    const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_v2_host_uses_the_root_unless_its_own_folder_was_delegated() {
        let own = "0::/system.slice/freehold.service";
        let all = "cpuset cpu io memory pids";
        let root =
            host(&[("sys/fs/cgroup", all), ("sys/fs/cgroup/system.slice/freehold.service", "memory pids")]);
        let found = search(root.path(), V2_MOUNT, own, false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].parent, root.path().join("sys/fs/cgroup"));
        assert_eq!(found[0].roles, Roles { memory: true, pids: true, cpu: true, freeze: true });
        let found = search(root.path(), V2_MOUNT, own, true);
        assert_eq!(found[0].parent, root.path().join("sys/fs/cgroup/system.slice/freehold.service"));
        assert_eq!(found[0].roles, Roles { memory: true, pids: true, cpu: false, freeze: true });
    }

    #[test]
    fn a_hybrid_host_limits_by_v1_and_freezes_by_v2() {
        let root = host(&[("sys/fs/cgroup/unified", ""), ("sys/fs/cgroup/memory/outer", "")]);
        fs::create_dir_all(root.path().join("sys/fs/cgroup/cpu,cpuacct")).unwrap();
        fs::create_dir_all(root.path().join("sys/fs/cgroup/freezer")).unwrap();
        let mounts = "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      4 0 0:4 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let own = "5:freezer:/\n4:memory:/outer\n2:cpu,cpuacct:/\n0::/";
        let found = search(root.path(), mounts, own, false);
        let versions: Vec<_> = found.iter().map(|hierarchy| hierarchy.version).collect();
        assert_eq!(versions, [Version::V1, Version::V1, Version::V2]);
        assert!(found[0].parent.ends_with("memory/outer"));
        assert!(found[0].roles.memory && found[1].roles.cpu && found[2].roles.freeze);
        assert!(!found.iter().any(|hierarchy| hierarchy.roles.pids));
    }

    #[test]
    fn a_v1_host_freezes_by_its_own_freezer() {
        let root = host(&[("sys/fs/cgroup/freezer", "")]);
        let mounts = "4 0 0:4 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
        let found = search(root.path(), mounts, "5:freezer:/", false);
        assert_eq!(found.len(), 1);
        assert!(found[0].version == Version::V1 && found[0].roles.freeze);
    }

    #[test]
    fn an_ordinary_user_has_only_what_was_handed_over() {
        let unit = "sys/fs/cgroup/user.slice/run-1.scope";
        let root = host(&[
            ("sys/fs/cgroup", "memory pids"),
            (unit, "memory pids"),
            ("sys/fs/cgroup/mine", "memory"),
        ]);
        fs::create_dir_all(root.path().join("sys/fs/cgroup/freezer/mine")).unwrap();
        let search = |mounts: &str, own: &str, delegated: bool, mine: &dyn Fn(Version, &Path) -> bool| {
            let root = root.path();
            detect(&Sources { mounts, own, root, delegated: &|_| delegated, writable: Some(mine) })
        };
        let scope = "0::/user.slice/run-1.scope";
        assert_eq!(search(V2_MOUNT, scope, true, &|_, _| true)[0].parent, root.path().join(unit));
        assert_eq!(search(V2_MOUNT, scope, false, &|_, _| true), [], "systemd arranges it itself");
        assert_eq!(search(V2_MOUNT, scope, true, &|_, _| false), []);
        assert_eq!(
            search(V2_MOUNT, "0::/mine", false, &|_, _| true).len(),
            1,
            "somebody gave it away by hand"
        );
        let v1 = format!("4 0 0:4 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n{V2_MOUNT}");
        let found = search(&v1, "5:freezer:/mine\n0::/", false, &|version, _| version == Version::V1);
        assert!(found.len() == 1 && found[0].version == Version::V1 && found[0].roles.freeze, "{found:?}");
    }

    #[test]
    fn a_mount_that_shows_a_part_of_the_hierarchy_is_read_from_there() {
        let root = host(&[("sys/fs/cgroup/memory/inner", "")]);
        let mounts = "1 0 0:1 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let found = search(root.path(), mounts, "4:memory:/docker/abc/inner", false);
        assert!(found[0].parent.ends_with("sys/fs/cgroup/memory/inner"));
    }
}
