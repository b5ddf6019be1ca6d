//! Provisioned concurrency.

use super::*;
use crate::event::{Provisioned, ThrottleReason};

const TARGET: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello:PROD";

impl Bench {
    fn provision(&mut self, version: &Arc<FunctionVersion>, count: u32) {
        self.core.provision(self.now, TARGET, version, count);
    }

    /// Provisions and lets every start succeed.
    fn provisioned(&mut self, version: &Arc<FunctionVersion>, count: u32) -> Vec<EnvironmentId> {
        self.provision(version, count);
        let mut environments = Vec::new();
        while environments.len() < count as usize {
            let started = self.starts();
            assert!(!started.is_empty(), "the next ones start when these are ready");
            for environment in started {
                self.succeed(environment);
                environments.push(environment);
            }
        }
        assert_eq!(self.state(), [count, count, count]);
        environments
    }

    /// Requested, allocated, available.
    fn state(&self) -> [u32; 3] {
        let Provisioned { requested, allocated, available, .. } =
            self.core.provisioned(TARGET).expect("it is provisioned");
        [requested, allocated, available]
    }

    fn failure(&self) -> Option<String> {
        self.core.provisioned(TARGET).expect("it is provisioned").failure
    }

    /// Lets time pass, tick by tick.
    fn pass_slowly(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.core.next_tick().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.core.tick(self.now);
        }
        self.now = until;
    }
}

#[test]
fn events_of_the_target_use_them_first_and_then_run_on_demand() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let ready = bench.provisioned(&hello, 2);
    let plain = bench.arrive(&hello).expect("admitted");
    let on_demand = bench.started();
    assert!(!ready.contains(&on_demand), "another qualifier does not use them");
    bench.succeed(on_demand);
    assert_eq!(bench.dispatched(), (on_demand, plain));
    bench.finish(on_demand);
    for _ in 0..2 {
        bench.arrive_at(&hello, TARGET).expect("admitted");
        assert!(ready.contains(&bench.dispatched().0));
    }
    assert_eq!(bench.state(), [2, 2, 0]);
    bench.arrive_at(&hello, TARGET).expect("it spills over");
    assert_eq!(bench.dispatched().0, on_demand);
    // Back to back, an event waits for the provisioned one that has just answered.
    bench.core.answered(bench.now, ready[0]);
    let event = bench.arrive_at(&hello, TARGET).expect("admitted");
    assert!(bench.actions().is_empty());
    bench.core.ready(bench.now, ready[0]);
    assert_eq!(bench.dispatched(), (ready[0], event));
    // If it does not become free, the event runs on demand.
    bench.core.answered(bench.now, ready[0]);
    let event = bench.arrive_at(&hello, TARGET).expect("admitted");
    bench.core.dead(bench.now, ready[0], Fate::Ended);
    let other = bench.started();
    bench.succeed(other);
    assert_eq!(bench.dispatched(), (other, event));
}

#[test]
fn they_do_not_age_and_are_replaced_when_they_die() {
    let limits = Limits::default();
    let mut bench = Bench::new(limits.clone());
    let hello = version("hello", "1");
    let ready = bench.provisioned(&hello, 2);
    bench.pass_slowly(10 * limits.idle_timeout);
    let actions = bench.actions();
    assert!(actions.iter().all(|action| matches!(action, Action::Freeze { .. })), "{actions:?}");
    assert_eq!(bench.state(), [2, 2, 2]);
    bench.arrive_at(&hello, TARGET).expect("admitted");
    let (busy, _) = bench.dispatched();
    let changes = bench.core.provisioned_changes();
    bench.core.dead(bench.now, busy, Fate::Ended);
    assert_eq!(bench.state(), [2, 1, 1]);
    assert_ne!(bench.core.provisioned_changes(), changes, "whoever waits for a change hears of it");
    let new = bench.started();
    bench.succeed(new);
    assert_eq!(bench.state(), [2, 2, 2]);
    assert!(!ready.contains(&new));
}

#[test]
fn they_belong_to_their_function_and_the_others_have_the_rest() {
    let mut bench = Bench::new(Limits { account_concurrency: 10, ..Limits::default() });
    let (hello, other) = (version("hello", "1"), version("other", "2"));
    bench.provisioned(&hello, 4);
    for _ in 0..6 {
        bench.arrive(&other).expect("what is left");
    }
    let throttled = Err(Rejection::Throttled(ThrottleReason::Concurrency));
    assert_eq!(bench.arrive(&other), throttled);
    assert_eq!(bench.arrive(&hello), throttled, "on demand it shares with all");
    bench.actions();
    for _ in 0..4 {
        bench.arrive_at(&hello, TARGET).expect("they are its own");
        bench.dispatched();
    }
    assert_eq!(bench.arrive_at(&hello, TARGET), throttled);
}

#[test]
fn a_function_all_of_whose_reserved_concurrency_is_provisioned_has_none_on_demand() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.core.set_reserved(bench.now, &hello.function_arn, Some(2));
    bench.provisioned(&hello, 2);
    let throttled = Err(Rejection::Throttled(ThrottleReason::ReservedConcurrency));
    assert_eq!(bench.arrive(&hello), throttled);
    for _ in 0..2 {
        bench.arrive_at(&hello, TARGET).expect("provisioned");
    }
    assert_eq!(bench.arrive_at(&hello, TARGET), throttled);
}

