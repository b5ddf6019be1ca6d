//! Reads what a request presents (header or presigned URL), and checks it.
//!
//! In steps, so that a request which cannot be right is refused before its body is read:
//!
//! ```text
//! read ── who, when, for what ──> check_time ──> check_token ──> (the body arrives, is hashed) ──> check_signature
//! ```

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, DATE as HTTP_DATE};
use http::request::Parts;

use super::canonical::{Canonical, Scope, string_to_sign};
use super::sign::EXPIRES_MAX_SECONDS;
use super::{
    ALGORITHM, CONTENT_SHA256, DATE, SECURITY_TOKEN, SigV4Error, SigningKey, TERMINATOR, UNSIGNED_PAYLOAD,
    time,
};
use crate::form;

/// How far a client's clock may be off, either way.
pub const CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// The longest name of a region; AWS's longest has 14 characters. It becomes a part of ARNs, so not all will do.
const REGION_LENGTH: usize = 32;

/// What begins the words that stand for bodies signed in chunks.
const STREAMING: &str = "STREAMING-";

/// A signature as a request presents it: read, and not yet believed.
#[derive(Clone, Debug)]
pub struct Presented<'a> {
    /// `AKID/YYYYMMDD/region/service/aws4_request`, whole.
    credential: Cow<'a, str>,
    signed_headers: Cow<'a, str>,
    signature: Cow<'a, str>,
    session_token: Option<Cow<'a, str>>,
    time: SystemTime,
    /// For how long from `time` a presigned URL is good, where it says so.
    expires: Option<Duration>,
    payload: Payload<'a>,
}

/// What the canonical request holds in the place of the body's hash.
#[derive(Clone, Debug)]
enum Payload<'a> {
    /// The hash of the body as it arrives.
    Computed,
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// A hash that the request gives, to be compared with the body.
    Given(Cow<'a, str>),
}

impl<'a> Presented<'a> {
    /// What the request presents; nothing if it is not signed at all.
    pub fn read(parts: &'a Parts) -> Result<Option<Self>, SigV4Error> {
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        if let Some(authorization) = headers.next() {
            let text = authorization
                .to_str()
                .map_err(|_| incomplete("The Authorization header is not ASCII text."))?;
            if headers.next().is_some() {
                return Err(incomplete("There is more than one Authorization header."));
            }
            return Self::from_header(parts, text).map(Some);
        }
        let query = parts.uri.query().unwrap_or_default();
        if !query.contains("X-Amz-") {
            return Ok(None);
        }
        let named = |name: &str| form::value(query, name);
        if named("X-Amz-Signature").is_none() && named("X-Amz-Algorithm").is_none() {
            return Ok(None);
        }
        Self::from_query(parts, query).map(Some)
    }

