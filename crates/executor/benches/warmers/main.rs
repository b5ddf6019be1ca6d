//! How many cold starts for how much memory: keep-alive policies on a synthetic trace, side by side.
//!
//!     cargo xtask bench warmers [--functions N] [--days N] [--seed N] [--plot FILE]
//!
//! - `trace`: functions and their events, by the published distributions of Azure Functions
//! - `simulation`: what the core does with a function's environments; `paper`: the published policy, to compare with
//! - `report`, `plot`: the tables, and the picture

mod paper;
mod plot;
mod random;
mod report;
mod simulation;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freehold_executor::keepalive::{Adaptive, KeepAlive, Policy, WORTH};

use crate::paper::Paper;
use crate::report::{Ran, Row};
use crate::simulation::{Simulation, Warmer};
use crate::trace::{DAY, Function};

/// Which family a policy is of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Fixed, for so many minutes.
    Fixed(f64),
    /// The paper's.
    Paper,
    /// Freehold's, with a cold start worth so many minutes.
    Adaptive(f64),
}

impl Kind {
    fn warmer(self, name: &Arc<str>) -> Warmer {
        let own = |setting| Warmer::Own(Policy::new(setting, 1), Arc::clone(name));
        match self {
            Self::Fixed(minutes) => own(KeepAlive::Fixed(duration(minutes))),
            Self::Paper => Warmer::Paper(Paper::new()),
            Self::Adaptive(minutes) => {
                own(KeepAlive::Adaptive(Adaptive { worth: duration(minutes), ..Adaptive::default() }))
            }
        }
    }
}

fn duration(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

/// How many functions for how many days, unless told.
const FUNCTIONS: usize = 300;
const DAYS: f64 = 7.0;

struct Words {
    functions: usize,
    days: f64,
    seed: u64,
    plot: Option<PathBuf>,
}

impl Words {
    fn read() -> Self {
        let mut words = Self { functions: FUNCTIONS, days: DAYS, seed: 1, plot: None };
        let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || value.parse::<f64>().unwrap_or_else(|_| panic!("{name} needs a number"));
            match name.as_str() {
                "--functions" => words.functions = number() as usize,
                "--days" => words.days = number(),
                "--seed" => words.seed = number() as u64,
                "--plot" => words.plot = Some(PathBuf::from(&value)),
                _ => panic!("{name} is not known; there are --functions, --days, --seed and --plot"),
            }
        }
        words
    }
}

fn main() {
    let words = Words::read();
    let own = WORTH.as_secs_f64() / 60.0;
    let mut kinds: Vec<Kind> =
        [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0].map(Kind::Fixed).to_vec();
    kinds.push(Kind::Paper);
    kinds.extend([3.0, 5.0, 7.0, own, 14.0, 20.0, 40.0, 80.0].map(Kind::Adaptive));
    println!("{} functions, {} days, seed {}", words.functions, words.days, words.seed);
    let ran = run(&words, &kinds);
    report::trace(&ran);
    let rows = Row::all(&ran, &kinds);
    report::policies(&rows, own);
    if let Some(path) = words.plot {
        std::fs::write(&path, plot::draw(&rows, own)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        println!("drawn: {}", path.display());
    }
}

/// Every function under every policy, on all processors.
fn run(words: &Words, kinds: &[Kind]) -> Vec<Ran> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut ran = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= words.functions {
                return ran;
            }
            let function = Function::new(words.seed, number, words.functions);
            ran.push((number, simulate(function, words.days * DAY, kinds)));
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut ran: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    ran.sort_by_key(|(number, _)| *number);
    ran.into_iter().map(|(_, ran)| ran).collect()
}

fn simulate(function: Function, horizon: f64, kinds: &[Kind]) -> Ran {
    let base = Instant::now();
    let at = |seconds: f64| base + Duration::from_secs_f64(seconds);
    let name: Arc<str> = Arc::from("function");
    let mut simulations: Vec<_> = kinds.iter().map(|kind| Simulation::new(kind.warmer(&name))).collect();
    let mut gaps = report::Gaps::default();
    for (time, runs) in function.events(horizon) {
        gaps.event(time);
        for simulation in &mut simulations {
            simulation.event(at(time), Duration::from_secs_f64(runs));
        }
    }
    for simulation in &mut simulations {
        simulation.pass(at(horizon));
    }
    let counts = simulations.into_iter().map(|simulation| simulation.counts).collect();
    Ran { function, days: horizon / DAY, variation: gaps.variation(), counts }
}
