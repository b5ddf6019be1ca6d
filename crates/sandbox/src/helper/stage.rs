//! What all environments see alike: system programs and libraries, a small `/etc`, a minimal `/dev`.
//!
//! Assembled once, in the helper's own mount namespace, on a tmpfs of its own; each environment gets a read-only copy of the
//! mounts, not of the content. Never part of it: `/usr/local`, `/usr/src`, `/opt`, `/root`, `/home`, `/var`, and of the host's `/etc`
//! only what is named in [`HOST_ETC`].

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::options::Options;
use crate::system::{
    ATTRIBUTE_NO_DEVICES, ATTRIBUTE_NO_EXEC, ATTRIBUTE_NO_SETUID, ATTRIBUTE_READ_ONLY, attach_tree,
    open_tree, restrict_tree,
};

/// The user that functions are, inside (AWS's number and name).
pub(crate) const INSIDE_USER: u32 = 993;
/// The group that functions are in, inside.
pub(crate) const INSIDE_GROUP: u32 = 990;
/// The host name inside.
pub(crate) const HOST_NAME: &str = "localhost";

/// Folders of `/usr` that programs need.
const USR: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share"];
/// Their forms in the root: symlinks on most systems, folders on some.
const ROOT: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What of the host's `/etc` is public and needed: certificates, the loader's cache, names of alternatives and services, and
/// the settings of Java virtual machines, which are links from their own folders on Debian and on Fedora.
const HOST_ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "java",
    "java-8-openjdk",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "mime.types",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
];
/// Device files, with their numbers.
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];
/// Symlinks of `/dev`.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Empty folders that become mount points or that programs expect.
const FOLDERS: &[&str] = &["proc", "tmp", "var", "opt", "run", "sys", "var/task"];
/// Files and folders of `/proc` that are covered: what tells about the host, or commands it.
#[rustfmt::skip]
const PROC_HIDDEN: &[&str] = &[
    "acpi", "asound", "bus", "config.gz", "driver", "fs", "irq", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup",
    "kpagecount", "kpageflags", "latency_stats", "modules", "mtrr", "partitions", "diskstats", "sched_debug", "scsi",
    "slabinfo", "swaps", "sysrq-trigger", "sysvipc", "timer_list", "timer_stats", "vmallocinfo",
];
/// Folders of `/proc` that can be read only.
const PROC_READ_ONLY: &[&str] = &["sys"];

/// Read-only, no setuid bits, no devices.
pub(crate) const PLAIN: u64 = ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SETUID | ATTRIBUTE_NO_DEVICES;

/// The shared parts, on a tmpfs in the helper's mount namespace.
pub(crate) struct Stage {
    folder: PathBuf,
    point: PathBuf,
}

