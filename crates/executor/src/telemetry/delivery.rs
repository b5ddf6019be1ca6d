//! How batches get to a subscriber: a task of its own for each, which tries until it succeeds or the environment ends.
//!
//! A batch is under way at a time. While the environment is frozen nothing is begun, and what was under way has all the
//! time that it had.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use freehold_sandbox::spec::Environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::queue::Shared;
use super::subscription::Destination;

/// How long one attempt may take, from connecting to the answer.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long it waits after a failed attempt: twice as long each time, up to the second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// What is read of an answer, in bytes: its status is all that counts.
const ANSWER_BYTES: usize = 64 * 1024;

/// Delivers for as long as it lives.
pub(super) struct Delivery(AbortHandle);

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Delivery {
    pub(super) fn start(
        queue: Arc<Shared>,
        destination: Destination,
        environment: Weak<dyn Environment>,
        freezes: watch::Receiver<u64>,
    ) -> Self {
        let carrier = Carrier { destination, environment, freezes, stream: None };
        Self(tokio::spawn(run(queue, carrier)).abort_handle())
    }
}

async fn run(queue: Arc<Shared>, mut carrier: Carrier) {
    loop {
        queue.due().await;
        carrier.thawed().await;
        let batch = queue.take();
        let mut pause = PAUSE_FIRST;
        while let Err(error) = carrier.send(&batch).await {
            tracing::debug!(%error, destination = ?carrier.destination, "telemetry cannot be delivered yet");
            carrier.stream = None;
            tokio::time::sleep(pause).await;
            carrier.thawed().await;
            pause = (2 * pause).min(PAUSE_LAST);
        }
        queue.done();
    }
}

struct Carrier {
    destination: Destination,
    environment: Weak<dyn Environment>,
    freezes: watch::Receiver<u64>,
    /// A TCP subscriber's connection.
    stream: Option<TcpStream>,
}

impl Carrier {
    /// Waits until the environment is not frozen.
    async fn thawed(&mut self) {
        // The hub goes only with this task.
        let _ = self.freezes.wait_for(|count| count.is_multiple_of(2)).await;
    }

    /// One attempt.
    async fn send(&mut self, batch: &[Bytes]) -> io::Result<()> {
        let mut freezes = self.freezes.clone();
        let mut attempt = std::pin::pin!(self.attempt(batch));
        loop {
            let begun = *freezes.borrow_and_update();
            tokio::select! {
                sent = &mut attempt => return sent,
                () = tokio::time::sleep(ATTEMPT) => {}
            }
            if *freezes.borrow() == begun && begun.is_multiple_of(2) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    async fn attempt(&mut self, batch: &[Bytes]) -> io::Result<()> {
        match &self.destination {
            Destination::Http { port, host, path, method } => {
                let mut request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n[",
                    // The brackets, and the commas between.
                    batch.iter().map(Bytes::len).sum::<usize>() + 2 + batch.len().saturating_sub(1)
                )
                .into_bytes();
                join(&mut request, batch, b",");
                request.push(b']');
                let mut stream = connect(&self.environment, *port).await?;
                stream.write_all(&request).await?;
                answer(&mut stream).await
            }
            Destination::Tcp { port } => {
                let mut lines = Vec::new();
                join(&mut lines, batch, b"\n");
                lines.push(b'\n');
                let stream = match &mut self.stream {
                    Some(stream) => stream,
                    none => none.insert(connect(&self.environment, *port).await?),
                };
                stream.write_all(&lines).await
            }
        }
    }
}

fn join(text: &mut Vec<u8>, batch: &[Bytes], between: &[u8]) {
    for (number, event) in batch.iter().enumerate() {
        if number > 0 {
            text.extend_from_slice(between);
        }
        text.extend_from_slice(event);
    }
}

/// Connects to a port inside.
async fn connect(environment: &Weak<dyn Environment>, port: u16) -> io::Result<TcpStream> {
    let environment = environment.upgrade().ok_or(io::ErrorKind::NotConnected)?;
    let socket: OwnedFd = environment.socket().await.map_err(io::Error::other)?;
    // Its end must not wait for this.
    drop(environment);
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(([127, 0, 0, 1], port).into()).await
}

/// Reads an answer: its head, and as much of a body as it announces.
async fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, &mut bytes).await?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while bytes.len() < head + length.unwrap_or(0usize).min(ANSWER_BYTES) {
        if more(stream, &mut bytes).await.is_err() {
            break;
        }
    }
    match text.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        status => Err(io::Error::other(format!("the subscriber answered {}", status.unwrap_or_default()))),
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    if bytes.len() > 2 * ANSWER_BYTES {
        return Err(io::Error::other("the subscriber's answer is too long"));
    }
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
