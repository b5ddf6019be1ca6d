//! The load: raw HTTP/1.1 on kept-alive connections, with requests that are signed once and sent many times.
//!
//! The generator shares the machine's two cores with what it measures. So a request is one write, an answer usually one
//! read, nothing is parsed but the status, the length and whether the function failed, and nothing is allocated. A
//! signature is good for a quarter of an hour, which is longer than any part of this benchmark takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_wire::sigv4::{self, Credentials};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How much is read at once, in bytes: more than any answer here.
const READ_BYTES: usize = 16 * 1024;

/// A whole request as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Prepared(Bytes);

impl Prepared {
    /// An invocation of `function`, signed with the development key.
    pub(crate) fn invoke(address: SocketAddr, function: &str, payload: &str) -> Result<Self> {
        Self::signed(address, "POST", &format!("/2015-03-31/functions/{function}/invocations"), payload)
    }

    /// Any request for Lambda, signed with the development key.
    pub(crate) fn signed(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Self> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .body(Bytes::copy_from_slice(body.as_bytes()))?;
        let credentials = Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY);
        sigv4::sign(&mut request, &credentials, "us-east-1", "lambda", SystemTime::now())?;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in request.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        Ok(Self(bytes.into()))
    }
}

/// One kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; READ_BYTES] })
    }

    /// Sends a request and reads its answer, which must be a success. The answer's body.
    pub(crate) async fn ask(&mut self, request: &Prepared) -> Result<&[u8]> {
        self.stream.write_all(&request.0).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection, or its answer is too large");
            filled += read;
            let Some(head) = find(&self.buffer[..filled], b"\r\n\r\n") else { continue };
            let whole = head + 4 + content_length(&self.buffer[..head])?;
            if filled >= whole {
                ensure!(filled == whole, "more than one answer");
                self.check(head, whole)?;
                return Ok(&self.buffer[head + 4..whole]);
            }
        }
    }

    /// Sends requests one after the other; how long the first took.
    async fn ask_all(&mut self, requests: &[Prepared]) -> Result<Duration> {
        let start = Instant::now();
        let mut first = None;
        for request in requests {
            self.ask(request).await?;
            first.get_or_insert_with(|| start.elapsed());
        }
        first.context("nothing to ask")
    }

    fn check(&self, head: usize, whole: usize) -> Result<()> {
        let failed = find(&self.buffer[..head], b"x-amz-function-error").is_some();
        let successful = self.buffer.get(9) == Some(&b'2');
        if !successful || failed {
            bail!("refused: {}", String::from_utf8_lossy(&self.buffer[..whole]));
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    if head.get(9..12) == Some(b"204") {
        return Ok(0);
    }
    let start = find(head, NAME).context("an answer without a length")? + NAME.len();
    let digits = head[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// One request after the other on one connection: how long each took.
pub(crate) async fn in_turn(
    connection: &mut Connection,
    request: &Prepared,
    count: usize,
) -> Result<Vec<Duration>> {
    let mut series = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        connection.ask(request).await?;
        series.push(start.elapsed());
    }
    Ok(series)
}

/// What many connections did together.
pub(crate) struct Together {
    pub(crate) series: Vec<Duration>,
    pub(crate) took: Duration,
    pub(crate) errors: Vec<String>,
}

impl Together {
    pub(crate) fn per_second(&self) -> f64 {
        self.series.len() as f64 / self.took.as_secs_f64()
    }

    /// Itself, if nothing went wrong.
    pub(crate) fn sound(self) -> Result<Self> {
        match self.errors.first() {
            Some(error) => bail!("{} of the requests failed, the first: {error}", self.errors.len()),
            None => Ok(self),
        }
    }
}

/// What many connections send.
pub(crate) enum Requests {
    /// Each of these sequences once, whichever connection is free next; the first request of each is timed.
    Each(Vec<Vec<Prepared>>),
    /// So many in all; a connection sends the same one each time, its own of these.
    Repeated(Vec<Prepared>, usize),
}

impl Requests {
    fn count(&self) -> usize {
        match self {
            Self::Each(requests) => requests.len(),
            Self::Repeated(_, count) => *count,
        }
    }

    fn get(&self, connection: usize, number: usize) -> &[Prepared] {
        match self {
            Self::Each(requests) => &requests[number],
            Self::Repeated(requests, _) => std::slice::from_ref(&requests[connection % requests.len()]),
        }
    }
}

/// What one connection did.
#[derive(Default)]
struct Done {
    series: Vec<Duration>,
    errors: Vec<String>,
}

/// Sends all requests over many connections, each of which sends the next one when it has its answer.
pub(crate) async fn together(
    address: SocketAddr,
    connections: usize,
    requests: Requests,
) -> Result<Together> {
    let count = requests.count();
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, mut connection) in open.into_iter().enumerate() {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tasks.spawn(async move {
            let mut done = Done::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return done;
                }
                match connection.ask_all(requests.get(index, number)).await {
                    Ok(took) => done.series.push(took),
                    Err(error) => {
                        done.errors.push(error.to_string());
                        let Ok(another) = Connection::open(address).await else { return done };
                        connection = another;
                    }
                }
            }
        });
    }
    let mut all = Together { series: Vec::with_capacity(count), took: Duration::ZERO, errors: Vec::new() };
    while let Some(done) = tasks.join_next().await {
        let Done { series, errors } = done?;
        all.series.extend(series);
        all.errors.extend(errors);
    }
    all.took = start.elapsed();
    Ok(all)
}
