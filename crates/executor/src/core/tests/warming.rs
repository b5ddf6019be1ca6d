//! How long idle environments are kept, and those that are made just before an event.

use std::time::Duration;

use super::{Bench, version};
use crate::core::{Action, Purpose};
use crate::keepalive::{KeepAlive, STANDARD};
use crate::limits::Limits;

const PERIOD: Duration = Duration::from_secs(300);
/// Far more than an environment is waited for before and after an event that is expected to the second.
const WINDOW: Duration = Duration::from_secs(10);

impl Bench {
    /// Lets the clock run to each of the core's own moments until then. What it starts is ready at once.
    fn pass_ticking(&mut self, time: Duration) -> Vec<Action> {
        let until = self.now + time;
        let mut actions = self.actions();
        while let Some(next) = self.core.next_tick().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.core.tick(self.now);
            for action in self.actions() {
                match action {
                    Action::Freeze { .. } => continue,
                    Action::Start { environment, .. } => self.succeed(environment),
                    _ => {}
                }
                actions.push(action);
            }
        }
        self.now = until;
        actions
    }

    /// An event by the clock, which takes no time; on an environment that is there or on a new one.
    fn timer_event(&mut self, key: &str) {
        self.arrive(&version("timer", key)).expect("admitted");
        let mut environment = None;
        for action in self.actions() {
            match action {
                Action::Start { environment: id, .. } => self.succeed(id),
                Action::Dispatch { environment: id, .. } => environment = Some(id),
                _ => {}
            }
        }
        let environment = environment.unwrap_or_else(|| self.dispatched().0);
        self.core.answered(self.now, environment);
        self.core.ready(self.now, environment);
    }

    /// Seven events of a timer: what the core does from the last one on is the caller's to see.
    fn timer(&mut self, key: &str) {
        for _ in 0..7 {
            self.pass_ticking(PERIOD);
            self.timer_event(key);
        }
    }
}

fn starts_ahead(actions: &[Action]) -> usize {
    let ahead = |it: &&Action| matches!(it, Action::Start { purpose: Purpose::Prewarm, .. });
    actions.iter().filter(ahead).count()
}

#[test]
fn a_timer_finds_an_environment_and_nothing_is_idle_in_between() {
    let mut bench = Bench::new(Limits::default());
    bench.timer("1");
    let actions = bench.pass_ticking(PERIOD - WINDOW);
    assert!(matches!(actions.as_slice(), [Action::Drop { .. }]), "{actions:?}");
    assert_eq!(bench.core.environments(), 0);
    let actions = bench.pass_ticking(WINDOW);
    let [Action::Start { environment, purpose: Purpose::Prewarm, .. }] = actions.as_slice() else {
        panic!("one is made just before the event: {actions:?}");
    };
    let event = bench.arrive(&version("timer", "1")).expect("admitted");
    assert_eq!(bench.dispatched(), (*environment, event));
}

#[test]
fn an_environment_whose_event_does_not_come_is_dropped_and_not_made_again() {
    let mut bench = Bench::new(Limits::default());
    bench.timer("1");
    bench.pass_ticking(PERIOD - WINDOW);
    let actions = bench.pass_ticking(WINDOW);
    let [Action::Start { environment, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    let actions = bench.pass_ticking(10 * PERIOD);
    assert!(
        matches!(actions.as_slice(), [Action::Drop { environment: dropped }] if dropped == environment),
        "{actions:?}"
    );
}

#[test]
fn the_past_is_the_functions_and_outlives_an_update() {
    let mut bench = Bench::new(Limits::default());
    bench.timer("1");
    bench.core.retire(bench.now, "1");
    bench.actions();
    let actions = bench.pass_ticking(PERIOD);
    assert_eq!(starts_ahead(&actions), 0, "the old version is not made again: {actions:?}");
    bench.timer_event("2");
    let actions = bench.pass_ticking(PERIOD);
    assert_eq!(starts_ahead(&actions), 1, "the new one is, though it has run but once: {actions:?}");
}

#[test]
fn an_event_that_comes_earlier_and_a_stop_call_off_what_was_expected() {
    let mut bench = Bench::new(Limits::default());
    bench.timer("1");
    bench.pass_ticking(PERIOD / 2);
    bench.arrive(&version("timer", "1")).expect("admitted");
    let actions = bench.pass_ticking(PERIOD);
    assert_eq!(starts_ahead(&actions), 0, "it is running: {actions:?}");

    let mut bench = Bench::new(Limits::default());
    bench.timer("1");
    bench.core.stop(bench.now);
    bench.actions();
    bench.pass_ticking(PERIOD);
    assert_eq!(bench.core.environments(), 0);
    assert_eq!(bench.core.next_tick(), None, "nothing is left to do");
}

#[test]
fn no_environment_is_made_ahead_above_the_scaling_rate() {
    let slow = Duration::from_secs(1_000_000);
    let mut bench = Bench::new(Limits { scaling_burst: 5, scaling_period: slow, ..Limits::default() });
    bench.timer("1");
    let mut ahead = 0;
    for _ in 0..10 {
        let made = starts_ahead(&bench.pass_ticking(PERIOD));
        ahead += made;
        if made == 0 {
            assert!(bench.arrive(&version("timer", "1")).is_err(), "there is no start left for it either");
        } else {
            bench.timer_event("1");
        }
    }
    assert!(
        (1..5).contains(&ahead),
        "{ahead} ahead: the first of five starts was for the timer's first event"
    );
}

#[test]
fn with_the_fixed_policy_nothing_is_learnt() {
    let mut bench = Bench::new(Limits { keep_alive: KeepAlive::Fixed(STANDARD), ..Limits::default() });
    bench.timer("1");
    let actions = bench.pass_ticking(STANDARD - Duration::from_millis(1));
    assert!(actions.is_empty(), "{actions:?}");
    let actions = bench.pass_ticking(Duration::from_millis(1));
    assert!(matches!(actions.as_slice(), [Action::Drop { .. }]), "{actions:?}");
}
