//! What a process has open, and the system calls that open the same again.
//!
//! Files are opened by their path, at the same position. Pipes, event counters and epolls within the process are made anew; pipes
//! must be empty. Connections cannot be kept: a copy finds them closed, as after AWS's restoring. Whatever else is open stands
//! against capturing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::plan::Steps;
use super::{GATE, MEMORY};
use crate::system::{bytes_waiting, descriptor_of, pidfd_open};

/// Open descriptors of one process; functions have 1,024 at most.
const DESCRIPTORS_MAX: usize = 1024;
/// Opened for nobody's exec, as the flag stands in `fdinfo`.
const CLOSE_ON_EXEC: u64 = libc::O_CLOEXEC as u64;
/// Flags that open takes no part in, or that are not kept.
const KEPT_FLAGS: u64 = !(CLOSE_ON_EXEC | libc::O_LARGEFILE as u64 | 0o100000);

/// One open descriptor.
#[derive(Debug, PartialEq, Eq)]
enum Open {
    File {
        path: PathBuf,
        position: u64,
    },
    /// One end of a pipe, by its number.
    Pipe(u64),
    Counter {
        count: u64,
    },
    Epoll {
        entries: Vec<Watched>,
    },
    /// A connection, by family and type.
    Connection {
        family: i32,
        kind: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    number: u64,
    events: u32,
    data: u64,
}

/// What a process has open beside the standard ones and its gate.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    open: BTreeMap<u64, (Open, u64)>,
    /// The pipe that it writes its output to.
    output: Option<u64>,
}

/// Looks at what a process has open.
pub(super) fn read(process: Pid) -> io::Result<Descriptors> {
    let mut descriptors = Descriptors { output: pipe_of(&link(process, 1)?), ..Descriptors::default() };
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let number: u64 = number.ok_or_else(|| io::Error::other("a descriptor has no number"))?;
        if number <= u64::from(GATE) {
            continue;
        }
        if descriptors.open.len() == DESCRIPTORS_MAX {
            return Err(io::Error::other("it has too much open"));
        }
        let information = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
        let flags = field(&information, "flags:").and_then(|text| u64::from_str_radix(text, 8).ok());
        let flags = flags.ok_or_else(|| io::Error::other("a descriptor's flags are not told"))?;
        let open = classify(process, number, &link(process, number)?, &information)?;
        descriptors.open.insert(number, (open, flags));
    }
    descriptors.check(process)?;
    Ok(descriptors)
}

fn link(process: Pid, number: u64) -> io::Result<String> {
    Ok(fs::read_link(format!("/proc/{process}/fd/{number}"))?.to_string_lossy().into_owned())
}

fn field<'a>(information: &'a str, name: &str) -> Option<&'a str> {
    information.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn pipe_of(link: &str) -> Option<u64> {
    link.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
}

fn classify(process: Pid, number: u64, link: &str, information: &str) -> io::Result<Open> {
    let refused = |what: &str| Err(io::Error::other(format!("it has {what} open (descriptor {number})")));
    if let Some(pipe) = pipe_of(link) {
        return Ok(Open::Pipe(pipe));
    }
    if link.starts_with("socket:[") {
        return match connection(process, number)? {
            Some((family, kind)) => Ok(Open::Connection { family, kind }),
            None => refused("a listener or another socket that is no connection"),
        };
    }
    match link {
        "anon_inode:[eventfd]" => {
            let count =
                field(information, "eventfd-count:").and_then(|text| u64::from_str_radix(text, 16).ok());
            count.map_or_else(|| refused("an unclear event counter"), |count| Ok(Open::Counter { count }))
        }
        "anon_inode:[eventpoll]" => {
            let entries = information.lines().filter(|line| line.starts_with("tfd:")).map(watched);
            match entries.collect::<Option<Vec<_>>>() {
                Some(entries) => Ok(Open::Epoll { entries }),
                None => refused("an unclear epoll"),
            }
        }
        path if path.starts_with('/') && !path.ends_with(" (deleted)") => {
            if fs::metadata(format!("/proc/{process}/fd/{number}"))?.is_dir() {
                return refused("a folder");
            }
            let position = field(information, "pos:").and_then(|text| text.parse().ok()).unwrap_or(0);
            Ok(Open::File { path: path.into(), position })
        }
        other => refused(other),
    }
}

