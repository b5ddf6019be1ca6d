//! `Invoke`: the function's answer (200), or for `DryRun` that it could be asked (204).
//!
//! This is the hot path: the definition comes from memory, the event's text is checked without being built up as a value
//! and is handed on as the bytes that came. Checking takes no recursion, so that an event may be nested as deeply as its
//! size allows: AWS hands such events on, and what becomes of them is the function's affair.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold_base::limits::{CLIENT_CONTEXT_BYTES, SYNC_PAYLOAD_BYTES};
use freehold_executor::event::{Answer, Event, Outcome};
use freehold_wire::service::{Call, Reply, Verb};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::IgnoredAny;

use super::empty_reply;
use super::entry::{Entry, FUNCTION, read};
use crate::Lambda;
use crate::access;
use crate::code::blocking;
use crate::error::LambdaError;
use crate::model::validation::Violations;
use crate::names::{LATEST, Target};
use crate::records::Snapshot;

const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
/// The tenant for whom an event is.
const TENANT_ID: &str = "x-amz-tenant-id";
/// Length of a tenant's id, in characters.
const TENANT_LENGTH: std::ops::RangeInclusive<usize> = 1..=256;
/// AWS's pattern for it, as its error texts show it.
const TENANT_PATTERN: &str = r"[a-zA-Z0-9\._:\/=+\-@ ]+";
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
/// Events from this size on are checked where blocking is allowed, in bytes: about a quarter of a millisecond's work.
const LARGE_EVENT_BYTES: usize = 256 * 1024;
/// What a function gets where the caller sends nothing: AWS's own choice.
const NO_EVENT: Bytes = Bytes::from_static(b"{}");

/// An event, in bytes: above AWS's limit, so that the refusal is Lambda's own and names the limit.
const EVENT_BODY_BYTES: usize = SYNC_PAYLOAD_BYTES + 1024 * 1024;

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[read(
    "Invoke",
    "lambda:InvokeFunction",
    Verb::Post,
    "/2015-03-31/functions/{FunctionName}/invocations",
    FUNCTION,
    |lambda, call| Box::pin(invoke(lambda, call)),
)
.with_body_limit(EVENT_BODY_BYTES)];

async fn invoke(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let manner = Manner::of(&call)?;
    if call.body.len() > SYNC_PAYLOAD_BYTES {
        return Err(LambdaError::PayloadTooLarge);
    }
    let not_found = || {
        let qualifier = target.qualifier.as_deref().unwrap_or(LATEST);
        LambdaError::FunctionNotFound(target.id.qualified_arn(Some(qualifier)))
    };
    let function = lambda.functions.get(&target).await?.ok_or_else(not_found)?;
    access::check(&function.policies, &call, &target)?;
    check_tenancy(function.per_tenant, call.header(TENANT_ID))?;
    let client_context = call.header("x-amz-client-context").map(read_client_context).transpose()?;
    let payload = check_event(call.body.clone()).await?;
    match manner.kind {
        Kind::DryRun => return Ok(empty_reply(StatusCode::NO_CONTENT)),
        Kind::Event => {
            return Err(LambdaError::Unsupported {
                member: "InvocationType Event",
                advice: "asynchronous invocation comes later; use RequestResponse.".to_owned(),
            });
        }
        Kind::RequestResponse => {}
    }
    let event = Event {
        request_id: call.request_id.clone(),
        payload,
        invoked_arn: target.id.qualified_arn(target.qualifier.as_deref()),
        client_context,
        trace_header: call.header("x-amzn-trace-id").map(str::to_owned),
        tenant_id: call.header(TENANT_ID).map(str::to_owned),
        wants_tail: manner.tail,
    };
    let runnable = function.version_for(&call.request_id);
    check_state(&runnable.snapshot)?;
    let version = Arc::clone(&runnable.version);
    let executed = HeaderValue::from_str(&version.version).expect("$LATEST, or digits");
    let outcome = lambda.executor.invoke(version, event).await?;
    Ok(reply(outcome, executed, manner.tail))
}

fn reply(outcome: Outcome, executed: HeaderValue, tail: bool) -> Reply {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(EXECUTED_VERSION, executed);
    if tail {
        let text = STANDARD.encode(&outcome.log_tail);
        headers
            .insert(LOG_RESULT, HeaderValue::from_str(&text).expect("base64 is text that a header may hold"));
    }
    let body = match outcome.answer {
        Answer::Payload(payload) => payload,
        Answer::Error(payload) => {
            headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
            payload
        }
    };
    Reply { status: StatusCode::OK, headers, body }
}

