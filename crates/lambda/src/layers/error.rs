//! AWS's errors for layers: code, status, text. Those of their policies that functions' have too are in `crate::policy`.

use http::StatusCode;

/// Why an operation on a layer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// No such layer version; what reads it says no more.
    #[error("The resource you requested does not exist.")]
    NotFound,
    /// No such layer version, where its policy is meant; its ARN.
    #[error("Layer version {0} does not exist.")]
    VersionNotFound(String),
    /// The policy has changed since the client read it.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the \
         latest Revision Id"
    )]
    StaleRevision,
}

impl LayerError {
    /// AWS's code and status for it.
    pub(crate) fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::NotFound | Self::VersionNotFound(_) => ("ResourceNotFoundException", StatusCode::NOT_FOUND),
            Self::StaleRevision => ("PreconditionFailedException", StatusCode::PRECONDITION_FAILED),
        }
    }
}
