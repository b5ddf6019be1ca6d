//! Where access keys come from.
//!
//! The gateway asks a [`CredentialSource`] for the identity behind an access key id. There are two so far:
//! [`KnownKeys`], a fixed set (the configured keys, and the development key where the program allows it), and the one
//! identity of an environment's own listener.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_base::id::AccountId;
use freehold_wire::service::Principal;
use freehold_wire::sigv4::{BodyHash, Credentials};

/// The well-known development key: id and secret.
pub const DEVELOPMENT_KEY: &str = "test";

/// How many characters of a role's unique id follow `AROA`.
const UNIQUE_ID_LENGTH: usize = 17;

/// Access keys and whom they belong to. Asked on every request: must answer from memory.
pub trait CredentialSource: Send + Sync + 'static {
    /// The identity behind this access key id.
    fn find(&self, access_key_id: &str) -> Option<Arc<Identity>>;
}

/// An access key, its secret, and whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What must have signed. A session token here must be in the request, and none where there is none.
    pub credentials: Credentials,
    /// Who asks, if it did.
    pub principal: Principal,
    /// Whether a session token that comes without need is overlooked: for the development key, beside which people set
    /// all three variables.
    pub any_token: bool,
}

impl Identity {
    /// The account itself, which may do everything.
    pub fn root(credentials: Credentials, account: &AccountId) -> Self {
        let principal = Principal {
            account: account.clone(),
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.as_str().to_owned(),
            access_key_id: Some(credentials.access_key_id.clone()),
        };
        Self { credentials, principal, any_token: false }
    }

    /// A session of a role, as an environment has it. The role's path is no part of its session's ARN.
    pub fn assumed_role(
        credentials: Credentials,
        account: &AccountId,
        role_arn: &str,
        session: &str,
    ) -> Self {
        let role = role_arn.rsplit('/').next().unwrap_or(role_arn);
        let unique = BodyHash::of(role_arn.as_bytes()).to_uppercase();
        let principal = Principal {
            account: account.clone(),
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            user_id: format!("AROA{}:{session}", &unique[..UNIQUE_ID_LENGTH]),
            access_key_id: Some(credentials.access_key_id.clone()),
        };
        Self { credentials, principal, any_token: false }
    }
}

/// A fixed set of access keys.
#[derive(Clone, Debug, Default)]
pub struct KnownKeys(HashMap<String, Arc<Identity>>);

impl KnownKeys {
    /// No keys: nobody may come in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    #[must_use]
    pub fn with(mut self, identity: Identity) -> Self {
        self.0.insert(identity.credentials.access_key_id.clone(), Arc::new(identity));
        self
    }

    /// Adds the well-known development key, `test` with the secret `test`, as the account's root. Everybody knows it:
    /// only for a listener that nobody else can reach.
    #[must_use]
    pub fn with_development_key(self, account: &AccountId) -> Self {
        let identity = Identity::root(Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY), account);
        self.with(Identity { any_token: true, ..identity })
    }
}

impl CredentialSource for KnownKeys {
    fn find(&self, access_key_id: &str) -> Option<Arc<Identity>> {
        self.0.get(access_key_id).cloned()
    }
}

/// The one identity that may use an environment's listener.
pub(crate) struct OnlyOne(Arc<Identity>);

impl OnlyOne {
    pub(crate) fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl CredentialSource for OnlyOne {
    fn find(&self, access_key_id: &str) -> Option<Arc<Identity>> {
        (self.0.credentials.access_key_id == access_key_id).then(|| Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roles_session_is_named_as_sts_names_it() {
        let account = AccountId::new("123456789012");
        let credentials = Credentials::new("ASIAEXAMPLE", "secret");
        let role = "arn:aws:iam::123456789012:role/service-role/lambda-exec";
        let principal = Identity::assumed_role(credentials, &account, role, "hello").principal;
        assert_eq!(principal.arn, "arn:aws:sts::123456789012:assumed-role/lambda-exec/hello");
        assert!(principal.user_id.starts_with("AROA") && principal.user_id.ends_with(":hello"));
        assert_eq!(principal.user_id.len(), 21 + ":hello".len());
    }

    #[test]
    fn there_is_no_development_key_unless_asked_for() {
        let account = AccountId::new(AccountId::DEVELOPMENT);
        assert!(KnownKeys::new().find("test").is_none());
        let identity = KnownKeys::new().with_development_key(&account).find("test").expect("the key");
        assert_eq!(identity.principal.arn, "arn:aws:iam::000000000000:root");
    }
}
