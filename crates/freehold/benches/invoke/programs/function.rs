//! The hello function as a custom runtime: a static program of the standard library alone that speaks the Runtime API.
//! The benchmark compiles it with plain `rustc`.

use std::io::{Read, Write};
use std::net::TcpStream;

const API: &str = "/2018-06-01/runtime/invocation";
const ANSWER: &str = r#"{"statusCode": 200, "body": "Hello, Alice!"}"#;

fn main() {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").expect("the Runtime API's address");
    let mut stream = TcpStream::connect(&address).expect("the Runtime API");
    stream.set_nodelay(true).expect("an option of TCP");
    let mut buffer = vec![0; 64 * 1024];
    let next = format!("GET {API}/next HTTP/1.1\r\nHost: {address}\r\n\r\n");
    loop {
        let event = ask(&mut stream, next.as_bytes(), &mut buffer);
        let id = field(event, "\r\nlambda-runtime-aws-request-id: ").expect("a request id");
        let length = ANSWER.len();
        let answer = format!(
            "POST {API}/{id}/response HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{ANSWER}"
        );
        ask(&mut stream, answer.as_bytes(), &mut buffer);
    }
}

/// Sends a request and reads the whole answer; its head.
fn ask<'a>(stream: &mut TcpStream, request: &[u8], buffer: &'a mut [u8]) -> &'a str {
    stream.write_all(request).expect("the Runtime API reads");
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).expect("the Runtime API answers");
        assert!(read > 0, "the Runtime API has closed the connection");
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("heads are text");
        let length: usize =
            field(head, "\r\ncontent-length: ").expect("a length").parse().expect("a length is a number");
        if filled >= end + 4 + length {
            return std::str::from_utf8(&buffer[..end]).expect("heads are text");
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = head.split_once(name)?;
    Some(rest.split("\r\n").next().unwrap_or(rest))
}
