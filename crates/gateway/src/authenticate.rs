//! Who asks: the steps that need no body, and the signature once it is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use freehold_wire::sigv4::{Presented, SigV4Error, SigningKey};
use http::request::Parts;

use crate::Shared;
use crate::credentials::{CredentialSource, Identity};

/// How many derived keys are kept; one per access key, day, region and service in use. When there are more, all are
/// forgotten: deriving one again costs microseconds.
const SIGNING_KEYS: usize = 4_096;

/// Derived keys by the credential that asks for them.
#[derive(Default)]
pub(crate) struct SigningKeys(Mutex<HashMap<String, (String, SigningKey)>>);

impl SigningKeys {
    /// The kept key, if it was derived from this very secret (the same id may have another one behind another door).
    fn get(&self, credential: &str, secret: &str) -> Option<SigningKey> {
        let keys = self.0.lock().expect("no code panics while it holds the keys");
        keys.get(credential).filter(|(derived_from, _)| derived_from == secret).map(|(_, key)| key.clone())
    }

    fn keep(&self, credential: &str, secret: &str, key: SigningKey) {
        let mut keys = self.0.lock().expect("no code panics while it holds the keys");
        if keys.len() >= SIGNING_KEYS {
            keys.clear();
        }
        keys.insert(credential.to_owned(), (secret.to_owned(), key));
    }
}

/// Whom the request claims to come from, as far as can be told without its body.
pub(crate) fn claimed(
    shared: &Shared,
    source: &dyn CredentialSource,
    presented: &Presented<'_>,
) -> Result<Arc<Identity>, SigV4Error> {
    presented.check_time(shared.clock.wall())?;
    let identity = source.find(presented.access_key_id()).ok_or(SigV4Error::UnknownKey)?;
    if !identity.any_token {
        presented.check_token(identity.credentials.session_token.as_deref())?;
    }
    Ok(identity)
}

/// Whether it does.
pub(crate) fn proven(
    shared: &Shared,
    presented: &Presented<'_>,
    identity: &Identity,
    parts: &Parts,
    body_hash: &str,
) -> Result<(), SigV4Error> {
    let (credential, secret) = (presented.credential(), &identity.credentials.secret_access_key);
    if let Some(key) = shared.signing_keys.get(credential, secret) {
        return presented.check_signature(parts, &key, body_hash);
    }
    let key = presented.signing_key(secret);
    presented.check_signature(parts, &key, body_hash)?;
    // Only what was used rightly is kept: strangers cannot fill the table.
    shared.signing_keys.keep(credential, secret, key);
    Ok(())
}
