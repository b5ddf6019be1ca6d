//! A connection that can be watched while it is served, and that can hold back an answer for a moment.
//!
//! hyper either takes the end of a connection as the end of what is being served on it, and then loses a request that
//! came whole right before (a runtime that answers and exits), or it does not look, and then an event is handed to a
//! long poll that nobody reads. So it is told not to look, and the long poll watches for itself.
//!
//! A runtime that sends its next request along with its answer has no use for the answer's receipt before it is given
//! its next event: [`Handle::hold_next`] lets both go out together, which spares both sides a system call and a wake-up.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What is held back at most, in bytes: a receipt has less than 200. Whatever is larger goes out at once.
const HELD_BYTES: usize = 1024;

/// Pieces of one write beside what was held back. hyper writes heads and bodies: two or three.
const SLICES: usize = 7;

/// One connection, for whoever serves it.
#[derive(Debug)]
pub(super) struct Stream {
    read: OwnedReadHalf,
    handle: Handle,
}

/// The same connection, for whoever watches it.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    write: OwnedWriteHalf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The next write is to be held back.
    next: bool,
    bytes: Vec<u8>,
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, handle: Handle(Arc::new(Shared { write, held: Mutex::default() })) }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    /// Waits until the other side has closed the connection.
    pub(super) async fn ended(&self) {
        // Asked directly first: of what has just come, tokio may not know yet.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let seen = match recv(self.socket().as_raw_fd(), &mut [0], flags) {
            Err(Errno::EAGAIN) => self.socket().peek(&mut [0]).await,
            seen => seen.map_err(io::Error::from),
        };
        match seen {
            Ok(0) | Err(_) => {}
            // The next request is there already, so that an end behind it cannot be seen.
            Ok(_) => std::future::pending().await,
        }
    }

    /// Holds the next write back until the one after it.
    pub(super) fn hold_next(&self) {
        self.held().next = true;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> &TcpStream {
        self.0.write.as_ref()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.handle.held();
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        if std::mem::take(&mut held.next) && held.bytes.len() + size <= HELD_BYTES {
            slices.iter().for_each(|slice| held.bytes.extend_from_slice(slice));
            return Poll::Ready(Ok(size));
        }
        let socket = self.handle.socket();
        loop {
            ready!(socket.poll_write_ready(context))?;
            match write(socket, &held.bytes, slices) {
                Ok(written) => {
                    let before = held.bytes.len().min(written);
                    held.bytes.drain(..before);
                    // Where only what was held back has gone, nothing of this write has: that would look like its end.
                    if written > before || before == 0 || size == 0 {
                        return Poll::Ready(Ok(written - before));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is held back was for a runtime that wanted more, which has gone.
        Poll::Ready(shutdown(self.handle.socket().as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

/// One write of what was held back and of as many pieces as fit; how many bytes of both together.
fn write(socket: &TcpStream, held: &[u8], slices: &[IoSlice<'_>]) -> io::Result<usize> {
    if held.is_empty() {
        return socket.try_write_vectored(slices);
    }
    let mut all = [IoSlice::new(held); SLICES + 1];
    let pieces = slices.len().min(SLICES);
    all[1..=pieces].copy_from_slice(&slices[..pieces]);
    socket.try_write_vectored(&all[..=pieces])
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Stream::new(listener.accept().await.unwrap().0), client)
    }

    #[tokio::test]
    async fn what_is_held_back_goes_out_first_and_with_the_next_write() {
        let (mut stream, mut client) = pair().await;
        stream.handle().hold_next();
        stream.write_all(b"held ").await.unwrap();
        assert!(client.try_read(&mut [0; 64]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        stream.write_all(b"sent").await.unwrap();
        let mut received = [0; 9];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"held sent");
    }

    #[tokio::test]
    async fn large_writes_are_whole_and_never_held_back() {
        let (mut stream, mut client) = pair().await;
        stream.handle().hold_next();
        stream.write_all(b"held ").await.unwrap();
        stream.handle().hold_next();
        let large = vec![b'x'; 10_000_000];
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        });
        stream.write_all(&large).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(reading.await.unwrap() == [b"held ".as_slice(), &large].concat());
    }

    #[tokio::test]
    async fn an_end_is_seen_unless_a_request_lies_before_it() {
        let (stream, client) = pair().await;
        drop(client);
        stream.handle().ended().await;
        let (mut stream, mut client) = pair().await;
        client.write_all(b"request").await.unwrap();
        let mut received = [0; 7];
        stream.read_exact(&mut received).await.unwrap();
        drop(client);
        stream.handle().ended().await;
        assert_eq!(stream.read(&mut received).await.unwrap(), 0);
    }
}
