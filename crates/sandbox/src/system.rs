//! The system calls that `nix` does not wrap, and every `unsafe` block but the one that receives descriptors.
//!
//! - clone into new namespaces with another parent, fork
//! - detached mounts (`open_tree`, `mount_setattr`, `move_mount`)
//! - giving up privilege for good
//! - loop devices, network interface flags
//!
//! Each function is a thin, safe wrapper that does one call. They are meant for the single-threaded helper and its children;
//! the server itself calls only the reads and writes of small control files.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::spec::Exit;

/// Which of the two processes goes on.
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one, with the new one's id.
    Parent(Pid),
}

/// Forks. Only for a process with one thread.
pub(crate) fn fork() -> nix::Result<Forked> {
    // SAFETY: the helper and its children have exactly one thread, so the child may go on with ordinary code.
    Ok(match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Forked::Child,
        nix::unistd::ForkResult::Parent { child } => Forked::Parent(child),
    })
}

/// Forks into a new process id namespace, as a child of the caller's own parent (which gets the caller's own signal when it ends:
/// SIGCHLD for a forked caller).
pub(crate) fn fork_init_for_parent() -> nix::Result<Forked> {
    let flags = (libc::CLONE_NEWPID | libc::CLONE_PARENT) as libc::c_ulong;
    // SAFETY: no stack and no shared memory are asked for, so this is a fork, and the caller has one thread. The C library's
    // copy of the thread id becomes stale in the child, which matters only to `raise` and `abort`.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match Errno::result(result)? {
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent(Pid::from_raw(child as libc::pid_t))),
    }
}

/// Gives pages that the allocator keeps for later back to the kernel: a fork then has less to copy.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes a process that ends at once, so that the next one has the number after its.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pass_process_number() -> nix::Result<()> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let child: libc::c_long;
    // SAFETY: the child runs on this process's stack and in its memory while this process waits; it uses neither, and does nothing
    // but end.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone => child,
            inlateout("rdi") i64::from(flags) => _,
            in("rsi") 0_u64,
            in("rdx") 0_u64,
            in("r10") 0_u64,
            in("r8") 0_u64,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    let child = match child {
        error @ -4095..0 => return Err(Errno::from_raw(-error as i32)),
        child => child,
    };
    nix::sys::wait::waitpid(Pid::from_raw(child as libc::pid_t), None).map(drop)
}

/// Numbers matter to images only, which other processors do not have.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pass_process_number() -> nix::Result<()> {
    Ok(())
}

/// Takes note of one child that has ended, if there is one. (`nix` rejects ends by real-time signals.)
pub(crate) fn reap() -> Option<(Pid, Exit)> {
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if child <= 0 {
        return None;
    }
    let exit = if libc::WIFEXITED(status) {
        Exit::Status(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    Some((Pid::from_raw(child), exit))
}

/// A descriptor of a process.
pub(crate) fn pidfd_open(process: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) })
}

/// A copy of another process's descriptor. Needs the right to trace it.
pub(crate) fn descriptor_of(process: &OwnedFd, number: u64) -> nix::Result<OwnedFd> {
    let number = libc::c_int::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// How many bytes can be read from a pipe now.
pub(crate) fn bytes_waiting(pipe: &impl AsFd) -> nix::Result<u32> {
    let mut count = 0_i32;
    // SAFETY: the request writes one number, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(count.unsigned_abs())
}

/// Ends this process at once, without running exit handlers that belong to the process it was forked from.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` only ends the process.
    unsafe { libc::_exit(status) }
}

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let raw = Errno::result(result)? as RawFd;
    // SAFETY: the kernel has just returned this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn c_path(path: &Path) -> nix::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// The mount is read-only.
pub(crate) const ATTRIBUTE_READ_ONLY: u64 = 1;
/// Setuid bits have no effect.
pub(crate) const ATTRIBUTE_NO_SETUID: u64 = 2;
/// Device files do not work.
pub(crate) const ATTRIBUTE_NO_DEVICES: u64 = 4;
/// Nothing can be executed.
pub(crate) const ATTRIBUTE_NO_EXEC: u64 = 8;

/// A detached copy of the mounts at and below `path`.
pub(crate) fn open_tree(path: &Path) -> nix::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    // SAFETY: the path lives until the call returns.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_attributes(folder: RawFd, path: &CStr, flags: libc::c_uint, set: u64) -> nix::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation: libc::MS_PRIVATE, user_namespace: 0 };
    let size = std::mem::size_of::<MountAttributes>();
    // SAFETY: path and attributes live until the call returns, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, folder, path.as_ptr(), flags, &raw const attributes, size)
    };
    Errno::result(result).map(drop)
}

