//! One line in the log per request, whatever becomes of it.

use std::sync::Arc;
use std::time::Instant;

use freehold_base::clock::SharedClock;
use freehold_base::id::RequestId;
use http::{Method, StatusCode};

use crate::credentials::Identity;

/// What is known of a request so far; writes its line when it is dropped.
pub(crate) struct RequestLog {
    clock: SharedClock,
    started: Instant,
    request_id: RequestId,
    method: Method,
    path: String,
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) identity: Option<Arc<Identity>>,
    /// None until there is an answer: the client went away before.
    pub(crate) answer: Option<(StatusCode, &'static str)>,
}

impl RequestLog {
    pub(crate) fn new(clock: &SharedClock, request_id: &RequestId, method: &Method, path: &str) -> Self {
        Self {
            started: clock.monotonic(),
            clock: Arc::clone(clock),
            request_id: request_id.clone(),
            method: method.clone(),
            path: path.to_owned(),
            service: "",
            operation: "",
            identity: None,
            answer: None,
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let Self { request_id, method, path, service, operation, .. } = &*self;
        let ms = (self.clock.monotonic() - self.started).as_micros() as f64 / 1000.0;
        let principal = self.identity.as_ref().map_or("", |identity| identity.principal.arn.as_str());
        match self.answer {
            None => {
                tracing::info!(%request_id, service, operation, principal, %method, path, ms, "client went away");
            }
            Some((status, "")) => {
                let status = status.as_u16();
                tracing::debug!(%request_id, service, operation, principal, status, ms, "request");
            }
            Some((status, code)) => {
                let status = status.as_u16();
                tracing::info!(%request_id, service, operation, principal, status, code, %method, path, ms, "request refused");
            }
        }
    }
}
