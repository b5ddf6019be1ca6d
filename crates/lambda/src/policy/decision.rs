//! What a resource's policies say about one request. Pure: whoever asks brings all that is known.
//!
//! ```text
//! any statement that fits denies?  ── yes ──> Denied
//! any statement that fits allows?  ── yes ──> Allowed
//! neither ───────────────────────────────> Neither   (the caller's own account decides)
//! ```
//!
//! Whoever carries an event to a function for a service asks in the same way, with the service as the caller and the source's
//! ARN and account as context: it must be `Allowed`.

use super::condition::{self, Context};
use super::pattern::fits;
use super::principal::Caller;
use super::{Document, Effect, Statement};

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) caller: Caller<'a>,
    /// Such as `lambda:InvokeFunction`.
    pub(crate) action: &'a str,
    /// The ARNs that name the resource: one, or for `$LATEST` that with and that without it.
    pub(crate) resources: &'a [String],
    pub(crate) context: &'a Context,
}

/// What the policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A statement lets the caller in, and none keeps it out.
    Allowed,
    /// A statement keeps the caller out.
    Denied,
    /// Nothing.
    Neither,
}

/// What these policies together say about the request.
pub(crate) fn decide(documents: &[Document], request: &Request<'_>) -> Decision {
    let mut decision = Decision::Neither;
    for statement in documents.iter().flat_map(|document| &document.statement) {
        if statement.fits(request) {
            match statement.effect {
                Effect::Deny => return Decision::Denied,
                Effect::Allow => decision = Decision::Allowed,
            }
        }
    }
    decision
}

impl Statement {
    fn fits(&self, request: &Request<'_>) -> bool {
        self.principal.names(&request.caller)
            && self.action.as_slice().iter().any(|action| is_action(action, request.action))
            && self
                .resource
                .as_slice()
                .iter()
                .any(|pattern| request.resources.iter().any(|resource| fits(pattern, resource)))
            && condition::hold(&self.condition, request.context)
    }
}

/// Actions have no case.
fn is_action(pattern: &str, action: &str) -> bool {
    fits(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}
