//! Environments over time: how many there are, which one is picked, when they freeze, thaw and go.

use std::sync::Arc;
use std::time::Duration;

use freehold_executor::event::InvokeError;
use freehold_executor::keepalive::KeepAlive;
use tokio::sync::Semaphore;

use crate::fake::{Deed, PATIENCE, Program, echo, event, eventually, setup};

/// A runtime that answers when the test lets it.
fn gated(gate: &Arc<Semaphore>) -> impl Fn(Program) -> futures::Gated + Send + Sync + 'static + use<> {
    let gate = Arc::clone(gate);
    move |program| futures::gated(program, Arc::clone(&gate))
}

mod futures {
    use std::pin::Pin;

    use super::{Arc, Program, Semaphore};
    use freehold_sandbox::spec::Exit;

    pub(super) type Gated = Pin<Box<dyn Future<Output = Exit> + Send>>;

    pub(super) fn gated(program: Program, gate: Arc<Semaphore>) -> Gated {
        Box::pin(async move {
            let mut client = program.connect().await;
            loop {
                let event = client.next().await;
                gate.acquire().await.expect("never closed").forget();
                client.answer(&event.id(), &event.body).await;
            }
        })
    }
}

#[tokio::test]
async fn events_at_once_get_an_environment_each() {
    let gate = Arc::new(Semaphore::new(0));
    let bench = setup(gated(&gate)).bench();
    let events: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn({
                let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
                async move { executor.invoke(version, event("{}")).await }
            })
        })
        .collect();
    eventually(|| bench.starts() == 10).await;
    assert_eq!(bench.executor.in_flight(), 10);
    gate.add_permits(10);
    for event in events {
        event.await.expect("no panic").expect("runs");
    }
    assert_eq!((bench.executor.environments(), bench.executor.in_flight()), (10, 0));
    for _ in 0..5 {
        gate.add_permits(1);
        bench.invoke(event("{}")).await.expect("runs");
    }
    assert_eq!(bench.starts(), 10, "the warm ones are used");
}

#[tokio::test]
async fn back_to_back_events_use_one_environment() {
    let bench = setup(echo).bench();
    for _ in 0..500 {
        bench.invoke(event("{}")).await.expect("runs");
    }
    assert_eq!(bench.starts(), 1);
}

#[tokio::test]
async fn an_idle_environment_is_frozen_and_thawed_for_an_event() {
    let mut setup = setup(echo);
    setup.limits.freeze_delay = Duration::from_millis(5);
    let mut bench = setup.bench();
    bench.invoke(event("{}")).await.expect("runs");
    bench.done(Deed::Freeze(1)).await;
    bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(bench.deeds()[..3], [Deed::Start(1), Deed::Freeze(1), Deed::Thaw(1)]);
}

#[tokio::test]
async fn an_environment_that_is_idle_for_long_is_dropped() {
    let mut setup = setup(echo);
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    bench.invoke(event("{}")).await.expect("runs");
    bench.done(Deed::Stop(1)).await;
    assert_eq!(bench.executor.environments(), 0);
}

#[tokio::test]
async fn a_retired_versions_environments_go_and_the_new_one_gets_its_own() {
    let gate = Arc::new(Semaphore::new(0));
    let mut bench = setup(gated(&gate)).bench();
    let running = tokio::spawn({
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        async move { executor.invoke(version, event("{}")).await }
    });
    bench.done(Deed::Start(1)).await;
    bench.executor.retire(&bench.version.key);
    let new = bench.changed(|version| version.key = "hello-2".to_owned());
    gate.add_permits(2);
    bench.executor.invoke(Arc::clone(&new), event("{}")).await.expect("runs");
    running.await.expect("no panic").expect("what was running ends well");
    bench.done(Deed::Stop(1)).await;
    assert_eq!(bench.executor.environments(), 1);
    bench.executor.retire(&new.key);
    bench.done(Deed::Stop(2)).await;
    assert_eq!(bench.executor.environments(), 0);
}

#[tokio::test]
async fn a_shutdown_waits_for_events_and_refuses_new_ones() {
    let gate = Arc::new(Semaphore::new(0));
    let bench = setup(gated(&gate)).bench();
    let running = tokio::spawn({
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        async move { executor.invoke(version, event("{}")).await }
    });
    eventually(|| bench.starts() == 1).await;
    let mut stopping = std::pin::pin!(bench.executor.shutdown(PATIENCE));
    tokio::select! {
        biased;
        () = &mut stopping => panic!("an event is in flight"),
        () = std::future::ready(()) => {}
    }
    let refused = bench.invoke(event("{}")).await.expect_err("stopping");
    assert!(matches!(refused, InvokeError::Stopping), "{refused}");
    gate.add_permits(1);
    running.await.expect("no panic").expect("it was in flight");
    stopping.await;
    assert_eq!(bench.executor.environments(), 0);
    assert!(bench.deeds().contains(&Deed::Stop(1)));
}

#[tokio::test]
async fn a_shutdown_ends_what_does_not_end() {
    let gate = Arc::new(Semaphore::new(0));
    let bench = setup(gated(&gate)).bench();
    let running = tokio::spawn({
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        async move { executor.invoke(version, event("{}")).await }
    });
    eventually(|| bench.starts() == 1).await;
    bench.executor.shutdown(Duration::from_millis(20)).await;
    let ended = running.await.expect("no panic").expect_err("it was ended");
    assert!(matches!(ended, InvokeError::Stopping), "{ended}");
    assert!(bench.deeds().contains(&Deed::Stop(1)));
}

#[tokio::test]
async fn dropping_the_executor_removes_its_environments() {
    let mut bench = setup(echo).bench();
    bench.invoke(event("{}")).await.expect("runs");
    let other = crate::fake::setup(echo).bench();
    bench.executor = other.executor.clone();
    bench.done(Deed::Stop(1)).await;
}
