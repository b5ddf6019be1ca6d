//! A Runtime API that a test answers by hand: threads on a listener, each request handed to the test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long each event may take, in ms, as the context says.
const DEADLINE_MS: u128 = 30_000;

pub struct Api {
    port: u16,
    requests: Receiver<Request>,
    closing: Arc<AtomicBool>,
}

/// One request, and the way to answer it.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    answer: Sender<Vec<u8>>,
}

impl Api {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        let closing = Arc::new(AtomicBool::new(false));
        let close = Arc::clone(&closing);
        // Ends with the test process: a listener cannot be told to stop waiting.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, close) = (sender.clone(), Arc::clone(&close));
                std::thread::spawn(move || serve(stream, &sender, &close));
            }
        });
        Self { port, requests, closing }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn request(&self, patience: Duration) -> Option<Request> {
        self.requests.recv_timeout(patience).ok()
    }

    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl Request {
    pub fn give_event(self, id: &str, event: &[u8], headers: &[(&str, &str)]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:000000000000:function:hello\r\n\
             Lambda-Runtime-Trace-Id: Root=1-67f;Sampled=0\r\nContent-Type: application/json\r\n",
            now + DEADLINE_MS
        );
        let chunked = headers.iter().any(|(name, _)| *name == "Transfer-Encoding");
        if !chunked {
            head += &format!("Content-Length: {}\r\n", event.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut answer = format!("{head}\r\n").into_bytes();
        if chunked {
            for part in event.chunks(7) {
                answer.extend(format!("{:x}\r\n", part.len()).into_bytes());
                answer.extend(part);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n\r\n");
        } else {
            answer.extend(event);
        }
        let _ = self.answer.send(answer);
    }

    pub fn accept(self) {
        let body = r#"{"status":"OK"}"#;
        let head = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json";
        let _ =
            self.answer.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
    }
}

fn serve(stream: TcpStream, requests: &Sender<Request>, close: &AtomicBool) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((request, answer)) = read(&mut reader) {
        if requests.send(request).is_err() {
            return;
        }
        let Ok(answer) = answer.recv() else { return };
        if writer.write_all(&answer).is_err() || close.load(Ordering::SeqCst) {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<(Request, Receiver<Vec<u8>>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (answer, receiver) = channel();
    Some((Request { method, path, headers, body, answer }, receiver))
}
