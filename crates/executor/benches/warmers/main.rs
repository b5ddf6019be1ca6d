//! How many cold starts for how much memory: keep-alive policies on a synthetic trace. Prints tables and draws a plot.

#[allow(dead_code)]
mod paper;
mod random;
mod simulation;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freehold_executor::keepalive::{Adaptive, KeepAlive, Policy};

use crate::paper::Paper;
use crate::simulation::{Counts, Simulation, Warmer};
use crate::trace::{DAY, Function, Pattern};

#[derive(Clone, Copy)]
enum Kind {
    Own(KeepAlive),
    Paper,
}

struct PerFunction {
    function: Function,
    variation: f64,
    counts: Vec<Counts>,
}

fn main() {
    let arg = |name: &str, default: f64| {
        let mut args = std::env::args().skip_while(|a| a != name).skip(1);
        args.next().map_or(default, |v| v.parse().expect("a number"))
    };
    let (functions, days, seed) =
        (arg("--functions", 600.0) as usize, arg("--days", 7.0), arg("--seed", 1.0) as u64);
    let minutes = |m: f64| Duration::from_secs_f64(m * 60.0);
    let mut policies: Vec<(String, Kind)> = Vec::new();
    for m in [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 240.0] {
        policies.push((format!("fixed {m}"), Kind::Own(KeepAlive::Fixed(minutes(m)))));
    }
    policies.push(("paper".to_owned(), Kind::Paper));
    let standard = minutes(arg("--standard", 10.0));
    for (m, share) in
        [(5.0, 0.8), (10.0, 0.0), (10.0, 0.5), (10.0, 0.8), (12.0, 0.8), (15.0, 0.8), (20.0, 0.8)]
    {
        {
            policies.push((
                format!("adaptive {m} {share}"),
                Kind::Own(KeepAlive::Adaptive(Adaptive {
                    standard,
                    worth: minutes(m),
                    worth_percent: (share * 100.0) as u32,
                })),
            ));
        }
    }
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let results: Vec<PerFunction> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut results = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= functions {
                            return results;
                        }
                        results.push(simulate(Function::new(seed, n, functions), days * DAY, &policies));
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().expect("a worker")).collect()
    });
    println!("took {:?}", start.elapsed());
    let events = |p: &PerFunction| p.counts[0].events as f64;
    let total: f64 = results.iter().map(events).sum();
    let popular: f64 = results.iter().filter(|p| p.function.per_day > 1440.0).map(events).sum();
    println!("events {total} popular {:.4}", popular / total);
    let seen: Vec<_> = results.iter().filter(|p| p.counts[0].events > 2).collect();
    println!(
        "CV>1: {:.3} CV<.2: {:.3}",
        seen.iter().filter(|p| p.variation > 1.0).count() as f64 / seen.len() as f64,
        seen.iter().filter(|p| p.variation < 0.2).count() as f64 / seen.len() as f64
    );
    let base: f64 = results.iter().map(|p| p.counts[3].idle * p.function.memory).sum();
    for (i, (name, _)) in policies.iter().enumerate() {
        let idle: f64 = results.iter().map(|p| p.counts[i].idle * p.function.memory).sum();
        let cold: u64 = results.iter().map(|p| p.counts[i].cold).sum();
        let zero: u64 = results.iter().map(|p| p.counts[i].cold_from_zero).sum();
        let pre: u64 = results.iter().map(|p| p.counts[i].prewarmed).sum();
        let mut q: Vec<f64> = results
            .iter()
            .filter(|p| p.counts[i].events > 0)
            .map(|p| p.counts[i].cold as f64 / p.counts[i].events as f64)
            .collect();
        q.sort_by(f64::total_cmp);
        let at = |s: f64| 100.0 * q[(s * (q.len() - 1) as f64) as usize];
        let mean = 100.0 * q.iter().sum::<f64>() / q.len() as f64;
        println!(
            "{name:14} memory {:6.1}%  cold {:.4}% ({cold}, from zero {zero})  median {:5.1}% Q3 {:5.1}% mean {mean:5.1}%  prewarmed {pre}",
            100.0 * idle / base,
            100.0 * cold as f64 / total,
            at(0.5),
            at(0.75)
        );
    }
    if std::env::args().any(|a| a == "--classes") {
        for class in ["timer", "regular", "poisson", "diurnal", "bursty"] {
            for i in [3, 7, 13, 15] {
                let of: Vec<_> = results.iter().filter(|p| name(p) == class).collect();
                let idle: f64 = of.iter().map(|p| p.counts[i].idle * p.function.memory).sum();
                let cold: u64 = of.iter().map(|p| p.counts[i].cold).sum();
                println!(
                    "{class:8} {:14} n {:4} memory {:5.1}% cold {cold}",
                    policies[i].0,
                    of.len(),
                    100.0 * idle / base
                );
            }
        }
    }
}

fn name(p: &PerFunction) -> &'static str {
    match p.function.pattern {
        Pattern::Periodic { .. } if p.function.trigger == trace::Trigger::Timer => "timer",
        Pattern::Periodic { .. } => "regular",
        Pattern::Random { diurnal: None, .. } => "poisson",
        Pattern::Random { .. } => "diurnal",
        Pattern::Bursts { .. } => "bursty",
    }
}

fn simulate(function: Function, horizon: f64, policies: &[(String, Kind)]) -> PerFunction {
    let base = Instant::now();
    let at = |seconds: f64| base + Duration::from_secs_f64(seconds);
    let name: Arc<str> = Arc::from("function");
    let mut simulations: Vec<_> = policies
        .iter()
        .map(|(_, kind)| {
            Simulation::new(match kind {
                Kind::Own(setting) => Warmer::Own(Policy::new(*setting, 1), Arc::clone(&name)),
                Kind::Paper => Warmer::Paper(Paper::new()),
            })
        })
        .collect();
    let (mut last, mut n, mut sum, mut squares) = (0.0, 0.0, 0.0, 0.0);
    for (time, runs) in function.events(horizon) {
        let gap: f64 = time - last;
        last = time;
        n += 1.0;
        sum += gap;
        squares += gap * gap;
        for simulation in &mut simulations {
            simulation.event(at(time), Duration::from_secs_f64(runs));
        }
    }
    for simulation in &mut simulations {
        simulation.pass(at(horizon));
    }
    let mean: f64 = sum / n;
    let variation = (squares / n - mean * mean).max(0.0).sqrt() / mean;
    PerFunction { function, variation, counts: simulations.into_iter().map(|s| s.counts).collect() }
}
