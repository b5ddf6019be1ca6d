//! AWS's published signing test suite, against both directions and both places of a signature.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Uri};

use super::canonical::{Canonical, Scope, string_to_sign};
use super::{
    BodyHash, CONTENT_SHA256, Credentials, DATE, Presented, SECURITY_TOKEN, SigningKey, presign, sign, time,
};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TIMESTAMP: &str = "20150830T123600Z";
const SCOPE: Scope<'static> = Scope { date: "20150830", region: "us-east-1", service: "service" };

/// Cases that take an escaped path as if it were not, or have a blank in it: real clients escape a path before they
/// sign it, and all services but S3 then escape it once more.
const ENCODED_ONCE: [&str; 2] = ["get-space-normalized", "get-space-unnormalized"];

struct Case<'a> {
    name: &'a str,
    normalise: bool,
    sign_body: bool,
    token: Option<&'a str>,
    request: &'a str,
    header: (&'a str, &'a str),
    query: (&'a str, &'a str),
}

fn cases() -> Vec<Case<'static>> {
    let text = include_str!("../../tests/vectors.txt");
    let cases = text.split("\ncase ").skip(1).map(case);
    cases.filter(|case| !ENCODED_ONCE.contains(&case.name)).collect()
}

fn case(text: &'static str) -> Case<'static> {
    let (head, rest) = text.split_once('\n').expect("a head");
    let head: Vec<_> = head.split(' ').collect();
    let parts: Vec<_> = rest.split("\n.").map(|part| part.strip_prefix('\n').unwrap_or(part)).collect();
    Case {
        name: head[0],
        normalise: head[1] == "normalise",
        sign_body: head[2] == "sign-body",
        token: (head[3] != "-").then_some(head[3]),
        request: parts[0],
        header: (parts[1], parts[2]),
        query: (parts[3], parts[4]),
    }
}

fn request(case: &Case<'_>) -> Request<Bytes> {
    let (head, body) = case.request.split_once("\n\n").unwrap_or((case.request, ""));
    let mut lines = head.lines();
    let line = lines.next().expect("a request line").strip_suffix(" HTTP/1.1").expect("HTTP/1.1");
    let (method, target) = line.split_once(' ').expect("a method");
    let mut request = Request::new(Bytes::from(body.to_owned()));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
    *request.uri_mut() = Uri::try_from(target).expect("a URI");
    for line in lines {
        let (name, value) = line.split_once(':').expect("a header");
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        request.headers_mut().append(name, value.parse().expect("a header value"));
    }
    request
}

fn signed_headers(canonical: &str) -> &str {
    canonical.lines().nth_back(1).expect("signed headers")
}

#[test]
fn canonical_requests_and_signatures_are_awss() {
    for case in cases() {
        let mut request = request(&case);
        let hash = BodyHash::of(request.body());
        request.headers_mut().insert(DATE, TIMESTAMP.parse().expect("a header"));
        if let Some(token) = case.token {
            request.headers_mut().insert(SECURITY_TOKEN, token.parse().expect("a header"));
        }
        if case.sign_body {
            request.headers_mut().insert(CONTENT_SHA256, hash.parse().expect("a header"));
        }
        let canonical = Canonical {
            method: request.method(),
            uri: request.uri(),
            added_query: &[],
            headers: request.headers(),
            signed_headers: signed_headers(case.header.0),
            payload: &hash,
            path_as_sent: !case.normalise,
        };
        let canonical = String::from_utf8(canonical.bytes()).expect("UTF-8");
        // What is not normalised is encoded once in the suite; here only S3 is, whose clients send it encoded.
        let expected = case.header.0.replace("/%E1%88%B4", if case.normalise { "/%E1%88%B4" } else { "/ሴ" });
        assert_eq!(canonical, expected, "{}", case.name);
        let key = SigningKey::derive(SECRET, SCOPE.date, SCOPE.region, SCOPE.service);
        let signature = key.signature(string_to_sign(TIMESTAMP, &SCOPE, canonical.as_bytes()).as_bytes());
        assert_eq!(signature, case.header.1, "{}", case.name);
    }
}

#[test]
fn signed_and_presigned_requests_are_awss_and_verify() {
    let now: SystemTime = time::parse(TIMESTAMP).expect("a time");
    for case in cases().into_iter().filter(|case| case.normalise) {
        let mut request = request(&case);
        let hash = BodyHash::of(request.body());
        if case.sign_body {
            request.headers_mut().insert(CONTENT_SHA256, hash.parse().expect("a header"));
        }
        let credentials = Credentials {
            session_token: case.token.map(str::to_owned),
            ..Credentials::new("AKIDEXAMPLE", SECRET)
        };
        let uri = presign(&request, &credentials, "us-east-1", "service", now, Duration::from_secs(3600));
        let uri = uri.expect("can be presigned");
        let query = uri.query().expect("a query");
        if case.query.0.contains("content-sha256") == case.sign_body {
            assert!(query.ends_with(&format!("X-Amz-Signature={}", case.query.1)), "{}: {query}", case.name);
        }
        let mut presigned = request.clone();
        *presigned.uri_mut() = uri;
        sign(&mut request, &credentials, "us-east-1", "service", now).expect("can be signed");
        let authorization = request.headers()["authorization"].to_str().expect("ASCII");
        assert!(authorization.ends_with(&format!("Signature={}", case.header.1)), "{}", case.name);
        for request in [request, presigned] {
            let (parts, _) = request.into_parts();
            let presented = Presented::read(&parts).expect("can be read").expect("is signed");
            presented.check_time(now).expect("in time");
            presented.check_token(case.token).expect("the token");
            presented.check_signature(&parts, &presented.signing_key(SECRET), &hash).expect(case.name);
        }
    }
}
