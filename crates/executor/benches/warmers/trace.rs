//! A synthetic trace with the published distributions of Azure Functions. Each function is made from the seed and its number
//! alone, and its events one after the other, so that no trace is ever stored.
//!
//! What is published (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020; section and figure at each constant) is
//! followed; what is not (how bursts look, how the rates lie between the published points) is an assumption, and says so.

use std::f64::consts::TAU;

use crate::random::Random;

/// Seconds.
pub(crate) const DAY: f64 = 86_400.0;

/// Share of applications invoked at most so often a day. 3.3, figure 5(a): 45 % at most once an hour, 81 % (that is, all but
/// the 18.6 % most popular) at most once a minute. The least popular were invoked once in the two weeks of the trace.
/// The upper end is what makes the most popular 18.6 % have 99.6 % of the invocations (figure 5(b)), with rates spread evenly
/// in the logarithm between these points (assumption).
const RATES: [(f64, f64); 4] = [(0.0, 1.0 / 14.0), (0.45, 24.0), (0.814, 1_440.0), (1.0, 1_140_000.0)];
/// Invoked more than once a minute.
const POPULAR_PER_DAY: f64 = 1_440.0;

/// What invokes a function. 3.2, figure 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Http,
    Queue,
    Timer,
    Event,
    Orchestration,
    Other,
}

/// Share of the functions by trigger: of the popular ones and of the others. Both together give figure 2 (HTTP 55 %, queue
/// 15.2 %, timer 15.6 %, event 2.2 %, orchestration 7 %, other 5 %); 95 % of the timers fire at most once a minute, and event
/// triggers have a quarter of the invocations (3.2): they are among the popular.
const TRIGGERS: [(Trigger, f64, f64); 6] = [
    (Trigger::Http, 0.45, 0.573),
    (Trigger::Queue, 0.32, 0.114),
    (Trigger::Timer, 0.04, 0.183),
    (Trigger::Event, 0.12, 0.0),
    (Trigger::Orchestration, 0.05, 0.075),
    (Trigger::Other, 0.02, 0.055),
];

/// What timers are set to, in seconds (assumption: what people write into cron).
const PERIODS: [f64; 17] = [
    1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 10_800.0, 14_400.0,
    21_600.0, 43_200.0, 86_400.0,
];
/// A timer fires within this, in seconds (assumption).
const TIMER_JITTER: f64 = 1.0;

/// Share of the functions without a timer that are regular all the same (3.3: a significant share; figure 6: about a tenth).
const REGULAR: f64 = 0.1;
/// Share of the others whose events come in bursts, so that 40 % of all have a coefficient of variation over 1 (3.6), with the
/// diurnal ones among them.
const BURSTY: f64 = 0.35;
/// Share of the rest that follows the day (3.3, figure 4: half of the load does).
const DIURNAL: f64 = 0.35;

/// Average execution time: log-normal, logarithm of seconds. 3.4, figure 7.
const EXECUTION: (f64, f64) = (-0.38, 2.36);
/// How the executions of one function differ (assumption).
const EXECUTION_SPREAD: f64 = 0.5;
/// No function runs longer (Lambda's limit), or more than so many at once on average (assumption: one machine).
const EXECUTION_MAX: f64 = 900.0;
const CONCURRENCY_MAX: f64 = 10.0;

/// Memory in MB: Burr distribution (c, k, scale). 3.5, figure 8. At most Lambda's limit.
const MEMORY: (f64, f64, f64) = (11.652, 0.221, 107.083);
const MEMORY_MAX: f64 = 10_240.0;

/// How a function's events follow one another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    /// Every so many seconds from a phase on, give or take.
    Periodic { period: f64, phase: f64, jitter: f64 },
    /// Independent of one another; with `diurnal` the hour of the most, by a sine that is zero half a day later.
    Random { mean: f64, diurnal: Option<f64> },
    /// Bursts of events, and pauses between the bursts.
    Bursts { events: f64, gap: f64, pause: f64 },
}

/// One function of the trace.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) trigger: Trigger,
    pub(crate) pattern: Pattern,
    pub(crate) per_day: f64,
    pub(crate) execution: f64,
    pub(crate) memory: f64,
    seed: u64,
}