    fn from_header(parts: &'a Parts, text: &'a str) -> Result<Self, SigV4Error> {
        let (algorithm, fields) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            let message =
                format!("Unsupported AWS 'algorithm': '{algorithm}'. Only {ALGORITHM} is supported.");
            return Err(SigV4Error::Incomplete(message));
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let Some((name, value)) = field.split_once('=') else {
                return Err(SigV4Error::Incomplete(format!(
                    "'{field}' not a valid key=value pair (missing equal-sign) in Authorization header."
                )));
            };
            match name {
                "Credential" => credential = Some(value),
                "SignedHeaders" => signed_headers = Some(value),
                "Signature" => signature = Some(value),
                _ => {}
            }
        }
        let time = match header(parts, DATE) {
            Some(text) => time::parse(text),
            None => header(parts, HTTP_DATE.as_str()).and_then(time::parse_header),
        };
        let (Some(credential), Some(signed_headers), Some(signature), Some(time)) =
            (credential, signed_headers, signature, time)
        else {
            return Err(missing_in_header(credential, signature, signed_headers, time));
        };
        let presented = Self {
            credential: Cow::Borrowed(credential),
            signed_headers: Cow::Borrowed(signed_headers),
            signature: Cow::Borrowed(signature),
            session_token: header(parts, SECURITY_TOKEN).map(Cow::Borrowed),
            time,
            expires: None,
            payload: payload(header(parts, CONTENT_SHA256).map(Cow::Borrowed), Payload::Computed)?,
        };
        presented.checked()
    }

    fn from_query(parts: &'a Parts, query: &'a str) -> Result<Self, SigV4Error> {
        let named = |name: &'static str| form::value(query, name);
        let required = |name: &'static str| {
            named(name).ok_or_else(|| {
                let message = format!("AWS query-string parameters must include '{name}'.");
                SigV4Error::Incomplete(format!("{message} Re-examine the query-string parameters."))
            })
        };
        let algorithm = required("X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(SigV4Error::Incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'.")));
        }
        let time = time::parse(&required("X-Amz-Date")?).ok_or_else(|| {
            incomplete("X-Amz-Date must be in ISO8601 'basic format', such as 20150830T123600Z.")
        })?;
        let given =
            header(parts, CONTENT_SHA256).map(Cow::Borrowed).or_else(|| named("X-Amz-Content-Sha256"));
        let mut presented = Self {
            credential: required("X-Amz-Credential")?,
            signed_headers: required("X-Amz-SignedHeaders")?,
            signature: required("X-Amz-Signature")?,
            session_token: named("X-Amz-Security-Token"),
            time,
            expires: named("X-Amz-Expires").map(|text| expires(&text)).transpose()?,
            payload: Payload::Computed,
        };
        let s3 = presented.scope().path_as_sent();
        presented.payload = payload(given, if s3 { Payload::Unsigned } else { Payload::Computed })?;
        presented.checked()
    }

    /// What can be said of the fields alone.
    fn checked(self) -> Result<Self, SigV4Error> {
        let parts: Vec<&str> = self.credential.split('/').collect();
        let [access_key_id, date, region, _, terminator] = parts.as_slice() else {
            return Err(SigV4Error::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
                self.credential
            )));
        };
        if access_key_id.is_empty() {
            return Err(incomplete("Credential must begin with an access key id."));
        }
        if *terminator != TERMINATOR {
            return Err(SigV4Error::Scope(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'."
            )));
        }
        let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=REGION_LENGTH).contains(&region.len()) || !region.bytes().all(is_region) {
            let message = format!("Credential should be scoped to a valid region, not '{region}'.");
            return Err(SigV4Error::Scope(message));
        }
        let timestamp = time::format(self.time);
        if *date != &timestamp[..8] {
            return Err(SigV4Error::Scope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' \
                 != '{}', from '{timestamp}'.",
                &timestamp[..8]
            )));
        }
        if !self.signed_headers.split(';').any(|name| name == "host") {
            let message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(SigV4Error::Scope(message.to_owned()));
        }
        Ok(self)
    }

    /// The access key that the request claims to be signed with.
    pub fn access_key_id(&self) -> &str {
        self.credential.split('/').next().unwrap_or_default()
    }

    /// The region that it was signed for.
    pub fn region(&self) -> &str {
        self.scope().region
    }

    /// The service that it was signed for.
    pub fn service(&self) -> &str {
        self.scope().service
    }

    /// Access key and scope as one text: what a derived key may be kept under.
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// Derives the key that the signature must have been made with.
    pub fn signing_key(&self, secret_access_key: &str) -> SigningKey {
        let Scope { date, region, service } = self.scope();
        SigningKey::derive(secret_access_key, date, region, service)
    }

    fn scope(&self) -> Scope<'_> {
        let mut parts = self.credential.split('/').skip(1);
        let mut next = || parts.next().unwrap_or_default();
        Scope { date: next(), region: next(), service: next() }
    }

    /// Whether it was signed at about `now`, or is a presigned URL that still lives.
    pub fn check_time(&self, now: SystemTime) -> Result<(), SigV4Error> {
        let format = time::format;
        let minutes = CLOCK_SKEW.as_secs() / 60;
        if self.time > now + CLOCK_SKEW {
            let (signed, latest, clock) = (format(self.time), format(now + CLOCK_SKEW), format(now));
            let text = format!("{signed} is still later than {latest} ({clock} + {minutes} min.)");
            return Err(SigV4Error::NotYetCurrent(text));
        }
        match self.expires {
            Some(expires) if self.time + expires < now => {
                let (end, clock) = (format(self.time + expires), format(now));
                Err(SigV4Error::Expired(format!("{end} is now earlier than {clock}")))
            }
            None if self.time + CLOCK_SKEW < now => {
                let (signed, earliest, clock) = (format(self.time), format(now - CLOCK_SKEW), format(now));
                let text = format!("{signed} is now earlier than {earliest} ({clock} - {minutes} min.)");
                Err(SigV4Error::Expired(text))
            }
            _ => Ok(()),
        }
    }

    /// Whether it carries the session token that goes with its access key, and none where none does.
    pub fn check_token(&self, expected: Option<&str>) -> Result<(), SigV4Error> {
        match (self.session_token.as_deref(), expected) {
            (None, None) => Ok(()),
            (Some(given), Some(expected)) if same(given.as_bytes(), expected.as_bytes()) => Ok(()),
            _ => Err(SigV4Error::WrongToken),
        }
    }

    /// Whether the body's hash takes part at all; where not, it need not be computed.
    pub fn needs_body_hash(&self) -> bool {
        !matches!(self.payload, Payload::Unsigned)
    }

    /// Whether `key` made the signature of this request and of the body with this hash.
    pub fn check_signature(
        &self,
        parts: &Parts,
        key: &SigningKey,
        body_hash: &str,
    ) -> Result<(), SigV4Error> {
        let payload = match &self.payload {
            Payload::Computed => body_hash,
            Payload::Unsigned => UNSIGNED_PAYLOAD,
            Payload::Given(hash) => hash,
        };
        let scope = self.scope();
        let canonical = Canonical {
            method: &parts.method,
            uri: &parts.uri,
            added_query: &[],
            headers: &parts.headers,
            signed_headers: &self.signed_headers,
            payload,
            path_as_sent: scope.path_as_sent(),
        };
        let canonical = canonical.bytes();
        let string_to_sign = string_to_sign(&time::format(self.time), &scope, &canonical);
        let signature = hex::decode(self.signature.as_bytes()).unwrap_or_default();
        if !key.matches(string_to_sign.as_bytes(), &signature) {
            let canonical = String::from_utf8_lossy(&canonical).into_owned();
            return Err(SigV4Error::Mismatch { canonical, string_to_sign });
        }
        match &self.payload {
            Payload::Given(hash) if **hash != *body_hash => Err(SigV4Error::BodyHash),
            _ => Ok(()),
        }
    }
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

