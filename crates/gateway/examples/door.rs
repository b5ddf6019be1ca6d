//! A gateway with an echo behind it, to try real clients by hand:
//!
//! ```text
//! cargo run -p freehold-gateway --example door 127.0.0.1:4566    serves until interrupted
//! cargo run -p freehold-gateway --example door                   what the front door costs
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use freehold_base::clock::SystemClock;
use freehold_base::id::AccountId;
use freehold_gateway::credentials::KnownKeys;
use freehold_gateway::limits::Limits;
use freehold_gateway::{Gateway, Options};
use freehold_wire::error::ApiError;
use freehold_wire::service::{Call, Definition, Operation, Protocol, Reply, Route, Service, Verb};
use freehold_wire::sigv4::{Credentials, sign};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

static OPERATIONS: [Operation; 1] = [Operation {
    name: "Invoke",
    route: Route::Rest(Verb::Post, "/2015-03-31/functions/{FunctionName}/invocations"),
    action: "lambda:InvokeFunction",
    resource: "function:{FunctionName}",
    body_limit: 6_291_456,
}];
static DEFINITION: Definition =
    Definition { scope: "lambda", protocol: Protocol::RestJson, operations: &OPERATIONS, known: &[] };

struct Echo;

#[async_trait]
impl Service for Echo {
    fn definition(&self) -> &'static Definition {
        &DEFINITION
    }

    async fn call(&self, call: Call) -> Result<Reply, ApiError> {
        Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: call.body })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let wanted = std::env::args().nth(1);
    let account = AccountId::new(AccountId::DEVELOPMENT);
    let gateway = Gateway::new(Options {
        services: vec![Arc::new(Echo)],
        credentials: Arc::new(KnownKeys::new().with_development_key(&account)),
        clock: Arc::new(SystemClock),
        account,
        version: env!("CARGO_PKG_VERSION"),
        limits: Limits::default(),
    })?;
    let listener = TcpListener::bind(wanted.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let address = listener.local_addr()?;
    if wanted.is_some() {
        println!("listening on http://{address}");
        gateway.serve(listener, std::future::pending()).await;
        return Ok(());
    }
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    let health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    measure("unsigned /health", TcpStream::connect(address).await?, &health, 20_000).await?;
    for (bytes, count) in [(18, 20_000), (6_000_000, 50)] {
        let request = invoke(bytes)?;
        measure(&format!("signed, {bytes} bytes"), TcpStream::connect(address).await?, &request, count)
            .await?;
    }
    Ok(())
}

fn invoke(bytes: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let path = "/2015-03-31/functions/hello-world/invocations";
    let mut request = Request::builder().method("POST").uri(path).header("host", "127.0.0.1:4566");
    request = request.header("content-type", "application/json").header("user-agent", "measure");
    let mut request = request.body(Bytes::from(vec![b' '; bytes]))?;
    sign(&mut request, &Credentials::new("test", "test"), "us-east-1", "lambda", SystemTime::now())?;
    let mut out = format!("POST {path} HTTP/1.1\r\ncontent-length: {bytes}\r\n").into_bytes();
    for (name, value) in request.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out.extend(request.body());
    Ok(out)
}

/// Sends one request after the other on one connection.
async fn measure(
    name: &str,
    mut stream: TcpStream,
    request: &[u8],
    count: usize,
) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let mut times: Vec<Duration> = Vec::with_capacity(count);
    let mut answer = vec![0; 8 * 1024 * 1024];
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(request).await?;
        let (mut read, mut whole) = (0, usize::MAX);
        while read < whole {
            read += stream.read(&mut answer[read..]).await?;
            if whole == usize::MAX {
                whole = length(&answer[..read]).ok_or("no answer")?;
            }
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("{name:24} p50 {:>10.1?}   p99 {:>10.1?}", times[count / 2], times[count * 99 / 100]);
    Ok(())
}

fn length(answer: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(2048)]).to_lowercase();
    let head = text.find("\r\n\r\n")? + 4;
    let body: usize = text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    text.starts_with("http/1.1 200").then_some(head + body)
}
