//! A row of the table of operations: what the gateway must know, and what carries the operation out.

use std::future::Future;
use std::pin::Pin;

use freehold_wire::service::{Call, Operation, Reply, Route, Verb};

use crate::Lambda;
use crate::error::LambdaError;

/// A request with a zip in it, in bytes: AWS's own limit for `CreateFunction`, about 50 MiB as base64.
pub(super) const PACKAGE_BODY_BYTES: usize = 70_167_211;
/// Any other request, in bytes: AWS's limit for the control plane.
const BODY_BYTES: usize = 6 * 1024 * 1024;

/// The resource of an operation on the function in its path.
pub(super) const FUNCTION: &str = "function:{FunctionName}";

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) operation: Operation,
    pub(super) run: Run,
}

/// What carries an operation out.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// Changes nothing that others see: dropped with the client.
    Read(for<'a> fn(&'a Lambda, Call) -> Running<'a>),
    /// Runs to its end, also if the client goes away.
    Change(fn(Lambda, Call) -> Running<'static>),
}

/// An operation under way.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<Reply, LambdaError>> + Send + 'a>>;

/// An operation that only reads (or, like `Invoke`, sees to its own end).
pub(super) const fn read(
    name: &'static str,
    action: &'static str,
    verb: Verb,
    path: &'static str,
    resource: &'static str,
    run: for<'a> fn(&'a Lambda, Call) -> Running<'a>,
) -> Entry {
    let route = Route::Rest(verb, path);
    Entry {
        operation: Operation { name, route, action, resource, body_limit: BODY_BYTES },
        run: Run::Read(run),
    }
}

/// An operation that changes something.
pub(super) const fn change(
    name: &'static str,
    action: &'static str,
    verb: Verb,
    path: &'static str,
    resource: &'static str,
    run: fn(Lambda, Call) -> Running<'static>,
) -> Entry {
    let route = Route::Rest(verb, path);
    Entry {
        operation: Operation { name, route, action, resource, body_limit: BODY_BYTES },
        run: Run::Change(run),
    }
}

impl Entry {
    /// With another largest body, in bytes.
    pub(super) const fn with_body_limit(mut self, bytes: usize) -> Self {
        self.operation.body_limit = bytes;
        self
    }
}
