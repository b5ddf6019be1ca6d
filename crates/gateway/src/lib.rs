//! The front door: finds out which service is meant and who asks, whether they may, and hands a typed call on.
//!
//! ```text
//! server ──> connection ──> handle ──> directory     which service (scope, target, action, host, path)
//!  accept,    HTTP/1.1,        │    ──> authenticate  who asks (SigV4; keys from credentials)
//!  limits,    timeouts,        │    ──> body          the body, within its limits, hashed as it arrives
//!  drain      linger           │    ──> authorise     may they
//!                              └────> Service::call ──> reply in the service's protocol
//! ```
//!
//! - [`credentials`]: where access keys come from
//! - [`limits`]: what a stranger may cost
//! - [`authorise`]: the one place that says yes or no
//! - [`sts`]: the one service that lives here, since it tells only what the front door knows
//!
//! It must not know any service's state: what it knows of a service is its [`Definition`].
//!
//! [`Definition`]: freehold_wire::service::Definition
#![forbid(unsafe_code)]

use std::sync::Arc;

use freehold_base::clock::SharedClock;
use freehold_base::id::AccountId;
use freehold_wire::route::RouteError;
use freehold_wire::service::Service;
use tokio::net::TcpListener;

mod authenticate;
pub mod authorise;
mod body;
mod connection;
pub mod credentials;
mod directory;
mod handle;
pub mod limits;
mod log;
mod pages;
mod server;
pub mod sts;

use crate::authenticate::SigningKeys;
use crate::body::Memory;
use crate::credentials::{CredentialSource, Identity, OnlyOne};
use crate::directory::Directory;
use crate::limits::Limits;

/// What a gateway is made of.
pub struct Options {
    /// The services behind it; [`sts`] comes by itself.
    pub services: Vec<Arc<dyn Service>>,
    /// Whose signatures are believed.
    pub credentials: Arc<dyn CredentialSource>,
    /// What signatures are held against.
    pub clock: SharedClock,
    /// The account that everything here belongs to.
    pub account: AccountId,
    /// What `/health` shows.
    pub version: &'static str,
    /// What a stranger may cost.
    pub limits: Limits,
}

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A service's operations cannot be told apart.
    #[error("the service '{service}' cannot be routed to: {source}")]
    Routes {
        /// The service's scope.
        service: &'static str,
        /// What is wrong with its definition.
        source: RouteError,
    },
    /// Two services of one name.
    #[error("there is more than one service '{0}'")]
    Twice(&'static str),
}

/// The front door; cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

/// What all connections share.
struct Shared {
    directory: Directory,
    credentials: Arc<dyn CredentialSource>,
    signing_keys: SigningKeys,
    clock: SharedClock,
    account: AccountId,
    version: &'static str,
    limits: Limits,
    memory: Memory,
}

impl Gateway {
    /// Checks the services' definitions; opens nothing yet.
    pub fn new(options: Options) -> Result<Self, GatewayError> {
        let Options { mut services, credentials, clock, account, version, limits } = options;
        services.push(Arc::new(sts::Sts));
        let directory = Directory::new(services)?;
        let memory = Memory::new(limits.body_memory_bytes);
        let signing_keys = SigningKeys::default();
        let shared = Shared { directory, credentials, signing_keys, clock, account, version, limits, memory };
        Ok(Self(Arc::new(shared)))
    }

    /// Serves `listener` until `stop`; then takes no new connections, lets current requests finish until the drain's
    /// deadline, and returns when all connections are closed.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let connections = self.0.limits.connections;
        server::serve(&self.0, listener, Arc::clone(&self.0.credentials), connections, stop).await;
    }

    /// As [`Self::serve`], for the listener inside an environment: whoever connects there is `identity`, and must sign
    /// with its credentials.
    pub async fn serve_as(&self, listener: TcpListener, identity: Identity, stop: impl Future<Output = ()>) {
        let connections = self.0.limits.environment_connections;
        server::serve(&self.0, listener, Arc::new(OnlyOne::new(identity)), connections, stop).await;
    }
}
