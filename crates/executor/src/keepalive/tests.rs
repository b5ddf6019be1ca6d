//! The policy against simple models, and by examples.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::histogram::{BINS, Histogram, RANGE_SECONDS, begins};
use super::history::History;
use super::windows;
use super::{Adaptive, FUNCTIONS_REMEMBERED, KeepAlive, Plan, Policy, STANDARD};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn function() -> Arc<str> {
    Arc::from("function")
}

/// Runs one event after each pause, and gives the plan after the last.
fn after(policy: &mut Policy, start: Instant, pauses: &[Duration], runs: Duration) -> (Instant, Plan) {
    let mut now = start;
    let mut plan = None;
    for pause in pauses {
        now += *pause;
        policy.event(now, &function(), 0);
        now += runs;
        plan = Some(policy.rest(now, &function(), 0));
    }
    (now, plan.expect("there is an event"))
}

fn adaptive() -> Policy {
    Policy::new(KeepAlive::default(), FUNCTIONS_REMEMBERED)
}

fn histogram(times: &[u64]) -> Histogram {
    let now = Instant::now();
    let mut histogram = Histogram::new();
    times.iter().for_each(|time| histogram.add(now, Duration::from_secs(*time)));
    histogram
}

#[test]
fn bins_cover_the_range_and_are_as_fine_as_said() {
    let mut bin = 0;
    for second in 0..RANGE_SECONDS {
        if second == begins(bin + 1) {
            bin += 1;
        }
        let counts = *histogram(&[second]).counts();
        assert_eq!(counts.iter().position(|count| *count > 0.0), Some(bin), "second {second}");
        let width = begins(bin + 1) - begins(bin);
        assert!(width == 1 || width * 16 <= second, "bin {bin} is {width} wide");
    }
    assert_eq!((bin, begins(BINS)), (BINS - 1, RANGE_SECONDS));
    assert_eq!(histogram(&[RANGE_SECONDS]).beyond(), 1.0);
}

#[test]
fn old_times_fade_and_counts_stay_bounded() {
    let mut histogram = Histogram::new();
    let start = Instant::now();
    for day in 0..20 {
        for _ in 0..300 {
            histogram.add(start + day * DAY, Duration::from_secs(if day < 10 { 5 } else { 500 }));
        }
    }
    assert!(histogram.counts()[5] < 0.01 * histogram.total(), "ten days ago hardly counts");
    for _ in 0..3_000_000 {
        histogram.add(start + 20 * DAY, MINUTE);
    }
    assert!(histogram.total() <= 1_000_000.0);
}

#[test]
fn the_variation_tells_a_flat_histogram_from_a_sharp_one() {
    let every_bin: Vec<u64> = (0..BINS).map(begins).collect();
    assert_eq!(histogram(&every_bin).variation(), 0.0);
    assert_eq!(histogram(&[]).variation(), 0.0);
    assert!((histogram(&[60; 9]).variation() - ((BINS - 1) as f64).sqrt()).abs() < 1e-9);
}

#[test]
fn the_fixed_policy_keeps_every_environment_as_long_and_remembers_nothing() {
    let mut policy = Policy::new(KeepAlive::Fixed(5 * MINUTE), 10);
    let (now, plan) = after(&mut policy, Instant::now(), &[HOUR; 30], MINUTE);
    assert_eq!(plan, Plan { drop_at: now + 5 * MINUTE, prewarm: None });
    assert_eq!(policy.rest(now, &function(), 1), plan);
    assert_eq!(policy.remembered(), 0);
}

#[test]
fn while_little_is_known_the_standard_holds() {
    let pauses: Vec<Duration> = [3, 700, 50, 90, 5_000].map(Duration::from_secs).to_vec();
    let (now, plan) = after(&mut adaptive(), Instant::now(), &pauses, MINUTE);
    assert_eq!(plan, Plan { drop_at: now + STANDARD, prewarm: None });
}

