//! One connection of a runtime: each request becomes a call, each verdict a reply.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::extensions::{self, Api, When};
use super::stream::{Handle, Stream};
use super::{ANSWER_BYTES, Call, Posted, PostedError, reply};

/// What a connection buffers for headers and while it reads or writes a body, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much of an answer that is too large is read and thrown away, in bytes, so that the runtime gets to read the reply
/// instead of a broken pipe. Beyond it the connection is closed.
const DISCARD_BYTES: u64 = 256 * 1024 * 1024;

/// The first allocation for a body without a length, in bytes.
const BODY_START_BYTES: usize = 16 * 1024;

/// What a runtime says whose next request is already on its way behind its answer: it does not wait for the receipt.
/// Only our own bootstraps do; a runtime that says so and sends nothing waits for ever, and harms itself alone.
const NEXT_FOLLOWS: &str = "freehold-next";

/// The longest error type that is taken over from a header, in bytes.
const ERROR_TYPE_BYTES: usize = 256;

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, calls: mpsc::Sender<Call>, bodies: Arc<Semaphore>) {
    let stream = Stream::new(stream);
    let watched = stream.handle();
    let service = service_fn(move |request| {
        let (calls, bodies, stream) = (calls.clone(), Arc::clone(&bodies), watched.clone());
        async move { Ok::<_, Infallible>(handle(request, &calls, &bodies, &stream).await) }
    });
    let served = http1::Builder::new()
        .auto_date_header(false)
        .half_close(true)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "a Runtime API connection has ended");
    }
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Ping,
    Register,
    ExtensionNext,
    ExtensionError(When),
    Subscribe(Api),
    /// Part of AWS's interface, but not here.
    NotSupported(&'static str),
    Unknown,
}

fn route(path: &str) -> Route<'_> {
    let Some(path) = path.strip_prefix("/2018-06-01/") else {
        return match path.strip_suffix('/').unwrap_or(path) {
            "/2020-01-01/extension/register" => Route::Register,
            "/2020-01-01/extension/event/next" => Route::ExtensionNext,
            "/2020-01-01/extension/init/error" => Route::ExtensionError(When::Init),
            "/2020-01-01/extension/exit/error" => Route::ExtensionError(When::Exit),
            "/2020-08-15/logs" => Route::Subscribe(Api::Logs),
            "/2022-07-01/telemetry" => Route::Subscribe(Api::Telemetry),
            _ => Route::Unknown,
        };
    };
    match path {
        "runtime/invocation/next" => Route::Next,
        "runtime/init/error" => Route::InitError,
        "ping" => Route::Ping,
        "runtime/restore/next" | "runtime/restore/error" => Route::NotSupported("SnapStart"),
        _ => match path.strip_prefix("runtime/invocation/").and_then(|rest| rest.split_once('/')) {
            Some((id, "response")) => Route::Response(id),
            Some((id, "error")) => Route::Error(id),
            _ => Route::Unknown,
        },
    }
}

async fn handle(
    request: Request<Incoming>,
    calls: &mpsc::Sender<Call>,
    bodies: &Semaphore,
    stream: &Handle,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let route = route(parts.uri.path());
    match (&route, &parts.method) {
        (Route::Next | Route::Ping | Route::ExtensionNext, &Method::GET)
        | (Route::Unknown | Route::NotSupported(_), _) => {}
        (Route::Response(_) | Route::Error(_) | Route::InitError, &Method::POST) => {}
        (Route::Register | Route::ExtensionError(_), &Method::POST) | (Route::Subscribe(_), &Method::PUT) => {
        }
        _ => return reply::method_not_allowed(),
    }
    match route {
        Route::Next => next(calls, stream).await,
        Route::Ping => reply::pong(),
        Route::NotSupported(what) => reply::not_supported(what),
        Route::Unknown => reply::not_found(),
        Route::Response(id) => {
            let reply = answer(id, None, body, calls, bodies).await;
            if reply.status() == StatusCode::ACCEPTED && parts.headers.contains_key(NEXT_FOLLOWS) {
                stream.hold_next();
            }
            reply
        }
        Route::Error(id) => answer(id, Some(&parts.headers), body, calls, bodies).await,
        Route::InitError => init_error(&parts.headers, body, calls, bodies).await,
        Route::Register => extensions::register(&parts.headers, body, calls).await,
        Route::ExtensionNext => extensions::next(&parts.headers, calls, stream).await,
        Route::ExtensionError(when) => extensions::error(when, &parts.headers, body, calls).await,
        Route::Subscribe(api) => extensions::subscribe(api, &parts.headers, body, calls).await,
    }
}

async fn next(calls: &mpsc::Sender<Call>, stream: &Handle) -> Response<Full<Bytes>> {
    let (reply, invocation) = oneshot::channel();
    if calls.send(Call::Next { reply }).await.is_err() {
        return reply::closing();
    }
    tokio::select! {
        biased;
        invocation = invocation => match invocation {
            Ok(invocation) => reply::invocation(&invocation),
            // Refused: an event is running, and has to be answered first.
            Err(_) => reply::invalid_state("Running", "Ready"),
        },
        // Nobody is there any more to be given an event.
        () = stream.ended() => reply::closing(),
    }
}

