//! What a connection may do, and what it may cost.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{BODY_LIMIT, Server, development, echo, head, signed_by, soon, unsigned, wait, written};
use freehold_gateway::limits::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A time limit that is soon over.
const SHORT: Duration = Duration::from_millis(50);
/// One that even a very busy machine keeps.
const LONGER: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_client_that_expects_to_go_on_is_told_to() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(&head(&echo("body"), "expect: 100-continue\r\ncontent-length: 4\r\n")).await;
    assert_eq!(client.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(client.line().await, "");
    client.send(b"body").await;
    assert!(client.answer().await.body.ends_with("body"));
    client.send(&written(&echo("again"))).await;
    assert!(client.answer().await.body.ends_with("again"));
}

#[tokio::test]
async fn a_client_that_expects_to_send_too_much_is_not() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let length = BODY_LIMIT + 1;
    client.send(&head(&echo(""), &format!("expect: 100-continue\r\ncontent-length: {length}\r\n"))).await;
    let answer = client.answer().await;
    answer.is_error(413, "RequestEntityTooLargeException");
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(client.end().await, "");
}

#[tokio::test]
async fn a_client_that_sends_too_much_still_reads_the_answer() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let body = vec![b'x'; 30 * 1024 * 1024];
    client.send(&head(&echo(""), &format!("content-length: {}\r\n", body.len()))).await;
    client.send(&body).await;
    client.answer().await.is_error(413, "RequestEntityTooLargeException");
    client.0.shutdown().await.expect("can be closed");
    assert_eq!(client.end().await, "");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let all: Vec<u8> = (0..50).flat_map(|number| written(&echo(format!("number {number}")))).collect();
    client.send(&all).await;
    for number in 0..50 {
        assert!(client.answer().await.body.ends_with(&format!("number {number}")));
    }
}

#[tokio::test]
async fn a_refusal_does_not_end_the_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for _ in 0..3 {
        let wrong = signed_by(unsigned("GET", "/never", "a small body"), &development(), "lambda");
        client.send(&written(&wrong)).await;
        client.answer().await.is_error(404, "UnknownOperationException");
        client.send(&written(&echo("right"))).await;
        assert!(client.answer().await.body.ends_with("right"));
    }
}

#[tokio::test]
async fn a_panic_is_one_requests_misfortune() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let panic = signed_by(unsigned("POST", "/panic", ""), &development(), "lambda");
    client.send(&written(&panic)).await;
    client.answer().await.is_error(500, "InternalFailure");
    client.send(&written(&echo("after"))).await;
    assert!(client.answer().await.body.ends_with("after"));
}

#[tokio::test]
async fn slow_headers_end_the_connection() {
    let server = Server::with(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let mut client = server.client().await;
    client.send(b"POST /echo/name HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(client.end().await, "");
    // An idle connection as well, before and after a request.
    let mut client = server.client().await;
    assert_eq!(client.end().await, "");
    // Here the request has to be in time.
    let server = Server::with(Limits { header_timeout: LONGER, ..Limits::default() }).await;
    let mut client = server.client().await;
    client.send(&written(&echo("in time"))).await;
    assert!(client.answer().await.body.ends_with("in time"));
    assert_eq!(client.end().await, "");
}

#[tokio::test]
async fn a_slow_body_is_not_waited_for() {
    for limits in [
        Limits { body_idle_timeout: SHORT, ..Limits::default() },
        Limits { body_timeout: SHORT, ..Limits::default() },
    ] {
        let server = Server::with(limits).await;
        let mut client = server.client().await;
        client.send(&head(&echo("body"), "content-length: 4\r\n")).await;
        client.send(b"bo").await;
        client.answer().await.is_error(408, "RequestTimeoutException");
        assert_eq!(server.fake.calls.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_no_service() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(&head(&echo("body"), "content-length: 4\r\n")).await;
    client.send(b"bo").await;
    client.0.shutdown().await.expect("can be closed");
    client.end().await;
    assert_eq!(server.ask(&echo("still there")).await.status, 200);
    assert_eq!(server.fake.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = Server::start().await;
    for (sent, status) in [
        ("\u{1}\u{2}\r\n\r\n".to_owned(), "400"),
        ("GET /\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(40_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)), "431"),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
    ] {
        let mut client = server.client().await;
        client.send(sent.as_bytes()).await;
        client.0.shutdown().await.expect("can be closed");
        let answer = client.end().await;
        let start: String = sent.chars().take(40).collect();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{start:?}: {answer}");
    }
}

#[tokio::test]
async fn memory_for_bodies_is_bounded() {
    let limits = Limits { body_memory_bytes: 2 * BODY_LIMIT - 1, ..Limits::default() };
    let server = Server::with(limits).await;
    let large = vec![b'x'; BODY_LIMIT];
    let mut first = server.client().await;
    let waiting = signed_by(unsigned("POST", "/wait", large.clone()), &development(), "lambda");
    first.send(&written(&waiting)).await;
    soon(server.fake.begun.acquire()).await.expect("open").forget();
    let answer = server.ask(&echo(large.clone())).await;
    answer.is_error(503, "ServiceUnavailableException");
    assert_eq!(answer.headers["retry-after"], "1");
    server.fake.go_on.add_permits(1);
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(server.ask(&echo(large)).await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = Server::with(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.client().await;
    first.send(&written(&wait())).await;
    soon(server.fake.begun.acquire()).await.expect("open").forget();
    let mut second = server.client().await;
    second.send(&written(&echo("second"))).await;
    server.fake.go_on.add_permits(1);
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(server.fake.calls.load(Ordering::Relaxed), 1, "the second waits though its request is there");
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_along() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(&written(&wait())).await;
    soon(server.fake.begun.acquire()).await.expect("open").forget();
    drop(client);
    soon(server.fake.dropped.acquire()).await.expect("open").forget();
    assert_eq!(server.ask(&echo("next")).await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_current_requests_finish() {
    let mut server = Server::start().await;
    let (mut idle, mut fresh, mut busy) =
        (server.client().await, server.client().await, server.client().await);
    idle.send(&written(&echo("before"))).await;
    assert_eq!(idle.answer().await.status, 200);
    busy.send(&written(&wait())).await;
    soon(server.fake.begun.acquire()).await.expect("open").forget();
    server.stop();
    assert_eq!((idle.end().await, fresh.end().await), (String::new(), String::new()));
    assert!(TcpStream::connect(server.address).await.is_err(), "no new connections");
    assert!(!server.task.is_finished());
    server.fake.go_on.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
    assert_eq!(busy.end().await, "");
    soon(&mut server.task).await.expect("ends well");
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_its_deadline() {
    let mut server = Server::with(Limits { drain_timeout: SHORT, ..Limits::default() }).await;
    let mut client = server.client().await;
    client.send(&written(&wait())).await;
    soon(server.fake.begun.acquire()).await.expect("open").forget();
    server.stop();
    soon(&mut server.task).await.expect("ends well");
    soon(server.fake.dropped.acquire()).await.expect("open").forget();
    assert_eq!(client.end().await, "");
}
