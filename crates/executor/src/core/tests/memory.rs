//! What the host can hold.

use super::super::{HostMemory, Shortage};
use super::*;

const TOTAL_MIB: u64 = 10_000;

fn bench() -> Bench {
    Bench::new(Limits { memory_floor_mib: 400, environment_estimate_mib: 10, ..Limits::default() })
}

impl Bench {
    fn available(&mut self, mib: u64) {
        self.core.memory(self.now, HostMemory { available_mib: mib, total_mib: TOTAL_MIB });
    }

    /// Runs an event that uses so much on a new environment.
    fn warm_with(&mut self, version: &Arc<FunctionVersion>, mib: u64) -> EnvironmentId {
        self.arrive(version).expect("admitted");
        let environment = self.started();
        self.succeed(environment);
        self.dispatched();
        self.core.used(environment, mib);
        self.finish(environment);
        environment
    }
}

#[test]
fn starts_between_two_readings_cannot_use_more_than_there_is() {
    let mut bench = bench();
    let hello = version("hello", "1");
    // 5 % of all is more than 400 MiB.
    bench.available(500 + 205);
    let started = (0..1_000).filter(|_| bench.arrive(&hello).is_ok()).count();
    assert_eq!(started, 20, "of 10 MiB each");
    assert_eq!(bench.arrive(&hello), Err(Rejection::Short(Shortage::Memory)));
    assert_eq!(bench.core.in_flight(), 20, "what is refused is not queued");
    let environments = bench.starts();
    bench.available(500 + 205);
    assert!(bench.arrive(&hello).is_err(), "those that start have not shown in the reading yet");
    for environment in environments {
        bench.succeed(environment);
    }
    bench.available(500 + 205);
    bench.arrive(&hello).expect("they have now");
}

#[test]
fn by_default_half_a_gib_stays_free_more_on_a_large_host_and_less_on_a_small_one() {
    for (total_mib, floor_mib) in [(1_024, 256), (2_048, 512), (8_192, 512), (102_400, 5_120)] {
        let mut bench = Bench::new(Limits::default());
        let hello = version("hello", "1");
        let available_mib = floor_mib + 15;
        bench.core.memory(bench.now, HostMemory { available_mib, total_mib });
        assert_eq!(bench.arrive(&hello), Err(Rejection::Short(Shortage::Memory)), "{total_mib} MiB");
        bench.core.memory(bench.now, HostMemory { available_mib: available_mib + 1, total_mib });
        bench.arrive(&hello).expect("room for one of 16 MiB");
    }
}

#[test]
fn a_start_is_charged_with_what_the_function_was_seen_to_use() {
    let mut bench = bench();
    let large = version("large", "1");
    bench.warm_with(&large, 100);
    bench.available(500 + 350);
    // One of them finds the warm one.
    let admitted = (0..10).filter(|_| bench.arrive(&large).is_ok()).count();
    assert_eq!(admitted, 1 + 3);
}

#[test]
fn room_is_made_by_those_that_have_been_idle_longest() {
    let mut bench = bench();
    let mut idle = Vec::new();
    for number in 0..3 {
        idle.push(bench.warm_with(&version(&format!("f{number}"), &number.to_string()), 10));
        bench.pass(Duration::from_millis(1));
    }
    bench.available(500);
    let hello = version("hello", "1-0");
    bench.arrive(&hello).expect("two of them make room");
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Drop { environment: a }, Action::Drop { environment: b },
            Action::Start { .. }] if *a == idle[0] && *b == idle[1]),
        "{actions:?}"
    );
    assert_eq!(bench.arrive(&hello), Err(Rejection::Short(Shortage::Memory)), "the third is not enough");
    assert!(bench.actions().is_empty(), "and is not dropped for nothing");
}

#[test]
fn when_memory_runs_out_idle_environments_go_and_provisioned_ones_last() {
    let mut bench = bench();
    let (hello, kept) = (version("hello", "1"), version("kept", "2"));
    bench.core.provision(bench.now, "kept:PROD", &kept, 1);
    let provisioned = bench.started();
    bench.succeed(provisioned);
    bench.pass(Duration::from_millis(1));
    let older = bench.warm_with(&version("older", "0"), 40);
    let busy = bench.warm_with(&hello, 40);
    bench.arrive(&hello).expect("admitted");
    bench.dispatched();
    bench.available(495);
    assert_eq!(bench.drops(), [older], "that is enough");
    bench.available(100);
    assert_eq!(bench.drops(), [provisioned], "nothing else is idle");
    assert!(bench.core.has(busy), "what runs an event stays");
    bench.pass(Duration::from_secs(5));
    assert!(bench.actions().is_empty(), "it does not come back before there is memory");
    bench.available(5_000);
    bench.pass(Duration::from_secs(5));
    bench.started();
}

#[test]
fn where_there_are_no_places_the_longest_idle_makes_one() {
    let mut bench = Bench::new(Limits { max_environments: 2, ..Limits::default() });
    let (first, second) = (version("first", "1"), version("second", "2"));
    let idle = bench.warm(&first);
    bench.arrive(&second).expect("admitted");
    bench.started();
    assert_eq!(bench.core.prewarm(bench.now, &second), None, "what is expected drops nothing");
    bench.arrive(&second).expect("the idle one makes place");
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Drop { environment }, Action::Start { .. }] if *environment == idle),
        "{actions:?}"
    );
    assert_eq!(bench.arrive(&first), Err(Rejection::Short(Shortage::Places)));
}
