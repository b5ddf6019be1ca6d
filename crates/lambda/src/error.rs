//! Why an operation failed, and how AWS's Lambda says so: code, status, message, `Type`.
//!
//! Texts are AWS's own where AWS has one for the case; where Freehold cannot do (yet) what AWS can, the text says what.

use freehold_base::limits::{SYNC_PAYLOAD_BYTES, ZIP_DIRECT_BYTES};
use freehold_executor::event::{InvokeError, ThrottleReason};
use freehold_store::{BlobError, StoreError};
use freehold_wire::error::{ApiError, Fault};
use http::StatusCode;

pub use crate::layers::error::LayerError;
use crate::package::PackageError;
use crate::policy::PolicyError;

/// How long a throttled client should wait, in seconds: AWS's own answer to a concurrency throttle.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LambdaError {
    /// Members that break the model's constraints, one text each.
    #[error("{}", violations_text(.0))]
    Validation(Vec<String>),
    /// A body that is not JSON, or whose members have wrong types.
    #[error("{0}")]
    Serialization(String),
    /// A value that the model allows and the operation does not.
    #[error("{0}")]
    InvalidParameter(String),
    /// A member that AWS honours and Freehold cannot (yet), where ignoring it would change what runs.
    #[error("Freehold does not support {member} (yet): {advice}")]
    Unsupported {
        /// The member as the API calls it.
        member: &'static str,
        /// What to do instead.
        advice: String,
    },
    /// No such function, version or alias; the ARN as it was asked for.
    #[error("Function not found: {0}")]
    FunctionNotFound(String),
    /// No function of the caller's uses such a package.
    #[error("Package not found: {0}")]
    PackageNotFound(String),
    /// An ARN of another region than the one that was asked.
    #[error("Functions from '{named}' are not reachable in this region ('{here}')")]
    OtherRegion {
        /// The region in the ARN.
        named: String,
        /// The region that was asked.
        here: String,
    },
    /// An ARN of another account: nothing of any but the one account is served here, so no policy lets the caller in.
    #[error(
        "User: {principal} is not authorized to perform: {action} on resource: {resource} because no resource-based \
         policy allows the {action} action"
    )]
    OtherAccount {
        /// Who asked.
        principal: String,
        /// The IAM action.
        action: &'static str,
        /// What was named.
        resource: String,
    },
    /// A policy of the resource keeps the caller out.
    #[error(
        "User: {principal} is not authorized to perform: {action} on resource: {resource} with an explicit deny in a \
         resource-based policy"
    )]
    DeniedByPolicy {
        /// Who asked.
        principal: String,
        /// The IAM action.
        action: &'static str,
        /// What was named.
        resource: String,
    },
    /// A policy, or a part of one, that is refused or not there.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Something without a better name for it is not there.
    #[error("The resource you requested does not exist.")]
    NoSuchResource,
    /// A function of this name is there already.
    #[error("Function already exist: {0}")]
    AlreadyExists(String),
    /// No such alias; its ARN.
    #[error("Cannot find alias arn: {0}")]
    AliasNotFound(String),
    /// An alias of this name is there already; its ARN.
    #[error("Alias already exists: {0}")]
    AliasExists(String),
    /// Aliases lead to the version.
    #[error("Unable to delete version because the following aliases reference it: [{}]", .0.join(", "))]
    VersionInUse(Vec<String>),
    /// Another update of the same function has not ended.
    #[error("The operation cannot be performed at this time. An update is in progress for resource: {0}")]
    UpdateInProgress(String),
    /// A version that takes no events (yet): its state.
    #[error(
        "The operation cannot be performed at this time. The function is currently in the following state: {0}"
    )]
    NotActive(&'static str),
    /// Nothing is provisioned of the version or alias.
    #[error("No Provisioned Concurrency Config found for this function")]
    NotProvisioned,
    /// An alias cannot provision the version that it leads to: there is a configuration for it already.
    #[error(
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    )]
    AlreadyProvisioned,
    /// A version cannot have a configuration of its own: that of an alias is for it.
    #[error("Version is pointed by a Provisioned Concurrency alias")]
    ProvisionedByAlias,
    /// The function has changed since the client read it.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve \
         the latest Revision Id"
    )]
    StaleRevision,
    /// A zip in the request that is too large to be sent that way.
    #[error("Zipped size must be smaller than {ZIP_DIRECT_BYTES} bytes")]
    ZipTooLarge,
    /// The account's packages would be too large together.
    #[error("Code storage limit exceeded.")]
    CodeStorageExceeded,
    /// A function is to be deployed by a code-signing configuration that is not there; its ARN.
    #[error(
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {0}."
    )]
    SigningNotFound(String),
    /// A code-signing configuration that is asked for is not there; its ARN.
    #[error("The Lambda code signing configuration {0} can not be found.")]
    NoSuchSigning(String),
    /// Functions are deployed by the code-signing configuration; its ARN.
    #[error("The code signing configuration {0} cannot be deleted while functions use it.")]
    SigningInUse(String),
    /// Code without a trusted signature, where one is asked for.
    #[error(
        "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not \
         configured to accept. Check the provided signature for unsigned."
    )]
    Unsigned,
    /// An event that is too large.
    #[error("Request must be smaller than {SYNC_PAYLOAD_BYTES} bytes for the InvokeFunction operation")]
    PayloadTooLarge,
    /// An event that is not JSON, or a client context that is not.
    #[error("{0}")]
    InvalidContent(String),
    /// A layer, or its policy, is not as the operation needs it.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A deployment package that is refused.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The executor did not run the event.
    #[error(transparent)]
    Invoke(#[from] InvokeError),
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob could not be kept or read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Something else of the platform's own broke.
    #[error("cannot {step}: {reason}")]
    Internal {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        reason: String,
    },
}

