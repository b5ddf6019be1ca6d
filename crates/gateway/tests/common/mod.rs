//! A gateway on a free port with two fake services, and a client that writes and reads HTTP by hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use freehold_base::clock::ManualClock;
use freehold_base::id::AccountId;
use freehold_gateway::credentials::{Identity, KnownKeys};
use freehold_gateway::limits::Limits;
use freehold_gateway::{Gateway, Options};
use freehold_wire::error::ApiError;
use freehold_wire::service::{
    Call, Definition, KnownOperation, Operation, Protocol, Reply, Route, Service, Verb,
};
use freehold_wire::sigv4::{Credentials, sign};
use http::{HeaderMap, Request, StatusCode, Uri};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest body of the fake operations, in bytes.
pub const BODY_LIMIT: usize = 200_000;
pub const ACCOUNT: &str = "000000000000";
pub const REGION: &str = "eu-central-1";

const fn operation(name: &'static str, route: Route) -> Operation {
    Operation { name, route, action: "lambda:Fake", resource: "function:{Name}", body_limit: BODY_LIMIT }
}

static OPERATIONS: [Operation; 3] = [
    operation("Echo", Route::Rest(Verb::Post, "/echo/{Name}")),
    operation("Panic", Route::Rest(Verb::Post, "/panic")),
    operation("Wait", Route::Rest(Verb::Post, "/wait")),
];
static KNOWN: [KnownOperation; 1] =
    [KnownOperation { name: "Later", route: Route::Rest(Verb::Get, "/later/{Name}") }];
static LAMBDA: Definition =
    Definition { scope: "lambda", protocol: Protocol::RestJson, operations: &OPERATIONS, known: &KNOWN };

static TARGETS: [Operation; 1] = [operation("Put", Route::Target("Logs_20140328.Put"))];
static LOGS: Definition =
    Definition { scope: "logs", protocol: Protocol::Json11, operations: &TARGETS, known: &[] };

/// Answers what it was asked, panics, or waits.
pub struct Fake {
    definition: &'static Definition,
    pub calls: AtomicUsize,
    /// One permit for each `Wait` that has begun.
    pub begun: Semaphore,
    /// One permit lets one `Wait` end.
    pub go_on: Semaphore,
    /// One permit for each `Wait` whose future was dropped before its end.
    pub dropped: Semaphore,
}

struct Abandoned<'a>(&'a Semaphore);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[async_trait]
impl Service for Fake {
    fn definition(&self) -> &'static Definition {
        self.definition
    }

    async fn call(&self, call: Call) -> Result<Reply, ApiError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match call.operation.name {
            "Panic" => panic!("as asked"),
            "Wait" => {
                let abandoned = Abandoned(&self.dropped);
                self.begun.add_permits(1);
                self.go_on.acquire().await.expect("open").forget();
                std::mem::forget(abandoned);
            }
            _ => {}
        }
        let text = format!(
            "{} {:?} {:?} {} {} {}",
            call.operation.name,
            call.labels,
            call.query,
            call.principal.arn,
            call.region,
            String::from_utf8_lossy(&call.body),
        );
        Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from(text) })
    }
}

fn fake(definition: &'static Definition) -> Arc<Fake> {
    let none = || Semaphore::new(0);
    Arc::new(Fake { definition, calls: AtomicUsize::new(0), begun: none(), go_on: none(), dropped: none() })
}

