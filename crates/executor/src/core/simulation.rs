//! Random schedules against the core: a model of environments that start slowly, fail, crash, hang and answer, of
//! versions that are retired and limits that change, driven from a seed. After every step the invariants are checked.
//!
//! `FREEHOLD_SEED=n` runs one seed alone; a failing run prints its seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tests::version;
use super::{Action, Core, EnvironmentId, EventId, Fate, Init, Rejection};
use crate::event::FunctionVersion;
use crate::limits::Limits;

/// Events in each schedule.
const EVENTS: usize = 40_000;
/// Seeds tried when none is given.
const SEEDS: std::ops::Range<u64> = 1..9;

/// Every so many steps everything is looked at, which takes time by the number of environments.
const DEEP_CHECK_STEPS: usize = 16;

/// SplitMix64: small, seeded, good enough to shuffle a schedule.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn micros(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end) + 1)
    }
}

/// What the simulated environment does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    InitEnded,
    StartFailed,
    Answer,
    Ready,
    Die,
    Untouched,
}

#[derive(Debug, PartialEq, Eq)]
enum Doing {
    Starting,
    Running(EventId),
    Answered,
    Idle { frozen: bool },
}

struct Modelled {
    version: String,
    doing: Doing,
    /// Changes with each thing it does, so that steps planned earlier are void.
    turn: u64,
}

