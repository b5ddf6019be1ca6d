//! A sandbox without isolation, a runtime in a few lines, and a bench to put them on.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{PipeWriter, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_base::clock::SystemClock;
use freehold_base::id::RequestId;
use freehold_executor::event::{
    Event, FunctionVersion, InvokeError, LogBatch, LogSink, Outcome, PlatformEndpoint, RoleIdentity,
};
use freehold_executor::host::ReadMemory;
use freehold_executor::logging::Logging;
use freehold_executor::{Executor, Limits, Options};
use freehold_ledger::Ledger;
use freehold_runtimes::catalog::{Catalog, Options as CatalogOptions};
use freehold_sandbox::image::Image;
use freehold_sandbox::spec::{
    Channels, CompanionExits, Environment, Exit, Network, Sandbox, SandboxError, Spec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a program gets.
pub(crate) struct Program {
    pub(crate) number: usize,
    pub(crate) api: SocketAddr,
    pub(crate) spec: Spec,
    /// Told of SIGTERM.
    pub(crate) terminated: Arc<Notify>,
    output: PipeWriter,
}

impl Program {
    pub(crate) fn print(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).expect("the pipe is read");
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.api).await.expect("the Runtime API listens"),
            buffer: Vec::new(),
        }
    }
}

type Running = Pin<Box<dyn Future<Output = Exit> + Send>>;
type Code = Arc<dyn Fn(Program) -> Running + Send + Sync>;
pub(crate) type Extension = Arc<dyn Fn(String, Program) -> Running + Send + Sync>;

/// What the sandbox was asked to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    /// SIGTERM.
    Terminate(usize),
    Stop(usize),
}

pub(crate) struct FakeSandbox {
    code: Code,
    /// What external extensions do: each is told which one it is.
    pub(crate) extension: Option<Extension>,
    pub(crate) deeds: Arc<watch::Sender<Vec<Deed>>>,
    /// Why no environment can be made.
    pub(crate) fails: Option<fn(&Spec) -> SandboxError>,
    pub(crate) panics_on: Option<usize>,
    count: AtomicUsize,
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn has_images(&self) -> bool {
        false
    }

    async fn start(&self, spec: Spec) -> Result<(Arc<dyn Environment>, Channels), SandboxError> {
        if let Some(fails) = self.fails {
            return Err(fails(&spec));
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.deeds.send_modify(|deeds| deeds.push(Deed::Start(number)));
        let listeners: Vec<_> = spec
            .listeners
            .iter()
            .map(|_| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
                listener.set_nonblocking(true).expect("a socket");
                listener
            })
            .collect();
        let api = listeners[0].local_addr().expect("bound");
        let (read, write) = std::io::pipe().expect("a pipe");
        let (ended, exit) = watch::channel(State::default());
        let ended = Arc::new(ended);
        let terminated = Arc::new(Notify::new());
        let program = {
            let (spec, terminated) = (spec.clone(), Arc::clone(&terminated));
            Program { number, api, spec, terminated, output: write }
        };
        let mut environment = FakeEnvironment {
            number,
            deeds: Arc::clone(&self.deeds),
            tasks: Mutex::default(),
            held: Mutex::new(None),
            ended,
            exit,
            terminated,
            panics: self.panics_on == Some(number),
        };
        let running = (self.code)(program);
        let companions_output = match spec.companions.programs.is_empty() {
            true => {
                environment.run(running);
                None
            }
            false => {
                environment.held = Mutex::new(Some(running));
                Some(self.start_extensions(&environment, number, api, &spec))
            }
        };
        let listeners = listeners.into_iter().map(OwnedFd::from).collect();
        Ok((Arc::new(environment), Channels { listeners, output: read.into(), companions_output }))
    }
}

