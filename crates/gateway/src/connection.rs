//! One connection: HTTP/1.1 with keep-alive and pipelining, and an end that lets the client read the last answer.
//!
//! When a body was refused, its rest is still on its way. Closing at once would make the system answer it with a reset,
//! which can overtake the answer; so the sending side is closed, and the rest is thrown away for as long as it comes, within
//! the limits of a body that is wanted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Shared;
use crate::credentials::CredentialSource;
use crate::handle::handle;

/// What hyper may buffer of a connection each way, in bytes: large bodies arrive in few pieces, and a thousand
/// connections that all send at once stay under 128 MiB.
const BUFFER_BYTES: usize = 128 * 1024;
/// How much of a refused body is thrown away at a time, in bytes.
const LINGER_BYTES: usize = 16 * 1024;

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Full<Bytes>>, Infallible>> + Send>>;

pub(crate) async fn serve(
    shared: Arc<Shared>,
    source: Arc<dyn CredentialSource>,
    stream: TcpStream,
    mut closing: watch::Receiver<bool>,
) {
    // Answers are written whole: waiting for more to send only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let linger = Arc::new(AtomicBool::new(false));
    let limits = shared.limits.clone();
    let unread = Arc::clone(&linger);
    let service = service_fn(move |request: Request<Incoming>| -> Answer {
        let (shared, source, linger) = (Arc::clone(&shared), Arc::clone(&source), Arc::clone(&linger));
        Box::pin(async move {
            let (response, unread) = handle(&shared, &*source, request).await;
            linger.store(unread, Ordering::Relaxed);
            Ok(response.map(Full::new))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let stopped = async {
        // An error means that the server is gone, which stops the connection as well.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let ended = tokio::select! {
        ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        () = stopped => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            std::future::poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let mut unread = unread.load(Ordering::Relaxed);
    if let Err(error) = ended {
        // The client's doing: it went away, was too slow, or spoke no HTTP, which hyper has told it.
        tracing::debug!(%error, "a connection broke off");
        unread |= error.is_parse();
    }
    let mut stream = connection.into_parts().io.into_inner();
    let closed = stream.shutdown().await;
    if closed.is_ok() && unread {
        let thrown_away = timeout(limits.body_timeout, throw_away(&mut stream, limits.linger_timeout));
        tokio::select! {
            _ = thrown_away => {}
            // A stopping server waits for nobody who has his answer.
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

/// Reads until the client closes its side or nothing has come for a while.
async fn throw_away(stream: &mut TcpStream, pause: Duration) {
    let mut rest = vec![0; LINGER_BYTES];
    while let Ok(Ok(1..)) = timeout(pause, stream.read(&mut rest)).await {}
}
