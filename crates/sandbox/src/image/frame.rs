//! The frame from which `rt_sigreturn` takes all registers of a thread: the kernel's `struct rt_sigframe`.

use std::io;

use super::trace::{Thread, ThreadState};

const SEGMENT_CODE: u64 = 0x33;
const SEGMENT_STACK: u64 = 0x2b;
/// There is extended state; the stack segment is given and meant.
const FLAGS: u64 = 1 | 2 | 4;
const DISABLED: i32 = libc::SS_DISABLE;

// How the extended state tells its own size: in bytes that the processor leaves unused.
const SIZES_AT: usize = 464;
const MAGIC_BEFORE: u32 = 0x4650_5853;
const MAGIC_AFTER: u32 = 0x4650_5845;
/// The smallest extended state there is, in bytes: the floating point unit's and the header.
const EXTENDED_MIN: usize = 512 + 64;

/// Extended state as it lies in a frame.
pub(super) fn extended_state(thread: &Thread) -> io::Result<Vec<u8>> {
    let mut bytes = thread.extended_registers()?;
    if bytes.len() < EXTENDED_MIN {
        return Err(io::Error::other("the processor's state is of an unknown kind"));
    }
    let size = bytes.len() as u32;
    // The kernel gives the mask of the features in the first of these words.
    let features: [u8; 8] = bytes[SIZES_AT..SIZES_AT + 8].try_into().expect("eight bytes");
    let mut sizes = Vec::with_capacity(48);
    sizes.extend_from_slice(&MAGIC_BEFORE.to_ne_bytes());
    sizes.extend_from_slice(&(size + 4).to_ne_bytes());
    sizes.extend_from_slice(&features);
    sizes.extend_from_slice(&size.to_ne_bytes());
    sizes.resize(48, 0);
    bytes[SIZES_AT..SIZES_AT + 48].copy_from_slice(&sizes);
    bytes.extend_from_slice(&MAGIC_AFTER.to_ne_bytes());
    Ok(bytes)
}

/// The frame, with the extended state at `extended`. `rt_sigreturn` is made with the stack pointer eight bytes into it.
pub(super) fn frame(thread: &Thread, state: &ThreadState, extended: u64) -> Vec<u8> {
    let registers = thread.resumed_registers();
    let (stack, flags, size) = state.signal_stack;
    let mut frame = Vec::with_capacity(512);
    let mut word = |word: u64| frame.extend_from_slice(&word.to_ne_bytes());
    // Where a handler would have returned to.
    word(0);
    word(FLAGS);
    word(0);
    word(stack);
    word(u64::from(if size == 0 { DISABLED as u32 } else { (flags & !libc::SS_ONSTACK) as u32 }));
    word(size);
    for register in [
        registers.r8,
        registers.r9,
        registers.r10,
        registers.r11,
        registers.r12,
        registers.r13,
        registers.r14,
        registers.r15,
        registers.rdi,
        registers.rsi,
        registers.rbp,
        registers.rbx,
        registers.rdx,
        registers.rax,
        registers.rcx,
        registers.rsp,
        registers.rip,
        registers.eflags,
    ] {
        word(register);
    }
    word(SEGMENT_CODE | SEGMENT_STACK << 48);
    // Error, trap, old mask, fault address.
    (0..4).for_each(|_| word(0));
    word(extended);
    (0..8).for_each(|_| word(0));
    word(state.signal_mask);
    // The signal's own record, which is not looked at.
    (0..16).for_each(|_| word(0));
    frame
}