#[test]
fn a_timers_environment_is_dropped_at_once_and_made_again_seconds_before_the_next_event() {
    for period in [5 * MINUTE, HOUR, DAY, 7 * DAY] {
        let runs = Duration::from_millis(1_500);
        let (now, plan) = after(&mut adaptive(), Instant::now(), &[period - runs; 6], runs);
        let due = now + period - runs;
        let prewarm = plan.prewarm.expect("a timer is expected");
        assert_eq!(plan.drop_at, now, "{period:?}");
        assert!(prewarm.ready_at < due && due < prewarm.until, "{period:?}");
        assert!(prewarm.until - prewarm.ready_at < Duration::from_secs(3), "{period:?}");
    }
}

#[test]
fn a_timer_that_is_set_anew_is_followed_and_one_late_event_changes_nothing() {
    let mut policy = adaptive();
    let (now, before) = after(&mut policy, Instant::now(), &[HOUR; 12], Duration::ZERO);
    let expected = |now: Instant, plan: Plan| plan.prewarm.map(|prewarm| prewarm.ready_at - now);
    let (late, plan) = after(&mut policy, now, &[5 * HOUR], Duration::ZERO);
    assert_eq!(expected(late, plan), expected(now, before));
    let (now, plan) = after(&mut policy, late, &[10 * MINUTE; 12], Duration::ZERO);
    let ready = expected(now, plan).expect("it is regular again");
    assert!(ready < 10 * MINUTE && ready > 9 * MINUTE, "{ready:?}");
}

#[test]
fn what_comes_soon_is_waited_for_and_what_never_comes_later_is_not() {
    // Bursts: some seconds between events, hours between bursts.
    let mut pauses = Vec::new();
    for burst in 0..30 {
        pauses.push(5 * HOUR + burst * 7 * MINUTE);
        pauses.extend((0..9).map(|event| Duration::from_secs(1 + (event * 7 + u64::from(burst)) % 19)));
    }
    let (now, plan) = after(&mut adaptive(), Instant::now(), &pauses, Duration::ZERO);
    let kept = plan.drop_at - now;
    assert!(kept >= Duration::from_secs(19) && kept < 2 * MINUTE, "{kept:?}");
    assert_eq!(plan.prewarm, None);
}

#[test]
fn environments_beside_the_last_one_are_kept_by_their_own_past() {
    let mut policy = adaptive();
    let mut now = Instant::now();
    // Each hour or so two events at once, and a minute later again; never at other times.
    for round in 0..40_u32 {
        for pause in [HOUR + round * 97 * MINUTE / 10, MINUTE] {
            now += pause;
            policy.event(now, &function(), 0);
            policy.event(now, &function(), 1);
            now += Duration::from_secs(1);
            policy.rest(now, &function(), 1);
            policy.rest(now, &function(), 0);
        }
    }
    let beside = policy.rest(now, &function(), 1);
    let kept = beside.drop_at - now;
    assert!(kept >= MINUTE && kept < STANDARD, "{kept:?}");
    assert_eq!(beside.prewarm, None, "only the last one is made again");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut policy = Policy::new(KeepAlive::default(), 100);
    let now = Instant::now();
    let used: Arc<str> = Arc::from("used");
    for number in 0..1_000_u32 {
        for function in [&used, &Arc::from(number.to_string())] {
            policy.event(now + number * MINUTE, function, 0);
            for others in 0..100 {
                policy.rest(now + number * MINUTE, function, others);
            }
        }
        assert!(policy.remembered() <= 100);
        assert_eq!(policy.order.len(), policy.remembered());
    }
    assert!(policy.functions.contains_key(&used), "what is used is not forgotten");
    assert!(!policy.functions.contains_key("0"), "what was used longest ago is");
    let bytes = policy.functions[&used].history.bytes();
    assert!(bytes <= 4_608, "{bytes} bytes for a function");
    assert!(size_of::<History>() <= 900, "{} bytes for a small function", size_of::<History>());
}

