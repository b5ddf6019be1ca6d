//! What can be wrong with a signature, and how AWS says so.
//!
//! The same failure has a different code in each family of protocols; [`SigV4Error::into_api_error`] knows them.
//! Sources: "Common errors" of the services' API references, the S3 error list, and what clients report.

use http::StatusCode;

use crate::error::ApiError;
use crate::service::Protocol;

/// Why a request was not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigV4Error {
    /// Nothing is signed.
    #[error("Missing Authentication Token")]
    Missing,
    /// The header or the query parameters cannot be read as a signature; the text says where.
    #[error("{0}")]
    Incomplete(String),
    /// No such access key.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token is missing, or another one.
    #[error("The security token included in the request is invalid")]
    WrongToken,
    /// The credential scope does not fit; the text says how.
    #[error("{0}")]
    Scope(String),
    /// Signed too long ago, or a presigned URL past its end.
    #[error("Signature expired: {0}")]
    Expired(String),
    /// Signed in the future.
    #[error("Signature not yet current: {0}")]
    NotYetCurrent(String),
    /// `X-Amz-Expires` is out of its range.
    #[error("{0}")]
    Expires(&'static str),
    /// Another secret, or the request was changed on its way.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details.\n\nThe Canonical String for this \
         request should have been\n'{canonical}'\n\nThe String-to-Sign should have been\n'{string_to_sign}'\n"
    )]
    Mismatch {
        /// What the server made of the request.
        canonical: String,
        /// What the signature should have been made of.
        string_to_sign: String,
    },
    /// The body is not the one whose hash was signed.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    BodyHash,
    /// A body signed chunk by chunk.
    #[error("Freehold does not support bodies that are signed in chunks ({0}) yet; sign the whole body.")]
    Streaming(String),
}

/// The three ways in which services name these errors.
#[derive(Clone, Copy)]
enum Dialect {
    Json,
    Query,
    S3,
}

impl SigV4Error {
    /// The error as a service of this protocol shows it.
    pub fn into_api_error(self, protocol: Protocol) -> ApiError {
        let dialect = match protocol {
            Protocol::RestJson | Protocol::Json10 | Protocol::Json11 => Dialect::Json,
            Protocol::Query(_) => Dialect::Query,
            Protocol::RestXml => Dialect::S3,
        };
        let code = self.code(dialect);
        let always_400 = matches!(protocol, Protocol::Json10 | Protocol::Json11);
        let status = match (&self, dialect) {
            (Self::Streaming(_), _) => StatusCode::NOT_IMPLEMENTED,
            // The JSON protocols answer every fault of the client with 400.
            _ if always_400 => StatusCode::BAD_REQUEST,
            (Self::Incomplete(_) | Self::Expires(_), _) => StatusCode::BAD_REQUEST,
            (Self::Scope(_) | Self::WrongToken | Self::BodyHash, Dialect::S3) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        };
        ApiError::new(code, status, self.to_string())
    }

    fn code(&self, dialect: Dialect) -> &'static str {
        let [json, query, s3] = match self {
            Self::Missing => {
                ["MissingAuthenticationTokenException", "MissingAuthenticationToken", "AccessDenied"]
            }
            Self::Incomplete(_) => {
                ["IncompleteSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed"]
            }
            Self::UnknownKey => ["UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"],
            Self::WrongToken => ["UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"],
            Self::Scope(_) => {
                ["InvalidSignatureException", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"]
            }
            Self::Expired(_) | Self::NotYetCurrent(_) => {
                ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
            }
            Self::Expires(_) => {
                ["IncompleteSignatureException", "IncompleteSignature", "AuthorizationQueryParametersError"]
            }
            Self::Mismatch { .. } => {
                ["InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"]
            }
            Self::BodyHash => {
                ["InvalidSignatureException", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch"]
            }
            Self::Streaming(_) => ["NotImplementedException", "NotImplemented", "NotImplemented"],
        };
        match dialect {
            Dialect::Json => json,
            Dialect::Query => query,
            Dialect::S3 => s3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_own_words() {
        let seen = |error: SigV4Error, protocol| {
            let error = error.into_api_error(protocol);
            (error.code, error.status.as_u16())
        };
        let query = Protocol::Query("urn:x");
        let incomplete = SigV4Error::Incomplete(String::new());
        assert_eq!(
            seen(SigV4Error::Missing, Protocol::RestJson),
            ("MissingAuthenticationTokenException", 403)
        );
        assert_eq!(seen(SigV4Error::Missing, query), ("MissingAuthenticationToken", 403));
        assert_eq!(seen(incomplete, Protocol::RestJson), ("IncompleteSignatureException", 400));
        assert_eq!(seen(SigV4Error::UnknownKey, Protocol::Json11), ("UnrecognizedClientException", 400));
        assert_eq!(seen(SigV4Error::UnknownKey, query), ("InvalidClientTokenId", 403));
        assert_eq!(
            seen(SigV4Error::Expired(String::new()), Protocol::RestXml),
            ("RequestTimeTooSkewed", 403)
        );
        assert_eq!(seen(SigV4Error::BodyHash, Protocol::RestXml), ("XAmzContentSHA256Mismatch", 400));
    }
}
