//! Random schedules against the core: crashes, timeouts, slow starts, bursts, updates in mid-flight, reservations and
//! provisioned counts that change, tenants, a host that runs out of memory, a stop. All driven from a seed.
//!
//! - [`mod@self`]: a schedule from its beginning to its end; `steps`: what environments do; `changes`: what is configured
//! - `world`: what the core is put into; `random`: chance; `check`: the invariants, looked at after every step
//!
//! `FREEHOLD_SEED=n` runs one seed alone; a failing run prints its seed. `cargo xtask bench executor` runs a million.

mod changes;
mod check;
mod random;
mod steps;
mod world;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::random::Random;
use self::world::{Host, Modelled, Open, Simulated, Step};
use super::{Arrival, Core, EnvironmentId, EventId, Rejection};
use crate::event::FunctionVersion;
use crate::limits::Limits;

/// Events in each schedule.
const EVENTS: usize = 20_000;
/// Seeds tried when none is given.
const SEEDS: std::ops::Range<u64> = 1..13;
/// Events of the long run.
const MILLION: usize = 1_000_000;
/// Functions in each schedule.
const FUNCTIONS: usize = 7;
/// How old what the core knows of the host's memory may be.
const MEMORY_INTERVAL: Duration = Duration::from_millis(10);
/// More than the longest pause between attempts to provision: after this long without failures everything is ready.
const CALM: Duration = Duration::from_secs(200);

struct Simulation {
    core: Core,
    limits: Limits,
    random: Random,
    now: Instant,
    functions: Vec<Simulated>,
    host: Host,
    retired: HashSet<String>,
    environments: HashMap<EnvironmentId, Modelled>,
    agenda: BinaryHeap<Reverse<(Instant, EnvironmentId, u64, Step)>>,
    open: HashMap<EventId, Open>,
    /// Nothing fails any more, and there is memory enough.
    calm: bool,
    steps: usize,
    arrived: usize,
    answered: usize,
    rejected: usize,
    short: usize,
    provisioned_runs: usize,
    longest_wait: Duration,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = world::limits(&mut random);
        let functions = (0..FUNCTIONS).map(|number| Simulated::new(number, &mut random, &limits)).collect();
        let host = Host {
            total_mib: 200 + random.below(800),
            others_mib: 20,
            others_told_mib: 20,
            environments_mib: 0,
            told_at: None,
        };
        Self {
            core: Core::new(limits.clone()),
            limits,
            random,
            now: Instant::now(),
            functions,
            host,
            retired: HashSet::new(),
            environments: HashMap::new(),
            agenda: BinaryHeap::new(),
            open: HashMap::new(),
            calm: false,
            steps: 0,
            arrived: 0,
            answered: 0,
            rejected: 0,
            short: 0,
            provisioned_runs: 0,
            longest_wait: Duration::ZERO,
        }
    }

    fn run(&mut self, events: usize) {
        self.reserve(1, Some(3));
        for _ in 0..events {
            // Bursts, and pauses long enough for everything to expire.
            let pause = match self.random.below(1_000) {
                0 => self.random.micros(1_000_000),
                1..50 => self.random.micros(20_000),
                _ => self.random.micros(200),
            };
            self.advance(self.now + pause);
            self.look_at_memory();
            self.change();
            let function = self.random.index(FUNCTIONS);
            let version = Arc::clone(&self.functions[function].version);
            self.arrive(function, &version);
        }
        self.calm_down();
        self.end();
    }

    fn arrive(&mut self, function: usize, version: &Arc<FunctionVersion>) {
        self.arrived += 1;
        let simulated = &self.functions[function];
        let tenant =
            (simulated.tenants > 0).then(|| format!("tenant-{}", self.random.below(simulated.tenants)));
        let target = if self.random.chance(70) { &simulated.alias } else { &version.function_arn };
        let shared = self.core.unreserved_in_flight;
        match self.core.arrive(self.now, Arrival { version, target, tenant: tenant.as_deref() }) {
            Ok(event) => {
                self.functions[function].in_flight += 1;
                let open = Open { function, version: version.key.clone(), tenant, since: self.now };
                assert!(self.open.insert(event, open).is_none(), "an event's id is new");
                self.check_admission(function, shared);
            }
            Err(rejection) => self.refused(rejection),
        }
        self.settle();
    }

    fn refused(&mut self, rejection: Rejection) {
        match rejection {
            Rejection::Throttled(_) => {}
            Rejection::Short(_) => self.short += 1,
            Rejection::Stopping | Rejection::Failed(_) => panic!("{rejection:?} of a new event"),
        }
        self.rejected += 1;
    }

    /// Lets time pass: timers of the core and steps of the environments, in order.
    fn advance(&mut self, until: Instant) {
        loop {
            let step = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let tick = self.core.next_tick();
            let Some(next) = [step, tick].into_iter().flatten().min().filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            if tick.is_some_and(|tick| tick <= next) {
                self.core.tick(self.now);
            } else if let Some(Reverse((_, id, turn, step))) = self.agenda.pop() {
                self.perform(id, turn, step);
            }
            self.settle();
        }
        self.now = until;
    }

    /// As the shell does before an event.
    fn look_at_memory(&mut self) {
        if self.host.told_at.is_none_or(|at| self.now.saturating_duration_since(at) >= MEMORY_INTERVAL) {
            let reading = self.host.reading(self.now);
            self.core.memory(self.now, reading);
            self.settle();
        }
    }

    /// Nothing fails any more: what is asked for must come, and all else must go.
    fn calm_down(&mut self) {
        self.calm = true;
        self.host.total_mib = 100_000;
        self.host.others_mib = 0;
        self.host.told_at = None;
        self.look_at_memory();
        self.advance(self.now + CALM);
        assert!(self.open.is_empty(), "events that never ended: {:?}", self.open.keys());
        let mut asked = 0;
        for function in &self.functions {
            let provisioned = self.core.provisioned(&function.alias);
            assert_eq!(provisioned.as_ref().map_or(0, |it| it.requested), function.provisioned);
            let Some(provisioned) = provisioned else { continue };
            let expected = crate::event::Provisioned {
                requested: function.provisioned,
                allocated: function.provisioned,
                available: function.provisioned,
                failure: None,
            };
            assert_eq!(provisioned, expected);
            asked += function.provisioned as usize;
        }
        assert_eq!(self.core.environments(), asked, "what is idle goes, what is provisioned stays");
    }

    /// The end, in the middle of a burst: nothing may be left.
    fn end(&mut self) {
        for _ in 0..20 {
            let function = self.random.index(FUNCTIONS);
            let version = Arc::clone(&self.functions[function].version);
            self.arrive(function, &version);
        }
        self.core.stop(self.now);
        self.settle();
        self.advance(self.now + CALM);
        assert!(self.open.is_empty(), "events that never ended: {:?}", self.open.keys());
        assert_eq!((self.core.environments(), self.core.in_flight()), (0, 0));
        assert!(self.environments.is_empty());
        assert_eq!(self.answered + self.rejected, self.arrived, "every event ends once");
        for function in 0..FUNCTIONS {
            self.reserve(function, None);
            let alias = self.functions[function].alias.clone();
            self.core.unprovision(self.now, &alias);
        }
        self.advance(self.now + Duration::from_secs(10));
        self.check_nothing_left();
    }
}

