//! Accepts connections until it is told to stop, then drains them.
//!
//! ```text
//! stop ──> listener closed ──> idle connections closed, current requests finish ──> deadline: the rest is cut off
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Shared;
use crate::connection;
use crate::credentials::CredentialSource;

/// How long to wait when the system has no descriptor or memory left for a connection: closing others takes a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn serve(
    shared: &Arc<Shared>,
    listener: TcpListener,
    source: Arc<dyn CredentialSource>,
    connections_limit: usize,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(connections_limit));
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            (slot, accepted) = accept(&slots, &listener) => match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        connection::serve(Arc::clone(shared), Arc::clone(&source), stream, closed.clone());
                    tracing::trace!(%peer, "connected");
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    drain(connections, shared.limits.drain_timeout).await;
}

/// A slot first, so that a connection that there is no room for waits in the system's queue.
async fn accept(
    slots: &Arc<Semaphore>,
    listener: &TcpListener,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the slots are never closed");
    (slot, listener.accept().await)
}

/// The client was gone before it was accepted; nothing is wrong here.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn drain(mut connections: JoinSet<()>, deadline: Duration) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(deadline, all).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting off requests that outlast the drain's deadline"
        );
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}