#[test]
fn beyond_ten_requests_a_second_for_each_events_run_on_demand() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let ready = bench.provisioned(&hello, 1);
    for _ in 0..10 {
        bench.arrive_at(&hello, TARGET).expect("admitted");
        assert_eq!(bench.dispatched().0, ready[0]);
        bench.finish(ready[0]);
    }
    bench.arrive_at(&hello, TARGET).expect("admitted");
    assert_ne!(bench.started(), ready[0]);
}

#[test]
fn they_start_a_few_at_a_time_at_a_rate_of_their_own() {
    let never = Duration::from_secs(3_600);
    let limits =
        Limits { scaling_burst: 3, provisioning_at_once: 2, freeze_delay: never, ..Limits::default() };
    let mut bench = Bench::new(limits.clone());
    let hello = version("hello", "1");
    bench.provision(&hello, 5);
    let first = bench.starts();
    assert_eq!(first.len(), 2);
    for _ in 0..3 {
        bench.arrive(&hello).expect("events have a rate of their own");
    }
    assert_eq!(bench.starts().len(), 3);
    bench.succeed(first[0]);
    bench.succeed(first[1]);
    let third = bench.started();
    bench.succeed(third);
    assert!(bench.actions().is_empty(), "that was the burst");
    bench.pass_slowly(limits.scaling_period);
    let mut more = bench.starts();
    for environment in more.clone() {
        bench.succeed(environment);
    }
    more.extend(bench.starts());
    assert_eq!(more.len(), 2);
}

#[test]
fn fewer_are_asked_for_then_the_surplus_goes_after_its_event() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.provisioned(&hello, 3);
    bench.arrive_at(&hello, TARGET).expect("admitted");
    bench.arrive_at(&hello, TARGET).expect("admitted");
    let busy: Vec<_> = bench
        .actions()
        .into_iter()
        .map(|action| match action {
            Action::Dispatch { environment, .. } => environment,
            other => panic!("{other:?}"),
        })
        .collect();
    bench.provision(&hello, 1);
    let idle = bench.drops();
    assert_eq!(idle.len(), 1);
    assert!(!busy.contains(&idle[0]));
    bench.core.answered(bench.now, busy[0]);
    assert_eq!(bench.drops(), [busy[0]]);
    bench.finish(busy[1]);
    assert!(bench.actions().is_empty(), "one stays");
    bench.core.unprovision(bench.now, TARGET);
    assert_eq!(bench.drops(), [busy[1]]);
    assert_eq!(bench.core.provisioned(TARGET), None);
}

#[test]
fn when_an_alias_moves_the_old_ones_stay_until_the_new_ones_are_ready() {
    let mut bench = Bench::new(Limits::default());
    let (old, new) = (version("hello", "1"), version("hello", "2"));
    let before = bench.provisioned(&old, 2);
    bench.provision(&new, 2);
    assert_eq!(bench.state(), [2, 0, 0]);
    let after = bench.starts();
    bench.succeed(after[0]);
    assert!(bench.actions().is_empty());
    bench.arrive_at(&old, TARGET).expect("admitted");
    assert!(before.contains(&bench.dispatched().0), "a late event of the old version still has one");
    bench.arrive_at(&new, TARGET).expect("admitted");
    assert_eq!(bench.dispatched().0, after[0], "what is ready serves");
    bench.succeed(after[1]);
    assert_eq!(bench.drops().len(), 1, "the idle one of the old version");
    assert_eq!(bench.core.environments(), 3, "the busy one stays for its event");
    assert_eq!(bench.state(), [2, 2, 1]);
}

#[test]
fn a_failing_init_is_tried_less_and_less_often_and_told() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.provision(&hello, 4);
    let mut attempts = Vec::new();
    let began = bench.now;
    while bench.now < began + Duration::from_secs(3_600) {
        for environment in bench.starts() {
            attempts.push(bench.now - began);
            let reason = "Runtime.ImportModuleError: no module".into();
            bench.core.init_ended(bench.now, environment, Init::Failed(reason));
            assert_eq!(bench.drops(), [environment]);
        }
        bench.now = bench.core.next_tick().expect("it goes on trying");
        bench.core.tick(bench.now);
        match bench.failure() {
            None => assert!(attempts.len() < 6, "three rounds, the first of four at once"),
            Some(text) => assert_eq!(text, "Runtime.ImportModuleError: no module"),
        }
    }
    assert!((60..75).contains(&attempts.len()), "{} attempts in an hour", attempts.len());
    bench.pass_slowly(Duration::from_secs(60));
    let good = bench.started();
    bench.succeed(good);
    assert_eq!(bench.failure(), None, "a success clears it");
    assert_eq!(bench.starts().len(), 3, "and brings the others at once");
}

#[test]
fn an_environment_that_dies_when_it_is_ready_is_not_replaced_in_a_hot_loop() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.provision(&hello, 1);
    let mut attempts = 0;
    for _ in 0..10_000 {
        for environment in bench.starts() {
            attempts += 1;
            bench.succeed(environment);
            bench.core.dead(bench.now, environment, Fate::Ended);
        }
        bench.pass_slowly(Duration::from_millis(10));
    }
    assert!((90..=101).contains(&attempts), "{attempts} within 100 s");
}
