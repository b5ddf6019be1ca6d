//! Takes the image of a process: stops it, copies what it has written, and writes the program that becomes it again.
//!
//! The process is left stopped within its last system call and is meant to be ended: what it was made to do here, it would
//! remember.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::ProtFlags;
use nix::unistd::Pid;

use super::NUMBERS_APART;
use super::descriptors::{self, Descriptors};

use super::frame;
use super::habits::{self, Habits};
use super::maps::{self, Backing, Mapping, PAGE};
use super::trace::{Thread, ThreadState};

/// Threads of one process; each is a few hundred bytes of the program.
pub(crate) const THREADS_MAX: usize = 64;
/// The largest image, in bytes: as large as a function's memory can be.
pub(crate) const IMAGE_BYTES_MAX: u64 = 10_240 << 20;
/// The largest mapping of which something is used, in bytes: looking for what is takes a millisecond for each GiB.
const MAPPING_BYTES_MAX: u64 = 64 << 30;
/// Pages between two that were written which are copied rather than left out: each run is a mapping of its own.
const GAP_PAGES: u64 = 16;
/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;
/// The signals that there are.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// What a thread was.
pub(super) struct ThreadImage {
    /// Its number inside.
    pub(super) id: u64,
    pub(super) state: ThreadState,
    pub(super) thread_pointer: u64,
    pub(super) other_base: u64,
    pub(super) extended: Vec<u8>,
    /// Makes the frame, once it is known where the extended state lies.
    pub(super) thread: Thread,
}

/// A mapping and the runs of it that were written: where each lies in the image's memory.
pub(super) struct Region {
    pub(super) mapping: Mapping,
    pub(super) runs: Vec<(std::ops::Range<u64>, u64)>,
}

/// What a process was.
pub(super) struct Captured {
    /// The main thread first, then by number.
    pub(super) threads: Vec<ThreadImage>,
    pub(super) regions: Vec<Region>,
    pub(super) descriptors: Descriptors,
    pub(super) habits: Habits,
    pub(super) memory: OwnedFd,
    pub(super) bytes: u64,
    /// The numbers of `prctl`'s `prctl_mm_map`, in its order.
    pub(super) places: [u64; 11],
    pub(super) auxiliary: Vec<u8>,
    /// Signals that are not treated as by default, with the kernel's record of it.
    pub(super) actions: Vec<(i32, [u8; ACTION_BYTES])>,
    pub(super) name: Vec<u8>,
}

/// The kernel's `struct sigaction`, in bytes.
pub(super) const ACTION_BYTES: usize = 32;

/// Captures a process, all of whose threads wait in system calls.
pub(super) fn capture(process: Pid) -> io::Result<Captured> {
    let refused = |reason: &str| Err(io::Error::other(reason.to_owned()));
    let stopped = stop(process)?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    if let Some((thread, _)) = stopped.iter().find(|(thread, _)| !thread.is_in_system_call()) {
        return Err(io::Error::other(format!("its thread {} is at work", thread.id)));
    }
    let main = &stopped[0].0;
    if !fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?.trim().is_empty() {
        return refused("it has processes of its own");
    }
    if fs::read_to_string(format!("/proc/{process}/timers")).is_ok_and(|timers| !timers.is_empty()) {
        return refused("it has timers");
    }
    let descriptors = descriptors::read(process)?;
    let read = |address: u64, bytes: &mut [u8]| memory.read_exact_at(bytes, address);
    // Before it is made to do anything: that could write to its stack, which is copied below.
    let (regions, image, bytes) = copy(process, &memory)?;
    if has_timers(main, read)? {
        return refused("it has timers");
    }
    let habits = habits::read(process, main, read)?;
    let places = places(process, main)?;
    let actions = actions(main, read)?;
    let mut threads = Vec::with_capacity(stopped.len());
    for (thread, id) in stopped {
        threads.push(ThreadImage {
            id,
            state: thread.state(read)?,
            thread_pointer: thread.registers.fs_base,
            other_base: thread.registers.gs_base,
            extended: frame::extended_state(&thread)?,
            thread,
        });
    }
    renumber(&threads, &regions, &image)?;
    Ok(Captured {
        threads,
        regions,
        descriptors,
        habits,
        memory: image,
        bytes,
        places,
        auxiliary: fs::read(format!("/proc/{process}/auxv"))?,
        actions,
        name: fs::read(format!("/proc/{process}/comm"))?,
    })
}

/// Stops all threads, the main one first, and gives their numbers inside.
fn stop(process: Pid) -> io::Result<Vec<(Thread, u64)>> {
    let mut threads: Vec<(Thread, u64)> = Vec::new();
    // Until no new ones are found: one that runs may make another.
    loop {
        let mut found = false;
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw);
            let id = id.ok_or_else(|| io::Error::other("a thread has no number"))?;
            if threads.iter().any(|(thread, _)| thread.id == id) {
                continue;
            }
            if threads.len() == THREADS_MAX {
                return Err(io::Error::other(format!("it has more than {THREADS_MAX} threads")));
            }
            threads.push((Thread::stop(id)?, number_inside(id)?));
            found = true;
        }
        if !found {
            break;
        }
    }
    threads.sort_by_key(|(thread, id)| (thread.id != process, *id));
    Ok(threads)
}

