//! Resource-based policies: who else may do what with a function, a version, an alias (or another resource of Lambda's).
//!
//! ```text
//! Document  Version, Id, Statement: [ … ]        at most POLICY_BYTES as text
//! Statement Sid, Effect, Principal, Action, Resource, Condition
//! ```
//!
//! - here: the document and its statements, as they are stored and shown
//! - [`principal`]: whom a statement names
//! - [`condition`]: under which circumstances it counts
//! - [`decision`]: what the documents say about one request; pure, also for what services will ask
//! - [`reading`]: from a client's text to a document
//!
//! Nothing here knows where policies are kept, nor of which operation a request comes.

pub(crate) mod condition;
pub(crate) mod decision;
mod pattern;
pub(crate) mod principal;
pub(crate) mod reading;
#[cfg(test)]
mod tests;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::principal::Principal;

/// A policy as text, in bytes. Source: the model's `ResourcePolicy`, and AWS's error text.
pub(crate) const POLICY_BYTES: usize = 20_480;
/// The version of the policy language that Lambda writes.
const LANGUAGE_VERSION: &str = "2012-10-17";
/// The id of the policies that Lambda makes of single permissions.
const DEFAULT_ID: &str = "default";

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Document {
    /// Of the policy language.
    #[serde(default = "language_version")]
    pub(crate) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) statement: Vec<Statement>,
}

/// One statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Statement {
    /// Its name, of which a document has no two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principal: Principal,
    pub(crate) action: OneOrMany,
    pub(crate) resource: OneOrMany,
    /// By operator, then by key: a text or several.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) condition: Map<String, Value>,
}

/// What a statement does to the requests that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    /// Lets them in, unless another statement denies.
    Allow,
    /// Keeps them out, whatever else is said.
    Deny,
}

/// A text, or a list of them, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What is wrong with a policy, or with what a client wants of it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// There would be more of it than may be.
    #[error("The final policy size ({0}) is bigger than the limit ({POLICY_BYTES}).")]
    TooLong(usize),
    /// A statement of this name is there already.
    #[error(
        "The statement id ({0}) provided already exists. Please provide a new statement id, or remove the existing \
         statement."
    )]
    StatementExists(String),
    /// No such statement.
    #[error("Statement {0} is not found in resource policy.")]
    StatementNotFound(String),
    /// The resource has no policy.
    #[error("No policy is associated with the given resource.")]
    NotThere,
    /// The function (its ARN) is not there, and so has no policy.
    #[error("No policy found for: {0}")]
    NotFoundFor(String),
    /// A principal that no policy can name.
    #[error("The provided principal was invalid. Please check the principal and try again.")]
    InvalidPrincipal,
    /// A document that is not a policy.
    #[error("The policy is not valid: {0}")]
    Invalid(String),
    /// Something that AWS's policies may say and that could not be kept here.
    #[error("Freehold does not support {element} (yet): {advice}")]
    Unsupported {
        /// What it is.
        element: String,
        /// What to do instead.
        advice: &'static str,
    },
}

impl PolicyError {
    /// AWS's code and status for it.
    pub(crate) fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::TooLong(_) => ("PolicyLengthExceededException", StatusCode::BAD_REQUEST),
            Self::StatementExists(_) => ("ResourceConflictException", StatusCode::CONFLICT),
            Self::StatementNotFound(_) | Self::NotThere | Self::NotFoundFor(_) => {
                ("ResourceNotFoundException", StatusCode::NOT_FOUND)
            }
            Self::InvalidPrincipal | Self::Invalid(_) | Self::Unsupported { .. } => {
                ("InvalidParameterValueException", StatusCode::BAD_REQUEST)
            }
        }
    }
}

impl Default for Document {
    /// A policy without statements, as single permissions begin one.
    fn default() -> Self {
        Self { version: language_version(), id: Some(DEFAULT_ID.to_owned()), statement: Vec::new() }
    }
}

impl Document {
    /// Adds a statement, whose name must be new.
    pub(crate) fn add(&mut self, statement: Statement) -> Result<(), PolicyError> {
        self.check_name(&statement)?;
        self.statement.push(statement);
        self.check_size()
    }

    /// Refuses a statement whose name another has.
    pub(crate) fn check_name(&self, statement: &Statement) -> Result<(), PolicyError> {
        match &statement.sid {
            Some(sid) if self.statement.iter().any(|own| own.sid.as_ref() == Some(sid)) => {
                Err(PolicyError::StatementExists(sid.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Removes the statement of this name.
    pub(crate) fn remove(&mut self, sid: &str) -> Result<(), PolicyError> {
        let place = self.statement.iter().position(|own| own.sid.as_deref() == Some(sid));
        self.statement.remove(place.ok_or_else(|| PolicyError::StatementNotFound(sid.to_owned()))?);
        Ok(())
    }

    /// Refuses a policy that is too long.
    pub(crate) fn check_size(&self) -> Result<(), PolicyError> {
        match self.to_text().len() {
            bytes if bytes > POLICY_BYTES => Err(PolicyError::TooLong(bytes)),
            _ => Ok(()),
        }
    }

    /// The policy as JSON, as AWS shows it.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and maps of texts can always be written")
    }
}

impl Statement {
    /// A statement that allows one principal one action, as a single permission makes it.
    pub(crate) fn allow(sid: String, principal: Principal, action: String, resource: String) -> Self {
        Self {
            sid: Some(sid),
            effect: Effect::Allow,
            principal,
            action: OneOrMany::One(action),
            resource: OneOrMany::One(resource),
            condition: Map::new(),
        }
    }

    /// With a condition more, where there is a value for it.
    pub(crate) fn with_condition(mut self, operator: &str, key: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            let keys = self.condition.entry(operator).or_insert_with(|| Value::Object(Map::new()));
            keys[key] = Value::String(value);
        }
        self
    }

    /// The statement as JSON, as AWS shows it.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and maps of texts can always be written")
    }
}

impl OneOrMany {
    /// The texts.
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [String] {
        match self {
            Self::One(text) => std::slice::from_mut(text),
            Self::Many(texts) => texts,
        }
    }
}

fn language_version() -> String {
    LANGUAGE_VERSION.to_owned()
}