impl Function {
    /// Function `number` of `of`: rates are spread evenly over the distribution, all else is drawn.
    pub(crate) fn new(seed: u64, number: usize, of: usize) -> Self {
        let mut random = Random::new(seed ^ (number as u64).wrapping_mul(0xd605_1e9d_5f2b_7c11));
        let per_day = rate((number as f64 + 0.5) / of as f64);
        let trigger = trigger(&mut random, per_day > POPULAR_PER_DAY);
        let pattern = pattern(&mut random, trigger, per_day);
        let per_day = match pattern {
            Pattern::Periodic { period, .. } => DAY / period,
            _ => per_day,
        };
        let (mean, deviation) = EXECUTION;
        let drawn = (mean + deviation * random.normal()).exp();
        let execution = drawn.min(EXECUTION_MAX).min(CONCURRENCY_MAX * DAY / per_day);
        let (c, k, scale) = MEMORY;
        let burr = scale * (random.uniform().powf(-1.0 / k) - 1.0).powf(1.0 / c);
        Self { trigger, pattern, per_day, execution, memory: burr.min(MEMORY_MAX), seed: random.next() }
    }

    /// Its events within so many seconds: when each comes and how long it takes.
    pub(crate) fn events(&self, horizon: f64) -> impl Iterator<Item = (f64, f64)> + use<> {
        let mut random = Random::new(self.seed);
        let mut arrivals = Arrivals { pattern: self.pattern, at: 0.0, left: 0, tick: 0 };
        let (execution, max) = (self.execution, EXECUTION_MAX);
        std::iter::from_fn(move || {
            let at = arrivals.next(&mut random);
            let spread = (EXECUTION_SPREAD * random.normal() - EXECUTION_SPREAD.powi(2) / 2.0).exp();
            Some((at, (execution * spread).min(max)))
        })
        .take_while(move |(at, _)| *at < horizon)
    }
}

/// The rate of which so large a share is lower.
fn rate(share: f64) -> f64 {
    let upper = RATES.iter().position(|(point, _)| *point >= share).expect("the last point is 1").max(1);
    let ((low, low_rate), (high, high_rate)) = (RATES[upper - 1], RATES[upper]);
    let within = (share - low) / (high - low);
    (low_rate.ln() + within * (high_rate / low_rate).ln()).exp()
}

fn trigger(random: &mut Random, popular: bool) -> Trigger {
    let mut left = random.uniform();
    for (trigger, of_popular, of_others) in TRIGGERS {
        left -= if popular { of_popular } else { of_others };
        if left < 0.0 {
            return trigger;
        }
    }
    Trigger::Http
}

fn pattern(random: &mut Random, trigger: Trigger, per_day: f64) -> Pattern {
    let mean = DAY / per_day;
    if trigger == Trigger::Timer {
        let distance = |period: &f64| (period / mean).ln().abs();
        let nearest = PERIODS.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let period = nearest.expect("there are periods");
        let jitter = TIMER_JITTER.min(period / 10.0);
        return Pattern::Periodic { period, phase: random.between(0.0, period), jitter };
    }
    if random.chance(REGULAR) {
        let jitter = mean * random.between(0.0, 0.1);
        return Pattern::Periodic { period: mean, phase: random.between(0.0, mean), jitter };
    }
    if random.chance(BURSTY) {
        // Assumption: bursts of 3 to 30 events of a rare function, 10 to 1,000 of a popular one, at least five times as dense as
        // its average.
        let events = if per_day > POPULAR_PER_DAY {
            random.log_between(10.0, 1_000.0)
        } else {
            random.log_between(3.0, 30.0)
        };
        let gap = random.log_between(1.0, 120.0).min(mean / 5.0);
        return Pattern::Bursts { events, gap, pause: events * mean - (events - 1.0) * gap };
    }
    let diurnal = random.chance(DIURNAL).then(|| random.between(9.0, 17.0));
    Pattern::Random { mean, diurnal }
}

struct Arrivals {
    pattern: Pattern,
    at: f64,
    /// Events left in the burst.
    left: u32,
    tick: u64,
}

impl Arrivals {
    fn next(&mut self, random: &mut Random) -> f64 {
        match self.pattern {
            Pattern::Periodic { period, phase, jitter } => {
                let due = phase + self.tick as f64 * period;
                self.tick += 1;
                self.at = self.at.max(due + random.between(0.0, jitter));
            }
            Pattern::Random { mean, diurnal: None } => self.at += random.exponential(mean),
            Pattern::Random { mean, diurnal: Some(hour) } => loop {
                // Thinning of the highest rate, which is twice the mean one.
                self.at += random.exponential(mean / 2.0);
                let angle = (self.at - hour * 3_600.0) / DAY * TAU;
                if random.chance((1.0 + angle.cos()) / 2.0) {
                    break;
                }
            },
            Pattern::Bursts { events, gap, pause } => {
                if self.left == 0 {
                    self.left = random.geometric(events);
                    self.at += random.exponential(pause);
                } else {
                    self.at += random.exponential(gap);
                }
                self.left -= 1;
            }
        }
        self.at
    }
}
