//! The file systems behind environments' `/tmp`, and their second use.
//!
//! Making one takes the kernel longer than most of the rest of an environment, and most functions never touch it. So when nothing
//! is left of an environment, and its `/tmp` is to the last detail as it was, it waits for the next environment; any other is thrown
//! away. An open folder keeps the file system alive meanwhile, and its device is mounted again.
//!
//! What a function could leave behind shows: files in the space and inodes used, entries and attributes of the folder in its
//! status and times. Nothing else of it can be changed without a capability over the host. (A file that was made without a name and
//! is gone with its processes may have been there; what it contained cannot be read back.)

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::fstatfs;

use crate::system::{discard_unwritten, inode_details};

/// The kernel's number for loop devices.
const LOOP_MAJOR: u64 = 7;

/// All that a program could change about an empty folder and what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    mode: u32,
    owner: (u32, u32),
    links: libc::nlink_t,
    size: i64,
    blocks: i64,
    modified: (i64, i64),
    changed: (i64, i64),
    free_blocks: u64,
    free_inodes: u64,
    /// Bytes of extended attributes' names, flags, generation.
    details: [i64; 3],
}

impl Look {
    fn at(folder: &OwnedFd) -> Option<Look> {
        let (status, space) = (fstat(folder).ok()?, fstatfs(folder).ok()?);
        Some(Look {
            mode: status.st_mode,
            owner: (status.st_uid, status.st_gid),
            links: status.st_nlink,
            size: status.st_size,
            blocks: status.st_blocks,
            modified: (status.st_mtime, status.st_mtime_nsec),
            changed: (status.st_ctime, status.st_ctime_nsec),
            free_blocks: space.blocks_free(),
            free_inodes: space.files_free(),
            details: inode_details(folder.as_fd()).ok()?,
        })
    }
}

/// One file system, by its open root.
pub(crate) struct Volume {
    folder: OwnedFd,
    tmp_mib: u32,
    /// How it was before the function could touch it. None on a tmpfs.
    look: Option<Look>,
}

impl Volume {
    /// Of a blank: nobody has used it yet.
    pub(crate) fn new(folder: OwnedFd, tmp_mib: u32) -> Volume {
        Volume { look: Look::at(&folder), folder, tmp_mib }
    }

    /// Whether it is as it was.
    pub(crate) fn is_untouched(&self) -> bool {
        self.look.is_some() && Look::at(&self.folder) == self.look
    }

    /// Lets go of one whose processes are still there; what was written but is not on the disk yet is thrown away. (The kernel
    /// tells the console of that, so it is not done for nothing.)
    pub(crate) fn let_go(self) {
        if !self.is_untouched() {
            // Not on a tmpfs, where there is nothing to write either.
            let _ = discard_unwritten(self.folder.as_fd());
        }
    }

    /// The loop device that it is on.
    fn device(&self) -> Option<PathBuf> {
        let device = fstat(&self.folder).ok()?.st_dev;
        let path = PathBuf::from(format!("/dev/loop{}", minor(device)));
        // Named otherwise where devices are divided into partitions.
        let is_it = major(device) == LOOP_MAJOR && std::fs::metadata(&path).ok()?.rdev() == device;
        is_it.then_some(path)
    }
}

/// Those that wait for an environment.
#[derive(Default)]
pub(crate) struct Spares {
    by_size: BTreeMap<u32, Vec<Volume>>,
    count: usize,
    /// Places for some that are still in use.
    reserved: usize,
}

impl Spares {
    /// Reserves a place for one that is still in use, if there are not so many already. Whoever has none is to let go of it while
    /// its processes are there, so that it is unmounted by them.
    pub(crate) fn reserve(&mut self, volume: &Volume, most: usize) -> bool {
        let is_kept = self.count + self.reserved < most && volume.is_untouched();
        self.reserved += usize::from(is_kept);
        is_kept
    }

    /// One of this size with its device, to be kept until it is mounted.
    pub(crate) fn take(&mut self, tmp_mib: u32) -> Option<(Volume, PathBuf)> {
        let volumes = self.by_size.get_mut(&tmp_mib)?;
        let volume = volumes.pop()?;
        if volumes.is_empty() {
            self.by_size.remove(&tmp_mib);
        }
        self.count -= 1;
        let device = volume.device()?;
        Some((volume, device))
    }

    /// One with a reserved place that nobody uses any more: kept if it is still untouched.
    pub(crate) fn put(&mut self, volume: Volume) {
        self.reserved -= 1;
        if volume.is_untouched() {
            self.count += 1;
            self.by_size.entry(volume.tmp_mib).or_default().push(volume);
        }
    }

    /// Keeps no more than so many.
    pub(crate) fn shrink(&mut self, most: usize) {
        while self.count > most {
            let Some(mut last) = self.by_size.last_entry() else { return };
            last.get_mut().pop();
            self.count -= 1;
            if last.get().is_empty() {
                last.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn whatever_is_done_to_the_folder_shows() {
        let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let volume = || Volume::new(fs::File::open(place.path()).unwrap().into(), 512);
        // Where this file system tells no flags, nothing is ever thought untouched.
        if volume().look.is_none() {
            assert!(!volume().is_untouched());
            return;
        }
        let file = place.path().join("file");
        let changes: [(&str, &dyn Fn()); 3] = [
            ("a file", &|| fs::write(&file, "text").unwrap()),
            ("its removal", &|| fs::remove_file(&file).unwrap()),
            ("the mode", &|| {
                let mode = fs::metadata(place.path()).unwrap().permissions().mode() ^ 0o5;
                fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            }),
        ];
        for (name, change) in changes {
            let before = volume();
            change();
            assert!(!before.is_untouched(), "{name} does not show");
        }
    }
}
