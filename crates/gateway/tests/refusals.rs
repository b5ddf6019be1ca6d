//! Who is let in, and what everybody else is told.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::{BODY_LIMIT, REGION, Server, chunked, development, echo, now, role, signed_by, unsigned};
use freehold_wire::sigv4::{Credentials, presign, sign};
use http::{HeaderValue, Request};

const FIFTEEN_MINUTES: Duration = Duration::from_secs(15 * 60);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_signed_request_is_answered() {
    let server = Server::start().await;
    let request = unsigned("POST", "/echo/a%2Fb?x=1&y=%C3%A9+z", "hello");
    let answer = server.ask(&signed_by(request, &development(), "lambda")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    assert_eq!(
        answer.body,
        r#"Echo {"Name": "a/b"} [("x", "1"), ("y", "é z")] arn:aws:iam::000000000000:root eu-central-1 hello"#
    );
}

#[tokio::test]
async fn without_a_signature_nothing_is_done() {
    let server = Server::start().await;
    let answer = server.ask(&unsigned("POST", "/echo/name", "")).await;
    answer
        .is_error(403, "MissingAuthenticationTokenException")
        .says(r#"{"message":"Missing Authentication Token"}"#);
    let mut form = unsigned("POST", "/", "Action=GetCallerIdentity");
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    form.headers_mut().insert("content-type", content_type);
    server.ask(&form).await.is_error(403, "MissingAuthenticationToken").says("<ErrorResponse");
    // STS has operations that need no signature; none of them is here.
    server.ask(&sts("Action=AssumeRoleWithWebIdentity")).await.is_error(400, "InvalidAction");
    let answer = server.ask(&unsigned("PUT", "/no/such/path", "")).await;
    answer.is_error(404, "UnknownOperationException").says("PUT /no/such/path");
    assert_eq!(server.fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_wrong_key_or_secret_is_refused() {
    let server = Server::start().await;
    let ask =
        |credentials: Credentials| signed_by(unsigned("POST", "/echo/name", "x"), &credentials, "lambda");
    let answer = server.ask(&ask(Credentials::new("test", "tset"))).await;
    answer
        .is_error(403, "InvalidSignatureException")
        .says("The Canonical String for this request should have been");
    let answer = server.ask(&ask(Credentials::new("AKIDSTRANGER", "test"))).await;
    answer.is_error(403, "UnrecognizedClientException");
    // The right key afterwards, on the same credential: what failed must not have been kept.
    assert_eq!(server.ask(&ask(development())).await.status, 200);
    let answer = server.ask(&ask(Credentials::new("test", "tset"))).await;
    answer.is_error(403, "InvalidSignatureException");
}

#[tokio::test]
async fn a_malformed_signature_is_named() {
    let server = Server::start().await;
    for (authorization, text) in [
        ("Bearer token", "Unsupported AWS 'algorithm': 'Bearer'"),
        ("AWS4-HMAC-SHA256 Credential=test", "requires 'Signature' parameter"),
    ] {
        let mut request = unsigned("POST", "/echo/name", "");
        request.headers_mut().insert("authorization", HeaderValue::from_static(authorization));
        server.ask(&request).await.is_error(400, "IncompleteSignatureException").says(text);
    }
}

#[tokio::test]
async fn a_clock_may_be_off_by_a_quarter_of_an_hour() {
    let server = Server::start().await;
    let at = |time| {
        let mut request = unsigned("POST", "/echo/name", "");
        sign(&mut request, &development(), REGION, "lambda", time).expect("can be signed");
        request
    };
    for time in [now() - FIFTEEN_MINUTES, now() + FIFTEEN_MINUTES] {
        assert_eq!(server.ask(&at(time)).await.status, 200);
    }
    let answer = server.ask(&at(now() - FIFTEEN_MINUTES - SECOND)).await;
    let text = "Signature expired: 20270115T074459Z is now earlier than 20270115T074500Z (20270115T080000Z - 15 min.)";
    answer.is_error(403, "InvalidSignatureException").says(text);
    let answer = server.ask(&at(now() + FIFTEEN_MINUTES + SECOND)).await;
    answer.is_error(403, "InvalidSignatureException").says("Signature not yet current");
}

fn presigned(request: &Request<Bytes>, service: &str, seconds: u64) -> Request<Bytes> {
    let expires = Duration::from_secs(seconds);
    let uri = presign(request, &development(), REGION, service, now(), expires).expect("can be presigned");
    let mut presigned = request.clone();
    *presigned.uri_mut() = uri;
    presigned
}

#[tokio::test]
async fn a_presigned_url_lives_as_long_as_it_says() {
    let server = Server::start().await;
    let request = presigned(&unsigned("POST", "/echo/name?x=1", "body"), "lambda", 3600);
    assert_eq!(server.ask(&request).await.status, 200);
    server.clock.advance(Duration::from_secs(3600));
    assert_eq!(server.ask(&request).await.status, 200);
    server.clock.advance(SECOND);
    server.ask(&request).await.is_error(403, "InvalidSignatureException").says("Signature expired");
    let endless = request.uri().to_string().replace("X-Amz-Expires=3600", "X-Amz-Expires=604801");
    let mut endless_request = request.clone();
    *endless_request.uri_mut() = endless.parse().expect("a URI");
    let answer = server.ask(&endless_request).await;
    answer.is_error(400, "IncompleteSignatureException").says("must be less than a week");
}

#[tokio::test]
async fn a_changed_body_is_seen() {
    let server = Server::start().await;
    let mut request = echo("original");
    *request.body_mut() = Bytes::from_static(b"tampered");
    server.ask(&request).await.is_error(403, "InvalidSignatureException");
    let mut request = unsigned("POST", "/echo/name", "original");
    let hash = freehold_wire::sigv4::BodyHash::of(b"original").parse().expect("a header");
    request.headers_mut().insert("x-amz-content-sha256", hash);
    let mut request = signed_by(request, &development(), "lambda");
    assert_eq!(server.ask(&request).await.status, 200);
    *request.body_mut() = Bytes::from_static(b"tampered");
    server.ask(&request).await.is_error(403, "InvalidSignatureException").says("x-amz-content-sha256");
    assert_eq!(server.fake.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_body_may_be_unsigned_and_not_yet_in_signed_chunks() {
    let server = Server::start().await;
    let ask = |payload: &'static str| {
        let mut request = unsigned("POST", "/echo/name", "body");
        request.headers_mut().insert("x-amz-content-sha256", HeaderValue::from_static(payload));
        signed_by(request, &development(), "lambda")
    };
    assert_eq!(server.ask(&ask("UNSIGNED-PAYLOAD")).await.status, 200);
    let answer = server.ask(&ask("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")).await;
    answer.is_error(501, "NotImplementedException").says("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
}

#[tokio::test]
async fn temporary_credentials_need_their_token() {
    let server = Server::start().await;
    let ask =
        |credentials: &Credentials| signed_by(unsigned("POST", "/echo/name", ""), credentials, "lambda");
    let right = role().credentials;
    let answer = server.ask(&ask(&right)).await;
    answer.says("arn:aws:sts::000000000000:assumed-role/exec/hello");
    for session_token in [None, Some("another".to_owned())] {
        let wrong = Credentials { session_token, ..right.clone() };
        server.ask(&ask(&wrong)).await.is_error(403, "UnrecognizedClientException");
    }
    // Beside the development key people set all three variables.
    let with_token = Credentials { session_token: Some("test".to_owned()), ..development() };
    assert_eq!(server.ask(&ask(&with_token)).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_operations_limit_is_refused() {
    let server = Server::start().await;
    assert_eq!(server.ask(&echo(vec![b'x'; BODY_LIMIT])).await.status, 200);
    let large = echo(vec![b'x'; BODY_LIMIT + 1]);
    let answer = server.ask(&large).await;
    let text = "Request must be smaller than 200000 bytes for the Echo operation";
    answer.is_error(413, "RequestEntityTooLargeException").says(text);
    let mut client = server.client().await;
    client.send(&chunked(&large)).await;
    client.answer().await.is_error(413, "RequestEntityTooLargeException");
    let mut client = server.client().await;
    client.send(&chunked(&echo(vec![b'x'; BODY_LIMIT]))).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(server.fake.calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let server = Server::start().await;
    let ask = |method: &str, path: &str, service: &str| {
        signed_by(unsigned(method, path, ""), &development(), service)
    };
    let answer = server.ask(&ask("GET", "/later/x", "lambda")).await;
    answer.is_error(404, "UnknownOperationException").says("The operation Later");
    let answer = server.ask(&ask("GET", "/never/x", "lambda")).await;
    answer.is_error(404, "UnknownOperationException").says("GET /never/x");
    let answer = server.ask(&ask("GET", "/", "braket")).await;
    answer.is_error(404, "UnknownOperationException").says("braket");
    let form = signed_by(sts("Action=ListTopics&Version=2010-03-31"), &development(), "sns");
    server.ask(&form).await.is_error(404, "UnknownOperationException").says("ListTopics");
    let mut request = unsigned("POST", "/", "{}");
    request.headers_mut().insert("x-amz-target", HeaderValue::from_static("Logs_20140328.Never"));
    let answer = server.ask(&signed_by(request, &development(), "logs")).await;
    answer.is_error(404, "UnknownOperationException").says(r#""__type":"UnknownOperationException""#);
    let mut request = unsigned("POST", "/", "{}");
    request.headers_mut().insert("x-amz-target", HeaderValue::from_static("Logs_20140328.Put"));
    assert_eq!(server.ask(&signed_by(request, &development(), "logs")).await.status, 200);
}

fn sts(body: &'static str) -> Request<Bytes> {
    let mut request = unsigned("POST", "/", body);
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert("content-type", content_type);
    request
}

#[tokio::test]
async fn sts_says_who_asks() {
    let server = Server::start().await;
    let ask = |body| signed_by(sts(body), &development(), "sts");
    let answer = server.ask(&ask("Action=GetCallerIdentity&Version=2011-06-15")).await;
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "text/xml"));
    answer.says("<GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:root</Arn>");
    answer.says("<Account>000000000000</Account>");
    let get = presigned(&unsigned("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", ""), "sts", 60);
    server.ask(&get).await.says("<Account>000000000000</Account>");
    server.ask(&ask("Action=AssumeRole")).await.is_error(400, "InvalidAction").says("AssumeRole");
    server.ask(&ask("Action=Nonsense")).await.is_error(400, "InvalidAction").says("Nonsense");
    server.ask(&ask("Version=1")).await.is_error(400, "MissingAction");
    let wrong = signed_by(sts("Action=GetCallerIdentity"), &Credentials::new("test", "x"), "sts");
    server.ask(&wrong).await.is_error(403, "SignatureDoesNotMatch");
    let wrong = signed_by(sts("Action=GetCallerIdentity"), &Credentials::new("x", "x"), "sts");
    server.ask(&wrong).await.is_error(403, "InvalidClientTokenId");
}

#[tokio::test]
async fn inside_an_environment_only_its_role_is_believed() {
    let server = Server::inside().await;
    let answer = server.ask(&echo("")).await;
    answer.is_error(403, "UnrecognizedClientException");
    let request = signed_by(sts("Action=GetCallerIdentity"), &role().credentials, "sts");
    server.ask(&request).await.says("<Arn>arn:aws:sts::000000000000:assumed-role/exec/hello</Arn>");
    server
        .ask(&unsigned("POST", "/echo/name", ""))
        .await
        .is_error(403, "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn probes_and_people_need_no_signature() {
    let server = Server::start().await;
    let answer = server.ask(&unsigned("GET", "/health", "")).await;
    assert_eq!(answer.status, 200);
    answer.says(r#"{"status":"running","version":"1.2.3","services":["lambda","logs","sts"]}"#);
    server.ask(&unsigned("GET", "/", "")).await.says("export AWS_ENDPOINT_URL=http://freehold.test");
}
