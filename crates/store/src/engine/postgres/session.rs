//! One connection outside the pool, and the task that drives it.

use std::ops::Deref;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::address::{Address, Role};
use super::failure;
use crate::error::StoreError;

/// How long making a connection may take, with everything that the server does for it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The connection as the client has it: whoever drives it also sees the notifications.
pub(super) type Driven = tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

/// A connection. It is closed when this is dropped, whatever is under way on it.
pub(super) struct Session {
    client: Client,
    /// Ends when the connection does.
    pub(super) driver: JoinHandle<()>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(address: &Address, role: Role) -> Result<Self, StoreError> {
        Self::open_with(address, role, |connection| async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, ?role, "a connection to the database ended");
            }
        })
        .await
    }

    /// Connects; `drive` makes the future that the connection lives by.
    pub(super) async fn open_with<F>(
        address: &Address,
        role: Role,
        drive: impl FnOnce(Driven) -> F,
    ) -> Result<Self, StoreError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let session = address.session(role);
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, session.connect(NoTls));
        let (client, connection) = connecting
            .await
            .map_err(|_| failure::disconnected("the database did not answer in time"))?
            .map_err(|error| failure::connect(&error))?;
        Ok(Self { client, driver: tokio::spawn(drive(connection)) })
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