/// `tfd: 5 events: 19 data: 5 …`, numbers but the first in hexadecimal.
fn watched(line: &str) -> Option<Watched> {
    let mut words = line.split_whitespace();
    let mut after = |name: &str| words.find(|word| *word == name).and_then(|_| words.next());
    Some(Watched {
        number: after("tfd:")?.parse().ok()?,
        events: u32::from_str_radix(after("events:")?, 16).ok()?,
        data: u64::from_str_radix(after("data:")?, 16).ok()?,
    })
}

/// Family and type of a connection; none for a listener and for sockets of other kinds.
fn connection(process: Pid, number: u64) -> nix::Result<Option<(i32, i32)>> {
    use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, getsockname, getsockopt, sockopt};
    let socket = descriptor_of(&pidfd_open(process)?, number)?;
    let family = match getsockname::<nix::sys::socket::SockaddrStorage>(socket.as_raw_fd())?.family() {
        Some(AddressFamily::Inet) => libc::AF_INET,
        Some(AddressFamily::Inet6) => libc::AF_INET6,
        _ => return Ok(None),
    };
    if getsockopt(&socket, sockopt::AcceptConn)? {
        return Ok(None);
    }
    Ok(match getsockopt(&socket, sockopt::SockType)? {
        SockType::Stream => Some((family, libc::SOCK_STREAM)),
        SockType::Datagram => Some((family, libc::SOCK_DGRAM)),
        _ => None,
    })
}

