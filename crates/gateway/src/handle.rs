//! One request, from its head to its answer.
//!
//! What can be refused without the body is refused before it is read: an unknown operation, an unknown key, a wrong
//! time, a body that says it is too large.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use freehold_base::id::{Region, RequestId};
use freehold_wire::error::ApiError;
use freehold_wire::route::Labels;
use freehold_wire::service::{Call, Operation, Protocol, Reply, Service};
use freehold_wire::sigv4::{Presented, SigV4Error};
use freehold_wire::{form, protocol};
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::authorise::{Access, authorise};
use crate::body::{Arrived, BodyError, Reservation, Upload};
use crate::credentials::{CredentialSource, Identity};
use crate::directory::{Entry, Found, action, is_form, likely_protocol, no_service};
use crate::log::RequestLog;
use crate::{Shared, authenticate, pages};

/// A body up to this size, in bytes, is read to its end even when it was refused, so that the connection lives on.
const THROWN_AWAY_BYTES: usize = 64 * 1024;

/// What is read of a form for no service here, in bytes: its action is among the first parameters.
const STRAY_FORM_BYTES: usize = 64 * 1024;

/// A call that may be made.
struct Asked<'a> {
    entry: &'a Entry,
    call: Call,
    /// Held until the call is over.
    reservation: Reservation,
}

/// What is known once the signature is found right.
struct Verified {
    identity: Arc<Identity>,
    region: Region,
    found: Found,
    arrived: Arrived,
}

/// Answers one request. `unread` tells that a part of its body is still on the connection.
pub(crate) async fn handle(
    shared: &Shared,
    source: &dyn CredentialSource,
    request: Request<Incoming>,
) -> (Response<Bytes>, bool) {
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body);
    let expects = parts.headers.contains_key(EXPECT);
    let mut response = match pages::answer(&parts, shared.version, &shared.directory.scopes()) {
        Some(page) => page,
        None => answer(shared, source, parts, &mut upload).await,
    };
    if !upload.ended() && !expects && upload.size().is_some_and(|size| size <= THROWN_AWAY_BYTES as u64) {
        // Whatever comes of it: the answer is the same.
        let _ = upload.read(THROWN_AWAY_BYTES, false, &shared.limits, &shared.memory).await;
    }
    let unread = !upload.ended();
    if unread {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    (response, unread)
}

async fn answer(
    shared: &Shared,
    source: &dyn CredentialSource,
    parts: Parts,
    upload: &mut Upload,
) -> Response<Bytes> {
    let request_id = RequestId::random();
    let mut log = RequestLog::new(&shared.clock, &request_id, &parts.method, parts.uri.path());
    let (protocol, asked) = ask(shared, source, parts, upload, &request_id, &mut log).await;
    let outcome = match asked {
        Ok(Asked { entry, call, reservation }) => {
            let outcome = guarded(&*entry.service, call, &request_id).await;
            drop(reservation);
            outcome
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(reply) => {
            log.answer = Some((reply.status, ""));
            protocol::reply(protocol, &request_id, reply)
        }
        Err(error) => {
            log.answer = Some((error.status, error.code));
            protocol::error(protocol, &request_id, &error)
        }
    }
}

/// Which service is meant; then everything up to the call. The protocol is what the answer is written in.
async fn ask<'a>(
    shared: &'a Shared,
    source: &dyn CredentialSource,
    parts: Parts,
    upload: &mut Upload,
    request_id: &RequestId,
    log: &mut RequestLog,
) -> (Protocol, Result<Asked<'a>, ApiError>) {
    let presented = Presented::read(&parts);
    let scope = presented.as_ref().ok().and_then(|presented| presented.as_ref().map(Presented::service));
    let entry = match scope {
        Some(scope) => shared.directory.scope(scope),
        None => shared.directory.guess(&parts),
    };
    let Some(entry) = entry else {
        let form = stray_form(shared, &parts, upload).await;
        return (likely_protocol(&parts, scope), Err(no_service(&parts, scope, form.as_deref())));
    };
    log.service = entry.scope;
    let verified = match presented {
        Ok(Some(presented)) => verify(shared, source, entry, &presented, &parts, upload, log).await,
        Ok(None) => Err(unsigned(shared, entry, &parts, upload).await),
        Err(error) => Err(error.into_api_error(entry.protocol)),
    };
    let asked = match verified {
        Ok(verified) => permit(shared, entry, verified, parts, request_id, log),
        Err(error) => Err(error),
    };
    (entry.protocol, asked)
}

/// The form of a request for no service here, which names the operation that is missing.
async fn stray_form(shared: &Shared, parts: &Parts, upload: &mut Upload) -> Option<String> {
    if !is_form(parts) {
        return None;
    }
    let form = upload.read(STRAY_FORM_BYTES, false, &shared.limits, &shared.memory).await.ok()?;
    Some(String::from_utf8_lossy(&form.bytes).into_owned())
}

