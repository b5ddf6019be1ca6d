//! The program that becomes a captured process: a script of system calls, and the few instructions that make them.
//!
//! ```text
//! execve(stub) --> code: where did the kernel put its own pages?
//!                    \--> step, step, … (map, open, clone, …) --> rt_sigreturn: all registers at once --> the captured process
//! ```
//!
//! It is an ELF file of one read-only segment, made for one image: header, code, what the steps point to, steps. No stack is used,
//! so that the stack can be replaced too. A step that goes wrong ends the process with [`super::FAILED`], before any of the captured
//! program has run.

use std::arch::global_asm;

// What the code does with a step beside making the call.
/// An error ends the process.
pub(super) const MUST_SUCCEED: u64 = 1;
/// Another result than the expected one ends the process.
pub(super) const MUST_EQUAL: u64 = 2;
/// The first argument is relative to the kernel's code page (vDSO).
pub(super) const FROM_KERNEL_PAGE: u64 = 4;
/// Where the result is 0 (in a new thread), the steps go on at the alternative.
pub(super) const BRANCH: u64 = 8;
/// No call: the registers are taken from the frame that the first argument names.
pub(super) const RESUME: u64 = 16;

// In read-only data: this process never runs it.
global_asm!(
    ".pushsection .rodata.freehold_restore, \"a\"",
    ".balign 16",
    ".globl freehold_restore_code",
    ".hidden freehold_restore_code",
    "freehold_restore_code:",
    // The kernel has put argc, arguments, 0, variables, 0 and the auxiliary vector on the stack.
    "mov rsi, rsp",
    "mov rax, [rsi]",
    "lea rsi, [rsi + rax*8 + 16]",
    "20:",
    "mov rax, [rsi]",
    "add rsi, 8",
    "test rax, rax",
    "jnz 20b",
    "21:",
    "mov rax, [rsi]",
    "mov r14, [rsi + 8]",
    "add rsi, 16",
    "test rax, rax",
    "jz 29f",
    "cmp rax, 33", // AT_SYSINFO_EHDR
    "jne 21b",
    "mov rbx, [rip + freehold_restore_code_end]",
    "22:",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "mov r12, [rbx + 56]",
    "test r12, 4",
    "jz 23f",
    "add rdi, r14",
    "23:",
    "test r12, 16",
    "jnz 28f",
    "mov rax, [rbx]",
    "syscall",
    "test r12, 8",
    "jz 24f",
    "test rax, rax",
    "jnz 24f",
    "mov rbx, [rbx + 72]",
    "jmp 22b",
    "24:",
    "test r12, 2",
    "jz 25f",
    "cmp rax, [rbx + 64]",
    "jne 29f",
    "25:",
    "test r12, 1",
    "jz 26f",
    "cmp rax, -4095",
    "jae 29f",
    "26:",
    "add rbx, 80",
    "jmp 22b",
    "28:",
    "mov rsp, rdi",
    "mov eax, 15", // rt_sigreturn
    "syscall",
    "29:",
    "mov edi, 125", // FAILED
    "mov eax, 231", // exit_group
    "syscall",
    "ud2",
    ".balign 16",
    ".globl freehold_restore_code_end",
    ".hidden freehold_restore_code_end",
    "freehold_restore_code_end:",
    // Here stands the address of the first step.
    ".quad 0",
    ".popsection",
);

unsafe extern "C" {
    static freehold_restore_code: u8;
    static freehold_restore_code_end: u8;
}

fn code() -> &'static [u8] {
    // SAFETY: both symbols lie in the same section, in this order, and what is between them never changes.
    unsafe {
        let (start, end) = (&raw const freehold_restore_code, &raw const freehold_restore_code_end);
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// One system call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) number: u64,
    pub(super) arguments: [u64; 6],
    pub(super) mode: u64,
    pub(super) expected: u64,
    /// The address of the steps of a new thread.
    pub(super) alternative: u64,
}

const STEP_BYTES: usize = 80;
const HEADER_BYTES: usize = 64 + 56;
const ALIGNMENT: usize = 64;

/// A program that is being written.
pub(super) struct Builder {
    /// Where its segment will lie.
    base: u64,
    bytes: Vec<u8>,
    entry: usize,
    slot: usize,
}

impl Builder {
    /// An empty one, to be loaded at `base`.
    pub(super) fn new(base: u64) -> Builder {
        let mut builder = Builder { base, bytes: vec![0; HEADER_BYTES], entry: 0, slot: 0 };
        builder.align();
        builder.entry = builder.bytes.len();
        builder.bytes.extend_from_slice(code());
        builder.slot = builder.bytes.len();
        builder.bytes.extend_from_slice(&[0; 8]);
        builder
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    /// Adds what a step points to, and gives its address.
    pub(super) fn data(&mut self, bytes: &[u8]) -> u64 {
        self.align();
        let address = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        address
    }

    /// Adds steps that are made one after the other, and gives their address.
    pub(super) fn steps(&mut self, steps: &[Step]) -> u64 {
        let mut bytes = Vec::with_capacity(steps.len() * STEP_BYTES);
        for step in steps {
            let Step { number, arguments: [a, b, c, d, e, f], mode, expected, alternative } = *step;
            for word in [number, a, b, c, d, e, f, mode, expected, alternative] {
                bytes.extend_from_slice(&word.to_ne_bytes());
            }
        }
        self.data(&bytes)
    }

    /// The whole program, which begins with the steps at `first`.
    pub(super) fn finish(mut self, first: u64) -> Vec<u8> {
        self.bytes[self.slot..self.slot + 8].copy_from_slice(&first.to_ne_bytes());
        let size = self.bytes.len() as u64;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [2_u16, 62] {
            header.extend_from_slice(&half.to_ne_bytes()); // ET_EXEC, x86-64
        }
        header.extend_from_slice(&1_u32.to_ne_bytes());
        for word in [self.base + self.entry as u64, 64, 0] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        header.extend_from_slice(&0_u32.to_ne_bytes());
        for half in [64_u16, 56, 1, 0, 0, 0] {
            header.extend_from_slice(&half.to_ne_bytes());
        }
        for word in [1_u32, 5] {
            header.extend_from_slice(&word.to_ne_bytes()); // PT_LOAD, readable and executable
        }
        for word in [0, self.base, self.base, size, size, 4096] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
        self.bytes
    }
}