impl LambdaError {
    /// AWS's code and status for it.
    fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Validation(_) => ("ValidationException", StatusCode::BAD_REQUEST),
            Self::Serialization(_) => ("SerializationException", StatusCode::BAD_REQUEST),
            Self::InvalidParameter(_) | Self::Unsupported { .. } => {
                ("InvalidParameterValueException", StatusCode::BAD_REQUEST)
            }
            Self::Policy(error) => error.code(),
            Self::FunctionNotFound(_)
            | Self::AliasNotFound(_)
            | Self::NoSuchResource
            | Self::NoSuchSigning(_)
            | Self::PackageNotFound(_)
            | Self::OtherRegion { .. } => ("ResourceNotFoundException", StatusCode::NOT_FOUND),
            Self::OtherAccount { .. } | Self::DeniedByPolicy { .. } => {
                ("AccessDeniedException", StatusCode::FORBIDDEN)
            }
            Self::NotProvisioned => ("ProvisionedConcurrencyConfigNotFoundException", StatusCode::NOT_FOUND),
            Self::SigningNotFound(_) => ("CodeSigningConfigNotFoundException", StatusCode::NOT_FOUND),
            Self::SigningInUse(_) => ("ResourceConflictException", StatusCode::CONFLICT),
            Self::CodeStorageExceeded => ("CodeStorageExceededException", StatusCode::BAD_REQUEST),
            Self::Unsigned => ("CodeVerificationFailedException", StatusCode::BAD_REQUEST),
            Self::AlreadyExists(_)
            | Self::AliasExists(_)
            | Self::VersionInUse(_)
            | Self::NotActive(_)
            | Self::AlreadyProvisioned
            | Self::ProvisionedByAlias
            | Self::UpdateInProgress(_) => ("ResourceConflictException", StatusCode::CONFLICT),
            Self::Layer(error) => error.code(),
            Self::StaleRevision => ("PreconditionFailedException", StatusCode::PRECONDITION_FAILED),
            Self::ZipTooLarge => ("RequestEntityTooLargeException", StatusCode::PAYLOAD_TOO_LARGE),
            Self::PayloadTooLarge => ("RequestTooLargeException", StatusCode::PAYLOAD_TOO_LARGE),
            Self::InvalidContent(_) => ("InvalidRequestContentException", StatusCode::BAD_REQUEST),
            Self::Package(PackageError::Io { .. }) => ("ServiceException", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Package(_) => ("InvalidParameterValueException", StatusCode::BAD_REQUEST),
            Self::Invoke(InvokeError::Throttled(_)) => {
                ("TooManyRequestsException", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Invoke(InvokeError::Runtime(_)) => ("InvalidRuntimeException", StatusCode::BAD_GATEWAY),
            Self::Invoke(_) | Self::Store(_) | Self::Blob(_) | Self::Internal { .. } => {
                ("ServiceException", StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl From<LambdaError> for ApiError {
    fn from(error: LambdaError) -> Self {
        let (code, status) = error.code();
        let mut api = ApiError::new(code, status, error.to_string());
        match &error {
            // AWS's own front end refuses these before its Lambda sees them; they carry no `Type`.
            LambdaError::Validation(_)
            | LambdaError::Serialization(_)
            | LambdaError::OtherAccount { .. }
            | LambdaError::DeniedByPolicy { .. }
            | LambdaError::NoSuchSigning(_)
            | LambdaError::ZipTooLarge => return api,
            LambdaError::Invoke(InvokeError::Throttled(reason)) => {
                api = api
                    .with_member("Reason", reason_text(*reason))
                    .with_header("Retry-After", RETRY_AFTER_SECONDS);
            }
            _ => {}
        }
        let fault = if api.fault() == Fault::Server { "Service" } else { "User" };
        if api.fault() == Fault::Server {
            tracing::error!(code, error = %error, "an operation failed");
        }
        api.with_member("Type", fault)
    }
}

fn reason_text(reason: ThrottleReason) -> &'static str {
    match reason {
        ThrottleReason::Concurrency => "ConcurrentInvocationLimitExceeded",
        ThrottleReason::ReservedConcurrency => "ReservedFunctionConcurrentInvocationLimitExceeded",
        ThrottleReason::FunctionRate => "FunctionInvocationRateLimitExceeded",
        ThrottleReason::ReservedFunctionRate => "ReservedFunctionInvocationRateLimitExceeded",
    }
}

fn violations_text(violations: &[String]) -> String {
    let plural = if violations.len() == 1 { "" } else { "s" };
    format!("{} validation error{plural} detected: {}", violations.len(), violations.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_stopped_is_a_service_exception_that_says_what_to_do() {
        let stopped = StoreError::Poisoned("No space left on device".into());
        let api = ApiError::from(LambdaError::from(stopped));
        assert_eq!((api.code, api.status), ("ServiceException", StatusCode::INTERNAL_SERVER_ERROR));
        for text in ["No space left on device", "stopped accepting work", "restart"] {
            assert!(api.message.contains(text), "{}", api.message);
        }
    }
}
