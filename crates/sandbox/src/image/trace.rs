//! Stops a process, reads its registers and has it make system calls, by `ptrace`. Whoever calls this must be allowed to
//! trace the process, and stay in one thread.

use std::io;
use std::mem::size_of;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What the kernel answers inside a process where a system call was interrupted and will be made again. Not for programs.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
/// The length of the instruction `syscall`, in bytes.
const SYSCALL_BYTES: u64 = 2;
/// More than any processor's registers take, in bytes (AMX alone has 8 KiB).
const REGISTERS_BYTES: usize = 64 * 1024;

/// One stopped thread. Dropping it lets it go on.
pub(crate) struct Thread {
    pub(crate) id: Pid,
    /// As they were when it was stopped.
    pub(crate) registers: libc::user_regs_struct,
}

/// Where the C library has told the kernel to find things, and other state that belongs to one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadState {
    pub(crate) signal_mask: u64,
    pub(crate) robust_list: (u64, u64),
    pub(crate) clear_id: u64,
    /// Address, length, signature; the address is 0 where there is none.
    pub(crate) restartable: (u64, u32, u32),
    /// Address, flags, size.
    pub(crate) signal_stack: (u64, i32, u64),
}

impl Thread {
    /// Stops a thread.
    pub(crate) fn stop(id: Pid) -> nix::Result<Thread> {
        ptrace::seize(id, ptrace::Options::empty())?;
        ptrace::interrupt(id)?;
        loop {
            match waitpid(id, Some(WaitPidFlag::__WALL))? {
                WaitStatus::PtraceEvent(..) => break,
                WaitStatus::Stopped(..) => ptrace::cont(id, None)?,
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
                _ => {}
            }
        }
        Ok(Thread { id, registers: ptrace::getregs(id)? })
    }

    /// The registers with which it goes on as if it had not been interrupted: a system call is made once more.
    pub(crate) fn resumed_registers(&self) -> libc::user_regs_struct {
        let mut registers = self.registers;
        if self.is_in_system_call() && RESTARTS.contains(&(registers.rax as i64)) {
            registers.rax = registers.orig_rax;
            registers.rip -= SYSCALL_BYTES;
        }
        registers
    }

    /// Whether it was stopped within a system call.
    pub(crate) fn is_in_system_call(&self) -> bool {
        (self.registers.orig_rax as i64) >= 0
    }

    /// The registers of the floating point unit and its successors, as the kernel saves them.
    pub(crate) fn extended_registers(&self) -> nix::Result<Vec<u8>> {
        const NT_X86_XSTATE: usize = 0x202;
        let mut bytes = vec![0_u8; REGISTERS_BYTES];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel writes at most the given length to the buffer, which lives until the call returns.
        let result =
            unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.id.as_raw(), NT_X86_XSTATE, &raw mut vector) };
        Errno::result(result)?;
        bytes.truncate(vector.iov_len);
        Ok(bytes)
    }

    /// Has the thread make a system call, at the place where it made its last one.
    pub(crate) fn call(&self, number: libc::c_long, arguments: [u64; 4]) -> nix::Result<u64> {
        let mut registers = self.registers;
        registers.rax = number as u64;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10] = arguments;
        registers.rip -= SYSCALL_BYTES;
        // Not in a system call: nothing is to be made again.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.id, registers)?;
        ptrace::step(self.id, None)?;
        match waitpid(self.id, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => {}
            _ => return Err(Errno::ESRCH),
        }
        let result = ptrace::getregs(self.id)?.rax as i64;
        ptrace::setregs(self.id, self.registers)?;
        if (-4095..0).contains(&result) { Err(Errno::from_raw(-result as i32)) } else { Ok(result as u64) }
    }

    /// An address in its own memory for the kernel's answers: below its stack and what functions use below that.
    pub(crate) fn scratch(&self) -> u64 {
        const BELOW: u64 = 1024;
        (self.registers.rsp - BELOW) & !0xf
    }

    /// What else belongs to it. `read` reads its memory.
    pub(crate) fn state(&self, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<ThreadState> {
        let mut state = ThreadState { signal_mask: self.signal_mask()?, ..ThreadState::default() };
        let word = |address: u64| {
            let mut bytes = [0; 8];
            read(address, &mut bytes).map(|()| u64::from_ne_bytes(bytes))
        };
        state.robust_list = self.robust_list()?;
        state.restartable = self.restartable()?;
        let scratch = self.scratch();
        self.call(libc::SYS_prctl, [libc::PR_GET_TID_ADDRESS as u64, scratch, 0, 0])?;
        state.clear_id = word(scratch)?;
        self.call(libc::SYS_sigaltstack, [0, scratch, 0, 0])?;
        state.signal_stack = (word(scratch)?, word(scratch + 8)? as i32, word(scratch + 16)?);
        Ok(state)
    }

    fn signal_mask(&self) -> nix::Result<u64> {
        let mut mask = 0_u64;
        // SAFETY: the kernel writes eight bytes to a word that lives until the call returns.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_GETSIGMASK, self.id.as_raw(), size_of::<u64>(), &raw mut mask)
        };
        Errno::result(result).map(|_| mask)
    }

    fn robust_list(&self) -> nix::Result<(u64, u64)> {
        let (mut head, mut length) = (0_u64, 0_u64);
        // SAFETY: both words live until the call returns.
        let result = unsafe {
            libc::syscall(libc::SYS_get_robust_list, self.id.as_raw(), &raw mut head, &raw mut length)
        };
        Errno::result(result).map(|_| (head, length))
    }

    fn restartable(&self) -> nix::Result<(u64, u32, u32)> {
        const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
        #[repr(C)]
        #[derive(Default)]
        struct Configuration {
            pointer: u64,
            size: u32,
            signature: u32,
            flags: u32,
            padding: u32,
        }
        let mut answer = Configuration::default();
        let size = size_of::<Configuration>();
        // SAFETY: the kernel writes at most the given size to the record, which lives until the call returns.
        let result =
            unsafe { libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, self.id.as_raw(), size, &raw mut answer) };
        match Errno::result(result) {
            Ok(_) => Ok((answer.pointer, answer.size, answer.signature)),
            // A kernel that cannot tell: registered or not, the C library does without.
            Err(Errno::EIO | Errno::EINVAL) => Ok((0, 0, 0)),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.id, None);
    }
}
