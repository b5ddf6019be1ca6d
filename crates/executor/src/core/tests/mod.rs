//! The policy, case by case: here an event's way to an environment and an environment's life.

mod limits;
mod memory;
mod provisioning;
mod tenants;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Arrival, Core, EnvironmentId, EventId, Fate, Init, Purpose, Rejection};
use crate::event::FunctionVersion;
use crate::limits::Limits;
use crate::logging::Logging;

pub(super) fn version(function: &str, key: &str) -> Arc<FunctionVersion> {
    Arc::new(FunctionVersion {
        key: key.to_owned(),
        function_arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{function}"),
        name: function.to_owned(),
        version: "$LATEST".to_owned(),
        runtime: "provided.al2023".to_owned(),
        handler: "handler".to_owned(),
        code: "/nowhere".into(),
        layers: None,
        variables: BTreeMap::new(),
        memory_mib: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mib: 512,
        role_arn: "arn:aws:iam::123456789012:role/role".to_owned(),
        region: "us-east-1".to_owned(),
        log_group: format!("/aws/lambda/{function}"),
        logging: Logging::default(),
    })
}

struct Bench {
    core: Core,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { core: Core::new(limits), now: Instant::now() }
    }

    fn actions(&mut self) -> Vec<Action> {
        self.core.take_actions().collect()
    }

    fn arrive(&mut self, version: &Arc<FunctionVersion>) -> Result<EventId, Rejection> {
        self.arrive_at(version, &version.function_arn)
    }

    fn arrive_at(&mut self, version: &Arc<FunctionVersion>, target: &str) -> Result<EventId, Rejection> {
        self.core.arrive(self.now, Arrival { version, target, tenant: None })
    }

    fn arrive_for(&mut self, version: &Arc<FunctionVersion>, tenant: &str) -> Result<EventId, Rejection> {
        let target = &version.function_arn;
        self.core.arrive(self.now, Arrival { version, target, tenant: Some(tenant) })
    }

    /// What was started since the last look; nothing else may have happened.
    fn starts(&mut self) -> Vec<EnvironmentId> {
        self.actions()
            .into_iter()
            .map(|action| match action {
                Action::Start { environment, .. } => environment,
                other => panic!("only starts were expected, got {other:?}"),
            })
            .collect()
    }

    /// What was dropped since the last look; nothing else may have happened.
    fn drops(&mut self) -> Vec<EnvironmentId> {
        self.actions()
            .into_iter()
            .map(|action| match action {
                Action::Drop { environment } => environment,
                other => panic!("only drops were expected, got {other:?}"),
            })
            .collect()
    }

    fn succeed(&mut self, environment: EnvironmentId) {
        self.core.init_ended(self.now, environment, Init::Succeeded);
    }

    fn finish(&mut self, environment: EnvironmentId) {
        self.core.answered(self.now, environment);
        self.core.ready(self.now, environment);
    }

    fn started(&mut self) -> EnvironmentId {
        match self.actions().as_slice() {
            [Action::Start { environment, .. }] => *environment,
            other => panic!("one start was expected, got {other:?}"),
        }
    }

    fn dispatched(&mut self) -> (EnvironmentId, EventId) {
        match self.actions().as_slice() {
            [Action::Dispatch { environment, event, .. }] => (*environment, *event),
            other => panic!("one dispatch was expected, got {other:?}"),
        }
    }

    /// Runs one event to its end on a new environment, which is idle afterwards.
    fn warm(&mut self, version: &Arc<FunctionVersion>) -> EnvironmentId {
        self.arrive(version).expect("admitted");
        let environment = self.started();
        self.core.init_ended(self.now, environment, Init::Succeeded);
        self.dispatched();
        self.core.answered(self.now, environment);
        self.core.ready(self.now, environment);
        assert!(self.actions().is_empty());
        environment
    }

    /// Lets time pass at once.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.now);
    }
}

#[test]
fn an_event_waits_for_the_first_environment_that_becomes_free() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let warm = bench.warm(&hello);
    let first = bench.arrive(&hello).expect("admitted");
    assert_eq!(bench.dispatched(), (warm, first));
    let second = bench.arrive(&hello).expect("admitted");
    let started = bench.started();
    bench.core.answered(bench.now, warm);
    bench.core.ready(bench.now, warm);
    assert_eq!(bench.dispatched(), (warm, second), "the warm one was free before the new one");
    let third = bench.arrive(&hello).expect("admitted");
    assert!(bench.actions().is_empty(), "the one that is starting is free for it");
    bench.core.init_ended(bench.now, started, Init::Succeeded);
    assert_eq!(bench.dispatched(), (started, third));
}

#[test]
fn an_event_waits_a_moment_for_an_environment_that_has_answered() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let warm = bench.warm(&hello);
    bench.arrive(&hello).expect("admitted");
    bench.dispatched();
    bench.core.answered(bench.now, warm);
    let event = bench.arrive(&hello).expect("admitted");
    assert!(bench.actions().is_empty());
    bench.core.ready(bench.now, warm);
    assert_eq!(bench.dispatched(), (warm, event));

    bench.core.answered(bench.now, warm);
    bench.arrive(&hello).expect("admitted");
    let grace = bench.core.next_tick().expect("the grace ends");
    bench.pass(grace - bench.now);
    bench.started();
}

#[test]
fn an_event_waits_for_it_as_long_as_another_one_would_take_to_start() {
    let limits = Limits::default();
    let mut bench = Bench::new(limits.clone());
    let slow = version("slow", "1");
    bench.arrive(&slow).expect("admitted");
    let environment = bench.started();
    let start = 10 * limits.settle_grace;
    bench.pass(start);
    bench.core.init_ended(bench.now, environment, Init::Succeeded);
    bench.dispatched();
    bench.core.answered(bench.now, environment);
    bench.arrive(&slow).expect("admitted");
    bench.pass(start - Duration::from_nanos(1));
    assert!(bench.actions().is_empty());
    bench.pass(Duration::from_nanos(1));
    bench.started();
}