impl FakeSandbox {
    fn start_extensions(
        &self,
        environment: &FakeEnvironment,
        number: usize,
        api: SocketAddr,
        spec: &Spec,
    ) -> OwnedFd {
        let (read, write) = std::io::pipe().expect("a pipe");
        let code = self.extension.as_ref().expect("a test with extensions says what they do");
        for (index, path) in spec.companions.programs.iter().enumerate() {
            let output = write.try_clone().expect("a pipe");
            let (spec, terminated) = (spec.clone(), Arc::new(Notify::new()));
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let running = code(name, Program { number, api, spec, terminated, output });
            let tell = Arc::clone(&environment.ended);
            let task = tokio::spawn(async move {
                let exit = running.await;
                tell.send_modify(|state| state.companions[index] = Some(exit));
            });
            environment.tasks.lock().expect("no panic holds it").push(task);
        }
        read.into()
    }
}

#[derive(Clone, Copy, Default)]
struct State {
    program: Option<Exit>,
    companions: CompanionExits,
    removed: bool,
}

struct FakeEnvironment {
    number: usize,
    deeds: Arc<watch::Sender<Vec<Deed>>>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// The program, which waits for its extensions.
    held: Mutex<Option<Running>>,
    ended: Arc<watch::Sender<State>>,
    exit: watch::Receiver<State>,
    terminated: Arc<Notify>,
    panics: bool,
}

impl FakeEnvironment {
    fn run(&self, running: Running) {
        let tell = Arc::clone(&self.ended);
        let task = tokio::spawn(async move {
            let exit = running.await;
            tell.send_modify(|state| state.program = Some(exit));
        });
        self.tasks.lock().expect("no panic holds it").push(task);
    }

    fn kill(&self) {
        if self.exit.borrow().removed {
            return;
        }
        self.tasks.lock().expect("no panic holds it").drain(..).for_each(|task| task.abort());
        self.ended.send_modify(|state| {
            state.program.get_or_insert(Exit::Killed);
            state.removed = true;
        });
        self.deeds.send_modify(|deeds| deeds.push(Deed::Stop(self.number)));
    }
}

impl Drop for FakeEnvironment {
    fn drop(&mut self) {
        self.kill();
    }
}

#[async_trait]
impl Environment for FakeEnvironment {
    async fn freeze(&self) -> Result<(), SandboxError> {
        self.deeds.send_modify(|deeds| deeds.push(Deed::Freeze(self.number)));
        Ok(())
    }

    async fn thaw(&self) -> Result<(), SandboxError> {
        self.deeds.send_modify(|deeds| deeds.push(Deed::Thaw(self.number)));
        Ok(())
    }

    async fn capture(&self) -> Result<Arc<Image>, SandboxError> {
        Err(SandboxError::Unsupported("a fake has no images".to_owned()))
    }

    fn memory_peak_bytes(&self) -> u64 {
        assert!(!self.panics, "a panic in one environment's task");
        30 * 1024 * 1024 - 5
    }

    async fn stop(&self, grace: Duration) {
        assert!(grace.is_zero(), "the executor gives programs their time itself");
        self.kill();
    }

    async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(|state| state.program.is_some()).await;
        ended.expect("the environment keeps the sender").program.expect("waited for")
    }

    async fn proceed(&self) -> Result<(), SandboxError> {
        if let Some(running) = self.held.lock().expect("no panic holds it").take() {
            self.run(running);
        }
        Ok(())
    }

    async fn companions_ended(&self, known: usize) -> CompanionExits {
        let mut exit = self.exit.clone();
        let news = |state: &State| state.companions.iter().flatten().count() > known || state.removed;
        exit.wait_for(news).await.expect("the environment keeps the sender").companions
    }

    fn terminate(&self) {
        self.deeds.send_modify(|deeds| deeds.push(Deed::Terminate(self.number)));
        self.terminated.notify_one();
    }

    async fn socket(&self) -> Result<OwnedFd, SandboxError> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket"))
    }
}

/// A reply of the Runtime API.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn id(&self) -> String {
        self.headers["lambda-runtime-aws-request-id"].clone()
    }

    pub(crate) fn error_type(&self) -> String {
        let error: serde_json::Value = serde_json::from_slice(&self.body).expect("an error is JSON");
        error["errorType"].as_str().expect("an error has a type").to_owned()
    }
}

