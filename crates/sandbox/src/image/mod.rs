//! Memory images: a process that has got somewhere is captured once, and made again, as it was, in any number of environments.
//!
//! ```text
//! an environment runs a program up to its gate ── capture ──> Image: memory + stub        (the environment is removed)
//!                                                                │
//! a new environment: its own namespaces, limits, filters ── execve(stub) ──> the same process, past its gate
//! ```
//!
//! - `maps`, `trace`: what a process has mapped; how it is stopped and asked
//! - `capture`: its state and a copy of what it has written
//! - `plan`, `frame`, `stub`: the program of system calls that makes it again
//!
//! An image is data: nobody runs with any privilege in order to make a copy, and a copy is started exactly as any other program
//! is, by its own environment's init after that has given up everything. What was written is mapped privately from the image,
//! so that copies share what they do not change. docs/decisions/0010-memory-images.md has the reasons and the limits.

mod capture;
mod frame;
mod maps;
mod plan;
mod stub;
mod trace;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

/// The descriptor at which a program waits to be captured, and a copy reads what is particular to it.
pub(crate) const GATE: u8 = 3;
/// The descriptor of the image's memory, while a copy is being made.
pub(crate) const MEMORY: u8 = 4;

/// What is needed to make a process again.
pub(crate) struct Image {
    /// Its memory: all pages that it had written.
    pub(crate) memory: OwnedFd,
    /// The program that becomes it.
    pub(crate) stub: OwnedFd,
    /// Size of both, in bytes.
    pub(crate) bytes: u64,
}

impl Image {
    /// Captures a process that waits at its gate. It is of no use afterwards.
    pub(crate) fn capture(process: Pid) -> io::Result<Image> {
        let captured = capture::capture(process)?;
        let program = plan::program(&captured)?;
        let stub = memfd_create("runtime", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        nix::unistd::write(&stub, &program)?;
        for file in [&stub, &captured.memory] {
            seal(file)?;
        }
        Ok(Image { memory: captured.memory, stub, bytes: captured.bytes + program.len() as u64 })
    }
}

/// Nobody can change it any more.
fn seal(file: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::all())).map(drop)
}

#[cfg(test)]
mod tests;
