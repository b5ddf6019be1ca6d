//! Our signatures against those of the AWS SDK for Rust, for random requests; and what a stranger may send, against
//! panics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use freehold_wire::sigv4::verify::CLOCK_SKEW;
use freehold_wire::sigv4::{BodyHash, Credentials, Presented, SigV4Error, presign, sign};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const REGION: &str = "eu-central-1";
const EXPIRES: Duration = Duration::from_secs(900);

#[derive(Clone, Debug)]
struct Sent {
    request: Request<Bytes>,
    service: &'static str,
    credentials: Credentials,
    time: SystemTime,
}

/// Failing seeds are kept beside this file: an integration test has no `lib.rs` to keep them by.
fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::WithSource("seeds");
    ProptestConfig { cases: 512, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

fn requests() -> impl Strategy<Value = Sent> {
    let methods =
        prop::sample::select(vec![Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD]);
    let path = "(/([a-zA-Z0-9:@!$&'()*+,;=~._-]|%[2-7][0-9A-F]|%C3%A9){0,8}|/\\.|/\\.\\.){0,5}/?";
    let query = prop::option::of("([a-zA-Z0-9:@!$'()*+,;~/?._=&-]|%[2-7][0-9A-Fa-f]|%C3%A9){0,40}");
    let headers = prop::collection::vec(("x-[a-d]", "[ -~]{0,20}"), 0..6);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let services = prop::sample::select(vec!["lambda", "s3", "sts", "execute-api"]);
    let credentials = ("[A-Z0-9]{4,20}", "[!-~]{1,40}", prop::option::of("[A-Za-z0-9+/=]{1,60}"));
    (methods, (path, query), headers, body, services, credentials, 0_u64..4_102_444_800).prop_map(
        |(method, (path, query), headers, body, service, credentials, seconds)| {
            let (access_key_id, secret_access_key, session_token) = credentials;
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let mut request = Request::new(Bytes::from(body));
            *request.method_mut() = method;
            *request.uri_mut() = Uri::try_from(format!("http://127.0.0.1:4566{path}{query}")).expect("a URI");
            for (name, value) in headers {
                let name = HeaderName::try_from(name).expect("a name");
                request.headers_mut().append(name, HeaderValue::try_from(value).expect("a value"));
            }
            let credentials = Credentials { access_key_id, secret_access_key, session_token };
            Sent { request, service, credentials, time: UNIX_EPOCH + Duration::from_secs(seconds) }
        },
    )
}

/// What the SDK makes of it.
fn oracle(sent: &Sent, presigned: bool) -> Request<Bytes> {
    let Credentials { access_key_id, secret_access_key, session_token } = sent.credentials.clone();
    let identity =
        aws_credential_types::Credentials::from_keys(access_key_id, secret_access_key, session_token).into();
    let mut settings = SigningSettings::default();
    let s3 = sent.service == "s3";
    if s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    if presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(EXPIRES);
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(sent.service)
        .time(sent.time)
        .settings(settings)
        .build()
        .expect("all is set")
        .into();
    let mut request = sent.request.clone();
    let body = if presigned && s3 {
        SignableBody::UnsignedPayload
    } else {
        SignableBody::Bytes(sent.request.body())
    };
    let headers = sent.request.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")));
    let method = sent.request.method().as_str();
    let signable =
        SignableRequest::new(method, sent.request.uri().to_string(), headers, body).expect("signable");
    let (instructions, _) =
        aws_sigv4::http_request::sign(signable, &parameters).expect("can be signed").into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request
}

/// As a server sees it: without an authority, with a host.
fn received(mut request: Request<Bytes>) -> (http::request::Parts, Bytes) {
    let target = request.uri().path_and_query().expect("a path").to_string();
    *request.uri_mut() = Uri::try_from(target).expect("a path is a URI");
    request.headers_mut().insert("host", HeaderValue::from_static("127.0.0.1:4566"));
    request.into_parts()
}

fn verify(request: Request<Bytes>, sent: &Sent, now: SystemTime) -> Result<(), SigV4Error> {
    let (parts, body) = received(request);
    let presented = Presented::read(&parts)?.ok_or(SigV4Error::Missing)?;
    presented.check_time(now)?;
    presented.check_token(sent.credentials.session_token.as_deref())?;
    let key = presented.signing_key(&sent.credentials.secret_access_key);
    presented.check_signature(&parts, &key, &BodyHash::of(&body))
}

fn signature(request: &Request<Bytes>) -> String {
    let text = match request.headers().get("authorization") {
        Some(header) => header.to_str().expect("ASCII"),
        None => request.uri().query().expect("a query"),
    };
    text.rsplit_once("Signature=").expect("a signature").1[..64].to_owned()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_signed_request_is_the_sdks(sent in requests()) {
        let mut ours = sent.request.clone();
        sign(&mut ours, &sent.credentials, REGION, sent.service, sent.time).expect("can be signed");
        let theirs = oracle(&sent, false);
        prop_assert_eq!(&ours.headers()["authorization"], &theirs.headers()["authorization"]);
        prop_assert_eq!(verify(ours, &sent, sent.time), Ok(()));
        prop_assert_eq!(verify(theirs, &sent, sent.time), Ok(()));
    }

    #[test]
    fn a_presigned_request_is_the_sdks(sent in requests()) {
        let uri = presign(&sent.request, &sent.credentials, REGION, sent.service, sent.time, EXPIRES);
        let mut ours = sent.request.clone();
        *ours.uri_mut() = uri.expect("can be presigned");
        let theirs = oracle(&sent, true);
        prop_assert_eq!(signature(&ours), signature(&theirs));
        prop_assert_eq!(verify(ours.clone(), &sent, sent.time + EXPIRES), Ok(()));
        prop_assert_eq!(verify(theirs, &sent, sent.time), Ok(()));
        let late = verify(ours, &sent, sent.time + EXPIRES + Duration::from_secs(1));
        prop_assert!(matches!(late, Err(SigV4Error::Expired(_))), "{:?}", late);
    }

    #[test]
    fn any_change_on_the_way_is_seen(sent in requests(), which in 0_usize..5) {
        let mut request = sent.request.clone();
        sign(&mut request, &sent.credentials, REGION, sent.service, sent.time).expect("can be signed");
        let headers = request.headers_mut();
        match which {
            0 => *request.method_mut() = Method::PATCH,
            1 => *request.body_mut() = Bytes::from([&request.body()[..], b"x"].concat()),
            2 => {
                let path = format!("{}changed", request.uri().path());
                *request.uri_mut() = Uri::try_from(path).expect("a path");
            }
            3 => {
                let authorization = headers["authorization"].to_str().expect("ASCII").to_owned();
                let last = if authorization.ends_with('0') { '1' } else { '0' };
                let changed = format!("{}{last}", &authorization[..authorization.len() - 1]);
                headers.insert("authorization", changed.parse().expect("a header"));
            }
            _ => {
                let added = format!("{}?added=1&{}", request.uri().path(), request.uri().query().unwrap_or_default());
                *request.uri_mut() = Uri::try_from(added).expect("a path");
            }
        }
        let seen = verify(request, &sent, sent.time);
        prop_assert!(matches!(seen, Err(SigV4Error::Mismatch { .. } | SigV4Error::BodyHash)), "{:?}", seen);
    }

    #[test]
    fn a_wrong_clock_is_seen_either_way(sent in requests(), seconds in 1_u64..100_000) {
        let mut request = sent.request.clone();
        sign(&mut request, &sent.credentials, REGION, sent.service, sent.time).expect("can be signed");
        let late = verify(request.clone(), &sent, sent.time + CLOCK_SKEW + Duration::from_secs(seconds));
        prop_assert!(matches!(late, Err(SigV4Error::Expired(_))), "{:?}", late);
        if let Some(now) = sent.time.checked_sub(CLOCK_SKEW + Duration::from_secs(seconds)) {
            let early = verify(request, &sent, now);
            prop_assert!(matches!(early, Err(SigV4Error::NotYetCurrent(_))), "{:?}", early);
        }
    }

    #[test]
    fn no_authorization_header_breaks_the_reader(
        start in prop::sample::select(vec!["", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 Credential=a/20150830/r/s/aws4_request,"]),
        text in "([ -~]|(Credential|SignedHeaders|Signature)=|/|,){0,60}",
        date in prop::option::of("[0-9]{8}T[0-9]{6}Z|.{0,20}"),
    ) {
        let mut request = Request::new(Bytes::new());
        request.headers_mut().insert("authorization", HeaderValue::try_from(format!("{start}{text}")).expect("ASCII"));
        if let Some(Ok(date)) = date.map(HeaderValue::try_from) {
            request.headers_mut().insert("x-amz-date", date);
        }
        read_and_check(request);
    }

    #[test]
    fn no_query_breaks_the_reader(query in "((X-Amz-(Signature|Algorithm|Date|Credential|SignedHeaders|Expires)=|AWS4-HMAC-SHA256|20150830T123600Z|&|host|a/20150830/r/s/aws4_request|[!$-~]){0,30})") {
        let mut request = Request::new(Bytes::new());
        if let Ok(uri) = Uri::try_from(format!("/?{query}")) {
            *request.uri_mut() = uri;
            read_and_check(request);
        }
    }
}

fn read_and_check(request: Request<Bytes>) {
    let (parts, _) = request.into_parts();
    if let Ok(Some(presented)) = Presented::read(&parts) {
        let _ = presented.check_time(SystemTime::now());
        let _ = presented.check_signature(&parts, &presented.signing_key("secret"), "");
    }
}

#[test]
fn each_fault_has_a_message_of_its_own() {
    let read = |authorization: &'static str| {
        let mut request = Request::new(Bytes::new());
        request.headers_mut().insert("authorization", HeaderValue::from_static(authorization));
        request.headers_mut().insert("x-amz-date", HeaderValue::from_static("20150830T123600Z"));
        let (parts, _) = request.into_parts();
        Presented::read(&parts).expect_err("wrong").to_string()
    };
    let cases = [
        (
            "AWS4-HMAC-SHA256 Signature=a",
            "'Credential' parameter. Authorization header requires 'SignedHeaders'",
        ),
        ("AWS4-HMAC-SHA256 nonsense", "not a valid key=value pair"),
        ("Bearer abc", "Unsupported AWS 'algorithm': 'Bearer'"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c", "exactly 5 slash-delimited"),
        ("AWS4-HMAC-SHA256 Credential=a/20150830/r/s/x, SignedHeaders=host, Signature=c", "valid terminator"),
        (
            "AWS4-HMAC-SHA256 Credential=a/20150830/R/s/aws4_request, SignedHeaders=host, Signature=c",
            "valid region",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20150831/r/s/aws4_request, SignedHeaders=host, Signature=c",
            "does not match",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20150830/r/s/aws4_request, SignedHeaders=date, Signature=c",
            "'Host' or",
        ),
    ];
    for (authorization, expected) in cases {
        let message = read(authorization);
        assert!(message.contains(expected), "{authorization}: {message}");
    }
}

#[test]
fn the_words_in_the_place_of_a_hash_are_known() {
    let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    let signed = |payload: &'static str| {
        let mut request = Request::new(Bytes::from_static(b"body"));
        *request.uri_mut() = Uri::from_static("http://127.0.0.1:4566/");
        request.headers_mut().insert("x-amz-content-sha256", HeaderValue::from_static(payload));
        let credentials = Credentials::new("test", "test");
        sign(&mut request, &credentials, REGION, "lambda", time).expect("can be signed");
        let sent = Sent { request: request.clone(), service: "lambda", credentials, time };
        verify(request, &sent, time)
    };
    assert!(matches!(signed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), Err(SigV4Error::Streaming(_))));
    assert_eq!(signed("UNSIGNED-PAYLOAD"), Ok(()));
    assert_eq!(signed("0000"), Err(SigV4Error::BodyHash));
}
