//! The platform's endpoint inside an environment: what `AWS_ENDPOINT_URL` points to there. It is the same gateway, on a
//! listener whose every connection is the function's role. Ties the executor to the gateway, which is made after it.

use std::sync::{Arc, OnceLock};

use freehold_base::id::AccountId;
use freehold_executor::event::{PlatformEndpoint, RoleIdentity};
use freehold_gateway::Gateway;
use freehold_gateway::credentials::Identity;
use freehold_wire::sigv4::Credentials;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves environments once the gateway is there, which is before the first event can come.
pub(crate) struct InnerEndpoint {
    account: AccountId,
    gateway: Arc<OnceLock<Gateway>>,
}

impl InnerEndpoint {
    /// An endpoint that has no gateway yet.
    pub(crate) fn new(account: AccountId) -> Self {
        Self { account, gateway: Arc::default() }
    }

    /// Gives it its gateway, once.
    pub(crate) fn open(&self, gateway: Gateway) {
        let first = self.gateway.set(gateway).is_ok();
        debug_assert!(first, "a server has one gateway");
    }
}

impl PlatformEndpoint for InnerEndpoint {
    fn serve(&self, listener: TcpListener, role: RoleIdentity, mut closed: watch::Receiver<bool>) {
        let Some(gateway) = self.gateway.get().cloned() else {
            tracing::error!("an environment was started before the gateway was there");
            return;
        };
        let credentials = Credentials {
            session_token: Some(role.session_token),
            ..Credentials::new(role.access_key_id, role.secret_access_key)
        };
        let identity = Identity::assumed_role(credentials, &self.account, &role.role_arn, &role.session_name);
        tokio::spawn(async move {
            let stopped = async move {
                // An error means that the environment is gone.
                let _ = closed.wait_for(|closed| *closed).await;
            };
            gateway.serve_as(listener, identity, stopped).await;
        });
    }
}
