//! Which system calls make a captured process again, in which order.
//!
//! ```text
//! kernel's pages aside -> everything else unmapped -> kernel's pages where they were -> mappings -> the kernel's own notes
//!   (heap, signals, thread) -> other threads -> registers
//! ```

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::mman::{MapFlags, ProtFlags};

use super::capture::{Captured, Region, ThreadImage};
use super::frame;
use super::maps::{Backing, PAGE};
use super::stub::{BRANCH, Builder, FROM_KERNEL_PAGE, MUST_EQUAL, MUST_SUCCEED, RESUME, Step};
use super::{GATE, MEMORY, NUMBERS_APART};

/// The first address that a program may map.
const FIRST_ADDRESS: u64 = 0x1_0000;
/// The end of the addresses that a program may map.
const LAST_ADDRESS: u64 = 0x7fff_ffff_f000;
/// Where the stub lies: the first such place that is free, far from where the kernel puts anything.
const STUB_PLACES: std::ops::Range<u64> = 0x2000_0000_0000..0x3000_0000_0000;
const STUB_STEP: u64 = 0x10_0000_0000;
/// More than any stub takes, with the kernel's pages put aside behind it, in bytes.
const STUB_BYTES: u64 = 16 << 20;
/// The part of that for the kernel's pages.
const ASIDE_BYTES: u64 = 1 << 20;
/// Where in it the copy's variables are mapped, and what they take at most there, in bytes: a function's
/// own are 4 KiB.
const VARIABLES_AT: u64 = STUB_BYTES / 2;
const VARIABLES_BYTES: u64 = 32 << 10;
/// The stack of a main thread, in bytes: what AWS and Linux have by default.
const STACK_BYTES: u64 = 8 << 20;
/// A thread of the same process, as the C library makes them.
const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;

/// The program that becomes the captured process.
pub(super) fn program(captured: &Captured) -> io::Result<Vec<u8>> {
    let base = place(&captured.regions)?;
    let mut plan = Steps { builder: Builder::new(base), steps: Vec::new(), base, open: None };
    plan.kernel_pages(&captured.regions)?;
    for region in &captured.regions {
        plan.region(region)?;
    }
    plan.close();
    plan.must(libc::SYS_close, [u64::from(MEMORY), 0, 0, 0, 0, 0]);
    captured.descriptors.reopen(&mut plan, captured.threads[0].thread.scratch())?;
    plan.notes(captured)?;
    captured.habits.take(&mut plan)?;
    plan.threads(&captured.threads)?;
    let Steps { mut builder, steps, .. } = plan;
    let first = builder.steps(&steps);
    let program = builder.finish(first);
    if program.len() as u64 > VARIABLES_AT {
        return Err(io::Error::other("it has too many mappings"));
    }
    Ok(program)
}

/// A place for the stub that the process does not use.
fn place(regions: &[Region]) -> io::Result<u64> {
    STUB_PLACES
        .step_by(STUB_STEP as usize)
        .find(|base| {
            let own = *base..*base + STUB_BYTES;
            regions
                .iter()
                .all(|region| region.mapping.range.end <= own.start || region.mapping.range.start >= own.end)
        })
        .ok_or_else(|| io::Error::other("it leaves no place"))
}

/// The steps of a program, while they are being found.
pub(super) struct Steps {
    builder: Builder,
    steps: Vec<Step>,
    base: u64,
    /// The file that is open to be mapped.
    open: Option<PathBuf>,
}

impl Steps {
    /// A call that may not fail.
    pub(super) fn must(&mut self, number: libc::c_long, arguments: [u64; 6]) {
        self.steps.push(Step { number: number as u64, arguments, mode: MUST_SUCCEED, ..Step::default() });
    }

    /// A call whose result is known.
    pub(super) fn must_be(&mut self, number: libc::c_long, arguments: [u64; 6], expected: u64) {
        let number = number as u64;
        self.steps.push(Step { number, arguments, mode: MUST_EQUAL, expected, ..Step::default() });
    }

    /// Adds what a step points to, and gives its address.
    pub(super) fn data(&mut self, bytes: &[u8]) -> u64 {
        self.builder.data(bytes)
    }

