//! What the client's errors mean for the store.

use std::error::Error as _;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::error::StoreError;

pub(super) fn disconnected(reason: impl std::fmt::Display) -> StoreError {
    StoreError::Disconnected { reason: reason.to_string().into() }
}

/// Whether the connection has ended, or may have, so that nothing more is known about what was under way.
pub(super) fn ends_connection(error: &Error) -> bool {
    match error.as_db_error() {
        Some(refusal) => {
            !matches!(refusal.parsed_severity(), Some(Severity::Error)) || is_class(refusal.code(), "08")
        }
        // Encoding errors happen before anything is sent; what else there is, is the connection's.
        None => !error.to_string().starts_with("error serializing"),
    }
}

/// What a failed statement means.
pub(super) fn statement(step: &'static str, error: &Error) -> StoreError {
    let Some(refusal) = error.as_db_error() else {
        return if ends_connection(error) {
            disconnected(text(error))
        } else {
            StoreError::engine(step, text(error))
        };
    };
    let code = refusal.code();
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        return StoreError::Conflict { attempts: 1 };
    }
    if ends_connection(error) { disconnected(text(error)) } else { StoreError::engine(step, text(error)) }
}

/// What it means that a session could not be made. The server's own refusals (a wrong password, no such database) are
/// not the network's, and trying again doesn't help; that it is starting, stopping or full passes.
pub(super) fn connect(error: &Error) -> StoreError {
    match error.as_db_error() {
        Some(refusal) if !is_class(refusal.code(), "57") && !is_class(refusal.code(), "53") => {
            StoreError::engine("connect to the database", text(error))
        }
        _ => disconnected(text(error)),
    }
}

/// What it means that the pool gave no connection.
pub(super) fn pool(error: PoolError, connections: usize) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Busy { connections },
        PoolError::Timeout(_) => disconnected("the database did not answer in time"),
        PoolError::Closed => StoreError::Closed,
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => connect(&error),
        other => StoreError::engine("get a connection", other),
    }
}

fn is_class(code: &SqlState, class: &str) -> bool {
    code.code().starts_with(class)
}

/// The error with its causes. The client shows no passwords in these.
fn text(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return format!("{} ({})", refusal.message(), refusal.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