proptest! {
    /// Every pair of windows, tried one after the other, gains no more than the chosen one.
    #[test]
    fn the_best_windows_are_the_best(
        times in prop::collection::vec((0_u64..40, 0_u32..6), 1..12),
        worth in 60_u64..5_000,
    ) {
        // On a coarse set of times, so that bins are shared.
        let times: Vec<u64> = times
            .iter()
            .flat_map(|(time, count)| std::iter::repeat_n(time * time * 12, *count as usize))
            .collect();
        let histogram = histogram(&times);
        let bins = windows::gains(&histogram, worth as f64);
        let mut sums = vec![0.0];
        for bin in &bins {
            sums.push(sums[sums.len() - 1] + bin.gain);
        }
        let mut most: f64 = sums.iter().copied().fold(0.0, f64::max);
        for kept in 0..=BINS {
            for first in kept..BINS {
                for end in first + 1..=BINS {
                    most = most.max(sums[kept] + sums[end] - sums[first] - bins[first].start_cost);
                }
            }
        }
        let (gain, _, _) = windows::choose(&bins);
        prop_assert!((gain - most).abs() < 1e-6, "{gain} is chosen, {most} is possible");
    }

    /// Plans lie in the future and in order, whatever happens.
    #[test]
    fn no_plan_lies_in_the_past(
        steps in prop::collection::vec((0_u64..200_000, 0_u64..900, 0_u32..40), 1..200),
        standard in 0_u64..2_000,
        worth in 0_u64..20_000,
        worth_percent in 0_u32..500,
    ) {
        let setting = Adaptive {
            standard: Duration::from_secs(standard),
            worth: Duration::from_secs(worth),
            worth_percent,
        };
        let mut policy = Policy::new(KeepAlive::Adaptive(setting), 1);
        let mut now = Instant::now();
        for (pause, runs, others) in steps {
            now += Duration::from_secs(pause % if pause % 3 == 0 { 200_000 } else { 300 });
            policy.event(now, &function(), others);
            now += Duration::from_secs(runs);
            let plan = policy.rest(now, &function(), others);
            prop_assert!(plan.drop_at >= now);
            if let Some(prewarm) = plan.prewarm {
                prop_assert!(others == 0 && prewarm.ready_at > plan.drop_at && prewarm.until > prewarm.ready_at);
            }
        }
    }

    /// Only differences count: the same events at another time lead to the same windows, and a longer period to later ones.
    #[test]
    fn plans_move_with_the_events(
        pauses in prop::collection::vec(0_u64..30_000, 1..60),
        moved in 0_u64..1_000_000,
        period in 120_u64..1_000_000,
        longer in 10_u64..100_000,
    ) {
        let pauses: Vec<Duration> = pauses.into_iter().map(Duration::from_secs).collect();
        let start = Instant::now();
        let relative = |now: Instant, plan: Plan| {
            (plan.drop_at - now, plan.prewarm.map(|prewarm| (prewarm.ready_at - now, prewarm.until - now)))
        };
        let (now, plan) = after(&mut adaptive(), start, &pauses, MINUTE);
        let (later, same) = after(&mut adaptive(), start + Duration::from_secs(moved), &pauses, MINUTE);
        prop_assert_eq!(relative(now, plan), relative(later, same));

        let timer = |period: u64| {
            let (now, plan) =
                after(&mut adaptive(), start, &[Duration::from_secs(period); 8], Duration::ZERO);
            plan.prewarm.map(|prewarm| (prewarm.ready_at - now, prewarm.until - now))
        };
        let (first, second) = (timer(period), timer(period + longer));
        let difference = second.expect("regular").0.as_secs_f64() - first.expect("regular").0.as_secs_f64();
        prop_assert!((difference - longer as f64).abs() < 1.0, "{} longer, {} later", longer, difference);
    }

    /// A higher price never buys fewer warm starts.
    #[test]
    fn a_higher_price_saves_no_fewer_cold_starts(
        times in prop::collection::vec(0_u64..5_000, 8..60),
        worth in 60_u64..5_000,
        more in 0_u64..5_000,
    ) {
        let histogram = histogram(&times);
        let counts = windows::gains(&histogram, f64::MAX);
        let saved = |worth: u64| {
            let (_, kept, run) = windows::choose(&windows::gains(&histogram, worth as f64));
            let run = run.map_or(0..0, |(first, end)| first..end);
            counts[..kept].iter().chain(&counts[run]).map(|bin| bin.gain).sum::<f64>()
        };
        prop_assert!(saved(worth + more) >= saved(worth) - 1e-9);
    }
}