/// What is told to a request without a signature: that it needs one, if there is anything to be had with one.
async fn unsigned(shared: &Shared, entry: &Entry, parts: &Parts, upload: &mut Upload) -> ApiError {
    let missing = SigV4Error::Missing.into_api_error(entry.protocol);
    match entry.find(parts) {
        Ok(Found::Operation(..)) => missing,
        Ok(Found::InForm(limit)) => match upload.read(limit, false, &shared.limits, &shared.memory).await {
            Ok(form) => {
                let name = action(Some(&String::from_utf8_lossy(&form.bytes)));
                name.and_then(|name| entry.by_action(&name).err()).unwrap_or(missing)
            }
            Err(error) => body_error(&error, entry.scope),
        },
        Err(unknown) => unknown,
    }
}

/// Reads the body and checks the signature.
#[expect(clippy::too_many_arguments, reason = "all that there is to know of a request, each of its own life")]
async fn verify(
    shared: &Shared,
    source: &dyn CredentialSource,
    entry: &Entry,
    presented: &Presented<'_>,
    parts: &Parts,
    upload: &mut Upload,
    log: &mut RequestLog,
) -> Result<Verified, ApiError> {
    let wrong = |error: SigV4Error| error.into_api_error(entry.protocol);
    let identity = authenticate::claimed(shared, source, presented).map_err(wrong)?;
    log.identity = Some(Arc::clone(&identity));
    let found = entry.find(parts)?;
    let (limit, name) = match &found {
        Found::Operation(operation, _) => (operation.body_limit, operation.name),
        Found::InForm(limit) => (*limit, entry.scope),
    };
    log.operation = name;
    let arrived = upload.read(limit, presented.needs_body_hash(), &shared.limits, &shared.memory).await;
    let arrived = arrived.map_err(|error| body_error(&error, name))?;
    authenticate::proven(shared, presented, &identity, parts, &arrived.hash).map_err(wrong)?;
    Ok(Verified { identity, region: Region::new(presented.region()), found, arrived })
}

/// Whether the call may be made, and the call.
fn permit<'a>(
    shared: &Shared,
    entry: &'a Entry,
    verified: Verified,
    parts: Parts,
    request_id: &RequestId,
    log: &mut RequestLog,
) -> Result<Asked<'a>, ApiError> {
    let Verified { identity, region, found, arrived } = verified;
    let Arrived { bytes: body, reservation, .. } = arrived;
    let mut query = form::parse(parts.uri.query().unwrap_or_default());
    let (operation, labels): (&'static Operation, Labels) = match found {
        Found::Operation(operation, labels) => (operation, labels),
        Found::InForm(_) => {
            let text = String::from_utf8_lossy(&body);
            let name = action(Some(&text)).ok_or_else(missing_action)?;
            let operation = entry.by_action(&name)?;
            if body.len() > operation.body_limit {
                return Err(too_large(operation.body_limit, operation.name));
            }
            query.extend(form::parse(&text));
            (operation, Labels::new())
        }
    };
    log.operation = operation.name;
    let principal = identity.principal.clone();
    let account = &shared.account;
    authorise(Access { principal: &principal, operation, labels: &labels, region: &region, account })?;
    let headers = parts.headers;
    let request_id = request_id.clone();
    let call = Call { operation, principal, region, request_id, labels, query, headers, body };
    Ok(Asked { entry, call, reservation })
}

/// The call, with a panic in it turned into an error: a bug in one operation must not end the others on the connection.
async fn guarded(service: &dyn Service, call: Call, request_id: &RequestId) -> Result<Reply, ApiError> {
    let operation = call.operation.name;
    let mut future = service.call(call);
    let outcome = std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| Pin::as_mut(&mut future).poll(context));
        match std::panic::catch_unwind(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(outcome)),
            Err(_) => Poll::Ready(None),
        }
    });
    outcome.await.unwrap_or_else(|| {
        tracing::error!(%request_id, operation, "the operation panicked");
        let message = "The request could not be answered because of an internal error; the server's log has the details.";
        Err(ApiError::new("InternalFailure", StatusCode::INTERNAL_SERVER_ERROR, message))
    })
}

fn body_error(error: &BodyError, operation: &str) -> ApiError {
    match error {
        BodyError::TooLarge(limit) => too_large(*limit, operation),
        BodyError::TimedOut => {
            let message = "The request's body did not arrive in time.";
            ApiError::new("RequestTimeoutException", StatusCode::REQUEST_TIMEOUT, message)
        }
        BodyError::NoMemory => {
            let message = "The memory for request bodies is in use. Try again in a moment.";
            let error =
                ApiError::new("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE, message);
            error.with_header("retry-after", "1")
        }
        BodyError::Broken(error) => {
            let message = format!("The request's body broke off: {error}");
            ApiError::new("IncompleteBody", StatusCode::BAD_REQUEST, message)
        }
    }
}

fn too_large(limit: usize, operation: &str) -> ApiError {
    // Lambda's own name for it here differs from the API's.
    let operation = if operation == "Invoke" { "InvokeFunction" } else { operation };
    let message = format!("Request must be smaller than {limit} bytes for the {operation} operation");
    ApiError::new("RequestEntityTooLargeException", StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn missing_action() -> ApiError {
    let message = "The request must contain the parameter Action.";
    ApiError::new("MissingAction", StatusCode::BAD_REQUEST, message)
}