/// Sets attributes of a detached tree, of all its mounts.
pub(crate) fn restrict_tree(tree: BorrowedFd<'_>, attributes: u64) -> nix::Result<()> {
    set_attributes(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH as libc::c_uint | AT_RECURSIVE, attributes)
}

/// Sets attributes of the one mount at `path`.
pub(crate) fn restrict_mount(path: &Path, attributes: u64) -> nix::Result<()> {
    set_attributes(libc::AT_FDCWD, &c_path(path)?, 0, attributes)
}

/// Puts a detached tree on `target`.
pub(crate) fn attach_tree(tree: BorrowedFd<'_>, target: &Path) -> nix::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// Closes every descriptor from `first` on, except those in `keep`.
pub(crate) fn close_all_from(first: RawFd, keep: &[RawFd]) -> nix::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter(|raw| **raw >= first).map(|raw| *raw as u32).collect();
    keep.sort_unstable();
    let mut start = first as u32;
    for kept in keep.into_iter().map(Some).chain([None]) {
        let end = kept.map_or(u32::MAX, |kept| kept.wrapping_sub(1));
        if end >= start && kept != Some(start) {
            // SAFETY: the caller forgets or no longer uses the descriptors that this closes.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, start, end, 0) })?;
        }
        if let Some(kept) = kept {
            start = kept + 1;
        }
    }
    Ok(())
}

fn prctl(option: libc::c_int, second: libc::c_ulong, third: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: the options used here take integers only.
    Errno::result(unsafe { libc::prctl(option, second, third, 0, 0) }).map(drop)
}

/// The highest capability number that is tried when dropping; the kernel answers EINVAL past its own last one.
const CAPABILITY_LAST: libc::c_ulong = 63;
/// NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked.
const SECURE_BITS: libc::c_ulong = 0b1110_1111;

/// Makes sure that no capability ever comes back: bounding set, ambient set and secure bits. Needs `CAP_SETPCAP`.
pub(crate) fn drop_bounding_set() -> nix::Result<()> {
    for capability in 0..=CAPABILITY_LAST {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(Errno::EINVAL) if capability > 0 => break,
            other => other?,
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0)
}

/// Becomes another user, with all capabilities that this process has. Only for a process that soon ends.
pub(crate) fn become_user_with_capabilities(user: u32) -> nix::Result<()> {
    /// NO_SETUID_FIXUP: a change of user leaves capabilities alone.
    const KEEP: libc::c_ulong = 0b100;
    prctl(libc::PR_SET_SECUREBITS, KEEP, 0)?;
    let user = nix::unistd::Uid::from_raw(user);
    nix::unistd::setresuid(user, user, user)
}

/// Gives up every capability that this process holds.
pub(crate) fn drop_capabilities() -> nix::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let data = [0_u32; 6];
    // SAFETY: version 3 takes this header and two records of three numbers each, all alive during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Sets one limit of this process, soft and hard.
pub(crate) fn limit(resource: nix::sys::resource::Resource, value: u64) -> nix::Result<()> {
    nix::sys::resource::setrlimit(resource, value, value)
}

const LOOP_CONTROL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_AUTOCLEAR: u32 = 4;
const LOOP_DIRECT_IO: u32 = 16;
/// ext4's and xfs's common "stop writing": `_IOR('X', 125, u32)`.
const FILE_SYSTEM_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Neither the journal nor the data is written any more.
const SHUTDOWN_WITHOUT_FLUSH: u32 = 2;

/// The number of a loop device that is free now.
pub(crate) fn loop_free(control: BorrowedFd<'_>) -> nix::Result<u32> {
    // SAFETY: this request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CONTROL_GET_FREE as _) };
    Ok(Errno::result(number)? as u32)
}

#[repr(C)]
struct LoopConfiguration {
    descriptor: u32,
    block_size: u32,
    /// device, inode, rdevice, offset, size limit
    places: [u64; 5],
    /// number, encryption type, encryption key size, flags
    numbers: [u32; 4],
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Connects a loop device to a file, until its last user closes it.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, direct: bool) -> nix::Result<()> {
    let flags = LOOP_AUTOCLEAR | if direct { LOOP_DIRECT_IO } else { 0 };
    let configuration = LoopConfiguration {
        descriptor: file.as_raw_fd() as u32,
        block_size: if direct { 4096 } else { 0 },
        places: [0; 5],
        numbers: [0, 0, 0, flags],
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the record has the kernel's layout of `struct loop_config` and lives until the call returns.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const configuration) })
        .map(drop)
}

/// Tells a file system that what it has not written yet need not be written: it is about to be thrown away.
pub(crate) fn discard_unwritten(folder: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = SHUTDOWN_WITHOUT_FLUSH;
    // SAFETY: the request reads one number, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(folder.as_raw_fd(), FILE_SYSTEM_SHUTDOWN as _, &raw const flags) })
        .map(drop)
}

/// Brings a network interface of this namespace up.
pub(crate) fn interface_up(name: &str) -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: a plain record, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::EINVAL.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request fits this ioctl and lives until the call returns.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the kernel has just filled this field.
    let flags = unsafe { request.ifr_ifru.ifru_flags } | libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: as above.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })?;
    Ok(())
}

