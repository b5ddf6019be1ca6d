//! What makes one environment itself: its name, its log stream, its role's credentials.

use freehold_base::clock::SharedClock;
use jiff::Timestamp;
use uuid::Uuid;

use super::journal::wall_ms;
use crate::event::{FunctionVersion, RoleIdentity};

/// Characters of an access key after its prefix.
const ACCESS_KEY_CHARACTERS: usize = 16;
/// Characters of a secret key.
const SECRET_CHARACTERS: usize = 40;
/// Characters of a session token. AWS's are longer and say more; ours is only ever compared.
const TOKEN_CHARACTERS: usize = 160;

/// `ASIA…` and the rest, random.
pub(super) fn role(version: &FunctionVersion) -> RoleIdentity {
    RoleIdentity {
        role_arn: version.role_arn.clone(),
        session_name: version.name.clone(),
        access_key_id: format!(
            "ASIA{}",
            random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ACCESS_KEY_CHARACTERS)
        ),
        secret_access_key: random_text(BASE64, SECRET_CHARACTERS),
        session_token: random_text(BASE64, TOKEN_CHARACTERS),
    }
}

/// `2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef`.
pub(super) fn log_stream(version: &FunctionVersion, clock: &SharedClock) -> String {
    let now = i64::try_from(wall_ms(clock)).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let day = now.unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y/%m/%d");
    format!("{day}/[{}]{}", version.version, Uuid::new_v4().simple())
}

/// A name for the sandbox, unlike any other on this host.
pub(crate) fn sandbox_name() -> String {
    format!("env-{}", Uuid::new_v4().simple())
}

/// A trace header for a caller that gave none: a trace of its own, not sampled.
pub(super) fn trace_header(clock: &SharedClock) -> String {
    let random = Uuid::new_v4().simple().to_string();
    let parent = Uuid::new_v4().simple().to_string();
    format!("Root=1-{:08x}-{};Parent={};Sampled=0", wall_ms(clock) / 1_000, &random[..24], &parent[..16])
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Letters of an alphabet whose size is a power of two, from the system's randomness.
fn random_text(alphabet: &[u8], length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let bytes = *Uuid::new_v4().as_bytes();
        // Bytes 6 and 8 carry the UUID's version and variant: not random.
        let random =
            bytes.iter().enumerate().filter(|(index, _)| !matches!(index, 6 | 8)).map(|(_, byte)| byte);
        text.extend(
            random
                .take(length - text.len())
                .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_the_shape_of_aws_and_differ() {
        let key = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ACCESS_KEY_CHARACTERS);
        assert_eq!(key.len(), 16);
        assert_ne!(random_text(BASE64, SECRET_CHARACTERS), random_text(BASE64, SECRET_CHARACTERS));
        assert_eq!(random_text(BASE64, TOKEN_CHARACTERS).len(), TOKEN_CHARACTERS);
    }
}
