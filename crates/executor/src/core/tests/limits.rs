//! Concurrency and rates: AWS's defaults, and its reasons.

use super::*;
use crate::event::ThrottleReason;

fn throttled(reason: ThrottleReason) -> Result<EventId, Rejection> {
    Err(Rejection::Throttled(reason))
}

/// How many events of a function are admitted at once, and what the next one hears.
fn admitted(bench: &mut Bench, version: &Arc<FunctionVersion>) -> (usize, Rejection) {
    let mut count = 0;
    loop {
        match bench.arrive(version) {
            Ok(_) => count += 1,
            Err(rejection) => return (count, rejection),
        }
    }
}

#[test]
fn an_account_has_a_thousand_events_in_flight_by_default() {
    let mut bench = Bench::new(Limits::default());
    let (first, second) = (version("first", "1"), version("second", "2"));
    for _ in 0..500 {
        bench.arrive(&first).expect("within the account's concurrency");
        bench.arrive(&second).expect("within the account's concurrency");
    }
    assert_eq!(bench.arrive(&first), throttled(ThrottleReason::Concurrency));
    assert_eq!(bench.arrive(&version("third", "3")), throttled(ThrottleReason::Concurrency));
}

#[test]
fn a_function_starts_a_thousand_environments_in_ten_seconds_by_default() {
    let mut bench = Bench::new(Limits { account_concurrency: 10_000, ..Limits::default() });
    let hello = version("hello", "1");
    let scaling = Rejection::Throttled(ThrottleReason::Concurrency);
    assert_eq!(admitted(&mut bench, &hello), (1_000, scaling));
    bench.pass(Duration::from_secs(1));
    assert_eq!(admitted(&mut bench, &hello), (100, scaling), "it comes back continuously");
    bench.pass(Duration::from_secs(10));
    assert_eq!(admitted(&mut bench, &hello), (1_000, scaling));
    bench.arrive(&version("other", "2")).expect("another function has its own rate");
}

#[test]
fn each_unit_of_concurrency_allows_ten_requests_a_second_by_default() {
    let mut bench = Bench::new(Limits::default());
    let (hello, reserved) = (version("hello", "1"), version("reserved", "2"));
    bench.core.set_reserved(bench.now, &reserved.function_arn, Some(3));
    for (version, requests, reason) in [
        (&hello, 10_000, ThrottleReason::FunctionRate),
        (&reserved, 30, ThrottleReason::ReservedFunctionRate),
    ] {
        // One at a time, so that it is not the concurrency.
        let environment = bench.warm(version);
        for _ in 1..requests {
            bench.arrive(version).expect("within the rate");
            bench.finish(environment);
        }
        assert_eq!(bench.arrive(version), throttled(reason));
        bench.actions();
    }
    bench.pass(Duration::from_secs(1));
    bench.arrive(&hello).expect("a second later it is another second");
}

#[test]
fn reserved_concurrency_is_a_functions_own_and_all_it_has() {
    let limits = Limits { account_concurrency: 5, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (plain, reserved, closed) = (version("plain", "1"), version("reserved", "2"), version("closed", "3"));
    bench.core.set_reserved(bench.now, &reserved.function_arn, Some(2));
    bench.core.set_reserved(bench.now, &closed.function_arn, Some(0));
    assert_eq!(bench.arrive(&closed), throttled(ThrottleReason::ReservedConcurrency));
    let own = Rejection::Throttled(ThrottleReason::ReservedConcurrency);
    assert_eq!(admitted(&mut bench, &reserved), (2, own));
    let shared = Rejection::Throttled(ThrottleReason::Concurrency);
    assert_eq!(admitted(&mut bench, &plain), (3, shared));
    bench.core.set_reserved(bench.now, &reserved.function_arn, None);
    assert_eq!(
        bench.arrive(&plain),
        throttled(ThrottleReason::Concurrency),
        "the account's limit holds for all"
    );
}