impl Stage {
    /// Takes a mount namespace for the helper, and assembles the parts. `resolvers` is the content of `resolv.conf`.
    pub(crate) fn build(options: &Options, resolvers: &str) -> io::Result<Stage> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Nothing that is mounted here shows outside; what the host unmounts disappears here too.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        let folder = fs::canonicalize(&options.state_dir)?.join("stage");
        fs::create_dir_all(&folder)?;
        let flags = MsFlags::MS_NOSUID;
        mount(Some("freehold"), &folder, Some("tmpfs"), flags, Some("mode=0755,size=16m"))?;
        let stage = Stage { point: folder.join("new"), folder };
        for made in ["new", "empty", "top", "top/usr", "top/etc", "top/dev", "top/dev/shm"] {
            fs::create_dir(stage.folder.join(made))?;
        }
        fs::write(stage.folder.join("blank"), "")?;
        for name in USR {
            show(&Path::new("/usr").join(name), &stage.top().join("usr").join(name))?;
        }
        for name in ROOT {
            show(&Path::new("/").join(name), &stage.top().join(name))?;
        }
        stage.build_etc(resolvers)?;
        stage.build_devices()?;
        Ok(stage)
    }

    fn top(&self) -> PathBuf {
        self.folder.join("top")
    }

    /// An empty folder on which a maker mounts, each in a namespace of its own.
    pub(crate) fn mount_point(&self) -> &Path {
        &self.point
    }

    fn build_etc(&self, resolvers: &str) -> io::Result<()> {
        let etc = self.top().join("etc");
        for name in HOST_ETC {
            show(&Path::new("/etc").join(name), &etc.join(name))?;
        }
        let user = format!(
            "root:x:0:0:root:/root:/sbin/nologin\n\
             sbx_user1051:x:{INSIDE_USER}:{INSIDE_GROUP}::/home/sbx_user1051:/sbin/nologin\n\
             nobody:x:65534:65534:nobody:/:/sbin/nologin\n"
        );
        let group = format!("root:x:0:\nsbx_user1051:x:{INSIDE_GROUP}:\nnogroup:x:65534:\n");
        let files: &[(&str, &str)] = &[
            ("passwd", &user),
            ("group", &group),
            ("hostname", HOST_NAME),
            ("hosts", "127.0.0.1 localhost sandbox.localdomain sandbox\n::1 localhost ip6-localhost\n"),
            // Empty where functions are isolated: names are resolved by nobody.
            ("resolv.conf", resolvers),
            (
                "nsswitch.conf",
                "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
            ),
            ("host.conf", "multi on\n"),
            (
                "os-release",
                "NAME=\"Freehold\"\nID=freehold\nPRETTY_NAME=\"Freehold execution environment\"\n",
            ),
        ];
        for (name, content) in files {
            fs::write(etc.join(name), content)?;
        }
        symlink("/usr/share/zoneinfo/UTC", etc.join("localtime"))?;
        symlink("/proc/mounts", etc.join("mtab"))
    }

    fn build_devices(&self) -> io::Result<()> {
        let folder = self.top().join("dev");
        for (name, major, minor) in DEVICES {
            let path = folder.join(name);
            let mode = Mode::from_bits_truncate(0o666);
            match mknod(&path, SFlag::S_IFCHR, mode, makedev(*major, *minor)) {
                Ok(()) => fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?,
                // In a container without that right, or a user's own namespace: the host's own.
                Err(_) => show(&Path::new("/dev").join(name), &path)?,
            }
        }
        for (name, target) in DEVICE_LINKS {
            symlink(target, folder.join(name))?;
        }
        Ok(())
    }

    /// Puts the shared parts into a new root, with the empty folders that it needs.
    pub(crate) fn furnish(&self, root: &Path) -> io::Result<()> {
        for name in FOLDERS {
            fs::create_dir(root.join(name))?;
        }
        for entry in fs::read_dir(self.top())? {
            let (from, to) = {
                let entry = entry?;
                (entry.path(), root.join(entry.file_name()))
            };
            if from.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
                continue;
            }
            let tree = open_tree(&from)?;
            let attributes = if from.ends_with("dev") {
                ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SETUID | ATTRIBUTE_NO_EXEC
            } else {
                PLAIN
            };
            restrict_tree(tree.as_fd(), attributes)?;
            fs::create_dir(&to)?;
            attach_tree(tree.as_fd(), &to)?;
        }
        Ok(())
    }

    /// Covers what a function need not see of `/proc`.
    pub(crate) fn cover_proc(&self, proc: &Path) -> io::Result<()> {
        for name in PROC_HIDDEN {
            let target = proc.join(name);
            let Ok(status) = fs::symlink_metadata(&target) else { continue };
            if status.is_symlink() {
                continue;
            }
            let cover = open_tree(&self.folder.join(if status.is_dir() { "empty" } else { "blank" }))?;
            restrict_tree(cover.as_fd(), PLAIN | ATTRIBUTE_NO_EXEC)?;
            attach_tree(cover.as_fd(), &target)?;
        }
        for name in PROC_READ_ONLY {
            let target = proc.join(name);
            let tree = open_tree(&target)?;
            restrict_tree(tree.as_fd(), PLAIN | ATTRIBUTE_NO_EXEC)?;
            attach_tree(tree.as_fd(), &target)?;
        }
        Ok(())
    }
}

/// Shows a host path in the stage: a symlink as itself, a file or folder as a mount, a missing one not at all.
fn show(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(status) = fs::symlink_metadata(from) else { return Ok(()) };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if status.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if status.is_dir() {
        fs::create_dir(to)?;
    } else {
        fs::write(to, "")?;
    }
    let tree = open_tree(from)?;
    Ok(attach_tree(tree.as_fd(), to)?)
}
