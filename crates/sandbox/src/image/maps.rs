//! What a process has mapped: `/proc/PID/smaps`, read, and which of its pages are its own (`/proc/PID/pagemap`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::mman::ProtFlags;
use nix::unistd::Pid;

/// The size of a page, in bytes: the smallest unit of everything here.
pub(crate) const PAGE: u64 = 4096;

// Bits of a page's entry in `pagemap`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page belongs to a file (or to shared memory), not to the process alone.
const OF_A_FILE: u64 = 1 << 61;

/// What backs a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Nothing: zeroes until written.
    Anonymous,
    /// A file, from this offset on.
    File { path: PathBuf, offset: u64 },
    /// The kernel's own pages for the clock and such, with their name.
    Kernel(String),
}

/// One entry of `smaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) protection: ProtFlags,
    pub(crate) shared: bool,
    pub(crate) backing: Backing,
    /// The main thread's stack.
    pub(crate) is_stack: bool,
    /// No page of it is used.
    pub(crate) is_empty: bool,
}

/// All mappings of a process, by address.
pub(crate) fn read(process: Pid) -> io::Result<Vec<Mapping>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut is_known = false;
    for line in text.lines() {
        // What follows on a mapping's line are names, each with a colon.
        let word = line.split(' ').next().unwrap_or_default();
        if !word.ends_with(':') {
            let mapping = parse(line)?;
            is_known = mapping.is_some();
            mappings.extend(mapping);
        } else if is_known && ["Rss:", "Swap:"].contains(&word) && !line.ends_with(" 0 kB") {
            mappings.last_mut().into_iter().for_each(|mapping| mapping.is_empty = false);
        }
    }
    Ok(mappings)
}

/// One line; none for what is the same in every process.
fn parse(line: &str) -> io::Result<Option<Mapping>> {
    let unclear = || io::Error::other(format!("a mapping cannot be understood: {line}"));
    let mut fields = line.splitn(6, ' ');
    let mut next = || fields.next().ok_or_else(unclear);
    let (addresses, flags, offset, _device, inode) = (next()?, next()?, next()?, next()?, next()?);
    let name = fields.next().unwrap_or_default().trim_start();
    let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| unclear());
    let (start, end) = addresses.split_once('-').ok_or_else(unclear)?;
    let range = number(start)?..number(end)?;
    if name == "[vsyscall]" {
        return Ok(None);
    }
    let mut protection = ProtFlags::empty();
    for (letter, flag) in
        [('r', ProtFlags::PROT_READ), ('w', ProtFlags::PROT_WRITE), ('x', ProtFlags::PROT_EXEC)]
    {
        if flags.contains(letter) {
            protection |= flag;
        }
    }
    let backing = if name.starts_with("[v") {
        Backing::Kernel(name.to_owned())
    } else if inode == "0" {
        Backing::Anonymous
    } else {
        Backing::File { path: unescape(name).into(), offset: number(offset)? }
    };
    let shared = flags.ends_with('s');
    if name.ends_with(" (deleted)") {
        let what = if shared { "it shares memory" } else { "it has mapped a file that is deleted" };
        return Err(io::Error::other(format!("{what}: {name}")));
    }
    let is_stack = name == "[stack]";
    Ok(Some(Mapping { range, protection, shared, backing, is_stack, is_empty: true }))
}

/// The kernel writes a line feed in a path as `\012`.
fn unescape(name: &str) -> String {
    name.replace("\\012", "\n")
}

/// Runs of pages that are the process's own: written by it since it mapped them. Runs that lie less than `gap` pages apart
/// are taken together.
pub(crate) fn own_pages(pagemap: &File, range: &Range<u64>, gap: u64) -> io::Result<Vec<Range<u64>>> {
    const BATCH: u64 = 4096;
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut page = range.start / PAGE;
    let end = range.end / PAGE;
    let mut buffer = vec![0_u8; (BATCH * 8) as usize];
    while page < end {
        let count = BATCH.min(end - page);
        let bytes = &mut buffer[..(count * 8) as usize];
        pagemap.read_exact_at(bytes, page * 8)?;
        for (index, entry) in (page..).zip(bytes.chunks_exact(8)) {
            let entry = u64::from_ne_bytes(entry.try_into().expect("chunks of eight"));
            if entry & (PRESENT | SWAPPED) == 0 || (entry & SWAPPED == 0 && entry & OF_A_FILE != 0) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if index * PAGE - run.end <= gap * PAGE => run.end = (index + 1) * PAGE,
                _ => runs.push(index * PAGE..(index + 1) * PAGE),
            }
        }
        page += count;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_kinds_are_understood() {
        let read = |line: &str| parse(line).expect("a good line").expect("a mapping");
        let file = read("7f00-8f00 r-xp 00001000 fe:00 1234                       /usr/lib/lib c.so");
        assert_eq!(file.range, 0x7f00..0x8f00);
        assert_eq!(file.backing, Backing::File { path: "/usr/lib/lib c.so".into(), offset: 0x1000 });
        assert_eq!(file.protection, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC);
        assert_eq!(read("1000-2000 rw-p 00000000 00:00 0 ").backing, Backing::Anonymous);
        assert_eq!(read("1000-2000 rw-p 00000000 00:00 0 [heap]").backing, Backing::Anonymous);
        assert!(read("1000-2000 rw-p 00000000 00:00 0 [stack]").is_stack);
        assert_eq!(
            read("1000-2000 r--p 00000000 00:00 0 [vvar_vclock]").backing,
            Backing::Kernel("[vvar_vclock]".to_owned())
        );
        assert!(read("1000-2000 rw-s 00000000 00:05 9 /dev/zero").shared);
        let vsyscall = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]";
        assert_eq!(parse(vsyscall).expect("a good line"), None);
        assert!(parse("1000-2000 rw-p 00000000 00:05 9 /tmp/x (deleted)").is_err());
        assert!(parse("nonsense").is_err());
    }
}
