//! Provisioned concurrency, and a host that can hold no more, as callers and functions see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_executor::core::HostMemory;
use freehold_executor::event::{InvokeError, Provisioned, ThrottleReason};
use freehold_sandbox::spec::Exit;

use crate::fake::{Bench, Deed, PATIENCE, Program, echo, event, setup};

/// The ARN that the tests' events name.
fn target() -> String {
    event("{}").invoked_arn
}

impl Bench {
    /// Waits until what is provisioned is like this.
    async fn becomes(&self, like: impl Fn(&Provisioned) -> bool) -> Provisioned {
        let mut changes = self.executor.provisioned_changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let provisioned = self.executor.provisioned(&target()).expect("it was asked for");
                if like(&provisioned) {
                    return provisioned;
                }
                changes.changed().await.expect("the executor lives");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time")
    }
}

/// Prints how it came to be before it asks for events.
async fn tell_type(mut program: Program) -> Exit {
    let name = "AWS_LAMBDA_INITIALIZATION_TYPE";
    let (_, value) = program.spec.variables.iter().find(|(it, _)| it == name).expect("it is set").clone();
    program.print(&format!("{value}\n"));
    echo(program).await
}

#[tokio::test]
async fn provisioned_environments_are_ready_before_the_event() {
    let bench = setup(tell_type).bench();
    bench.executor.provision(&target(), Arc::clone(&bench.version), 2);
    bench.becomes(|it| it.allocated == 2).await;
    assert_eq!(bench.starts(), 2);
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(outcome.usage.init, None, "its Init was before, and is not billed to it");
    let tail = String::from_utf8(outcome.log_tail.to_vec()).expect("text");
    assert!(!tail.contains("Init Duration"), "{tail}");
    assert_eq!(bench.starts(), 2);
    let lines = bench.lines.text();
    let told = lines.iter().filter(|line| *line == "provisioned-concurrency").count();
    assert_eq!(told, 2, "{lines:?}");

    let other = event("{}");
    let other = freehold_executor::event::Event { invoked_arn: bench.version.function_arn.clone(), ..other };
    bench.invoke(other).await.expect("runs");
    assert_eq!(bench.starts(), 3, "another qualifier runs on demand");
    assert!(bench.lines.text().iter().any(|line| line == "on-demand"));
    bench.executor.unprovision(&target());
    assert_eq!(bench.executor.provisioned(&target()), None);
    assert_eq!(bench.executor.environments(), 1);
}

#[tokio::test]
async fn a_provisioned_environment_that_ends_is_replaced() {
    let mut bench = setup(|program: Program| async move {
        let number = program.number;
        let mut client = program.connect().await;
        let event = client.next().await;
        if number > 1 {
            client.answer(&event.id(), b"1").await;
            return std::future::pending().await;
        }
        Exit::Status(1)
    })
    .bench();
    bench.executor.provision(&target(), Arc::clone(&bench.version), 1);
    bench.becomes(|it| it.allocated == 1).await;
    bench.invoke(event("{}")).await.expect("the function's error is an answer");
    bench.done(Deed::Start(2)).await;
    let provisioned = bench.becomes(|it| it.allocated == 1).await;
    assert_eq!(provisioned, Provisioned { requested: 1, allocated: 1, available: 1, failure: None });
}

#[tokio::test]
async fn a_failing_init_is_told_and_tried_again() {
    let works = Arc::new(AtomicBool::new(false));
    let mut setup = setup({
        let works = Arc::clone(&works);
        move |program: Program| {
            let works = Arc::clone(&works);
            async move {
                if works.load(Ordering::Relaxed) {
                    return echo(program).await;
                }
                let body =
                    r#"{"errorType":"Runtime.ImportModuleError","errorMessage":"No module named 'x'"}"#;
                program.connect().await.init_error("Runtime.ImportModuleError", body).await;
                Exit::Status(1)
            }
        }
    });
    setup.limits.provisioning_pause = Duration::from_millis(1);
    let bench = setup.bench();
    bench.executor.provision(&target(), Arc::clone(&bench.version), 1);
    let failed = bench.becomes(|it| it.failure.is_some()).await;
    let failure = Some("Runtime.ImportModuleError: No module named 'x'".to_owned());
    assert_eq!(failed, Provisioned { requested: 1, allocated: 0, available: 0, failure });
    assert!(bench.starts() >= 3, "{:?}", bench.deeds());
    works.store(true, Ordering::Relaxed);
    let provisioned = bench.becomes(|it| it.allocated == 1).await;
    assert_eq!(provisioned.failure, None);
}

#[tokio::test]
async fn a_host_short_of_memory_throttles() {
    let short = Arc::new(AtomicBool::new(true));
    let mut setup = setup(echo);
    setup.memory = {
        let short = Arc::clone(&short);
        Arc::new(move || {
            let available_mib = if short.load(Ordering::Relaxed) { 100 } else { 10_000 };
            Some(HostMemory { available_mib, total_mib: 20_000 })
        })
    };
    let bench = setup.bench();
    let error = bench.invoke(event("{}")).await.expect_err("there is no memory");
    assert!(matches!(error, InvokeError::Throttled(ThrottleReason::Concurrency)), "{error}");
    assert_eq!((bench.starts(), bench.executor.in_flight()), (0, 0));
    short.store(false, Ordering::Relaxed);
    let wait = async {
        while bench.invoke(event("{}")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it is looked at again");
}

#[tokio::test]
async fn where_there_are_no_places_an_idle_environment_makes_one_or_the_event_is_throttled() {
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        loop {
            let event = client.next().await;
            if &event.body[..] == b"\"hang\"" {
                return std::future::pending().await;
            }
            client.answer(&event.id(), &event.body).await;
        }
    });
    setup.limits.max_environments = 1;
    let mut bench = setup.bench();
    bench.invoke(event("{}")).await.expect("runs");
    // Frozen, it is surely idle.
    bench.done(Deed::Freeze(1)).await;
    let other = bench.changed(|version| {
        version.key = "other-1".to_owned();
        version.function_arn.push_str("-other");
    });
    let hanging = tokio::spawn({
        let (executor, other) = (bench.executor.clone(), Arc::clone(&other));
        async move { executor.invoke(other, event("\"hang\"")).await }
    });
    bench.done(Deed::Stop(1)).await;
    bench.done(Deed::Start(2)).await;
    let error = bench.invoke(event("{}")).await.expect_err("the place is taken");
    assert!(matches!(error, InvokeError::Throttled(ThrottleReason::Concurrency)), "{error}");
    hanging.abort();
}
