//! The replies of the Runtime API. Status codes, error types and messages are those of AWS's own implementation.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use uuid::Uuid;

use super::{ANSWER_BYTES, Invocation, Refusal, Registered, Verdict, extensions};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const TENANT_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-tenant-id");
const EVENT_ID: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");

/// The event itself.
pub(super) fn invocation(invocation: &Invocation) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(invocation.payload.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(REQUEST_ID, value(&invocation.request_id));
    headers.insert(DEADLINE, HeaderValue::from(invocation.deadline_ms));
    headers.insert(FUNCTION_ARN, value(&invocation.invoked_arn));
    headers.insert(TRACE_ID, value(&invocation.trace_header));
    if let Some(context) = &invocation.client_context {
        headers.insert(CLIENT_CONTEXT, value(context));
    }
    if let Some(tenant) = &invocation.tenant_id {
        headers.insert(TENANT_ID, value(tenant));
    }
    response
}

/// Any text as a header. In JSON, line ends and tabs stand only between tokens, where a space means the same.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text)
        .or_else(|_| HeaderValue::from_bytes(text.replace(|c: char| c.is_ascii_control(), " ").as_bytes()))
        .unwrap_or(HeaderValue::from_static(""))
}

/// What the environment's task decided.
pub(super) fn verdict(verdict: Verdict) -> Response<Full<Bytes>> {
    match verdict {
        Verdict::Accepted => reply(StatusCode::ACCEPTED, JSON, Bytes::from_static(b"{\"status\":\"OK\"}\n")),
        Verdict::TooLarge => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &format!("Exceeded maximum allowed payload size ({ANSWER_BYTES} bytes)."),
        ),
        Verdict::InvalidRequestId => error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        Verdict::InvalidState { from, to } => invalid_state(from, to),
    }
}

/// 403: the runtime is not in a state to do this.
pub(super) fn invalid_state(from: &str, to: &str) -> Response<Full<Bytes>> {
    let message = format!(
        "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
    );
    error(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
}

/// An extension has registered.
pub(super) fn registered(registered: &Registered) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::OK, JSON, registered.body.clone());
    response.headers_mut().insert(extensions::IDENTIFIER, value(&registered.id.to_string()));
    response
}

/// An event for an extension.
pub(super) fn extension_event(event: Bytes) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::OK, JSON, event);
    response.headers_mut().insert(EVENT_ID, value(&Uuid::new_v4().to_string()));
    response
}

/// An extension gets what it subscribed to.
pub(super) fn subscribed() -> Response<Full<Bytes>> {
    reply(StatusCode::OK, JSON, Bytes::from_static(b"\"OK\""))
}

/// An extension does not get what it asked for.
pub(super) fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    error(status, refusal.error_type, &refusal.message)
}

/// The connection ended within the body. Hardly anybody will read this.
pub(super) fn truncated() -> Response<Full<Bytes>> {
    error(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

/// The environment is being removed.
pub(super) fn closing() -> Response<Full<Bytes>> {
    error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
}

/// Part of AWS's interface that Freehold does not have.
pub(super) fn not_supported(what: &str) -> Response<Full<Bytes>> {
    error(StatusCode::NOT_IMPLEMENTED, "NotSupported", &format!("{what} is not supported by Freehold yet"))
}

/// No such path.
pub(super) fn not_found() -> Response<Full<Bytes>> {
    reply(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"404 page not found\n"))
}

/// The path exists, with another method.
pub(super) fn method_not_allowed() -> Response<Full<Bytes>> {
    reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::new())
}

/// It listens.
pub(super) fn pong() -> Response<Full<Bytes>> {
    reply(StatusCode::OK, TEXT, Bytes::from_static(b"pong"))
}

fn error(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({"errorMessage": message, "errorType": error_type}).to_string();
    reply(status, JSON, Bytes::from(body))
}

fn reply(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
