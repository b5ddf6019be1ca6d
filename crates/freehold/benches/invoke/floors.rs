//! The floors: what the machine itself takes, measured in the same run and by the same client.
//!
//! - [`Echo`]: a bare hyper server on loopback, in a process of its own, that gives back each body: the floor of requests
//! - [`forks`]: a bare fork, and a bare fork and exec: the floors of starts

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The word by which this program becomes the echo server.
pub(crate) const ECHO_SERVER: &str = "--echo-server";

/// An echo server's process, ended with the value.
pub(crate) struct Echo {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).arg(ECHO_SERVER).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse().context("the echo server names no address")?, child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It holds nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the echo server, with a runtime like the real one's, until it is killed.
pub(crate) fn serve_echo() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)));
        }
    })
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(Response::new(Full::new(body)))
}

/// A bare fork (of a Python that has imported nothing) and its end, `count` times.
pub(crate) fn forks(python: &std::path::Path, count: usize) -> Result<Vec<Duration>> {
    let program = "\
import posix, sys, time
for _ in range(int(sys.argv[1])):
    start = time.perf_counter_ns()
    child = posix.fork()
    if not child:
        posix._exit(0)
    posix.waitpid(child, 0)
    print(time.perf_counter_ns() - start)
";
    let output = Command::new(python).args(["-S", "-c", program, &count.to_string()]).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(Duration::from_nanos(line.parse()?))).collect()
}

/// A bare fork and exec of a program that does nothing, and its end, `count` times.
pub(crate) fn executions(count: usize) -> Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            let start = Instant::now();
            Command::new("/bin/true").status()?;
            Ok(start.elapsed())
        })
        .collect()
}