struct Simulation {
    core: Core,
    limits: Limits,
    random: Random,
    now: Instant,
    versions: Vec<Arc<FunctionVersion>>,
    retired: HashSet<String>,
    environments: HashMap<EnvironmentId, Modelled>,
    agenda: BinaryHeap<Reverse<(Instant, EnvironmentId, u64, Step)>>,
    open: HashSet<EventId>,
    steps: usize,
    arrived: usize,
    ended: usize,
    rejected: usize,
    starts: HashMap<String, Vec<Instant>>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = Limits {
            account_concurrency: 5 + random.below(40) as u32,
            scaling_burst: 5 + random.below(50) as u32,
            scaling_period: Duration::from_millis(20 + random.below(200)),
            requests_per_concurrency: 100 + random.below(10_000) as u32,
            idle_timeout: Duration::from_millis(1 + random.below(300)),
            freeze_delay: Duration::from_micros(1 + random.below(5_000)),
            settle_grace: Duration::from_micros(1 + random.below(2_000)),
            ..Limits::default()
        };
        let versions = (0..5).map(|n| version(&format!("f{n}"), &format!("f{n}-0"))).collect();
        Self {
            core: Core::new(limits.clone()),
            limits,
            random,
            now: Instant::now(),
            versions,
            retired: HashSet::new(),
            environments: HashMap::new(),
            agenda: BinaryHeap::new(),
            open: HashSet::new(),
            steps: 0,
            arrived: 0,
            ended: 0,
            rejected: 0,
            starts: HashMap::new(),
        }
    }

    fn run(&mut self) {
        self.core.set_reserved(self.now, &self.versions[1].function_arn.clone(), Some(3));
        for number in 0..EVENTS {
            // Bursts, and pauses long enough for everything to expire.
            let pause = match self.random.below(1_000) {
                0 => self.random.micros(1_000_000),
                1..50 => self.random.micros(20_000),
                _ => self.random.micros(200),
            };
            self.advance(self.now + pause);
            self.change(number);
            let which = self.random.below(self.versions.len() as u64) as usize;
            let version = Arc::clone(&self.versions[which]);
            self.arrive(&version);
        }
        self.core.stop(self.now);
        self.settle();
        for _ in 0..1_000 {
            self.advance(self.now + Duration::from_millis(100));
            if self.core.environments() == 0 {
                break;
            }
        }
        assert!(self.open.is_empty(), "events that never ended: {:?}", self.open);
        assert_eq!((self.core.environments(), self.core.in_flight()), (0, 0));
        assert!(self.environments.is_empty());
        assert_eq!(self.ended + self.rejected, self.arrived, "every event ends once");
        self.core.set_reserved(self.now, &self.versions[1].function_arn.clone(), None);
        self.advance(self.now + Duration::from_secs(10));
        assert!(self.core.functions.is_empty() && self.core.versions.is_empty(), "nothing leaks");
        assert!(self.core.idle.is_empty() && self.core.thawed.is_empty() && self.core.settling.is_empty());
    }

    /// Updates a function now and then.
    fn change(&mut self, number: usize) {
        if !self.random.chance(1) {
            return;
        }
        let which = self.random.below(self.versions.len() as u64) as usize;
        let old = Arc::clone(&self.versions[which]);
        if which == 1 {
            let reserved = self.random.below(4) as u32;
            self.core.set_reserved(self.now, &old.function_arn, Some(reserved));
        }
        self.versions[which] = version(&old.name, &format!("{}-{number}", old.name));
        self.retired.insert(old.key.clone());
        self.core.retire(self.now, &old.key);
        self.settle();
        if self.random.chance(20) {
            // A caller that read the definition before the update.
            self.arrive(&old);
        }
    }

    fn arrive(&mut self, version: &Arc<FunctionVersion>) {
        self.arrived += 1;
        match self.core.arrive(self.now, version) {
            Ok(event) => assert!(self.open.insert(event), "an event's id is new"),
            Err(rejection) => {
                assert!(!matches!(rejection, Rejection::Stopping | Rejection::Failed(_)));
                self.rejected += 1;
            }
        }
        self.settle();
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

    fn perform(&mut self, id: EnvironmentId, turn: u64, step: Step) {
        let Some(modelled) = self.environments.get_mut(&id) else { return };
        if modelled.turn != turn {
            return;
        }
        modelled.turn += 1;
        match step {
            Step::InitEnded => {
                modelled.doing = Doing::Idle { frozen: false };
                let init = if self.random.chance(90) { Init::Succeeded } else { Init::Failed };
                self.core.init_ended(self.now, id, init);
            }
            Step::StartFailed => {
                self.environments.remove(&id);
                self.core.start_failed(self.now, id);
            }
            Step::Answer => {
                let Doing::Running(event) = modelled.doing else { panic!("{id:?} answers without an event") };
                modelled.doing = Doing::Answered;
                self.end(event);
                let turn = self.environments[&id].turn;
                if !self.random.chance(2) {
                    let long = if self.random.chance(5) { 10_000 } else { 100 };
                    let after = self.random.micros(long);
                    self.plan(after, id, turn, Step::Ready);
                } else {
                    self.plan(Duration::from_millis(30), id, turn, Step::Die);
                }
                self.core.answered(self.now, id);
            }
            Step::Ready => {
                modelled.doing = Doing::Idle { frozen: false };
                self.core.ready(self.now, id);
            }
            Step::Die => {
                let doing = self.environments.remove(&id).expect("looked up above").doing;
                if let Doing::Running(event) = doing {
                    self.end(event);
                }
                self.core.dead(self.now, id, Fate::Ended);
            }
            Step::Untouched => {
                self.environments.remove(&id);
                self.core.dead(self.now, id, Fate::Untouched);
            }
        }
    }

    fn plan(&mut self, after: Duration, id: EnvironmentId, turn: u64, step: Step) {
        self.agenda.push(Reverse((self.now + after, id, turn, step)));
    }

    fn end(&mut self, event: EventId) {
        assert!(self.open.remove(&event), "{event:?} ended twice");
        self.ended += 1;
    }

    /// Does what the core asks for, and checks that it may ask for it.
    fn settle(&mut self) {
        let actions: Vec<_> = self.core.take_actions().collect();
        for action in actions {
            match action {
                Action::Start { environment, version } => self.made(environment, &version),
                Action::Dispatch { environment, event, .. } => self.dispatched(environment, event),
                Action::Freeze { environment } => {
                    let modelled =
                        self.environments.get_mut(&environment).expect("only what lives is frozen");
                    assert_eq!(modelled.doing, Doing::Idle { frozen: false });
                    modelled.doing = Doing::Idle { frozen: true };
                }
                Action::Drop { environment } => {
                    let modelled =
                        self.environments.remove(&environment).expect("only what lives is dropped");
                    assert!(!matches!(modelled.doing, Doing::Running(_)), "dropped while it runs an event");
                }
                Action::Reject { event, .. } => self.end(event),
            }
        }
        self.check();
    }

    fn made(&mut self, id: EnvironmentId, version: &FunctionVersion) {
        let starts = self.starts.entry(version.name.clone()).or_default();
        starts.push(self.now);
        starts.retain(|at| *at + self.limits.scaling_period > self.now);
        // A full bucket and what it regains within the period.
        assert!(
            starts.len() <= 2 * self.limits.scaling_burst as usize,
            "more starts than the scaling rate allows"
        );
        let modelled = Modelled { version: version.key.clone(), doing: Doing::Starting, turn: 0 };
        assert!(self.environments.insert(id, modelled).is_none(), "an environment's id is new");
        let after = self.random.micros(5_000);
        let step = match self.random.below(100) {
            0..3 => Step::StartFailed,
            3..5 => Step::Die,
            _ => Step::InitEnded,
        };
        self.plan(after, id, 0, step);
    }

    fn dispatched(&mut self, id: EnvironmentId, event: EventId) {
        assert!(self.open.contains(&event), "{event:?} has ended already");
        let modelled = self.environments.get_mut(&id).expect("an event is given only to what lives");
        assert!(matches!(modelled.doing, Doing::Idle { .. }), "{id:?} runs one event at a time");
        modelled.doing = Doing::Running(event);
        modelled.turn += 1;
        let turn = modelled.turn;
        let (after, step) = match self.random.below(100) {
            0 => (self.random.micros(100), Step::Untouched),
            1..4 => (self.random.micros(3_000), Step::Die),
            4..8 => (self.random.micros(50_000), Step::Answer),
            _ => (self.random.micros(1_000), Step::Answer),
        };
        self.plan(after, id, turn, step);
    }

    fn check(&mut self) {
        assert_eq!(self.core.in_flight() as usize, self.open.len(), "the core counts what is in flight");
        assert!(self.core.in_flight() <= self.limits.account_concurrency, "over the account's concurrency");
        assert_eq!(self.core.environments(), self.environments.len(), "every environment is accounted for");
        self.steps += 1;
        if !self.steps.is_multiple_of(DEEP_CHECK_STEPS) {
            return;
        }
        let function = self.core.functions.get(self.versions[1].function_arn.as_str());
        if let Some(function) = function {
            assert!(function.in_flight <= 3, "over the reserved concurrency");
        }
        for version in self.core.versions.values() {
            assert!(version.waiting.len() <= version.coming(), "an event waits for nothing");
            assert!(
                version.idle.is_empty() || version.waiting.is_empty(),
                "an event waits beside an idle environment"
            );
        }
        for (id, modelled) in &self.environments {
            assert_eq!(*self.core.environments[id].version, *modelled.version, "one version for life");
            let idle = matches!(modelled.doing, Doing::Idle { .. });
            assert!(!(idle && self.retired.contains(&modelled.version)), "a retired environment lingers");
        }
    }
}

#[test]
fn random_schedules_keep_every_invariant() {
    let seeds: Vec<u64> = match std::env::var("FREEHOLD_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => SEEDS.collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed);
        simulation.run();
        assert!(simulation.rejected > 0 && simulation.ended > EVENTS / 10, "the schedule is not trivial");
    }
}