/// How the caller wants it done.
struct Manner {
    kind: Kind,
    /// With the end of the log.
    tail: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

impl Manner {
    fn of(call: &Call) -> Result<Self, LambdaError> {
        let mut violations = Violations::default();
        let asked = call.header("x-amz-invocation-type").unwrap_or("RequestResponse");
        violations.one_of("invocationType", asked, &["Event", "RequestResponse", "DryRun"]);
        let log = call.header("x-amz-log-type").unwrap_or("None");
        violations.one_of("logType", log, &["None", "Tail"]);
        if let Some(tenant) = call.header(TENANT_ID) {
            check_tenant(tenant, &mut violations);
        }
        violations.into_result()?;
        if call.header("x-amz-durable-execution-name").is_some() {
            let text =
                "The invoked function is not durable. Remove the durable execution name and try again.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
        let kind = match asked {
            "Event" => Kind::Event,
            "DryRun" => Kind::DryRun,
            _ => Kind::RequestResponse,
        };
        Ok(Self { kind, tail: log == "Tail" })
    }
}

fn check_tenant(tenant: &str, violations: &mut Violations) {
    violations.length("tenantId", tenant, TENANT_LENGTH);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/=+-@ ".contains(&byte);
    if TENANT_LENGTH.contains(&tenant.len()) && !tenant.bytes().all(fits) {
        violations.pattern("tenantId", tenant, TENANT_PATTERN);
    }
}

/// A version that is to start from a snapshot takes no events before it has one.
fn check_state(snapshot: &Snapshot) -> Result<(), LambdaError> {
    match snapshot {
        Snapshot::None | Snapshot::Made => Ok(()),
        Snapshot::Pending => Err(LambdaError::NotActive("Pending")),
        Snapshot::Failed { .. } => Err(LambdaError::NotActive("Failed")),
    }
}

/// A tenant must be named where the function keeps tenants apart, and only there.
fn check_tenancy(per_tenant: bool, tenant: Option<&str>) -> Result<(), LambdaError> {
    let text = match (per_tenant, tenant) {
        (false, None) | (true, Some(_)) => return Ok(()),
        (false, Some(_)) => {
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try \
             again."
        }
        (true, None) => {
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."
        }
    };
    Err(LambdaError::InvalidParameter(text.to_owned()))
}

/// The client context's JSON text.
fn read_client_context(encoded: &str) -> Result<String, LambdaError> {
    if encoded.len() > CLIENT_CONTEXT_BYTES {
        return Err(LambdaError::InvalidContent(format!(
            "Client context must be no more than {CLIENT_CONTEXT_BYTES} bytes when base64-encoded."
        )));
    }
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok())
        .ok_or_else(|| {
            LambdaError::InvalidContent(
                "Client context must be a valid Base64-encoded JSON object.".to_owned(),
            )
        })
}

/// The event's text, if it is JSON.
async fn check_event(payload: Bytes) -> Result<Bytes, LambdaError> {
    if payload.is_empty() {
        return Ok(NO_EVENT);
    }
    if payload.len() < LARGE_EVENT_BYTES {
        return is_json(&payload).map(|()| payload);
    }
    blocking("check an event", move || is_json(&payload).map(|()| payload)).await?
}

fn is_json(payload: &[u8]) -> Result<(), LambdaError> {
    let refused = |reason: String| {
        LambdaError::InvalidContent(format!(
            "Could not parse request body into json: Could not parse payload into json: {reason}"
        ))
    };
    if let Err(error) = std::str::from_utf8(payload) {
        let byte = payload.get(error.valid_up_to()).copied().unwrap_or_default();
        return Err(refused(format!("Invalid UTF-8 start byte {byte:#04x}")));
    }
    // Skipping a value keeps its nesting on the heap, one byte a level, not on the stack.
    serde_json::from_slice::<IgnoredAny>(payload).map(|_| ()).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deep_events_are_checked_without_recursion() {
        let depth = SYNC_PAYLOAD_BYTES / 2;
        let deep = ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(is_json(deep.as_bytes()).is_ok());
        assert!(is_json(&deep.as_bytes()[..depth + 5]).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused_in_awss_words() {
        for text in
            ["'test'", "{", "{\"a\":}", "nul", "1 2", "[1,]", "\"\u{1}\"", "NaN", " ", "\"\\x\"", "01"]
        {
            let error = is_json(text.as_bytes()).expect_err(text).to_string();
            assert!(
                error.starts_with(
                    "Could not parse request body into json: Could not parse payload into json: "
                )
            );
        }
        let error = is_json(b"{\"a\": \"\x87\"}").expect_err("not UTF-8").to_string();
        assert!(error.ends_with("Invalid UTF-8 start byte 0x87"), "{error}");
    }

    #[test]
    fn a_client_context_is_an_object_in_base64() {
        assert_eq!(read_client_context("eyJhIjoxfQ==").expect("valid"), r#"{"a":1}"#);
        for wrong in ["", "*", "WzFd", "e30", "eyJhIjo="] {
            assert!(matches!(read_client_context(wrong), Err(LambdaError::InvalidContent(_))), "{wrong}");
        }
        let long = "A".repeat(CLIENT_CONTEXT_BYTES + 1);
        assert!(read_client_context(&long).is_err_and(|error| error.to_string().contains("3583")));
    }

    proptest! {
        /// Skipping accepts exactly what building up the value accepts.
        #[test]
        fn skipping_agrees_with_parsing(text in r#"[\[\]{},:"0-9a-z\\ .eE+-]{0,24}"#) {
            let parsed = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(is_json(text.as_bytes()).is_ok(), parsed, "{}", text);
        }
    }
}