async fn answer(
    id: &str,
    error: Option<&HeaderMap>,
    body: Incoming,
    calls: &mpsc::Sender<Call>,
    bodies: &Semaphore,
) -> Response<Full<Bytes>> {
    let turn = bodies.acquire().await;
    let answer = match (collect(body, ANSWER_BYTES).await, error) {
        // The runtime closed the connection within its answer, which therefore counts for nothing.
        (Err(Unread::Truncated), _) => return reply::truncated(),
        (Err(Unread::TooLarge), _) => Posted::TooLarge,
        (Ok(body), None) => Posted::Response(body),
        (Ok(body), Some(headers)) => Posted::Error(posted_error(headers, body)),
    };
    let (reply, verdict) = oneshot::channel();
    if calls.send(Call::Answer { request_id: id.to_owned(), answer, reply }).await.is_err() {
        return reply::closing();
    }
    drop(turn);
    verdict.await.map_or_else(|_| reply::closing(), reply::verdict)
}

async fn init_error(
    headers: &HeaderMap,
    body: Incoming,
    calls: &mpsc::Sender<Call>,
    bodies: &Semaphore,
) -> Response<Full<Bytes>> {
    let turn = bodies.acquire().await;
    let body = match collect(body, ANSWER_BYTES).await {
        Ok(body) => body,
        Err(Unread::Truncated) => return reply::truncated(),
        Err(Unread::TooLarge) => Bytes::new(),
    };
    let (reply, verdict) = oneshot::channel();
    if calls.send(Call::InitError { error: posted_error(headers, body), reply }).await.is_err() {
        return reply::closing();
    }
    drop(turn);
    verdict.await.map_or_else(|_| reply::closing(), reply::verdict)
}

fn posted_error(headers: &HeaderMap, body: Bytes) -> PostedError {
    let error_type = headers
        .get("lambda-runtime-function-error-type")
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty() && text.len() <= ERROR_TYPE_BYTES)
        .map(str::to_owned);
    PostedError { error_type, body }
}

/// Why there is no body.
pub(super) enum Unread {
    Truncated,
    TooLarge,
}

/// Reads a body into memory, up to `limit` bytes.
pub(super) async fn collect(mut body: Incoming, limit: u64) -> Result<Bytes, Unread> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > limit) {
        return discard(body, 0).await;
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Truncated)?.into_data() else { continue };
        let so_far = first.len() + rest.len();
        if (so_far + data.len()) as u64 > limit {
            drop(rest);
            return discard(body, (so_far + data.len()) as u64).await;
        }
        // Most answers come in one piece, which is taken as it is.
        if so_far == 0 {
            first = data;
            continue;
        }
        if rest.is_empty() {
            let whole = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(BODY_START_BYTES);
            rest.reserve(whole.max(so_far + data.len()));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    let body = if rest.is_empty() { first } else { rest.freeze() };
    if announced.is_some_and(|bytes| bytes != body.len() as u64) {
        return Err(Unread::Truncated);
    }
    Ok(body)
}

/// Reads a body that is too large to its end, within reason: a runtime that still writes would not see the answer.
async fn discard(mut body: Incoming, mut bytes: u64) -> Result<Bytes, Unread> {
    while bytes <= DISCARD_BYTES {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| Unread::Truncated)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Err(Unread::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_aws_has_its_route() {
        for (path, expected) in [
            ("/2018-06-01/runtime/invocation/next", Route::Next),
            ("/2018-06-01/runtime/invocation/abc/response", Route::Response("abc")),
            ("/2018-06-01/runtime/invocation/abc/error", Route::Error("abc")),
            ("/2018-06-01/runtime/init/error", Route::InitError),
            ("/2018-06-01/runtime/restore/next", Route::NotSupported("SnapStart")),
            ("/2020-01-01/extension/register", Route::Register),
            ("/2020-01-01/extension/event/next", Route::ExtensionNext),
            ("/2020-01-01/extension/init/error", Route::ExtensionError(When::Init)),
            ("/2020-01-01/extension/exit/error", Route::ExtensionError(When::Exit)),
            ("/2020-08-15/logs", Route::Subscribe(Api::Logs)),
            ("/2022-07-01/telemetry", Route::Subscribe(Api::Telemetry)),
            ("/2022-07-01/telemetry/", Route::Subscribe(Api::Telemetry)),
            ("/2022-07-02/telemetry", Route::Unknown),
            ("/2018-06-01/runtime/invocation/a/b/response", Route::Unknown),
            ("/2018-06-01/runtime/invocation//nothing", Route::Unknown),
            ("/", Route::Unknown),
            ("*", Route::Unknown),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