#[test]
fn the_most_recently_used_environment_is_picked_and_the_others_age() {
    let limits = Limits::default();
    let mut bench = Bench::new(limits.clone());
    let hello = version("hello", "1");
    let events: Vec<_> = (0..3).map(|_| bench.arrive(&hello).expect("admitted")).collect();
    assert_eq!(events.len(), 3);
    let environments: Vec<_> = bench
        .actions()
        .into_iter()
        .map(|action| match action {
            Action::Start { environment, .. } => environment,
            other => panic!("{other:?}"),
        })
        .collect();
    for environment in &environments {
        bench.core.init_ended(bench.now, *environment, Init::Succeeded);
    }
    for environment in &environments {
        bench.core.answered(bench.now, *environment);
        bench.core.ready(bench.now, *environment);
        bench.pass(Duration::from_millis(1));
    }
    bench.actions();
    bench.arrive(&hello).expect("admitted");
    let (picked, _) = bench.dispatched();
    assert_eq!(picked, environments[2]);
    bench.pass(limits.freeze_delay);
    let frozen = bench.actions();
    assert!(
        matches!(frozen.as_slice(), [Action::Freeze { environment: a }, Action::Freeze { environment: b }]
            if *a == environments[0] && *b == environments[1]),
        "{frozen:?}"
    );
    bench.pass(limits.idle_timeout);
    let dropped = bench.actions();
    assert!(matches!(dropped.as_slice(), [Action::Drop { .. }, Action::Drop { .. }]), "{dropped:?}");
    assert_eq!(bench.core.environments(), 1);
}

#[test]
fn back_to_back_events_neither_freeze_nor_thaw() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let environment = bench.warm(&hello);
    for _ in 0..100 {
        bench.pass(Duration::from_millis(2));
        bench.arrive(&hello).expect("admitted");
        bench.dispatched();
        bench.core.answered(bench.now, environment);
        bench.core.ready(bench.now, environment);
    }
    assert!(bench.actions().is_empty());
}

#[test]
fn an_event_that_its_environment_never_saw_is_given_to_another() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let warm = bench.warm(&hello);
    let event = bench.arrive(&hello).expect("admitted");
    bench.dispatched();
    bench.core.dead(bench.now, warm, Fate::Untouched);
    let other = bench.started();
    bench.core.init_ended(bench.now, other, Init::Failed("why".into()));
    assert_eq!(bench.dispatched(), (other, event), "after a failed init the event runs the init again");
    bench.core.dead(bench.now, other, Fate::Ended);
    assert_eq!((bench.core.in_flight(), bench.core.environments()), (0, 0));
}

#[test]
fn a_failed_start_rejects_the_event_that_waited_longest() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let event = bench.arrive(&hello).expect("admitted");
    let environment = bench.started();
    bench.core.start_failed(bench.now, environment, "why");
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Reject { event: rejected, rejection: Rejection::Failed(failed) }]
            if *rejected == event && *failed == environment),
        "{actions:?}"
    );
    assert_eq!(bench.core.in_flight(), 0);
}

#[test]
fn a_retired_version_ends_with_its_last_event() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let idle = bench.warm(&hello);
    bench.core.retire(bench.now, "1");
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Drop { environment }] if *environment == idle),
        "{actions:?}"
    );

    bench.arrive(&hello).expect("a late event still runs");
    let late = bench.started();
    bench.core.init_ended(bench.now, late, Init::Succeeded);
    bench.dispatched();
    bench.core.answered(bench.now, late);
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Drop { environment }] if *environment == late),
        "{actions:?}"
    );
}

#[test]
fn stopping_lets_events_end_and_aborting_does_not() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    bench.arrive(&hello).expect("admitted");
    let environment = bench.started();
    bench.core.stop(bench.now);
    assert_eq!(bench.arrive(&hello), Err(Rejection::Stopping));
    bench.core.init_ended(bench.now, environment, Init::Succeeded);
    bench.dispatched();
    bench.core.abort(bench.now);
    let actions = bench.actions();
    assert!(matches!(actions.as_slice(), [Action::Drop { .. }]), "{actions:?}");
    assert_eq!((bench.core.in_flight(), bench.core.environments()), (0, 0));
}

#[test]
fn an_environment_made_ahead_is_idle_when_the_event_comes() {
    let mut bench = Bench::new(Limits::default());
    let hello = version("hello", "1");
    let ahead = bench.core.prewarm(bench.now, &hello).expect("nothing speaks against it");
    let actions = bench.actions();
    assert!(
        matches!(actions.as_slice(), [Action::Start { environment, purpose: Purpose::Prewarm, .. }]
            if *environment == ahead),
        "{actions:?}"
    );
    bench.succeed(ahead);
    assert!(bench.actions().is_empty(), "it waits for an event");
    let event = bench.arrive(&hello).expect("admitted");
    assert_eq!(bench.dispatched(), (ahead, event));

    bench.core.retire(bench.now, "1");
    assert_eq!(
        bench.core.prewarm(bench.now, &hello),
        None,
        "there is nothing to expect of what was replaced"
    );
    let failing = bench.core.prewarm(bench.now, &version("other", "2")).expect("nothing speaks against it");
    bench.actions();
    bench.core.init_ended(bench.now, failing, Init::Failed("why".into()));
    assert_eq!(bench.drops(), [failing], "there is no event to run its Init again");
}
