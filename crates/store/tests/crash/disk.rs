//! A disk that loses power: an ext4 file system in an image file. Cutting it off keeps what was synced and drops the
//! rest, as a power failure does: ext4's shutdown call without a flush of its log, then a new mount, which replays the
//! log.
//!
//! It can also be full, or read-only. It is mounted in a mount namespace of this process's own ([`private`]), so that nothing of it is left however the
//! process ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Cuts the file system off when it is told to, by the end of its standard input.
const CUT: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.read()
EXT4_IOC_SHUTDOWN, WITHOUT_FLUSH = 0x8004587d, 2
fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack('I', WITHOUT_FLUSH))
";

/// A program that is run in a mount namespace of its own; none if that is not possible here.
pub(crate) fn private(program: &Path) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    let works = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("losetup -f && command -v mkfs.ext4 && command -v python3")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    command.arg(program);
    works.is_ok_and(|status| status.success()).then_some(command)
}

/// The disk. Made anew for each run of rounds.
pub(crate) struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

/// What is ready to cut a disk off.
pub(crate) struct Cutter(Child);

impl Disk {
    /// Makes one of `size_mib`, with its image in `folder`. The image takes only what is written.
    pub(crate) fn make(folder: &Path, size_mib: u64) -> std::io::Result<Self> {
        let (image, mounted) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::File::create(&image)?.set_len(size_mib << 20)?;
        std::fs::create_dir(&mounted)?;
        run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"], &[&image])?;
        let disk = Self { image, mounted };
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.mounted.join("store")
    }

    /// Lets nobody write any more, or lets them write again.
    #[allow(dead_code, reason = "the fault tests are another program than the crash suite")]
    pub(crate) fn set_read_only(&self, read_only: bool) -> std::io::Result<()> {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", options], &[&self.mounted])
    }

    /// Gets ready to cut the disk off.
    pub(crate) fn cutter(&self) -> std::io::Result<Cutter> {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-S", "-c", CUT])
            .arg(&self.mounted)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().expect("it is piped"), &mut ready)?;
        Ok(Cutter(child))
    }

    /// After a cut, and when nobody uses the disk any more: what is on it then.
    pub(crate) fn start_again(&self) -> std::io::Result<()> {
        run("umount", &[], &[&self.mounted])?;
        self.mount()
    }

    fn mount(&self) -> std::io::Result<()> {
        run("mount", &["-o", "loop,noatime"], &[&self.image, &self.mounted])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[], &[&self.mounted]) {
            eprintln!("the disk stays mounted until this process ends: {error}");
        }
    }
}

impl Cutter {
    pub(crate) fn cut(mut self) -> std::io::Result<()> {
        let mut input = self.0.stdin.take().expect("it is piped");
        input.flush()?;
        drop(input);
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("the cut failed: {status}")))
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> std::io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).args(paths).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(std::io::Error::other(format!("{program} failed: {}", text.trim())))
}
