//! The space behind an environment's `/tmp`: a file system of exactly its size, in a nameless sparse file.
//!
//! A tmpfs would be simpler, but its pages are charged to whoever touches them and cannot be given back: filling `/tmp` would
//! be running out of memory. Pages of a disk's file system are page cache: charged too, but written out and reclaimed when the
//! function's memory gets short, so in effect they are not the function's. (Project quotas on one shared file system would need
//! `CONFIG_QFMT_V2`, which not every kernel has; a loop device per environment costs 2 ms, ahead of need.)
//!
//! [`Template`] runs `mkfs.ext4` once per size, keeps the few dozen KiB that it wrote, and copies them for every environment. There
//! is no journal: nothing here outlives its environment. The file has no name and the loop device clears itself, so both vanish
//! with the last mount, however the processes end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Whence, lseek};

use crate::system::{loop_configure, loop_free};

/// Where `mkfs.ext4` is looked for: the helper has no PATH.
pub(crate) const MKFS_PLACES: &[&str] = &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];
/// Bytes of one block.
const BLOCK: u64 = 4096;
/// Inodes per MiB: ext4's own default of one for 16 KiB.
const INODES_PER_MIB: u64 = 64;
/// How often the size is corrected towards the wanted free space before the nearest larger one is taken.
const FITTING_TRIES: usize = 5;
/// How often another free loop device is asked for when somebody else took it first.
const LOOP_TRIES: usize = 32;
/// No writing of inode tables in the background, freed blocks go back to the host, no flushing for durability.
const MOUNT_DATA: &str = "noinit_itable,discard,nobarrier";

/// What `mkfs.ext4` writes for one size.
pub(crate) struct Template {
    blocks: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Template {
    /// Makes one whose free space is `tmp_mib`. `folder` gets a file for a moment, `point` a mount.
    pub(crate) fn make(folder: &Path, point: &Path, tmp_mib: u32) -> Result<Template, String> {
        let wanted = u64::from(tmp_mib) << 20 >> BLOCK.trailing_zeros();
        let inodes = u64::from(tmp_mib) * INODES_PER_MIB;
        // Inode tables (256 bytes each), what the kernel keeps back (2 %, at most 4,096 blocks), bitmaps and the like.
        let mut blocks = wanted + inodes / 16 + (wanted / 49).min(4096) + wanted / 4096 + 64;
        let mut best: Option<(u64, Template)> = None;
        for _ in 0..FITTING_TRIES {
            let template = Self::format(folder, blocks, inodes)?;
            template
                .mount(folder, point, 0)
                .map_err(|error| format!("cannot mount a loop device: {error}"))?;
            let free = nix::sys::statfs::statfs(point).map(|status| status.blocks_available());
            umount2(point, MntFlags::MNT_DETACH).map_err(|error| format!("cannot unmount: {error}"))?;
            let free = free.map_err(|error| format!("cannot measure: {error}"))?;
            if free >= wanted && best.as_ref().is_none_or(|(excess, _)| free - wanted < *excess) {
                best = Some((free - wanted, template));
            }
            if free == wanted {
                break;
            }
            blocks = (blocks + wanted).saturating_sub(free);
        }
        best.map(|(_, template)| template)
            .ok_or_else(|| format!("no file system of {tmp_mib} MiB could be made"))
    }

    fn format(folder: &Path, blocks: u64, inodes: u64) -> Result<Template, String> {
        let program = mkfs().ok_or("mkfs.ext4 is missing: install e2fsprogs")?;
        let path = folder.join(format!("template-{}.img", std::process::id()));
        let file =
            named_file(&path, blocks * BLOCK).map_err(|error| format!("{}: {error}", path.display()))?;
        let output = Command::new(program)
            .args(["-q", "-F", "-b", "4096", "-m", "0", "-I", "256", "-O", "^has_journal,^resize_inode"])
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-N", &inodes.to_string()])
            .arg(&path)
            .stdin(Stdio::null())
            .output();
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} failed: {}", program.display(), text.trim()));
        }
        let pieces = pieces(&file).map_err(|error| format!("cannot read the template: {error}"))?;
        Ok(Template { blocks, pieces })
    }

    /// Makes a copy and mounts it on `point`, for one owner. The copy is gone when the mount is.
    pub(crate) fn mount(&self, folder: &Path, point: &Path, owner: u32) -> io::Result<()> {
        let file = nameless_file(folder, self.blocks * BLOCK)?;
        for (place, bytes) in &self.pieces {
            file.write_all_at(bytes, *place)?;
        }
        let (_device, path) = connect(&file)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some(&path), point, Some("ext4"), flags, Some(MOUNT_DATA))?;
        // Not needed by programs, and would not belong to the owner.
        std::fs::remove_dir(point.join("lost+found"))?;
        std::os::unix::fs::chown(point, Some(owner), Some(owner))?;
        std::fs::set_permissions(point, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(())
    }
}

/// The formatting program, if this host has it.
pub(crate) fn mkfs() -> Option<&'static Path> {
    MKFS_PLACES.iter().map(Path::new).find(|path| path.exists())
}

fn named_file(path: &Path, length: u64) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_len(length)?;
    Ok(file)
}

fn nameless_file(folder: &Path, length: u64) -> io::Result<File> {
    let nameless =
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder);
    let file = match nameless {
        Ok(file) => file,
        // A file system without nameless files: a name for a moment.
        Err(_) => {
            let path = folder.join(format!("tmp-{}.img", std::process::id()));
            let file = named_file(&path, 0)?;
            std::fs::remove_file(&path)?;
            file
        }
    };
    file.set_len(length)?;
    Ok(file)
}

/// The parts of a sparse file that were written.
fn pieces(file: &File) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut pieces = Vec::new();
    let mut place: i64 = 0;
    loop {
        place = match lseek(file.as_fd(), place, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(pieces),
            other => other?,
        };
        let end = lseek(file.as_fd(), place, Whence::SeekHole)?;
        let mut bytes = vec![0; (end - place) as usize];
        file.read_exact_at(&mut bytes, place as u64)?;
        pieces.push((place as u64, bytes));
        place = end;
    }
}

/// Connects a free loop device to a file; it clears itself when its last user is gone.
fn connect(file: &File) -> io::Result<(OwnedFd, PathBuf)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // Among ourselves one after the other, or many would be shown the same free one.
    let control = Flock::lock(control, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let mut last = Errno::ENODEV;
    for _ in 0..LOOP_TRIES {
        let path = PathBuf::from(format!("/dev/loop{}", loop_free(control.as_fd())?));
        let device = OwnedFd::from(OpenOptions::new().read(true).write(true).open(&path)?);
        // Without a second cache where the host's file system can do that.
        let result = match loop_configure(device.as_fd(), file.as_fd(), true) {
            Err(Errno::EINVAL) => loop_configure(device.as_fd(), file.as_fd(), false),
            other => other,
        };
        match result {
            Ok(()) => return Ok((device, path)),
            Err(Errno::EBUSY) => last = Errno::EBUSY,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}
