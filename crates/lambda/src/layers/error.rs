//! AWS's errors for layers: code, status, text.

use http::StatusCode;

use super::policy::POLICY_BYTES;

/// Why an operation on a layer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// No such layer version; what reads it says no more.
    #[error("The resource you requested does not exist.")]
    NotFound,
    /// No such layer version, where its policy is meant; its ARN.
    #[error("Layer version {0} does not exist.")]
    VersionNotFound(String),
    /// The layer version has no policy.
    #[error("No policy is associated with the given resource.")]
    NoPolicy,
    /// The policy has no such statement.
    #[error("Statement {0} is not found in resource policy.")]
    StatementNotFound(String),
    /// The policy has such a statement already.
    #[error(
        "The statement id ({0}) provided already exists. Please provide a new statement id, or remove the existing \
         statement."
    )]
    StatementExists(String),
    /// The policy has changed since the client read it.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the \
         latest Revision Id"
    )]
    StaleRevision,
    /// The policy would be too long; its length in bytes.
    #[error("The final policy size ({0}) is bigger than the limit ({POLICY_BYTES}).")]
    PolicyTooLong(usize),
}

impl LayerError {
    /// AWS's code and status for it.
    pub(crate) fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::NotFound | Self::VersionNotFound(_) | Self::NoPolicy | Self::StatementNotFound(_) => {
                ("ResourceNotFoundException", StatusCode::NOT_FOUND)
            }
            Self::StatementExists(_) => ("ResourceConflictException", StatusCode::CONFLICT),
            Self::StaleRevision => ("PreconditionFailedException", StatusCode::PRECONDITION_FAILED),
            Self::PolicyTooLong(_) => ("PolicyLengthExceededException", StatusCode::BAD_REQUEST),
        }
    }
}