pub struct Server {
    pub address: SocketAddr,
    pub fake: Arc<Fake>,
    pub clock: Arc<ManualClock>,
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

pub fn account() -> AccountId {
    AccountId::new(ACCOUNT)
}

/// The role of an environment.
pub fn role() -> Identity {
    let credentials = Credentials {
        session_token: Some("token".to_owned()),
        ..Credentials::new("ASIAROLE", "role's secret")
    };
    Identity::assumed_role(credentials, &account(), "arn:aws:iam::123456789012:role/exec", "hello")
}

pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        Self::open(limits, None).await
    }

    /// The listener of an environment with [`role`].
    pub async fn inside() -> Self {
        Self::open(Limits::default(), Some(role())).await
    }

    async fn open(limits: Limits, inside: Option<Identity>) -> Self {
        let fake = fake_services();
        let clock = Arc::new(ManualClock::new(now()));
        let gateway = Gateway::new(Options {
            services: vec![Arc::clone(&fake.0) as Arc<dyn Service>, fake.1],
            credentials: Arc::new(KnownKeys::new().with_development_key(&account()).with(role())),
            clock: clock.clone(),
            account: account(),
            version: "1.2.3",
            limits,
        });
        let gateway = gateway.expect("the definitions are right");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move {
            match inside {
                None => gateway.serve(listener, stopped).await,
                Some(identity) => gateway.serve_as(listener, identity, stopped).await,
            }
        });
        Self { address, fake: fake.0, clock, stop: Some(stop), task }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }

    pub async fn client(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(self.address).await.expect("a connection")))
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: &Request<Bytes>) -> Answer {
        let mut client = self.client().await;
        client.send(&written(request)).await;
        client.answer().await
    }
}

fn fake_services() -> (Arc<Fake>, Arc<dyn Service>) {
    (fake(&LAMBDA), fake(&LOGS))
}

pub struct Client(pub BufReader<TcpStream>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    /// The error's code, wherever the protocol has it.
    pub fn code(&self) -> &str {
        if let Some(code) = self.headers.get("x-amzn-errortype") {
            return code;
        }
        let (_, rest) = self.body.split_once("<Code>").unwrap_or_default();
        rest.split_once("</Code>").unwrap_or_default().0
    }

    pub fn is_error(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
        assert!(self.headers.contains_key("x-amzn-requestid"));
        self
    }

    pub fn says(&self, text: &str) -> &Self {
        assert!(self.body.contains(text), "{} does not say {text}", self.body);
        self
    }
}

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("this hangs")
}

impl Client {
    pub async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.expect("the server reads");
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.expect("the server writes");
        line.trim_end().to_owned()
    }

    /// One answer, its body by `Content-Length`.
    pub async fn answer(&mut self) -> Answer {
        let line = self.line().await;
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in '{line}'"));
        let status = status.parse().expect("a status");
        let mut headers = HashMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        soon(self.0.read_exact(&mut body)).await.expect("the whole body");
        Answer { status, headers, body: String::from_utf8(body).expect("UTF-8") }
    }

    /// Waits for the server to close, and gives what came before.
    pub async fn end(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = soon(self.0.read_to_end(&mut rest)).await;
        String::from_utf8(rest).expect("UTF-8")
    }
}

pub fn unsigned(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    let uri = Uri::try_from(format!("http://freehold.test{path}")).expect("a path");
    let request = Request::builder().method(method).uri(uri).header("host", "freehold.test");
    request.body(body.into()).expect("a request")
}

pub fn development() -> Credentials {
    Credentials::new("test", "test")
}

pub fn signed_by(mut request: Request<Bytes>, credentials: &Credentials, service: &str) -> Request<Bytes> {
    sign(&mut request, credentials, REGION, service, now()).expect("can be signed");
    request
}

/// A request that the fake service answers with what it was asked.
pub fn echo(body: impl Into<Bytes>) -> Request<Bytes> {
    signed_by(unsigned("POST", "/echo/name", body), &development(), "lambda")
}

pub fn wait() -> Request<Bytes> {
    signed_by(unsigned("POST", "/wait", ""), &development(), "lambda")
}

/// The head of a request as bytes, with these headers on top.
pub fn head(request: &Request<Bytes>, added: &str) -> Vec<u8> {
    let target = request.uri().path_and_query().expect("a path");
    let mut out = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        out.extend_from_slice(format!("{name}: ").as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(added.as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}

/// A whole request as bytes.
pub fn written(request: &Request<Bytes>) -> Vec<u8> {
    let mut out = head(request, &format!("content-length: {}\r\n", request.body().len()));
    out.extend_from_slice(request.body());
    out
}

/// The same, its body in one chunk.
pub fn chunked(request: &Request<Bytes>) -> Vec<u8> {
    let mut out = head(request, "transfer-encoding: chunked\r\n");
    out.extend_from_slice(format!("{:x}\r\n", request.body().len()).as_bytes());
    out.extend_from_slice(request.body());
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}