/// Opens a file below an open folder.
pub(crate) fn open_at(folder: BorrowedFd<'_>, name: &str, write: bool) -> nix::Result<OwnedFd> {
    let mode = if write { nix::fcntl::OFlag::O_RDWR } else { nix::fcntl::OFlag::O_RDONLY };
    nix::fcntl::openat(folder, name, mode | nix::fcntl::OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
}

/// Writes a control file below an open folder, in one write.
pub(crate) fn write_at(folder: BorrowedFd<'_>, name: &str, value: &str) -> nix::Result<()> {
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(folder, name, flags, nix::sys::stat::Mode::empty())?;
    nix::unistd::write(file.as_fd(), value.as_bytes()).map(drop)
}

/// Reads a small control file from its start.
pub(crate) fn read_small(file: BorrowedFd<'_>) -> nix::Result<String> {
    let mut buffer = [0_u8; 1024];
    let length = nix::sys::uio::pread(file, &mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What a trial of namespaces failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// They could not be made.
    Namespaces(Errno),
    /// In them, `/proc` could not be mounted.
    Proc(Errno),
}

/// Whether this user may make the namespaces that environments need. Tried in a child, which leaves nothing behind.
pub(crate) fn try_namespaces() -> Result<(), Trial> {
    const ALL: libc::c_int = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    /// Added to the number of an error that is about `/proc`; error numbers are below it.
    const PROC: i32 = 1000;
    let (answer, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Trial::Namespaces)?;
    let say = |code: i32| {
        let _ = nix::unistd::write(tell.as_fd(), &code.to_ne_bytes());
        exit_now(0)
    };
    // SAFETY: whatever other threads there are, the child and its child make system calls only, then end.
    let child = match unsafe { nix::unistd::fork() }.map_err(Trial::Namespaces)? {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            // SAFETY: takes a number.
            if unsafe { libc::unshare(ALL) } != 0 {
                say(Errno::last_raw());
            }
            // SAFETY: as above; only a child is in the new process id namespace.
            match unsafe { nix::unistd::fork() } {
                Ok(nix::unistd::ForkResult::Parent { child }) => {
                    let _ = nix::sys::wait::waitpid(child, None);
                    exit_now(0)
                }
                Ok(nix::unistd::ForkResult::Child) => {
                    let (kind, point) = (c"proc".as_ptr(), c"/proc".as_ptr());
                    // SAFETY: the texts are constants, and there is no data.
                    let result = unsafe { libc::mount(kind, point, kind, 0, std::ptr::null()) };
                    say(if result == 0 { 0 } else { PROC + Errno::last_raw() })
                }
                Err(error) => say(error as i32),
            }
        }
    };
    drop(tell);
    let mut code = [0; 4];
    let read = nix::unistd::read(&answer, &mut code);
    nix::sys::wait::waitpid(child, None).map_err(Trial::Namespaces)?;
    match (read, i32::from_ne_bytes(code)) {
        (Ok(4), 0) => Ok(()),
        (Ok(4), code) if code >= PROC => Err(Trial::Proc(Errno::from_raw(code - PROC))),
        (Ok(4), code) => Err(Trial::Namespaces(Errno::from_raw(code))),
        (read, _) => Err(Trial::Namespaces(read.err().unwrap_or(Errno::EIO))),
    }
}

/// The first two numbers of the kernel's version.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether systemd has handed this cgroup over (`Delegate=`): it marks such folders with an attribute.
pub(crate) fn is_delegated(folder: &Path) -> bool {
    let Ok(folder) = c_path(folder) else { return false };
    [c"trusted.delegate", c"user.delegate"].into_iter().any(|name| {
        let mut value = [0_u8; 4];
        // SAFETY: both names and the buffer live until the call returns, and the length is the buffer's.
        let length =
            unsafe { libc::getxattr(folder.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value[0] == b'1'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_record_has_the_kernels_size() {
        assert_eq!(std::mem::size_of::<LoopConfiguration>(), 304);
    }
}
