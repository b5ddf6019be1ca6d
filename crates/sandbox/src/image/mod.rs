//! Memory images: a process that has got somewhere is captured once, and made again, as it was, in any number of environments.
//!
//! ```text
//! an environment runs a program up to its gate ── capture ──> Image: memory + stub        (the environment is removed)
//!                                                                │
//! a new environment: its own namespaces, limits, filters ── execve(stub) ──> the same process, past its gate
//! ```
//!
//! - `maps`, `trace`: what a process has mapped; how it is stopped and asked
//! - `capture`: its state and a copy of what it has written; `descriptors`: what it has open; `habits`:
//!   what it has set for itself
//! - `plan`, `frame`, `stub`: the program of system calls that makes it again
//!
//! An image is data: nobody runs with any privilege in order to make a copy, and a copy is started exactly as any other program
//! is, by its own environment's init after that has given up everything. What was written is mapped privately from the image,
//! so that copies share what they do not change. docs/decisions/0010-memory-images.md has the reasons and the limits.

#[cfg(target_arch = "x86_64")]
mod capture;
#[cfg(target_arch = "x86_64")]
mod descriptors;
#[cfg(target_arch = "x86_64")]
mod frame;
#[cfg(target_arch = "x86_64")]
mod habits;
#[cfg(target_arch = "x86_64")]
mod maps;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(target_arch = "x86_64")]
mod stub;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;

/// The descriptor at which a program waits to be captured, and a copy reads what is particular to it.
pub(crate) const GATE: u8 = 3;
/// The descriptor of the image's memory, while a copy is being made.
pub(crate) const MEMORY: u8 = 4;

/// How far the numbers of a copy's process and threads lie above the captured one's. By another number, libraries notice that they
/// are in another process, as after a fork: OpenSSL, for one, then takes new random numbers from the system.
pub(crate) const NUMBERS_APART: u64 = 1;

/// The status with which a process ends that could not be made again, before anything of it has run.
pub const FAILED: i32 = 125;

/// What is needed to make a process again. Valid on the kernel that it was captured on, until that is restarted.
#[derive(Debug)]
pub struct Image {
    /// Its memory: all pages that it had written.
    pub(crate) memory: OwnedFd,
    /// The program that becomes it.
    pub(crate) stub: OwnedFd,
    /// Size of both.
    pub(crate) bytes: u64,
}

/// An image is the same as itself only.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Image {}

impl Image {
    /// The memory that it takes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Not on this processor.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn capture(_process: Pid) -> io::Result<Image> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "memory images are made on x86-64 only"))
    }

    /// Captures a process that waits at its gate. It is of no use afterwards.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn capture(process: Pid) -> io::Result<Image> {
        use nix::sys::memfd::{MFdFlags, memfd_create};

        let captured = capture::capture(process)?;
        let program = plan::program(&captured)?;
        let stub = memfd_create("runtime", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        nix::unistd::write(&stub, &program)?;
        protect(&stub, 0o555)?;
        protect(&captured.memory, 0o444)?;
        Ok(Image { memory: captured.memory, stub, bytes: captured.bytes + program.len() as u64 })
    }
}

/// Nobody can change it any more, or open it as if he could: a copy finds its stub at `/proc/self/exe`.
#[cfg(target_arch = "x86_64")]
fn protect(file: &OwnedFd, mode: u32) -> nix::Result<()> {
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::stat::{Mode, fchmod};

    fchmod(file, Mode::from_bits_truncate(mode))?;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::all())).map(drop)
}