    /// The address of a path's text.
    pub(super) fn path(&mut self, path: &Path) -> io::Result<u64> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        Ok(self.builder.data(path.as_bytes_with_nul()))
    }

    /// The folder that relative paths would begin at.
    pub(super) fn here(&self) -> u64 {
        libc::AT_FDCWD as i64 as u64
    }

    /// Moves the kernel's own pages to where the process had them, and unmaps everything else but the stub.
    fn kernel_pages(&mut self, regions: &[Region]) -> io::Result<()> {
        let pages: Vec<_> = regions
            .iter()
            .filter_map(|region| match &region.mapping.backing {
                Backing::Kernel(name) => Some((name.as_str(), region.mapping.range.clone())),
                _ => None,
            })
            .collect();
        let unknown = || io::Error::other("the kernel's own pages are of an unknown kind");
        let code = pages.iter().find(|(name, _)| *name == "[vdso]").ok_or_else(unknown)?.1.start;
        let size: u64 = pages.iter().map(|(_, range)| range.end - range.start).sum();
        if size > ASIDE_BYTES || pages.iter().any(|(name, _)| !name.starts_with("[vvar") && *name != "[vdso]")
        {
            return Err(unknown());
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let mut aside = self.base + STUB_BYTES - ASIDE_BYTES;
        let mut back = Vec::new();
        for (_, range) in &pages {
            let length = range.end - range.start;
            self.steps.push(Step {
                number: libc::SYS_mremap as u64,
                arguments: [range.start.wrapping_sub(code), length, length, flags, aside, 0],
                mode: MUST_EQUAL | FROM_KERNEL_PAGE,
                expected: aside,
                alternative: 0,
            });
            back.push([aside, length, length, flags, range.start, 0]);
            aside += length;
        }
        let end = self.base + STUB_BYTES;
        self.must(libc::SYS_munmap, [FIRST_ADDRESS, self.base - FIRST_ADDRESS, 0, 0, 0, 0]);
        self.must(libc::SYS_munmap, [end, LAST_ADDRESS - end, 0, 0, 0, 0]);
        for arguments in back {
            self.must_be(libc::SYS_mremap, arguments, arguments[4]);
        }
        Ok(())
    }

    /// Maps what the process had mapped: what backs it, and over it what was written.
    fn region(&mut self, region: &Region) -> io::Result<()> {
        let mapping = &region.mapping;
        let protection = mapping.protection.bits() as u64;
        let (start, length) = (mapping.range.start, mapping.range.end - mapping.range.start);
        match &mapping.backing {
            Backing::Kernel(_) => return Ok(()),
            Backing::File { path, offset } => {
                let file = self.open(path)?;
                self.map(start, length, protection, file, *offset);
            }
            Backing::Anonymous if mapping.is_stack => {
                // As far as it may grow.
                let bottom = mapping.range.end - STACK_BYTES.max(length);
                self.map_nothing(bottom, mapping.range.end - bottom, protection);
            }
            Backing::Anonymous => {
                // Most is written everywhere, and need not be mapped twice.
                let whole = matches!(&region.runs[..], [(run, _)] if *run == mapping.range);
                if !whole {
                    self.map_nothing(start, length, protection);
                }
            }
        }
        for (run, at) in &region.runs {
            if mapping.is_stack {
                // Not mapped: `/proc/PID/cmdline` shows nothing of a file, and most of it would be written at once.
                let length = run.end - run.start;
                let memory = u64::from(MEMORY);
                self.must_be(libc::SYS_pread64, [memory, run.start, length, *at, 0, 0], length);
                continue;
            }
            self.map(run.start, run.end - run.start, protection, u64::from(MEMORY), *at);
        }
        Ok(())
    }

    /// Opens a file to be mapped, if it is not open: the parts of a library follow on one another. Gives its descriptor.
    fn open(&mut self, path: &Path) -> io::Result<u64> {
        let file = u64::from(MEMORY) + 1;
        if self.open.as_deref() != Some(path) {
            self.close();
            let text = self.path(path)?;
            let read = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
            self.must_be(libc::SYS_openat, [self.here(), text, read, 0, 0, 0], file);
            self.open = Some(path.to_owned());
        }
        Ok(file)
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.must(libc::SYS_close, [u64::from(MEMORY) + 1, 0, 0, 0, 0, 0]);
        }
    }

    fn map(&mut self, start: u64, length: u64, protection: u64, file: u64, offset: u64) {
        let flags = (MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED).bits() as u64;
        self.must_be(libc::SYS_mmap, [start, length, protection, flags, file, offset], start);
    }

    fn map_nothing(&mut self, start: u64, length: u64, protection: u64) {
        let mut flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_ANONYMOUS;
        if protection == ProtFlags::PROT_NONE.bits() as u64 || length > STUB_BYTES {
            flags |= MapFlags::MAP_NORESERVE;
        }
        self.must_be(libc::SYS_mmap, [start, length, protection, flags.bits() as u64, u64::MAX, 0], start);
    }

    /// What the kernel keeps of a process beside its memory.
    fn notes(&mut self, captured: &Captured) -> io::Result<()> {
        const PR_SET_MM_MAP: u64 = 14;
        // Who reads `/proc/PID/environ` finds the copy's own variables, which are what the gate holds: with zeroes behind them,
        // since their length is not known here. (It shows nothing of a file, so they cannot be mapped.)
        let (variables, gate) = (self.base + VARIABLES_AT, u64::from(GATE));
        self.map_nothing(
            variables,
            VARIABLES_BYTES,
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).bits() as u64,
        );
        self.must(libc::SYS_read, [gate, variables, VARIABLES_BYTES, 0, 0, 0]);
        self.must_be(libc::SYS_lseek, [gate, 0, 0, 0, 0, 0], 0);
        let mut places = captured.places;
        [places[9], places[10]] = [variables, variables + VARIABLES_BYTES];
        let auxiliary = self.builder.data(&captured.auxiliary);
        let mut map: Vec<u8> = places.iter().flat_map(|place| place.to_ne_bytes()).collect();
        map.extend_from_slice(&auxiliary.to_ne_bytes());
        map.extend_from_slice(&(captured.auxiliary.len() as u32).to_ne_bytes());
        // No other executable file.
        map.extend_from_slice(&u32::MAX.to_ne_bytes());
        let length = map.len() as u64;
        let map = self.builder.data(&map);
        self.must(libc::SYS_prctl, [libc::PR_SET_MM as u64, PR_SET_MM_MAP, map, length, 0, 0]);
        let mut name = captured.name.clone();
        name.truncate(name.len().saturating_sub(1));
        name.push(0);
        let name = self.builder.data(&name);
        self.must(libc::SYS_prctl, [libc::PR_SET_NAME as u64, name, 0, 0, 0, 0]);
        for (signal, action) in &captured.actions {
            let action = self.builder.data(action);
            self.must(libc::SYS_rt_sigaction, [*signal as u64, action, 0, 8, 0, 0]);
        }
        Ok(())
    }

    /// The other threads, then the main one, which goes on last.
    fn threads(&mut self, threads: &[ThreadImage]) -> io::Result<()> {
        let (main, others) = threads.split_first().ok_or_else(|| io::Error::other("it has no thread"))?;
        // The C library knows its threads by these numbers.
        self.must_be(libc::SYS_getpid, [0; 6], main.id + NUMBERS_APART);
        let mut next = main.id + 1 + NUMBERS_APART;
        for thread in others {
            let number = thread.id + NUMBERS_APART;
            while next < number {
                self.pass_number(next);
                next += 1;
            }
            if next != number {
                return Err(io::Error::other("its threads are numbered in an unknown way"));
            }
            let own = self.own_steps(thread);
            let alternative = self.builder.steps(&own);
            let flags = THREAD_FLAGS | (libc::CLONE_SETTLS | libc::CLONE_CHILD_CLEARTID) as u64;
            self.steps.push(Step {
                number: libc::SYS_clone as u64,
                arguments: [flags, 0, 0, thread.state.clear_id, thread.thread_pointer, 0],
                mode: MUST_EQUAL | BRANCH,
                expected: number,
                alternative,
            });
            next += 1;
        }
        let own = self.own_steps(main);
        self.steps.extend(own);
        Ok(())
    }

    /// A number that a thread had which has ended.
    fn pass_number(&mut self, expected: u64) {
        let exit = Step { number: libc::SYS_exit as u64, ..Step::default() };
        let alternative = self.builder.steps(&[exit]);
        self.steps.push(Step {
            number: libc::SYS_clone as u64,
            arguments: [THREAD_FLAGS, 0, 0, 0, 0, 0],
            mode: MUST_EQUAL | BRANCH,
            expected,
            alternative,
        });
    }

    /// What a thread does for itself, up to going on where it was.
    fn own_steps(&mut self, thread: &ThreadImage) -> Vec<Step> {
        const ARCH_SET_GS: u64 = 0x1001;
        const ARCH_SET_FS: u64 = 0x1002;
        let mut steps = Vec::new();
        let mut must = |number: libc::c_long, arguments: [u64; 6]| {
            steps.push(Step { number: number as u64, arguments, mode: MUST_SUCCEED, ..Step::default() });
        };
        let state = &thread.state;
        must(libc::SYS_arch_prctl, [ARCH_SET_FS, thread.thread_pointer, 0, 0, 0, 0]);
        if thread.other_base != 0 {
            must(libc::SYS_arch_prctl, [ARCH_SET_GS, thread.other_base, 0, 0, 0, 0]);
        }
        must(libc::SYS_set_tid_address, [state.clear_id, 0, 0, 0, 0, 0]);
        let (head, length) = state.robust_list;
        if head != 0 {
            must(libc::SYS_set_robust_list, [head, length, 0, 0, 0, 0]);
        }
        let (pointer, length, signature) = state.restartable;
        if pointer != 0 {
            must(libc::SYS_rseq, [pointer, u64::from(length), 0, u64::from(signature), 0, 0]);
        }
        let extended = self.builder.data(&thread.extended);
        let frame = self.builder.data(&frame::frame(&thread.thread, state, extended));
        steps.push(Step { arguments: [frame + 8, 0, 0, 0, 0, 0], mode: RESUME, ..Step::default() });
        steps
    }
}

const _: () = assert!(GATE < MEMORY && STUB_BYTES.is_multiple_of(PAGE));