fn run(seed: u64, events: usize) -> Simulation {
    let mut simulation = Simulation::new(seed);
    simulation.run(events);
    simulation
}

fn seeds(otherwise: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("FREEHOLD_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => otherwise.collect(),
    }
}

#[test]
fn random_schedules_keep_every_invariant() {
    let (mut short, mut provisioned) = (0, 0);
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        let simulation = run(seed, EVENTS);
        assert!(
            simulation.rejected > 0 && simulation.answered > EVENTS / 10,
            "the schedule is not trivial: {} answered, {} rejected",
            simulation.answered,
            simulation.rejected
        );
        short += simulation.short;
        provisioned += simulation.provisioned_runs;
    }
    assert!(short > 0 && provisioned > 0, "memory ran short, and provisioned environments ran events");
}

/// The long run: a million events in schedules of ten seeds.
#[test]
#[ignore = "for cargo xtask bench executor"]
fn a_million_events() {
    let began = Instant::now();
    let seeds = seeds(1..11);
    let each = MILLION / seeds.len();
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>7} {:>11} {:>12}",
        "seed", "events", "answered", "rejected", "short", "provisioned", "longest wait"
    );
    for seed in &seeds {
        let ran = run(*seed, each);
        println!(
            "{seed:>6} {:>9} {:>9} {:>9} {:>7} {:>11} {:>12.3?}",
            ran.arrived, ran.answered, ran.rejected, ran.short, ran.provisioned_runs, ran.longest_wait
        );
    }
    let took = began.elapsed().as_secs_f64();
    let rate = (each * seeds.len()) as f64 / took;
    println!(
        "{} events in {took:.1} s: {rate:.0} events/s, every invariant checked on the way",
        each * seeds.len()
    );
}
