//! Errors in JSON.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::{ApiError, Fault};

/// Errors that AWS's front door gives before any service is asked: they have no `Type`.
const WITHOUT_TYPE: &[&str] = &[
    "AccessDeniedException",
    "IncompleteSignatureException",
    "InternalFailure",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotImplementedException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
];

/// Lambda's errors whose model spells the member `Message`; the others have `message`.
/// Source: the error shapes in the Lambda API model, 2015-03-31.
const CAPITAL_MESSAGE: &[&str] = &[
    "CallbackTimeoutException",
    "CodeSigningConfigNotFoundException",
    "CodeVerificationFailedException",
    "DurableExecutionAlreadyStartedException",
    "EC2AccessDeniedException",
    "EC2ThrottledException",
    "EC2UnexpectedException",
    "EFSIOException",
    "EFSMountConnectivityException",
    "EFSMountFailureException",
    "EFSMountTimeoutException",
    "ENILimitReachedException",
    "InvalidCodeSignatureException",
    "InvalidRuntimeException",
    "InvalidSecurityGroupIDException",
    "InvalidSubnetIDException",
    "InvalidZipFileException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "NoPublishedVersionException",
    "RecursiveInvocationException",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "S3FilesMountConnectivityException",
    "S3FilesMountFailureException",
    "S3FilesMountTimeoutException",
    "ServiceException",
    "SnapStartException",
    "SnapStartNotReadyException",
    "SnapStartTimeoutException",
    "SubnetIPAddressLimitReachedException",
];

/// `{"Type":…,"message":…}`; the code is in a header.
pub(super) fn rest_error(error: &ApiError) -> Bytes {
    let mut body = Map::new();
    if !WITHOUT_TYPE.contains(&error.code) {
        let fault = match error.fault() {
            Fault::Client => "User",
            Fault::Server => "Service",
        };
        body.insert("Type".to_owned(), Value::from(fault));
    }
    let message = if CAPITAL_MESSAGE.contains(&error.code) { "Message" } else { "message" };
    body.insert(message.to_owned(), Value::from(error.message.as_str()));
    with_members(body, error)
}

/// `{"__type":…,"message":…}`.
pub(super) fn error(error: &ApiError) -> Bytes {
    let mut body = Map::new();
    body.insert("__type".to_owned(), Value::from(error.code));
    body.insert("message".to_owned(), Value::from(error.message.as_str()));
    with_members(body, error)
}

fn with_members(mut body: Map<String, Value>, error: &ApiError) -> Bytes {
    body.extend(error.members.clone());
    Bytes::from(Value::Object(body).to_string())
}
