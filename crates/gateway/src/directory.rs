//! Which service a request means, and which of its operations.
//!
//! A signature names its service; an unsigned request is only told apart to give it an error in the right shape: by
//! `X-Amz-Target`, by the first label of the host name (`lambda.us-east-1.…`), by `Action` in the query, or by its path.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_wire::error::ApiError;
use freehold_wire::form;
use freehold_wire::route::{Labels, NameRoutes, PathRoutes, Target};
use freehold_wire::service::{Operation, Protocol, Service};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;

use crate::GatewayError;

/// How much of an unknown path or name an error repeats, in characters.
const NAMED_LENGTH: usize = 200;

/// A service and the ways to its operations.
pub(crate) struct Entry {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) protocol: Protocol,
    pub(crate) scope: &'static str,
    paths: PathRoutes,
    names: NameRoutes,
    /// The largest body that any of its operations takes, in bytes.
    body_limit: usize,
}

/// An operation, as far as the request's head tells it.
pub(crate) enum Found {
    /// This one.
    Operation(&'static Operation, Labels),
    /// Its name is in the form that is the body; no body of the service is larger than this, in bytes.
    InForm(usize),
}

/// All services by the scope that signatures name them by.
pub(crate) struct Directory {
    entries: Vec<Entry>,
    by_scope: HashMap<&'static str, usize>,
}

impl Directory {
    pub(crate) fn new(services: Vec<Arc<dyn Service>>) -> Result<Self, GatewayError> {
        let mut directory = Self { entries: Vec::new(), by_scope: HashMap::new() };
        for service in services {
            let definition = service.definition();
            let scope = definition.scope;
            let wrong = |source| GatewayError::Routes { service: scope, source };
            let entry = Entry {
                protocol: definition.protocol,
                scope,
                paths: PathRoutes::new(definition).map_err(wrong)?,
                names: NameRoutes::new(definition).map_err(wrong)?,
                body_limit: definition.operations.iter().map(|one| one.body_limit).max().unwrap_or_default(),
                service,
            };
            if directory.by_scope.insert(scope, directory.entries.len()).is_some() {
                return Err(GatewayError::Twice(scope));
            }
            directory.entries.push(entry);
        }
        Ok(directory)
    }

    /// The services' names.
    pub(crate) fn scopes(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.scope).collect()
    }

    /// The service of this scope.
    pub(crate) fn scope(&self, scope: &str) -> Option<&Entry> {
        self.by_scope.get(scope).map(|&index| &self.entries[index])
    }

    /// The service that an unsigned request seems to mean.
    pub(crate) fn guess(&self, parts: &Parts) -> Option<&Entry> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Some((name, _)) = host.split_once('.')
            && let Some(entry) = self.scope(name)
        {
            return Some(entry);
        }
        self.entries.iter().find(|entry| match entry.protocol {
            Protocol::RestJson | Protocol::RestXml => entry.by_path(parts).is_some(),
            Protocol::Json10 | Protocol::Json11 => {
                target(parts).is_some_and(|name| entry.names.find(name).is_some())
            }
            Protocol::Query(_) => is_form(parts) || action(parts.uri.query()).is_some(),
        })
    }
}

impl Entry {
    /// The operation, as far as the head tells it.
    pub(crate) fn find(&self, parts: &Parts) -> Result<Found, ApiError> {
        let (found, name) = match self.protocol {
            Protocol::RestJson | Protocol::RestXml => (self.by_path(parts), place(parts)),
            Protocol::Json10 | Protocol::Json11 => {
                let name = target(parts).unwrap_or_default();
                (self.names.find(name).map(|target| (target, Labels::new())), name.to_owned())
            }
            Protocol::Query(_) => match action(parts.uri.query()) {
                Some(name) => return Ok(Found::Operation(self.by_action(&name)?, Labels::new())),
                None => return Ok(Found::InForm(self.body_limit)),
            },
        };
        match found {
            Some((Target::Operation(operation), labels)) => Ok(Found::Operation(operation, labels)),
            Some((Target::Known(name), _)) => Err(ApiError::unknown_operation(name)),
            None => {
                Err(unknown(format!("Unknown operation: the service {} has none at '{name}'.", self.scope)))
            }
        }
    }

    /// The operation that a form asks for.
    pub(crate) fn by_action(&self, name: &str) -> Result<&'static Operation, ApiError> {
        let message = match self.names.find(name) {
            Some(Target::Operation(operation)) => return Ok(operation),
            Some(Target::Known(name)) => ApiError::unknown_operation(name).message,
            None => format!("Could not find operation {} of the service {}.", shortened(name), self.scope),
        };
        // The query protocol's own form of an unknown operation.
        Err(ApiError::new("InvalidAction", StatusCode::BAD_REQUEST, message))
    }

    fn by_path(&self, parts: &Parts) -> Option<(Target, Labels)> {
        self.paths.find(&parts.method, parts.uri.path(), parts.uri.query())
    }
}

/// The protocol that a request for no service here seems to speak.
pub(crate) fn likely_protocol(parts: &Parts, scope: Option<&str>) -> Protocol {
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if target(parts).is_some() {
        return if content_type.contains("json-1.1") { Protocol::Json11 } else { Protocol::Json10 };
    }
    if is_form(parts) || action(parts.uri.query()).is_some() {
        return Protocol::Query("https://freehold.invalid/");
    }
    if scope == Some("s3") { Protocol::RestXml } else { Protocol::RestJson }
}

/// The error for a request that means no service here; `form` is its body where that is a form.
pub(crate) fn no_service(parts: &Parts, scope: Option<&str>, form: Option<&str>) -> ApiError {
    let named = || action(parts.uri.query()).or_else(|| action(form)).map(|name| shortened(&name));
    let name = target(parts).map(shortened).or_else(named).unwrap_or_else(|| place(parts));
    unknown(match scope {
        Some(scope) => {
            format!(
                "Unknown operation '{name}': Freehold does not have the service '{}' yet.",
                shortened(scope)
            )
        }
        None => format!("Unknown operation: nothing here answers '{name}'."),
    })
}

fn unknown(message: String) -> ApiError {
    ApiError::new("UnknownOperationException", StatusCode::NOT_FOUND, message)
}

/// `X-Amz-Target`.
fn target(parts: &Parts) -> Option<&str> {
    parts.headers.get("x-amz-target")?.to_str().ok()
}

pub(crate) fn is_form(parts: &Parts) -> bool {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

/// The parameter `Action`.
pub(crate) fn action(query: Option<&str>) -> Option<String> {
    form::value(query?, "Action").map(std::borrow::Cow::into_owned)
}

/// Method and path, for people.
fn place(parts: &Parts) -> String {
    format!("{} {}", parts.method, shortened(parts.uri.path()))
}

fn shortened(text: &str) -> String {
    text.chars().take(NAMED_LENGTH).collect()
}
