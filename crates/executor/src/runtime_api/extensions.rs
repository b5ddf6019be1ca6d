//! The requests of extensions: what they ask of the environment's task ([`ExtensionCall`]), and the replies.
//!
//! ```text
//! POST /2020-01-01/extension/register     once, with a name and the events it wants
//! GET  /2020-01-01/extension/event/next   long poll: the next INVOKE or SHUTDOWN
//! POST /2020-01-01/extension/init/error   its Init has failed
//! POST /2020-01-01/extension/exit/error   it is about to end
//! PUT  /2020-08-15/logs                   subscribe to the log
//! PUT  /2022-07-01/telemetry              subscribe to the telemetry
//! ```
//!
//! Who speaks is known by the id that it got when it registered. As on AWS that id is no secret between the processes of
//! one environment, which trust each other with everything else too.
//!
//! Sources: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>, `telemetry-api-reference.html`,
//! `runtimes-logs-api.html`; AWS's emulator for error types and messages.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::connection::{Unread, collect};
use super::stream::Handle;
use super::{Call, reply};

pub(super) const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
pub(super) const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const FEATURES: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-extension-function-error-type");

/// The largest request of an extension, in bytes. What they send is a few hundred.
const REQUEST_BYTES: u64 = 64 * 1024;

/// The longest name, and the longest error type, in bytes: what a file name can have.
const NAME_BYTES: usize = 255;

/// What an extension asks of the environment's task.
#[derive(Debug)]
pub(crate) enum ExtensionCall {
    /// It is there, and wants these events.
    Register {
        name: String,
        events: Vec<String>,
        /// It understands the account id in the reply.
        wants_account: bool,
        reply: oneshot::Sender<Result<Registered, Refusal>>,
    },
    /// It wants an event. Nothing is owed if `reply` has closed.
    Next { id: Uuid, reply: oneshot::Sender<Result<Bytes, Refusal>> },
    /// It has failed, in Init or later.
    Error { id: Uuid, when: When, error_type: String, reply: oneshot::Sender<Result<(), Refusal>> },
    /// It wants telemetry.
    Subscribe { id: Uuid, api: Api, body: Bytes, reply: oneshot::Sender<Result<(), Refusal>> },
}

/// When an extension has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// `init/error`.
    Init,
    /// `exit/error`.
    Exit,
}

/// Which of the two interfaces is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// The older one, `2020-08-15/logs`.
    Logs,
    /// `2022-07-01/telemetry`.
    Telemetry,
}

/// What an extension hears when it has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) id: Uuid,
    /// The reply's JSON text.
    pub(crate) body: Bytes,
}

/// Why an extension's request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    /// 403, as for nearly everything.
    pub(crate) fn forbidden(error_type: &'static str, message: impl Into<String>) -> Self {
        Self { status: 403, error_type, message: message.into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    configuration_keys: Option<Vec<String>>,
}

pub(super) async fn register(
    headers: &HeaderMap,
    body: Incoming,
    calls: &mpsc::Sender<Call>,
) -> Response<Full<Bytes>> {
    let Some(name) = text(headers, &NAME) else {
        return refused(&Refusal::forbidden("Extension.InvalidExtensionName", "Empty extension name"));
    };
    let Ok(body) = read(body).await else { return reply::truncated() };
    let invalid = |message: String| refused(&Refusal::forbidden("InvalidRequestFormat", message));
    let registration: Registration = match serde_json::from_slice(&body) {
        Ok(registration) => registration,
        Err(error) => return invalid(error.to_string()),
    };
    if registration.configuration_keys.is_some_and(|keys| !keys.is_empty()) {
        return invalid("configurationKeys are deprecated; use environment variables instead".to_owned());
    }
    let wants_account = text(headers, &FEATURES)
        .is_some_and(|features| features.split(',').any(|feature| feature.trim() == "accountId"));
    let events = registration.events.unwrap_or_default();
    match ask(calls, |reply| ExtensionCall::Register { name, events, wants_account, reply }).await {
        Ok(registered) => reply::registered(&registered),
        Err(response) => response,
    }
}

pub(super) async fn next(
    headers: &HeaderMap,
    calls: &mpsc::Sender<Call>,
    stream: &Handle,
) -> Response<Full<Bytes>> {
    let id = match identifier(headers) {
        Ok(id) => id,
        Err(refusal) => return refused(&refusal),
    };
    let event = ask(calls, |reply| ExtensionCall::Next { id, reply });
    tokio::select! {
        biased;
        event = event => event.map_or_else(|response| response, reply::extension_event),
        // Nobody is there any more to be given an event.
        () = stream.ended() => reply::closing(),
    }
}

pub(super) async fn error(
    when: When,
    headers: &HeaderMap,
    body: Incoming,
    calls: &mpsc::Sender<Call>,
) -> Response<Full<Bytes>> {
    let id = match identifier(headers) {
        Ok(id) => id,
        Err(refusal) => return refused(&refusal),
    };
    let Some(error_type) = text(headers, &ERROR_TYPE) else {
        let message = "Lambda-Extension-Function-Error-Type not found";
        return refused(&Refusal::forbidden("Extension.MissingHeader", message));
    };
    // Its text says more, but to nobody: AWS keeps the type alone.
    if read(body).await.is_err() {
        return reply::truncated();
    }
    match ask(calls, |reply| ExtensionCall::Error { id, when, error_type, reply }).await {
        Ok(()) => reply::verdict(super::Verdict::Accepted),
        Err(response) => response,
    }
}

pub(super) async fn subscribe(
    api: Api,
    headers: &HeaderMap,
    body: Incoming,
    calls: &mpsc::Sender<Call>,
) -> Response<Full<Bytes>> {
    let id = match identifier(headers) {
        Ok(id) => id,
        Err(refusal) => return refused(&refusal),
    };
    let Ok(body) = read(body).await else { return reply::truncated() };
    match ask(calls, |reply| ExtensionCall::Subscribe { id, api, body, reply }).await {
        Ok(()) => reply::subscribed(),
        Err(response) => response,
    }
}

/// Puts a question to the environment's task.
async fn ask<T>(
    calls: &mpsc::Sender<Call>,
    question: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> ExtensionCall,
) -> Result<T, Response<Full<Bytes>>> {
    let (reply, answer) = oneshot::channel();
    if calls.send(Call::Extension(Box::new(question(reply)))).await.is_err() {
        return Err(reply::closing());
    }
    match answer.await {
        Ok(answer) => answer.map_err(|refusal| refused(&refusal)),
        Err(_) => Err(reply::closing()),
    }
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    reply::refused(refusal)
}

/// A body; one that is too large reads as an empty one, which nothing accepts.
async fn read(body: Incoming) -> Result<Bytes, ()> {
    match collect(body, REQUEST_BYTES).await {
        Ok(body) => Ok(body),
        Err(Unread::TooLarge) => Ok(Bytes::new()),
        Err(Unread::Truncated) => Err(()),
    }
}

fn identifier(headers: &HeaderMap) -> Result<Uuid, Refusal> {
    let Some(text) = text(headers, &IDENTIFIER) else {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(Refusal::forbidden("Extension.MissingExtensionIdentifier", message));
    };
    let message = "Invalid Lambda-Extension-Identifier";
    text.parse().map_err(|_| Refusal::forbidden("Extension.InvalidExtensionIdentifier", message))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (!text.is_empty() && text.len() <= NAME_BYTES).then(|| text.to_owned())
}
