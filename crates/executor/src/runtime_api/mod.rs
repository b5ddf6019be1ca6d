//! The Runtime API of one environment: AWS's HTTP interface between a runtime and its host.
//!
//! ```text
//! GET  /2018-06-01/runtime/invocation/next            long poll: the next event
//! POST /2018-06-01/runtime/invocation/{id}/response   its answer
//! POST /2018-06-01/runtime/invocation/{id}/error      its failure
//! POST /2018-06-01/runtime/init/error                 Init has failed
//! ```
//!
//! - [`mod@self`]: [`Server`]: accepts connections and turns requests into [`Call`]s for the environment's task
//! - `connection`: one request: route, bounded body, call, reply
//! - `extensions`: the Extensions, Logs and Telemetry APIs, on the same address
//! - `stream`: a connection whose end can be watched for; `reply`: the replies, as AWS words them
//!
//! What speaks to it is the customer's code: connections, bodies and headers are bounded, and nothing that it does here
//! reaches further than its own environment. It knows nothing of events but their id: what may be answered when is
//! decided by the environment's task, which owns all state.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

mod connection;
mod extensions;
mod reply;
mod stream;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::extensions::{Api, ExtensionCall, Refusal, Registered, When};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

/// Connections that one environment may hold open. Runtimes use one or two; each costs a task and small buffers.
const MAX_CONNECTIONS: usize = 64;

/// How long accepting pauses after it failed (descriptors exhausted, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The largest answer, in bytes: 6 MB and a margin. Source: the limit that AWS's own error message names.
pub(crate) const ANSWER_BYTES: u64 = 6_291_556;

/// What a runtime asks of the environment's task.
#[derive(Debug)]
pub(crate) enum Call {
    /// It wants an event. Nothing is owed if `reply` has closed: the runtime has gone.
    Next { reply: oneshot::Sender<Arc<Invocation>> },
    /// It has answered.
    Answer { request_id: String, answer: Posted, reply: oneshot::Sender<Verdict> },
    /// Its Init phase has failed.
    InitError { error: PostedError, reply: oneshot::Sender<Verdict> },
    /// An extension asks something.
    Extension(Box<ExtensionCall>),
}

/// One event, as the runtime gets it.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) deadline_ms: u64,
    pub(crate) invoked_arn: String,
    pub(crate) trace_header: String,
    pub(crate) client_context: Option<String>,
    pub(crate) tenant_id: Option<String>,
    pub(crate) payload: Bytes,
}

/// What a runtime made of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    Response(Bytes),
    Error(PostedError),
    /// More than [`ANSWER_BYTES`]; what came was thrown away.
    TooLarge,
}

/// An error as a runtime reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostedError {
    /// `Lambda-Runtime-Function-Error-Type`.
    pub(crate) error_type: Option<String>,
    /// The error JSON.
    pub(crate) body: Bytes,
}

/// What the environment's task says to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 202.
    Accepted,
    /// 413: the event has ended with `Function.ResponseSizeTooLarge`.
    TooLarge,
    /// 400: not the event that is running.
    InvalidRequestId,
    /// 403: not now.
    InvalidState {
        /// What the runtime was doing.
        from: &'static str,
        /// What it wanted to do.
        to: &'static str,
    },
}

/// Serves one environment's Runtime API. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct Server {
    calls: mpsc::Receiver<Call>,
    closing: Option<oneshot::Sender<()>>,
    acceptor: AbortHandle,
}

impl Server {
    /// Starts serving.
    pub(crate) fn start(listener: TcpListener) -> Self {
        // Each connection has at most one call open, so sending one never waits.
        let (sender, calls) = mpsc::channel(MAX_CONNECTIONS);
        let (closing, closed) = oneshot::channel();
        let acceptor = tokio::spawn(accept(listener, sender, closed)).abort_handle();
        Self { calls, closing: Some(closing), acceptor }
    }

    /// The next call. `None` once it is closed and every connection has ended.
    pub(crate) async fn call(&mut self) -> Option<Call> {
        self.calls.recv().await
    }

    /// Accepts no more connections. Those that are open may finish what they have sent.
    pub(crate) fn close(&mut self) {
        self.closing = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, calls: mpsc::Sender<Call>, mut closed: oneshot::Receiver<()>) {
    // Aborting this task drops the set, which ends every connection.
    let mut connections = JoinSet::new();
    // One body at a time is held in memory for each environment.
    let bodies = Arc::new(Semaphore::new(1));
    loop {
        tokio::select! {
            biased;
            // First, so that a connection that has ended is not counted against the next one.
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    admit(&mut connections, stream, &calls, &bodies);
                }
                // Over the bound: closed at once.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the Runtime API cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = &mut closed => break,
        }
    }
    drop((listener, calls));
    while connections.join_next().await.is_some() {}
}

fn admit(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    calls: &mpsc::Sender<Call>,
    bodies: &Arc<Semaphore>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a Runtime API connection keeps Nagle's algorithm");
    }
    connections.spawn(connection::serve(stream, calls.clone(), Arc::clone(bodies)));
}
