//! What a process has set for itself beside its memory: its folder, the rights that it takes from new files, its limits, its
//! priority.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::plan::Steps;
use super::trace::Thread;

/// Limits that are the environment's own, and differ with a function's memory where cgroups do not limit it.
const OF_THE_ENVIRONMENT: [u32; 3] = [libc::RLIMIT_DATA, libc::RLIMIT_NPROC, libc::RLIMIT_SIGPENDING];
/// Kinds of limits.
const LIMITS: u32 = 16;

/// What one process has set.
pub(super) struct Habits {
    folder: PathBuf,
    mask: u64,
    limits: Vec<(u32, [u8; 16])>,
    nice: i32,
}

/// Asks for it. `memory` reads the process's memory.
pub(super) fn read(
    process: Pid,
    main: &Thread,
    memory: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Habits> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 8).ok());
    let mask = mask.ok_or_else(|| io::Error::other("its mask for new files is not told"))?;
    let mut limits = Vec::new();
    for resource in (0..LIMITS).filter(|resource| !OF_THE_ENVIRONMENT.contains(resource)) {
        let scratch = main.scratch();
        main.call(libc::SYS_prlimit64, [0, u64::from(resource), 0, scratch])?;
        let mut limit = [0; 16];
        memory(scratch, &mut limit)?;
        limits.push((resource, limit));
    }
    // The kernel's own call answers 20 less the priority, so that no answer is negative.
    let nice = 20 - main.call(libc::SYS_getpriority, [libc::PRIO_PROCESS as u64, 0, 0, 0])? as i32;
    Ok(Habits { folder: fs::read_link(format!("/proc/{process}/cwd"))?, mask, limits, nice })
}

impl Habits {
    /// Sets it again.
    pub(super) fn take(&self, steps: &mut Steps) -> io::Result<()> {
        let folder = steps.path(&self.folder)?;
        steps.must(libc::SYS_chdir, [folder, 0, 0, 0, 0, 0]);
        steps.must(libc::SYS_umask, [self.mask, 0, 0, 0, 0, 0]);
        for (resource, limit) in &self.limits {
            let limit = steps.data(limit);
            steps.must(libc::SYS_prlimit64, [0, u64::from(*resource), limit, 0, 0, 0]);
        }
        if self.nice > 0 {
            steps.must(libc::SYS_setpriority, [libc::PRIO_PROCESS as u64, 0, self.nice as u64, 0, 0, 0]);
        }
        Ok(())
    }
}
