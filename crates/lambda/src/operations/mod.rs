//! The operations: a file or folder for each group, and the table by which the gateway knows them.
//!
//! - `functions`, `versions`, `aliases`, `invoke`, `concurrency`, …: one group each, which lists its own rows (`ENTRIES`)
//! - `entry`: what a row says; `page`: what lists have in common
//! - `known`: what AWS has and this service has not (yet)
//!
//! An operation that changes something runs as a task of its own: once begun it ends, also if the client goes away, so
//! that a commit is always followed by what must follow it.

mod account;
mod aliases;
mod code_signing;
mod concurrency;
mod entry;
mod functions;
mod invoke;
mod known;
mod layers;
mod page;
mod policy;
mod provisioned;
mod recursion;
mod runtime_management;
mod tags;
#[cfg(test)]
mod tests;
mod versions;

pub(crate) use functions::Downloads;

use std::collections::HashMap;
use std::sync::LazyLock;

use freehold_wire::error::ApiError;
use freehold_wire::service::{Call, Definition, Operation, Protocol, Reply};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use self::entry::{Entry, Run, Running};
use crate::Lambda;
use crate::access;
use crate::error::LambdaError;

/// What is fixed about Lambda.
pub(crate) static DEFINITION: Definition = Definition {
    scope: "lambda",
    protocol: Protocol::RestJson,
    operations: &OPERATIONS,
    known: known::KNOWN,
};

/// The rows, by group.
const GROUPS: &[&[Entry]] = &[
    invoke::ENTRIES,
    functions::ENTRIES,
    versions::ENTRIES,
    aliases::ENTRIES,
    layers::ENTRIES,
    policy::ENTRIES,
    tags::ENTRIES,
    concurrency::ENTRIES,
    provisioned::ENTRIES,
    account::ENTRIES,
    runtime_management::ENTRIES,
    recursion::ENTRIES,
    code_signing::ENTRIES,
];

/// Every operation that is answered.
pub(crate) static OPERATIONS: [Operation; count(GROUPS)] = listed(GROUPS);

/// What carries each operation out, by its name.
static RUNS: LazyLock<HashMap<&'static str, Run>> = LazyLock::new(|| {
    GROUPS.iter().copied().flatten().map(|entry| (entry.operation.name, entry.run)).collect()
});

const fn count(groups: &[&[Entry]]) -> usize {
    let (mut total, mut group) = (0, 0);
    while group < groups.len() {
        total += groups[group].len();
        group += 1;
    }
    total
}

const fn listed<const N: usize>(groups: &[&[Entry]]) -> [Operation; N] {
    let mut operations = [groups[0][0].operation; N];
    let (mut next, mut group) = (0, 0);
    while group < groups.len() {
        let mut row = 0;
        while row < groups[group].len() {
            operations[next] = groups[group][row].operation;
            (next, row) = (next + 1, row + 1);
        }
        group += 1;
    }
    operations
}

/// Carries out one call.
pub(crate) async fn call(lambda: &Lambda, call: Call) -> Result<Reply, ApiError> {
    access::check_stored(lambda, &call).await?;
    let reply = match RUNS.get(call.operation.name) {
        Some(Run::Read(run)) => run(lambda, call).await,
        Some(Run::Change(run)) => to_its_end(run(lambda.clone(), call)).await,
        None => return Err(ApiError::unknown_operation(call.operation.name)),
    };
    reply.map_err(ApiError::from)
}

async fn to_its_end(work: Running<'static>) -> Result<Reply, LambdaError> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| LambdaError::Internal {
        step: "carry out the operation",
        reason: error.to_string(),
    })?
}

/// An answer with a JSON body.
fn json_reply(status: StatusCode, body: &impl Serialize) -> Result<Reply, LambdaError> {
    let body = serde_json::to_vec(body)
        .map_err(|error| LambdaError::Internal { step: "write the answer", reason: error.to_string() })?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Reply { status, headers, body: body.into() })
}

/// An answer without a body.
fn empty_reply(status: StatusCode) -> Reply {
    Reply { status, headers: HeaderMap::new(), body: bytes::Bytes::new() }
}
