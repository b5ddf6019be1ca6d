//! What an extension of a test speaks: AWS's Extensions API, and a listener for telemetry.

use std::sync::Arc;

use bytes::Bytes;
use freehold_sandbox::spec::Exit;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::fake::{Client, PATIENCE, Program, Reply};

/// A registered extension.
pub(crate) struct Registered {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) body: Value,
}

/// Registers, which must succeed.
pub(crate) async fn register(program: &Program, name: &str, events: &[&str]) -> Registered {
    let mut client = program.connect().await;
    let reply = client.register(name, events).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.headers["lambda-extension-identifier"].clone();
    let body = serde_json::from_slice(&reply.body).expect("JSON");
    Registered { client, id, body }
}

impl Registered {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Value {
        let reply = self.try_next().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.headers.contains_key("lambda-extension-event-identifier"));
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    pub(crate) async fn try_next(&mut self) -> Reply {
        let head = format!(
            "GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: {}\r\nHost: x\r\n\r\n",
            self.id
        );
        self.client.raw(head.as_bytes()).await
    }

    pub(crate) async fn subscribe(&mut self, path: &str, request: Value) -> Reply {
        let id = self.id.clone();
        self.client.put(path, &[("Lambda-Extension-Identifier", &id)], &request).await
    }

    /// Telemetry of these types, to this port, as soon as there is any.
    pub(crate) async fn listen(&mut self, types: &[&str], destination: Value) {
        let request = json!({
            "schemaVersion": "2022-12-13", "types": types, "destination": destination,
            "buffering": {"timeoutMs": 25},
        });
        let reply = self.subscribe("/2022-07-01/telemetry", request).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"\"OK\""[..]), "{reply:?}");
    }
}

impl Client {
    pub(crate) async fn raw(&mut self, request: &[u8]) -> Reply {
        self.stream.write_all(request).await.expect("the Runtime API reads");
        self.reply().await.expect("the Runtime API replies")
    }

    pub(crate) async fn register(&mut self, name: &str, events: &[&str]) -> Reply {
        let headers = [("Lambda-Extension-Name", name), ("Lambda-Extension-Accept-Feature", "accountId")];
        self.request("POST", "/2020-01-01/extension/register", &headers, &json!({"events": events})).await
    }

    pub(crate) async fn put(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.request("PUT", path, headers, body).await
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Reply {
        let body = body.to_string();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        self.raw(format!("{head}{body}").as_bytes()).await
    }
}

/// An extension that follows events and says what it sees, until the end.
pub(crate) async fn follow(name: String, mut program: Program) -> Exit {
    let mut extension = register(&program, &name, &["INVOKE", "SHUTDOWN"]).await;
    loop {
        let event = extension.next().await;
        let kind = event["eventType"].as_str().expect("an event has a type").to_owned();
        program.print(&format!("{name} sees {kind}\n"));
        if kind == "SHUTDOWN" {
            return Exit::Status(0);
        }
    }
}

/// Where telemetry arrives.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    events: Arc<watch::Sender<Vec<Value>>>,
}

impl Listener {
    /// Takes requests as HTTP, or lines as they come.
    pub(crate) async fn start(http: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let events = Arc::new(watch::Sender::new(Vec::new()));
        let tell = Arc::clone(&events);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tell = Arc::clone(&tell);
                tokio::spawn(async move {
                    if http { requests(stream, &tell).await } else { lines(stream, &tell).await }
                });
            }
        });
        Self { port, events }
    }

    pub(crate) fn http(&self) -> Value {
        json!({"protocol": "HTTP", "URI": format!("http://sandbox.localdomain:{}/telemetry", self.port)})
    }

    pub(crate) fn tcp(&self) -> Value {
        json!({"protocol": "TCP", "port": self.port})
    }

    /// Waits until an event has come, and gives all so far.
    pub(crate) async fn seen(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = self.events.subscribe();
        let wait = events.wait_for(|events| events.iter().any(&wanted));
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let so_far = self.events.borrow().clone();
        waited.unwrap_or_else(|_| panic!("it does not come: {so_far:?}")).expect("the listener lives").clone()
    }

    /// The types of the events so far, in order.
    pub(crate) fn types(events: &[Value]) -> Vec<String> {
        events.iter().map(|event| event["type"].as_str().expect("an event has a type").to_owned()).collect()
    }
}

async fn requests(mut stream: TcpStream, tell: &watch::Sender<Vec<Value>>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4) {
            let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
            assert!(text.starts_with("POST /telemetry HTTP/1.1\r\n"), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            let length: usize = length.expect("a length");
            if bytes.len() >= head + length {
                let events: Vec<Value> = serde_json::from_slice(&bytes[head..]).expect("an array of events");
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.expect("it reads");
                tell.send_modify(|all| all.extend(events));
                return;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

async fn lines(mut stream: TcpStream, tell: &watch::Sender<Vec<Value>>) {
    let mut bytes = Bytes::new();
    loop {
        let mut more = bytes.to_vec();
        if stream.read_buf(&mut more).await.unwrap_or(0) == 0 {
            return;
        }
        let end = more.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let events = more[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events: Vec<Value> =
            events.map(|line| serde_json::from_slice(line).expect("an event a line")).collect();
        tell.send_modify(|all| all.extend(events));
        bytes = more[end..].to_vec().into();
    }
}