fn incomplete(message: &str) -> SigV4Error {
    SigV4Error::Incomplete(message.to_owned())
}

fn payload<'a>(given: Option<Cow<'a, str>>, otherwise: Payload<'a>) -> Result<Payload<'a>, SigV4Error> {
    match given {
        None => Ok(otherwise),
        Some(word) if word == UNSIGNED_PAYLOAD => Ok(Payload::Unsigned),
        Some(word) if word.starts_with(STREAMING) => Err(SigV4Error::Streaming(word.into_owned())),
        Some(hash) => Ok(Payload::Given(hash)),
    }
}

fn expires(text: &str) -> Result<Duration, SigV4Error> {
    match text.parse::<i64>() {
        Err(_) => Err(SigV4Error::Expires("X-Amz-Expires should be a number")),
        Ok(seconds) => match u64::try_from(seconds) {
            Ok(0) | Err(_) => Err(SigV4Error::Expires("X-Amz-Expires must be positive")),
            Ok(seconds) if seconds > EXPIRES_MAX_SECONDS => Err(SigV4Error::Expires(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less \
                 than 604800 seconds",
            )),
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
        },
    }
}

fn missing_in_header(
    credential: Option<&str>,
    signature: Option<&str>,
    signed_headers: Option<&str>,
    time: Option<SystemTime>,
) -> SigV4Error {
    let mut message = String::new();
    let parameters =
        [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)];
    for (name, _) in parameters.iter().filter(|(_, value)| value.is_none()) {
        message += &format!("Authorization header requires '{name}' parameter. ");
    }
    if time.is_none() {
        message += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    }
    SigV4Error::Incomplete(message.trim_end().to_owned())
}

/// Compares without telling by its time where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right)) == 0
}
