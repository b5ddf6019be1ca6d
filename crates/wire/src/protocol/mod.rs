//! Replies and errors as each protocol writes them.
//!
//! - `json`: REST-JSON and JSON 1.0/1.1
//! - [`query`]: query/XML and S3's XML
//!
//! Services give bodies that are already in their protocol's form; what is added here is what all answers of a protocol
//! share: the request id, the content type, and the shape of errors.

use bytes::Bytes;
use freehold_base::id::RequestId;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response};

use crate::error::ApiError;
use crate::service::{Protocol, Reply};

mod json;
pub mod query;

/// The header that names the request in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// The same, as S3 calls it.
const REQUEST_ID_S3: HeaderName = HeaderName::from_static("x-amz-request-id");

/// A service's reply as an HTTP response.
pub fn reply(protocol: Protocol, request_id: &RequestId, reply: Reply) -> Response<Bytes> {
    let Reply { status, headers, body } = reply;
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !response.body().is_empty() && !response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, content_type(protocol));
    }
    identify(protocol, request_id, &mut response);
    response
}

/// An error as an HTTP response.
pub fn error(protocol: Protocol, request_id: &RequestId, error: &ApiError) -> Response<Bytes> {
    let body = match protocol {
        Protocol::RestJson => json::rest_error(error),
        Protocol::Json10 | Protocol::Json11 => json::error(error),
        Protocol::Query(namespace) => query::error(namespace, request_id, error),
        Protocol::RestXml => query::s3_error(request_id, error),
    };
    let mut response = Response::new(body);
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(protocol));
    if matches!(protocol, Protocol::RestJson | Protocol::Json10 | Protocol::Json11) {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(error.code));
    }
    for (name, value) in &error.headers {
        // What cannot be a header is not worth failing the answer for.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    identify(protocol, request_id, &mut response);
    response
}

fn identify(protocol: Protocol, request_id: &RequestId, response: &mut Response<Bytes>) {
    let name = if protocol == Protocol::RestXml { REQUEST_ID_S3 } else { REQUEST_ID };
    let value = HeaderValue::from_str(request_id.as_str()).expect("a request id is a UUID");
    response.headers_mut().insert(name, value);
}

fn content_type(protocol: Protocol) -> HeaderValue {
    HeaderValue::from_static(match protocol {
        Protocol::RestJson => "application/json",
        Protocol::Json10 => "application/x-amz-json-1.0",
        Protocol::Json11 => "application/x-amz-json-1.1",
        Protocol::Query(_) => "text/xml",
        Protocol::RestXml => "application/xml",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};

    fn id() -> RequestId {
        RequestId::new("6f0c1b1e-0000-4000-8000-000000000000")
    }

    fn shown(protocol: Protocol, wrong: &ApiError) -> (String, String) {
        let response = error(protocol, &id(), wrong);
        assert_eq!(response.status(), wrong.status);
        let content_type = response.headers()[CONTENT_TYPE].to_str().expect("ASCII").to_owned();
        (content_type, String::from_utf8(response.into_body().to_vec()).expect("UTF-8"))
    }

    #[test]
    fn an_error_has_the_shape_of_its_protocol() {
        let wrong =
            ApiError::new("TooManyRequestsException", StatusCode::TOO_MANY_REQUESTS, "Rate <Exceeded>.")
                .with_member("Reason", "CallerRateLimitExceeded")
                .with_header("retry-after", "1");
        let response = error(Protocol::RestJson, &id(), &wrong);
        assert_eq!(response.headers()["x-amzn-errortype"], "TooManyRequestsException");
        assert_eq!(response.headers()["x-amzn-requestid"], id().as_str());
        assert_eq!(response.headers()["retry-after"], "1");
        let cases = [
            (
                Protocol::RestJson,
                "application/json",
                r#"{"Type":"User","message":"Rate <Exceeded>.","Reason":"CallerRateLimitExceeded"}"#,
            ),
            (
                Protocol::Json10,
                "application/x-amz-json-1.0",
                r#"{"__type":"TooManyRequestsException","message":"Rate <Exceeded>.","Reason":"CallerRateLimitExceeded"}"#,
            ),
            (
                Protocol::Query("urn:x"),
                "text/xml",
                "<ErrorResponse xmlns=\"urn:x\"><Error><Type>Sender</Type><Code>TooManyRequestsException</Code>\
                 <Message>Rate &lt;Exceeded&gt;.</Message></Error>\
                 <RequestId>6f0c1b1e-0000-4000-8000-000000000000</RequestId></ErrorResponse>",
            ),
            (
                Protocol::RestXml,
                "application/xml",
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>TooManyRequestsException</Code>\
                 <Message>Rate &lt;Exceeded&gt;.</Message>\
                 <RequestId>6f0c1b1e-0000-4000-8000-000000000000</RequestId></Error>",
            ),
        ];
        for (protocol, content_type, body) in cases {
            assert_eq!(shown(protocol, &wrong), (content_type.to_owned(), body.to_owned()));
        }
    }

    #[test]
    fn lambdas_errors_spell_their_message_as_its_model_does() {
        let of = |code, status| shown(Protocol::RestJson, &ApiError::new(code, status, "m")).1;
        let cases = [
            ("ResourceNotFoundException", StatusCode::NOT_FOUND, r#"{"Type":"User","Message":"m"}"#),
            ("InvalidParameterValueException", StatusCode::BAD_REQUEST, r#"{"Type":"User","message":"m"}"#),
            ("ServiceException", StatusCode::INTERNAL_SERVER_ERROR, r#"{"Type":"Service","Message":"m"}"#),
            ("InvalidSignatureException", StatusCode::FORBIDDEN, r#"{"message":"m"}"#),
        ];
        for (code, status, body) in cases {
            assert_eq!(of(code, status), body);
        }
    }

    #[test]
    fn a_reply_keeps_its_own_content_type() {
        let plain = |body: &'static str, headers: HeaderMap| {
            let answer = Reply { status: StatusCode::OK, headers, body: Bytes::from_static(body.as_bytes()) };
            reply(Protocol::RestJson, &id(), answer).headers().get(CONTENT_TYPE).cloned()
        };
        let own = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        assert_eq!(plain("{}", HeaderMap::new()).expect("one"), "application/json");
        assert_eq!(plain("x", own).expect("one"), "text/plain");
        assert_eq!(plain("", HeaderMap::new()), None);
    }
}
