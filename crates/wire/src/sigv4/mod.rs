//! AWS Signature Version 4: how a request proves who sent it without carrying the secret.
//!
//! ```text
//! canonical request ── sha256 ──> string to sign ── hmac(signing key) ──> signature
//!   method, path, query,            algorithm, time,      secret > date > region > service
//!   signed headers, body hash       scope, hash
//! ```
//!
//! - `canonical`: the canonical request and the string to sign, shared by both directions
//! - [`mod@sign`]: signs a request in its headers, or presigns a URL
//! - [`verify`]: reads what a request presents and checks it
//! - [`error`]: what can be wrong, in AWS's words for each protocol
//! - `time`: the basic ISO 8601 form that the protocol speaks
//!
//! It knows no keys and no clock: both are arguments.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

mod canonical;
pub mod error;
pub mod sign;
mod time;
#[cfg(test)]
mod vectors;
pub mod verify;

pub use error::SigV4Error;
pub use sign::{SignError, presign, sign};
pub use verify::Presented;

/// The one algorithm; SigV4a (asymmetric) is not supported.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends every credential scope.
const TERMINATOR: &str = "aws4_request";
/// In place of the body's hash: the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The header (or query parameter) with the body's hash, or one of the words that stand for it.
pub const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// The header with the session token of temporary credentials.
pub const SECURITY_TOKEN: &str = "x-amz-security-token";
/// The header with the time of signing.
pub const DATE: &str = "x-amz-date";

/// An access key and its secret, as a client holds them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `AKIA…`, `ASIA…`, or the development key's `test`.
    pub access_key_id: String,
    /// What signs; never sent.
    pub secret_access_key: String,
    /// What goes with temporary credentials, and is sent.
    pub session_token: Option<String>,
}

impl Credentials {
    /// Long-lived credentials, without a session token.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        let (access_key_id, secret_access_key) = (access_key_id.into(), secret_access_key.into());
        Self { access_key_id, secret_access_key, session_token: None }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secrets stay out of every log.
        formatter
            .debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A key derived for one day, region and service; worth keeping, since deriving it costs four HMACs.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Derives the key; `date` is the scope's `YYYYMMDD`.
    pub fn derive(secret_access_key: &str, date: &str, region: &str, service: &str) -> Self {
        let secret = format!("AWS4{secret_access_key}");
        let mut key = keyed(secret.as_bytes());
        for part in [date, region, service, TERMINATOR] {
            key.update(part.as_bytes());
            key = keyed(&key.finalize().into_bytes());
        }
        Self(key)
    }

    fn signature(&self, string_to_sign: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(string_to_sign);
        hex::encode(mac.finalize().into_bytes())
    }

    /// Compares in constant time.
    fn matches(&self, string_to_sign: &[u8], signature: &[u8]) -> bool {
        let mut mac = self.0.clone();
        mac.update(string_to_sign);
        mac.verify_slice(signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(..)")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("an HMAC takes a key of any length")
}

/// SHA-256 of a body as it arrives.
#[derive(Clone, Default)]
pub struct BodyHash(Sha256);

impl BodyHash {
    /// Takes the body's next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash in lower-case hexadecimal digits.
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }

    /// The hash of a whole body.
    pub fn of(body: &[u8]) -> String {
        let mut hash = Self::default();
        hash.update(body);
        hash.finish()
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyHash(..)")
    }
}