/// A plain HTTP/1.1 client, so that tests can do what a good one would not.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, head: &str, body: &[u8]) -> Reply {
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await.expect("the Runtime API reads");
        self.reply().await.expect("the Runtime API replies")
    }

    pub(crate) async fn next(&mut self) -> Reply {
        let reply = self.send("GET /2018-06-01/runtime/invocation/next", b"").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    }

    pub(crate) async fn answer(&mut self, id: &str, body: &[u8]) -> Reply {
        self.send(&format!("POST /2018-06-01/runtime/invocation/{id}/response"), body).await
    }

    pub(crate) async fn error(&mut self, id: &str, body: &[u8]) -> Reply {
        self.send(&format!("POST /2018-06-01/runtime/invocation/{id}/error"), body).await
    }

    pub(crate) async fn init_error(&mut self, error_type: &str, body: &str) -> Reply {
        let head = format!(
            "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\n\
             Lambda-Runtime-Function-Error-Type: {error_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await.expect("the Runtime API reads");
        self.reply().await.expect("the Runtime API replies")
    }

    /// The next reply, or nothing if the connection has ended.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.parse() {
                return Some(reply);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn parse(&mut self) -> Option<Reply> {
        let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.buffer[..end].to_vec()).expect("headers are text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
        let length: usize =
            headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        if self.buffer.len() < end + length {
            return None;
        }
        let body = Bytes::copy_from_slice(&self.buffer[end..end + length]);
        self.buffer.drain(..end + length);
        Some(Reply { status, headers, body })
    }
}

/// A good runtime: answers every event with what `handler` makes of it.
pub(crate) async fn echo(program: Program) -> Exit {
    let mut client = program.connect().await;
    loop {
        let event = client.next().await;
        let reply = client.answer(&event.id(), &event.body).await;
        assert_eq!((reply.status, &reply.body[..]), (202, &b"{\"status\":\"OK\"}\n"[..]));
    }
}

#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<(String, String)>>);

impl Lines {
    pub(crate) fn text(&self) -> Vec<String> {
        self.0.lock().expect("no panic holds it").iter().map(|(_, line)| line.clone()).collect()
    }
}

impl LogSink for Lines {
    fn write(&self, batch: LogBatch) {
        let line =
            |(_, line): (u64, Bytes)| (batch.stream.to_string(), String::from_utf8_lossy(&line).into_owned());
        self.0.lock().expect("no panic holds it").extend(batch.lines.into_iter().map(line));
    }
}

#[derive(Default)]
pub(crate) struct Endpoint(pub(crate) Mutex<Vec<RoleIdentity>>);

impl PlatformEndpoint for Endpoint {
    fn serve(&self, _: tokio::net::TcpListener, identity: RoleIdentity, _: watch::Receiver<bool>) {
        self.0.lock().expect("no panic holds it").push(identity);
    }
}

/// An executor with everything around it.
pub(crate) struct Bench {
    pub(crate) executor: Executor,
    pub(crate) lines: Arc<Lines>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) version: Arc<FunctionVersion>,
    deeds: watch::Receiver<Vec<Deed>>,
    _code: tempfile::TempDir,
}

pub(crate) struct Setup {
    pub(crate) sandbox: FakeSandbox,
    pub(crate) limits: Limits,
    pub(crate) timeout: Duration,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) bootstrap: bool,
    pub(crate) logging: Logging,
    pub(crate) memory: ReadMemory,
    /// External extensions, by name.
    pub(crate) extensions: Vec<&'static str>,
}

