//! `PutFunctionConcurrency`, `GetFunctionConcurrency` and `DeleteFunctionConcurrency`: how much concurrency belongs to a
//! function, and is the most that it gets. 0 stops it.

use freehold_wire::service::Verb::{Delete, Get, Put};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use super::entry::{Entry, FUNCTION, change, read};
use super::{empty_reply, json_reply};
use crate::Lambda;
use crate::concurrency;
use crate::error::LambdaError;
use crate::model::json;
use crate::model::settings::{Concurrency, ConcurrencyRequest};
use crate::model::validation::Violations;
use crate::names::Target;
use crate::records::{RESERVATIONS, ReservationRecord, require_function};

/// What the model allows.
const EXECUTIONS: std::ops::RangeInclusive<u32> = 0..=i32::MAX as u32;
/// Where a reservation is written.
const PATH: &str = "/2017-10-31/functions/{FunctionName}/concurrency";
/// Where it is read.
const READ_PATH: &str = "/2019-09-30/functions/{FunctionName}/concurrency";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change("PutFunctionConcurrency", "lambda:PutFunctionConcurrency", Put, PATH, FUNCTION, |lambda, call| {
        Box::pin(put_function_concurrency(lambda, call))
    }),
    read(
        "GetFunctionConcurrency",
        "lambda:GetFunctionConcurrency",
        Get,
        READ_PATH,
        FUNCTION,
        |lambda, call| Box::pin(get_function_concurrency(lambda, call)),
    ),
    change(
        "DeleteFunctionConcurrency",
        "lambda:DeleteFunctionConcurrency",
        Delete,
        PATH,
        FUNCTION,
        |lambda, call| Box::pin(delete_function_concurrency(lambda, call)),
    ),
];

async fn put_function_concurrency(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    let request: ConcurrencyRequest = json::read(call.body.clone()).await?;
    let executions = checked(&request)?;
    let id = target.into_function()?;
    let (store, id, account) = (&lambda.store, &id, lambda.executor.account_concurrency());
    store
        .transact(|transaction| async move {
            require_function(&transaction, id).await?;
            concurrency::check(&transaction, id, executions, account).await?;
            Ok::<_, LambdaError>(RESERVATIONS.put(
                &transaction,
                &id.parts(),
                &ReservationRecord { executions },
            )?)
        })
        .await?;
    lambda.reservations.tell(id).await?;
    json_reply(StatusCode::OK, &Concurrency { reserved_concurrent_executions: Some(executions) })
}

async fn get_function_concurrency(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = Target::of(&call)?.into_function()?;
    let snapshot = lambda.store.snapshot().await?;
    require_function(&snapshot, &id).await?;
    let record = RESERVATIONS.get(&snapshot, &id.parts()).await?;
    let reserved_concurrent_executions = record.map(|record| record.executions);
    json_reply(StatusCode::OK, &Concurrency { reserved_concurrent_executions })
}

/// 204, also where there was none.
async fn delete_function_concurrency(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let id = Target::of(&call)?.into_function()?;
    let (store, id) = (&lambda.store, &id);
    store
        .transact(|transaction| async move {
            require_function(&transaction, id).await?;
            RESERVATIONS.delete(&transaction, &id.parts());
            Ok::<_, LambdaError>(())
        })
        .await?;
    lambda.reservations.tell(id).await?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

fn checked(request: &ConcurrencyRequest) -> Result<u32, LambdaError> {
    let mut violations = Violations::default();
    let executions = match request.reserved_concurrent_executions {
        Some(executions) => violations.range("reservedConcurrentExecutions", executions, &EXECUTIONS),
        None => {
            violations.missing("reservedConcurrentExecutions");
            None
        }
    };
    violations.into_result()?;
    Ok(executions.expect("what has no value, or one out of range, has just been refused"))
}