impl Descriptors {
    /// Whether pipes are empty and lead from the process to itself, and epolls watch what it has.
    fn check(&self, process: Pid) -> io::Result<()> {
        for (number, (open, _)) in &self.open {
            match open {
                Open::Pipe(pipe) if Some(*pipe) != self.output => {
                    if self.ends(*pipe).len() != 2 {
                        return Err(io::Error::other(format!(
                            "it has half of a pipe open (descriptor {number})"
                        )));
                    }
                    let file = fs::File::open(format!("/proc/{process}/fd/{number}"));
                    if file.is_ok_and(|file| bytes_waiting(&file).is_ok_and(|bytes| bytes > 0)) {
                        return Err(io::Error::other(format!("a pipe is not empty (descriptor {number})")));
                    }
                }
                Open::Epoll { entries } => {
                    if let Some(entry) = entries.iter().find(|entry| !self.has(entry.number)) {
                        let text = format!("an epoll watches what is closed (descriptor {})", entry.number);
                        return Err(io::Error::other(text));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn has(&self, number: u64) -> bool {
        number < u64::from(GATE) || self.open.contains_key(&number)
    }

    /// The reading end and the writing end of a pipe.
    fn ends(&self, pipe: u64) -> Vec<u64> {
        let mut ends: Vec<_> = self
            .open
            .iter()
            .filter(|(_, (open, _))| *open == Open::Pipe(pipe))
            .map(|(number, (_, flags))| (flags & libc::O_ACCMODE as u64, *number))
            .collect();
        ends.sort_unstable();
        match ends[..] {
            [(0, read), (1, write)] => vec![read, write],
            _ => Vec::new(),
        }
    }

    /// Opens everything again. The image's memory has been closed, and `scratch` is memory that may be written.
    pub(super) fn reopen(&self, steps: &mut Steps, scratch: u64) -> io::Result<()> {
        let mut table = Table { taken: (0..u64::from(MEMORY)).collect() };
        for (number, (open, flags)) in &self.open {
            let plain = flags & KEPT_FLAGS;
            match open {
                Open::File { path, position } => {
                    let path = steps.path(path)?;
                    let plain = plain & !((libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC) as u64);
                    let made = table.lowest(0);
                    steps.must_be(libc::SYS_openat, [steps.here(), path, plain, 0, 0, 0], made);
                    if *position > 0 {
                        steps.must_be(libc::SYS_lseek, [made, *position, 0, 0, 0, 0], *position);
                    }
                    table.keep(steps, made, *number, *flags);
                }
                Open::Pipe(pipe) if Some(*pipe) == self.output => {
                    table.copy(steps, 1, *number, *flags);
                }
                Open::Pipe(pipe) => {
                    let ends = self.ends(*pipe);
                    // With the first of its ends both are made.
                    if ends.iter().min() == Some(number) {
                        let made = [table.lowest(0), table.lowest(1)];
                        steps.must(libc::SYS_pipe2, [scratch, plain & libc::O_NONBLOCK as u64, 0, 0, 0, 0]);
                        table.keep_both(steps, made, [ends[0], ends[1]], *flags);
                    }
                }
                Open::Counter { count } => {
                    let made = table.lowest(0);
                    let flags_made = plain & libc::O_NONBLOCK as u64;
                    steps.must_be(libc::SYS_eventfd2, [*count, flags_made, 0, 0, 0, 0], made);
                    table.keep(steps, made, *number, *flags);
                }
                Open::Connection { family, kind } => {
                    let made = table.lowest(0);
                    let kind = *kind as u64 | plain & libc::O_NONBLOCK as u64;
                    steps.must_be(libc::SYS_socket, [*family as u64, kind, 0, 0, 0, 0], made);
                    table.keep(steps, made, *number, *flags);
                }
                Open::Epoll { .. } => {
                    let made = table.lowest(0);
                    steps.must_be(libc::SYS_epoll_create1, [0; 6], made);
                    table.keep(steps, made, *number, *flags);
                }
            }
        }
        for (number, (open, _)) in &self.open {
            let Open::Epoll { entries } = open else { continue };
            for entry in entries {
                let mut event = entry.events.to_ne_bytes().to_vec();
                event.extend_from_slice(&entry.data.to_ne_bytes());
                let event = steps.data(&event);
                let add = libc::EPOLL_CTL_ADD as u64;
                steps.must(libc::SYS_epoll_ctl, [*number, add, entry.number, event, 0, 0]);
            }
        }
        Ok(())
    }
}

/// Which descriptors the process that is being made has: a new one always gets the lowest that is free.
struct Table {
    taken: BTreeSet<u64>,
}

impl Table {
    /// The lowest free one, after `skip` others.
    fn lowest(&self, skip: usize) -> u64 {
        (0..).filter(|number| !self.taken.contains(number)).nth(skip).expect("numbers have no end")
    }

    /// Has what was made as `made` become `wanted`.
    fn keep(&mut self, steps: &mut Steps, made: u64, wanted: u64, flags: u64) {
        if made == wanted {
            self.taken.insert(made);
            if flags & CLOSE_ON_EXEC != 0 {
                let set = libc::F_SETFD as u64;
                steps.must(libc::SYS_fcntl, [made, set, libc::FD_CLOEXEC as u64, 0, 0, 0]);
            }
        } else {
            self.copy(steps, made, wanted, flags);
            steps.must(libc::SYS_close, [made, 0, 0, 0, 0, 0]);
        }
    }

    fn copy(&mut self, steps: &mut Steps, from: u64, wanted: u64, flags: u64) {
        steps.must_be(libc::SYS_dup3, [from, wanted, flags & CLOSE_ON_EXEC, 0, 0, 0], wanted);
        self.taken.insert(wanted);
    }

    /// The same of two, where one may have been made in the other's place.
    fn keep_both(&mut self, steps: &mut Steps, made: [u64; 2], wanted: [u64; 2], flags: u64) {
        if made == wanted {
            self.keep(steps, made[0], wanted[0], flags);
            return self.keep(steps, made[1], wanted[1], flags);
        }
        // Beyond all that is wanted, then to where they belong.
        let beyond = self.taken.iter().chain(&made).chain(&wanted).max().expect("not empty") + 1;
        for (offset, end) in (0..).zip(made) {
            steps.must_be(libc::SYS_dup3, [end, beyond + offset, CLOSE_ON_EXEC, 0, 0, 0], beyond + offset);
            steps.must(libc::SYS_close, [end, 0, 0, 0, 0, 0]);
        }
        for (offset, end) in (0..).zip(wanted) {
            self.copy(steps, beyond + offset, end, flags);
            steps.must(libc::SYS_close, [beyond + offset, 0, 0, 0, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoll_watches_is_understood() {
        let line = "tfd:       12 events: 80000019 data:               c  pos:0 ino:61 sdev:5";
        assert_eq!(watched(line), Some(Watched { number: 12, events: 0x8000_0019, data: 12 }));
        assert_eq!(watched("tfd: x"), None);
    }
}
