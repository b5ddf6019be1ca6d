//! What the programs write to stdout and stderr: read from the pipes, split into lines.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use tokio::net::unix::pipe::Receiver;

use super::journal::Journal;
use crate::telemetry::Stream;

/// The longest line, in bytes; a longer one is split. AWS's bound on one log event.
pub(super) const LINE_BYTES: usize = 256 * 1024;

/// What one read takes at most: a pipe's usual capacity, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// What is read in one turn before the environment's other affairs are looked at, in bytes. Whatever the program had
/// written before it answered is less: a pipe holds no more than 1 MiB.
const TURN_BYTES: usize = 1024 * 1024;

thread_local! {
    /// Where reads go: one buffer a thread, so that thousands of idle environments need none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The read ends of an environment's output: the runtime's, and that of external extensions where there are any.
#[derive(Debug)]
pub(super) struct Output {
    function: Source,
    extensions: Option<Source>,
}

impl Output {
    /// Reads from these pipes.
    pub(super) fn new(function: OwnedFd, extensions: Option<OwnedFd>) -> io::Result<Self> {
        let extensions = extensions.map(|pipe| Source::new(pipe, Stream::Extension)).transpose()?;
        Ok(Self { function: Source::new(function, Stream::Function)?, extensions })
    }

    /// Waits until there may be something to read; for ever, once the programs have closed their output.
    pub(super) async fn readable(&self) {
        match &self.extensions {
            None => self.function.readable().await,
            Some(extensions) => tokio::select! {
                () = self.function.readable() => {}
                () = extensions.readable() => {}
            },
        }
    }

    /// Reads what is there, up to a turn's worth, and gives its lines to the journal.
    pub(super) fn pump(&mut self, journal: &mut Journal) {
        self.function.pump(journal);
        if let Some(extensions) = &mut self.extensions {
            extensions.pump(journal);
        }
    }

    /// Ends a line that has no end yet: the event is over.
    pub(super) fn end_line(&mut self, journal: &mut Journal) {
        self.function.end_line(journal);
        if let Some(extensions) = &mut self.extensions {
            extensions.end_line(journal);
        }
    }
}

/// One of them.
#[derive(Debug)]
struct Source {
    stream: Stream,
    pipe: Receiver,
    open: bool,
    /// The last turn ended before the pipe was empty, so that no new readiness need come.
    more: bool,
    /// The beginning of a line whose end has not come yet.
    partial: BytesMut,
}

impl Source {
    fn new(pipe: OwnedFd, stream: Stream) -> io::Result<Self> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        Ok(Self { stream, pipe, open: true, more: false, partial: BytesMut::new() })
    }

    async fn readable(&self) {
        if !self.open {
            return std::future::pending().await;
        }
        if self.more {
            // A flood must not keep the thread from other environments.
            return tokio::task::yield_now().await;
        }
        if self.pipe.readable().await.is_err() {
            std::future::pending().await
        }
    }

    /// Reads directly, not by what tokio believes to be readable: what was written before an answer must be seen when the
    /// answer is.
    fn pump(&mut self, journal: &mut Journal) {
        let mut turn = 0;
        self.more = true;
        while self.open && turn < TURN_BYTES {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let read = read(&self.pipe, scratch)?;
                split(&scratch[..read], &mut self.partial, |line| journal.line(self.stream, line));
                Ok::<_, io::Error>(read)
            });
            match read {
                Ok(0) => self.open = false,
                Ok(read) => turn += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.more = false;
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "an environment's output cannot be read");
                    self.open = false;
                }
            }
        }
    }

    fn end_line(&mut self, journal: &mut Journal) {
        if !self.partial.is_empty() {
            journal.line(self.stream, self.partial.split().freeze());
            self.partial = BytesMut::new();
        }
    }
}

/// Reads what is there. Not only what tokio knows to be there: it learns of output and of answers in no certain order,
/// and what was written before an answer must be seen when the answer is.
fn read(pipe: &Receiver, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe.try_read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(nix::unistd::read(pipe, buffer)?),
        other => other,
    }
}

/// Cuts `bytes`, which follow on `partial`, into lines.
fn split(bytes: &[u8], partial: &mut BytesMut, mut line: impl FnMut(Bytes)) {
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (mut head, tail) = (&rest[..end], &rest[end + 1..]);
        while partial.len() + head.len() > LINE_BYTES {
            let room = LINE_BYTES - partial.len();
            partial.extend_from_slice(&head[..room]);
            line(partial.split().freeze());
            head = &head[room..];
        }
        if partial.is_empty() {
            line(Bytes::copy_from_slice(head));
        } else {
            partial.extend_from_slice(head);
            line(partial.split().freeze());
        }
        rest = tail;
    }
    while partial.len() + rest.len() >= LINE_BYTES {
        let room = LINE_BYTES - partial.len();
        partial.extend_from_slice(&rest[..room]);
        line(partial.split().freeze());
        rest = &rest[room..];
    }
    partial.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<Bytes>, usize) {
        let (mut partial, mut lines) = (BytesMut::new(), Vec::new());
        for chunk in chunks {
            split(chunk, &mut partial, |line| lines.push(line));
        }
        (lines, partial.len())
    }

    #[test]
    fn lines_are_put_together_from_whatever_pieces_come() {
        assert_eq!(
            lines(&[b"one\ntwo\nth", b"ree", b"\n\nfive"]),
            (vec!["one".into(), "two".into(), "three".into(), "".into()], 4)
        );
    }

    #[test]
    fn a_line_without_end_is_split_and_never_held_whole() {
        let chunk = vec![b'x'; 100_000];
        let chunks: Vec<&[u8]> = std::iter::repeat_n(chunk.as_slice(), 30).collect();
        let (lines, rest) = lines(&chunks);
        assert_eq!(lines.len(), 3_000_000 / LINE_BYTES);
        assert!(lines.iter().all(|line| line.len() == LINE_BYTES));
        assert_eq!(rest, 3_000_000 % LINE_BYTES);
    }
}
