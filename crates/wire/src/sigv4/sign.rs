//! Signs requests: in their headers, or in a URL that anyone may use for a while.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri};

use super::canonical::{Canonical, Scope, encode, string_to_sign};
use super::{
    ALGORITHM, BodyHash, CONTENT_SHA256, Credentials, DATE, SECURITY_TOKEN, SigningKey, UNSIGNED_PAYLOAD,
    time,
};

/// The longest life of a presigned URL, in seconds: seven days.
pub const EXPIRES_MAX_SECONDS: u64 = 604_800;

/// Headers that are never signed: made by signing, or changed on the way.
static NOT_SIGNED: [HeaderName; 6] = [
    AUTHORIZATION,
    USER_AGENT,
    CONNECTION,
    EXPECT,
    TRANSFER_ENCODING,
    HeaderName::from_static("x-amzn-trace-id"),
];

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Neither a `Host` header nor a URI with an authority.
    #[error("a request cannot be signed without knowing its host")]
    NoHost,
    /// The credentials hold what no header can carry.
    #[error("the {0} holds characters that no header can carry")]
    NotAHeader(&'static str),
    /// See [`EXPIRES_MAX_SECONDS`].
    #[error("a presigned URL lives for 1 to {EXPIRES_MAX_SECONDS} seconds, not {0}")]
    Expires(u64),
}

/// Signs `request` in its headers: sets `Host` (where missing), `X-Amz-Date`, `X-Amz-Security-Token` (where the
/// credentials have one) and `Authorization`. Every other header must be set before; an `X-Amz-Content-Sha256` among
/// them stands for the body's hash.
pub fn sign(
    request: &mut Request<Bytes>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: SystemTime,
) -> Result<(), SignError> {
    let timestamp = time::format(now);
    let scope = Scope { date: &timestamp[..8], region, service };
    let given = request.headers().get(CONTENT_SHA256).and_then(|value| value.to_str().ok());
    let payload = given.map_or_else(|| BodyHash::of(request.body()), str::to_owned);
    let host = host(request.uri(), request.headers())?;
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    headers.insert(HOST, host);
    headers.insert(DATE, header(&timestamp, "time")?);
    if let Some(token) = &credentials.session_token {
        headers.insert(SECURITY_TOKEN, header(token, "session token")?);
    }
    if scope.path_as_sent() {
        headers.insert(CONTENT_SHA256, header(&payload, "body's hash")?);
    }
    let signed_headers = signed_headers(request.headers());
    let canonical = Canonical {
        method: request.method(),
        uri: request.uri(),
        added_query: &[],
        headers: request.headers(),
        signed_headers: &signed_headers,
        payload: &payload,
        path_as_sent: scope.path_as_sent(),
    };
    let signature = signature(&canonical, &timestamp, &scope, credentials);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={signed_headers}, Signature={signature}",
        credentials.access_key_id,
        scope.text(),
    );
    let mut authorization = header(&authorization, "access key id, region or service")?;
    authorization.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, authorization);
    Ok(())
}

/// A URL that stands for `request` until `expires` from `now`. Whoever uses it must send the request's headers too,
/// and, except for S3, the very same body.
pub fn presign(
    request: &Request<Bytes>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: SystemTime,
    expires: Duration,
) -> Result<Uri, SignError> {
    let seconds = expires.as_secs();
    if !(1..=EXPIRES_MAX_SECONDS).contains(&seconds) {
        return Err(SignError::Expires(seconds));
    }
    let timestamp = time::format(now);
    let scope = Scope { date: &timestamp[..8], region, service };
    let mut headers = request.headers().clone();
    headers.insert(HOST, host(request.uri(), request.headers())?);
    let signed_headers = signed_headers(&headers);
    let credential = format!("{}/{}", credentials.access_key_id, scope.text());
    let seconds = seconds.to_string();
    let mut query = vec![
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &timestamp),
        ("X-Amz-Expires", &seconds),
        ("X-Amz-SignedHeaders", &signed_headers),
    ];
    if let Some(token) = &credentials.session_token {
        query.push(("X-Amz-Security-Token", token));
    }
    let payload =
        if scope.path_as_sent() { UNSIGNED_PAYLOAD.to_owned() } else { BodyHash::of(request.body()) };
    let canonical = Canonical {
        method: request.method(),
        uri: request.uri(),
        added_query: &query,
        headers: &headers,
        signed_headers: &signed_headers,
        payload: &payload,
        path_as_sent: scope.path_as_sent(),
    };
    let signature = signature(&canonical, &timestamp, &scope, credentials);
    query.push(("X-Amz-Signature", &signature));
    Ok(with_query(request.uri(), &query))
}

fn signature(
    canonical: &Canonical<'_>,
    timestamp: &str,
    scope: &Scope<'_>,
    credentials: &Credentials,
) -> String {
    let key = SigningKey::derive(&credentials.secret_access_key, scope.date, scope.region, scope.service);
    key.signature(string_to_sign(timestamp, scope, &canonical.bytes()).as_bytes())
}

fn host(uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, SignError> {
    if let Some(host) = headers.get(HOST) {
        return Ok(host.clone());
    }
    header(uri.authority().ok_or(SignError::NoHost)?.as_str(), "URI's host")
}

fn header(text: &str, what: &'static str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::NotAHeader(what))
}

fn signed_headers(headers: &HeaderMap) -> String {
    let mut names: Vec<&str> =
        headers.keys().filter(|name| !NOT_SIGNED.contains(name)).map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(";")
}

fn with_query(uri: &Uri, added: &[(&str, &str)]) -> Uri {
    let mut text = uri.path().to_owned();
    let mut separator = '?';
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        text.extend(["?", query]);
        separator = '&';
    }
    for (name, value) in added {
        text.push(separator);
        text.extend([name, "=", &encode(value.as_bytes())]);
        separator = '&';
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).expect("a URI with an escaped query stays one"));
    Uri::from_parts(parts).expect("only the query was changed")
}
