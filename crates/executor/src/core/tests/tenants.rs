//! Tenants: an environment serves one of them, for life.

use super::*;
use crate::event::ThrottleReason;

/// Runs one event of a tenant on a new environment, which is idle afterwards.
fn warm_for(bench: &mut Bench, version: &Arc<FunctionVersion>, tenant: &str) -> EnvironmentId {
    bench.arrive_for(version, tenant).expect("admitted");
    let environment = bench.started();
    bench.succeed(environment);
    bench.dispatched();
    bench.finish(environment);
    environment
}

#[test]
fn an_idle_environment_of_another_tenant_is_not_used() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let blue = warm_for(&mut bench, &hello, "blue");
    let green = warm_for(&mut bench, &hello, "green");
    assert_ne!(blue, green);
    for (tenant, environment) in [("blue", blue), ("green", green), ("blue", blue)] {
        let event = bench.arrive_for(&hello, tenant).expect("admitted");
        assert_eq!(bench.dispatched(), (environment, event));
        bench.finish(environment);
    }
}

#[test]
fn an_event_does_not_wait_for_another_tenants_environment() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.arrive_for(&hello, "blue").expect("admitted");
    let blue = bench.started();
    let event = bench.arrive_for(&hello, "green").expect("admitted");
    let green = bench.started();
    bench.succeed(blue);
    bench.dispatched();
    bench.finish(blue);
    assert!(bench.actions().is_empty(), "what the other tenant has left idle is not for this event");
    bench.succeed(green);
    assert_eq!(bench.dispatched(), (green, event));
}

#[test]
fn tenants_share_their_functions_limits() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.core.set_reserved(bench.now, &hello.function_arn, Some(2));
    bench.arrive_for(&hello, "blue").expect("admitted");
    bench.arrive_for(&hello, "green").expect("admitted");
    let rejected = Err(Rejection::Throttled(ThrottleReason::ReservedConcurrency));
    assert_eq!(bench.arrive_for(&hello, "red"), rejected);
}

#[test]
fn tenants_have_two_and_a_half_environments_for_each_unit_of_concurrency() {
    let limits = Limits { requests_per_concurrency: 100, ..Limits::default() };
    let mut bench = Bench::new(limits.clone());
    let hello = version("hello", "1");
    bench.core.set_reserved(bench.now, &hello.function_arn, Some(4));
    for number in 0..10 {
        warm_for(&mut bench, &hello, &format!("tenant-{number}"));
    }
    let rejected = Err(Rejection::Throttled(ThrottleReason::Concurrency));
    assert_eq!(bench.arrive_for(&hello, "one more"), rejected, "idle ones count");
    bench.arrive_for(&hello, "tenant-3").expect("it has one");
    bench.pass(limits.idle_timeout);
    bench.arrive_for(&hello, "one more").expect("the others have gone");
}
