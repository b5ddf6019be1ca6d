//! The one error that a client may see: AWS's code, HTTP status, a message that helps, and whose fault it was.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

/// Whose fault an error is; decides `Type` in the bodies that carry one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request was wrong: sending it again unchanged gives the same answer.
    Client,
    /// The platform could not do what it should.
    Server,
}

/// An error as AWS's APIs show it. Protocols differ only in how they write it down.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// AWS's error code, such as `ResourceNotFoundException`.
    pub code: &'static str,
    /// The HTTP status that goes with it.
    pub status: StatusCode,
    /// What a person reads.
    pub message: String,
    /// Further members of the error's shape (such as `Reason` of a throttle), in the body beside the message.
    pub members: Vec<(String, Value)>,
    /// Further headers (such as `Retry-After`).
    pub headers: Vec<(&'static str, String)>,
}

impl ApiError {
    /// An error with nothing but code, status and message.
    pub fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), members: Vec::new(), headers: Vec::new() }
    }

    /// The operation exists in AWS and not here (yet), or nowhere: 404 `UnknownOperationException`.
    pub fn unknown_operation(name: &str) -> Self {
        let message = format!("The operation {name} is not supported by Freehold yet.");
        Self::new("UnknownOperationException", StatusCode::NOT_FOUND, message)
    }

    /// Adds a member to the error's body.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a header to the error's response.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        if self.status.is_server_error() { Fault::Server } else { Fault::Client }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.code, self.status.as_u16(), self.message)
    }
}

impl std::error::Error for ApiError {}
