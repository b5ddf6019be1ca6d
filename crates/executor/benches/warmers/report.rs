//! The tables: whether the trace is like the published one, and what each policy came to.

use crate::Kind;
use crate::simulation::Counts;
use crate::trace::{Function, Trigger};

/// One function, and what came of it under each policy.
pub(crate) struct Ran {
    pub(crate) function: Function,
    pub(crate) days: f64,
    /// The coefficient of variation of the times between its events, where there are enough.
    pub(crate) variation: Option<f64>,
    pub(crate) counts: Vec<Counts>,
}

/// The times between events.
#[derive(Default)]
pub(crate) struct Gaps {
    last: Option<f64>,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Gaps {
    pub(crate) fn event(&mut self, at: f64) {
        if let Some(last) = self.last.replace(at) {
            let gap = at - last;
            self.count += 1.0;
            self.sum += gap;
            self.squares += gap * gap;
        }
    }

    /// Their coefficient of variation.
    pub(crate) fn variation(&self) -> Option<f64> {
        let mean = self.sum / self.count;
        let variance = (self.squares / self.count - mean * mean).max(0.0);
        (self.count >= 3.0).then(|| variance.sqrt() / mean)
    }
}

/// Prints what was published beside what was made.
pub(crate) fn trace(ran: &[Ran]) {
    let share = |which: &dyn Fn(&Ran) -> bool| {
        100.0 * ran.iter().filter(|it| which(it)).count() as f64 / ran.len() as f64
    };
    let events = |which: &dyn Fn(&Ran) -> bool| {
        let of = |it: &Ran| it.counts[0].events as f64;
        100.0 * ran.iter().filter(|it| which(it)).map(of).sum::<f64>() / ran.iter().map(of).sum::<f64>()
    };
    let regular: Vec<f64> = ran.iter().filter_map(|it| it.variation).collect();
    let varied = |which: &dyn Fn(f64) -> bool| {
        100.0 * regular.iter().filter(|it| which(**it)).count() as f64 / regular.len() as f64
    };
    let is = |trigger: Trigger| move |it: &Ran| it.function.trigger == trigger;
    let timers = ran.iter().filter(|it| it.function.trigger == Trigger::Timer);
    let slow_timers = timers.clone().filter(|it| it.function.per_day <= 1_440.0).count();
    let rows = [
        ("invoked at most once an hour", 45.0, share(&|it| it.function.per_day <= 24.0)),
        ("invoked at most once a minute", 81.0, share(&|it| it.function.per_day <= 1_440.0)),
        ("events of those invoked more often", 99.6, events(&|it| it.function.per_day > 1_440.0)),
        ("HTTP: functions", 55.0, share(&is(Trigger::Http))),
        ("HTTP: events", 36.0, events(&is(Trigger::Http))),
        ("queue: functions", 15.2, share(&is(Trigger::Queue))),
        ("queue: events", 33.5, events(&is(Trigger::Queue))),
        ("event: functions", 2.2, share(&is(Trigger::Event))),
        ("event: events", 24.7, events(&is(Trigger::Event))),
        ("timer: functions", 15.6, share(&is(Trigger::Timer))),
        ("timer: events", 2.0, events(&is(Trigger::Timer))),
        ("timers that fire at most once a minute", 95.0, 100.0 * slow_timers as f64 / timers.count() as f64),
        ("coefficient of variation over 1", 40.0, varied(&|it| it > 1.0)),
        ("executions of less than 1 s on average", 50.0, share(&|it| it.function.execution < 1.0)),
        ("executions of less than 60 s on average", 96.0, share(&|it| it.function.execution < 60.0)),
        ("memory of at most 170 MB", 50.0, share(&|it| it.function.memory <= 170.0)),
        ("memory of at most 400 MB", 90.0, share(&|it| it.function.memory <= 400.0)),
    ];
    println!("\n{:<42} {:>9} {:>9}", "the trace", "published", "here");
    for (what, published, here) in rows {
        println!("{what:<42} {published:>8.1}% {here:>8.1}%");
    }
    let total: u64 = ran.iter().map(|it| it.counts[0].events).sum();
    println!("{total} events");
}

/// What one policy came to.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// Memory of idle environments, on average, in MB, and in percent of what ten fixed minutes take.
    pub(crate) idle_mb: f64,
    pub(crate) memory: f64,
    /// Cold starts in percent of all events, and how many of them found nothing in flight.
    pub(crate) cold: f64,
    pub(crate) cold_starts: u64,
    pub(crate) from_zero: u64,
    /// Over the functions: their cold starts in percent of their events, on average, in the median and the third quartile.
    pub(crate) mean: f64,
    pub(crate) median: f64,
    pub(crate) third_quartile: f64,
    pub(crate) prewarmed: u64,
}

impl Row {
    pub(crate) fn all(ran: &[Ran], kinds: &[Kind]) -> Vec<Self> {
        let mut rows: Vec<_> =
            kinds.iter().enumerate().map(|(index, kind)| Self::new(ran, index, *kind)).collect();
        let ten = rows.iter().find(|row| row.kind == Kind::Fixed(10.0)).expect("it is among them").idle_mb;
        rows.iter_mut().for_each(|row| row.memory = 100.0 * row.idle_mb / ten);
        rows
    }

    fn new(ran: &[Ran], index: usize, kind: Kind) -> Self {
        let sum = |of: fn(&Counts) -> u64| ran.iter().map(|it| of(&it.counts[index])).sum::<u64>();
        let seconds = |it: &Ran| it.counts[index].idle * it.function.memory / (it.days * 86_400.0);
        let invoked = ran.iter().map(|it| it.counts[index]).filter(|counts| counts.events > 0);
        let mut cold: Vec<f64> =
            invoked.map(|counts| 100.0 * counts.cold as f64 / counts.events as f64).collect();
        cold.sort_by(f64::total_cmp);
        let at = |share: f64| cold[((cold.len() - 1) as f64 * share) as usize];
        Self {
            kind,
            idle_mb: ran.iter().map(seconds).sum(),
            memory: 100.0,
            cold: 100.0 * sum(|it| it.cold) as f64 / sum(|it| it.events) as f64,
            cold_starts: sum(|it| it.cold),
            from_zero: sum(|it| it.cold_from_zero),
            mean: cold.iter().sum::<f64>() / cold.len() as f64,
            median: at(0.5),
            third_quartile: at(0.75),
            prewarmed: sum(|it| it.prewarmed),
        }
    }
}

/// Prints them.
pub(crate) fn policies(rows: &[Row], own: f64) {
    println!(
        "\n{:<22} {:>17} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>9}",
        "policy", "idle memory", "cold", "starts", "from zero", "mean", "median", "3rd q.", "pre-warms"
    );
    for row in rows {
        let name = match row.kind {
            Kind::Fixed(0.0) => "none".to_owned(),
            Kind::Fixed(minutes) => format!("fixed {minutes} min"),
            Kind::Paper => "hybrid, as published".to_owned(),
            Kind::Adaptive(worth) if worth == own => format!("adaptive, {worth} min *"),
            Kind::Adaptive(worth) => format!("adaptive, {worth} min"),
        };
        println!(
            "{name:<22} {:>7.0} MB {:>5.1} % {:>7.4} % {:>9} {:>9} {:>5.1} % {:>5.1} % {:>5.1} % {:>9}",
            row.idle_mb,
            row.memory,
            row.cold,
            row.cold_starts,
            row.from_zero,
            row.mean,
            row.median,
            row.third_quartile,
            row.prewarmed
        );
    }
    println!("cold: of all events; mean, median, 3rd quartile: of the functions' own shares; *: the default");
}
