//! What simulated environments do, and what they are told to do.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::Simulation;
use super::world::{Doing, LONGEST_RUN, LONGEST_START, Modelled, Step};
use crate::core::{Action, EnvironmentId, EventId, Fate, Init, Purpose, Rejection};
use crate::event::FunctionVersion;

impl Simulation {
    pub(super) fn perform(&mut self, id: EnvironmentId, turn: u64, step: Step) {
        let Some(modelled) = self.environments.get_mut(&id) else { return };
        if modelled.turn != turn {
            return;
        }
        modelled.turn += 1;
        match step {
            Step::InitSucceeds => {
                modelled.doing = Doing::Idle { frozen: false };
                self.core.init_ended(self.now, id, Init::Succeeded);
            }
            Step::InitFails => {
                modelled.doing = Doing::Idle { frozen: false };
                self.core.init_ended(self.now, id, Init::Failed("as planned".into()));
            }
            Step::StartFails => {
                self.remove(id);
                self.core.start_failed(self.now, id, "as planned");
            }
            Step::Answer => self.answer(id),
            Step::Ready => {
                modelled.doing = Doing::Idle { frozen: false };
                self.core.ready(self.now, id);
            }
            Step::Die => {
                if let Doing::Running(event) = self.remove(id).doing {
                    self.close(event);
                    self.answered += 1;
                }
                self.core.dead(self.now, id, Fate::Ended);
            }
            Step::Untouched => {
                let Doing::Running(event) = self.remove(id).doing else { panic!("it had an event") };
                self.open.get_mut(&event).expect("it has not ended").since = self.now;
                self.core.dead(self.now, id, Fate::Untouched);
            }
        }
    }

    fn answer(&mut self, id: EnvironmentId) {
        let modelled = self.environments.get_mut(&id).expect("looked up by the caller");
        let Doing::Running(event) = modelled.doing else { panic!("{id:?} answers without an event") };
        modelled.doing = Doing::Answered;
        let (turn, memory_mib) = (modelled.turn, modelled.memory_mib);
        self.close(event);
        self.answered += 1;
        if self.calm || !self.random.chance(2) {
            let long = if self.random.chance(5) { 10_000 } else { 100 };
            let after = self.random.micros(long);
            self.plan(after, id, turn, Step::Ready);
        } else {
            self.plan(Duration::from_millis(30), id, turn, Step::Die);
        }
        self.core.used(id, memory_mib);
        self.core.answered(self.now, id);
    }

    fn plan(&mut self, after: Duration, id: EnvironmentId, turn: u64, step: Step) {
        self.agenda.push(Reverse((self.now + after, id, turn, step)));
    }

    /// An event has ended.
    fn close(&mut self, event: EventId) {
        let open = self.open.remove(&event).unwrap_or_else(|| panic!("{event:?} ended twice"));
        self.functions[open.function].in_flight -= 1;
    }

    fn remove(&mut self, id: EnvironmentId) -> Modelled {
        let modelled = self.environments.remove(&id).expect("only what lives can end");
        self.host.environments_mib -= modelled.memory_mib;
        modelled
    }

    /// Does what the core asks for, and checks that it may ask for it.
    pub(super) fn settle(&mut self) {
        let actions: Vec<_> = self.core.take_actions().collect();
        for action in actions {
            match action {
                Action::Start { environment, version, purpose } => self.made(environment, &version, purpose),
                Action::Dispatch { environment, event, .. } => self.dispatched(environment, event),
                Action::Freeze { environment } => {
                    let modelled =
                        self.environments.get_mut(&environment).expect("only what lives is frozen");
                    assert_eq!(modelled.doing, Doing::Idle { frozen: false });
                    modelled.doing = Doing::Idle { frozen: true };
                }
                Action::Drop { environment } => {
                    let modelled = self.remove(environment);
                    assert!(!matches!(modelled.doing, Doing::Running(_)), "dropped while it runs an event");
                }
                Action::Reject { event, rejection } => {
                    assert!(!matches!(rejection, Rejection::Stopping), "nothing was aborted");
                    self.close(event);
                    self.rejected += 1;
                }
            }
        }
        self.check();
    }

    fn made(&mut self, id: EnvironmentId, version: &FunctionVersion, purpose: Purpose) {
        let number: usize = version.name[1..].parse().expect("f and a number");
        self.check_start(number, purpose);
        let function = &self.functions[number];
        let (typical, failing) = (function.memory_mib, if self.calm { 0 } else { function.failing });
        let memory_mib = typical - self.random.below(typical / 4 + 1);
        self.host.environments_mib += memory_mib;
        let modelled = Modelled {
            function: number,
            version: version.key.clone(),
            purpose,
            tenant: None,
            doing: Doing::Starting,
            turn: 0,
            memory_mib,
        };
        assert!(self.environments.insert(id, modelled).is_none(), "an environment's id is new");
        self.check_memory();
        let longest = if self.random.chance(1) { LONGEST_START } else { Duration::from_millis(5) };
        let after = self.random.micros(longest.as_micros() as u64);
        let step = match self.random.below(100) {
            chance if chance >= failing => Step::InitSucceeds,
            chance if chance % 3 == 0 => Step::InitFails,
            chance if chance % 3 == 1 => Step::StartFails,
            _ => Step::Die,
        };
        self.plan(after, id, 0, step);
    }

    fn dispatched(&mut self, id: EnvironmentId, event: EventId) {
        let modelled = self.environments.get_mut(&id).expect("an event is given only to what lives");
        assert!(matches!(modelled.doing, Doing::Idle { .. }), "{id:?} runs one event at a time");
        modelled.doing = Doing::Running(event);
        modelled.turn += 1;
        let turn = modelled.turn;
        self.provisioned_runs += usize::from(modelled.purpose == Purpose::Provision);
        self.check_dispatch(id, event);
        let (after, step) = match self.random.below(100) {
            _ if self.calm => (self.random.micros(1_000), Step::Answer),
            0 => (self.random.micros(100), Step::Untouched),
            1..4 => (self.random.micros(3_000), Step::Die),
            4 => (LONGEST_RUN, Step::Die),
            5..8 => (self.random.micros(50_000), Step::Answer),
            _ => (self.random.micros(1_000), Step::Answer),
        };
        self.plan(after, id, turn, step);
    }

    /// How long ago that was.
    pub(super) fn since(&self, at: Instant) -> Duration {
        self.now.saturating_duration_since(at)
    }
}
