//! Throttles, as callers see them.

use std::sync::Arc;

use freehold_executor::event::{InvokeError, ThrottleReason};

use crate::fake::{echo, event, eventually, setup};

fn reason(error: &InvokeError) -> ThrottleReason {
    match error {
        InvokeError::Throttled(reason) => *reason,
        other => panic!("a throttle was expected, got {other}"),
    }
}

#[tokio::test]
async fn reserved_concurrency_of_nought_stops_a_function() {
    let bench = setup(echo).bench();
    bench.executor.set_reserved_concurrency(&bench.version.function_arn, Some(0));
    let error = bench.invoke(event("{}")).await.expect_err("throttled");
    assert_eq!(reason(&error), ThrottleReason::ReservedConcurrency);
    assert_eq!(bench.starts(), 0);
    bench.executor.set_reserved_concurrency(&bench.version.function_arn, None);
    bench.invoke(event("{}")).await.expect("it may run again");
    bench.executor.set_reserved_concurrency(&bench.version.function_arn, Some(1));
    bench.invoke(event("{}")).await.expect("one at a time");
    assert_eq!(bench.starts(), 1, "its environment stays");
}

#[tokio::test]
async fn beyond_the_accounts_concurrency_events_are_throttled_and_not_queued() {
    let mut setup = setup(|program| async move {
        let mut client = program.connect().await;
        let _event = client.next().await;
        std::future::pending().await
    });
    setup.limits.account_concurrency = 2;
    let bench = setup.bench();
    for _ in 0..2 {
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        tokio::spawn(async move { executor.invoke(version, event("{}")).await });
    }
    eventually(|| bench.executor.in_flight() == 2).await;
    let error = bench.invoke(event("{}")).await.expect_err("throttled");
    assert_eq!(reason(&error), ThrottleReason::Concurrency);
    let other = bench.changed(|version| {
        version.key = "other-1".to_owned();
        version.function_arn.push_str("-other");
    });
    let error = bench.executor.invoke(other, event("{}")).await.expect_err("the account's limit is for all");
    assert_eq!(reason(&error), ThrottleReason::Concurrency);
}
