//! Answers of the query protocol, and errors in XML.

use bytes::Bytes;
use freehold_base::id::RequestId;
use http::{HeaderMap, StatusCode};

use crate::error::{ApiError, Fault};
use crate::service::Reply;
use crate::xml::Xml;

/// `<OperationResponse><OperationResult>…</OperationResult><ResponseMetadata>…`: what a query operation answers.
pub fn reply(namespace: &str, operation: &str, request_id: &RequestId, result: Xml) -> Reply {
    let metadata = Xml::new().text("RequestId", request_id.as_str());
    let inside =
        Xml::new().element(&format!("{operation}Result"), result).element("ResponseMetadata", metadata);
    let body = Xml::new().root(&format!("{operation}Response"), namespace, inside).into_string();
    Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from(body) }
}

pub(super) fn error(namespace: &str, request_id: &RequestId, error: &ApiError) -> Bytes {
    let kind = match error.fault() {
        Fault::Client => "Sender",
        Fault::Server => "Receiver",
    };
    let inside = Xml::new().text("Type", kind).text("Code", error.code).text("Message", &error.message);
    let inside = Xml::new().element("Error", inside).text("RequestId", request_id.as_str());
    Bytes::from(Xml::new().root("ErrorResponse", namespace, inside).into_string())
}

pub(super) fn s3_error(request_id: &RequestId, error: &ApiError) -> Bytes {
    let inside = Xml::new()
        .text("Code", error.code)
        .text("Message", &error.message)
        .text("RequestId", request_id.as_str());
    let body = Xml::new().element("Error", inside).into_string();
    Bytes::from(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"))
}