pub(crate) fn setup<F>(code: impl Fn(Program) -> F + Send + Sync + 'static) -> Setup
where
    F: Future<Output = Exit> + Send + 'static,
{
    let code: Code = Arc::new(move |program| Box::pin(code(program)));
    let deeds = Arc::new(watch::Sender::new(Vec::new()));
    let sandbox = FakeSandbox {
        code,
        extension: None,
        deeds,
        fails: None,
        panics_on: None,
        count: AtomicUsize::new(0),
    };
    // Tests share the machine: unless a test is about that, a slow runtime is no reason for another environment.
    let limits = Limits { settle_grace: PATIENCE, ..Limits::default() };
    let logging = Logging::default();
    Setup {
        sandbox,
        limits,
        timeout: PATIENCE,
        ledger: None,
        bootstrap: true,
        logging,
        memory: Arc::new(|| None),
        extensions: Vec::new(),
    }
}

impl Setup {
    /// Gives it external extensions, all of which do the same.
    pub(crate) fn with_extensions<F>(
        mut self,
        names: &[&'static str],
        code: impl Fn(String, Program) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Exit> + Send + 'static,
    {
        self.extensions = names.to_vec();
        self.sandbox.extension = Some(Arc::new(move |name, program| Box::pin(code(name, program))));
        self
    }

    pub(crate) fn bench(self) -> Bench {
        let code = tempfile::tempdir().expect("a folder");
        if self.bootstrap {
            let path = code.path().join("bootstrap");
            std::fs::write(&path, "#!/bin/sh\n").expect("a file");
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, executable).expect("permissions");
        }
        let layers = (!self.extensions.is_empty()).then(|| {
            let folder = code.path().join("layers");
            std::fs::create_dir_all(folder.join("extensions/no-extension")).expect("a folder");
            for name in &self.extensions {
                std::fs::write(folder.join("extensions").join(name), "#!/bin/sh\n").expect("a file");
            }
            folder
        });
        let version = Arc::new(FunctionVersion {
            key: "hello-1".to_owned(),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello".to_owned(),
            name: "hello".to_owned(),
            version: "$LATEST".to_owned(),
            runtime: "provided.al2023".to_owned(),
            handler: "handler".to_owned(),
            code: code.path().to_owned(),
            layers,
            variables: BTreeMap::new(),
            memory_mib: 128,
            timeout: self.timeout,
            ephemeral_mib: 512,
            role_arn: "arn:aws:iam::123456789012:role/role".to_owned(),
            region: "us-east-1".to_owned(),
            log_group: "/aws/lambda/hello".to_owned(),
            logging: self.logging,
        });
        let (lines, endpoint) = (Arc::new(Lines::default()), Arc::new(Endpoint::default()));
        let deeds = self.sandbox.deeds.subscribe();
        let executor = Executor::start(Options {
            sandbox: Arc::new(self.sandbox),
            catalog: Arc::new(Catalog::new(CatalogOptions::default())),
            ledger: self.ledger,
            logs: Arc::clone(&lines) as Arc<dyn LogSink>,
            endpoint: Arc::clone(&endpoint) as Arc<dyn PlatformEndpoint>,
            clock: Arc::new(SystemClock),
            network: Network::Isolated,
            limits: self.limits,
            memory: self.memory,
        });
        Bench { executor, lines, endpoint, version, deeds, _code: code }
    }
}

pub(crate) fn event(payload: &'static str) -> Event {
    Event {
        request_id: RequestId::random(),
        payload: Bytes::from_static(payload.as_bytes()),
        invoked_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello:PROD".to_owned(),
        client_context: None,
        trace_header: None,
        tenant_id: None,
        wants_tail: true,
    }
}

impl Bench {
    pub(crate) async fn invoke(&self, event: Event) -> Result<Outcome, InvokeError> {
        let invocation = self.executor.invoke(Arc::clone(&self.version), event);
        tokio::time::timeout(PATIENCE, invocation).await.expect("an event ends")
    }

    /// Another configuration of the same function.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut FunctionVersion)) -> Arc<FunctionVersion> {
        let mut version = (*self.version).clone();
        change(&mut version);
        Arc::new(version)
    }

    /// Waits until the sandbox has done something.
    pub(crate) async fn done(&mut self, deed: Deed) {
        let done = self.deeds.wait_for(|deeds| deeds.contains(&deed));
        tokio::time::timeout(PATIENCE, done).await.expect("in time").expect("the sandbox lives");
    }

    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.deeds.borrow().clone()
    }

    pub(crate) fn starts(&self) -> usize {
        self.deeds().iter().filter(|deed| matches!(deed, Deed::Start(_))).count()
    }
}

/// Waits for a condition that nothing announces.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it becomes true in time");
}