/// A thread's number in its own process id namespace.
fn number_inside(id: Pid) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok())
        .ok_or_else(|| io::Error::other("a thread's number inside is not told"))
}

/// Copies all pages that the process has written.
fn copy(process: Pid, memory: &File) -> io::Result<(Vec<Region>, OwnedFd, u64)> {
    let image = File::from(memfd_create("image", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    let pagemap = File::open(format!("/proc/{process}/pagemap"))?;
    let mut regions = Vec::new();
    let mut end = 0;
    let mut buffer = vec![0; COPY_BYTES];
    for mapping in maps::read(process)? {
        // A file that is only read may as well be mapped privately.
        let is_file = matches!(mapping.backing, Backing::File { .. });
        if mapping.shared && (!is_file || mapping.protection.contains(ProtFlags::PROT_WRITE)) {
            return Err(io::Error::other("it shares memory"));
        }
        let mut runs = Vec::new();
        let length = mapping.range.end - mapping.range.start;
        if !mapping.is_empty && length > MAPPING_BYTES_MAX {
            return Err(io::Error::other("it has mapped too much at once"));
        }
        if !mapping.is_empty && !matches!(mapping.backing, Backing::Kernel(_)) {
            for run in maps::own_pages(&pagemap, &mapping.range, GAP_PAGES)? {
                let at = end;
                let mut address = run.start;
                while address < run.end {
                    let length = COPY_BYTES.min((run.end - address) as usize);
                    memory.read_exact_at(&mut buffer[..length], address)?;
                    image.write_all_at(&buffer[..length], end)?;
                    address += length as u64;
                    end += length as u64;
                }
                if end > IMAGE_BYTES_MAX {
                    return Err(io::Error::other("it is too large"));
                }
                runs.push((run, at));
            }
        }
        regions.push(Region { mapping, runs });
    }
    debug_assert_eq!(end % PAGE, 0, "whole pages were copied");
    Ok((regions, image.into(), end))
}

/// Writes the numbers that the threads will have where the C library remembers them: at the address that it has given the kernel
/// to clear.
fn renumber(threads: &[ThreadImage], regions: &[Region], image: &OwnedFd) -> io::Result<()> {
    let image = File::from(image.try_clone()?);
    for thread in threads {
        let address = thread.state.clear_id;
        let mut runs = regions.iter().flat_map(|region| &region.runs);
        let Some((run, at)) = runs.find(|(run, _)| run.contains(&address)) else { continue };
        let at = at + (address - run.start);
        let mut known = [0; 4];
        image.read_exact_at(&mut known, at)?;
        if u64::from(u32::from_ne_bytes(known)) == thread.id {
            let number = (thread.id + NUMBERS_APART) as u32;
            image.write_all_at(&number.to_ne_bytes(), at)?;
        }
    }
    Ok(())
}

/// Where code, data, heap, stack, arguments and variables lie.
fn places(process: Pid, main: &Thread) -> io::Result<[u64; 11]> {
    let status = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let unclear = || io::Error::other("its status cannot be understood");
    // After the name, which may contain anything; the next field is the third.
    let (_, fields) = status.rsplit_once(')').ok_or_else(unclear)?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| -> io::Result<u64> {
        fields.get(number - 3).and_then(|text| text.parse().ok()).ok_or_else(unclear)
    };
    let heap_end = main.call(libc::SYS_brk, [0; 4])?;
    Ok([
        field(26)?,
        field(27)?,
        field(45)?,
        field(46)?,
        field(47)?,
        heap_end,
        field(28)?,
        field(48)?,
        field(49)?,
        field(50)?,
        field(51)?,
    ])
}

/// Whether one of the old timers, one of each kind to a process, is running.
fn has_timers(main: &Thread, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<bool> {
    for kind in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        let scratch = main.scratch();
        main.call(libc::SYS_getitimer, [kind as u64, scratch, 0, 0])?;
        let mut value = [0; 32];
        read(scratch, &mut value)?;
        if value[16..] != [0; 16] {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How signals are treated, where not by default.
fn actions(
    main: &Thread,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<(i32, [u8; ACTION_BYTES])>> {
    let mut actions = Vec::new();
    for signal in SIGNALS {
        if [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
            continue;
        }
        let scratch = main.scratch();
        main.call(libc::SYS_rt_sigaction, [signal as u64, 0, scratch, 8])?;
        let mut action = [0; ACTION_BYTES];
        read(scratch, &mut action)?;
        if action[..8] != [0; 8] {
            actions.push((signal, action));
        }
    }
    Ok(actions)
}
