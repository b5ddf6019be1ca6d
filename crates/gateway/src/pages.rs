//! What answers without a signature: readiness for probes, and a word for people who open the address in a browser.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use serde_json::json;

/// Where readiness is asked for.
const HEALTH: &str = "/health";

/// The page that an unsigned request means, if it does.
pub(crate) fn answer(parts: &Parts, version: &str, services: &[&str]) -> Option<Response<Bytes>> {
    if !matches!(parts.method, Method::GET | Method::HEAD) || parts.headers.contains_key("authorization") {
        return None;
    }
    match parts.uri.path() {
        HEALTH => {
            let body = json!({ "status": "running", "version": version, "services": services });
            Some(page("application/json", format!("{body}\n")))
        }
        "/" if parts.uri.query().is_none() => {
            let services = services.join(", ");
            let body = format!(
                "Freehold {version} is running here and speaks the AWS API of: {services}.\n\nPoint any AWS client at \
                 this address, for example:\n\n    export AWS_ENDPOINT_URL=http://{}\n    aws lambda list-functions\n",
                parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:4566"),
            );
            Some(page("text/plain; charset=utf-8", body))
        }
        _ => None,
    }
}

fn page(content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
