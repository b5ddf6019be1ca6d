//! One function's environments under one policy: what the core does with them, without the core. An event takes the most
//! recently used idle environment; one that is made for it is a cold start. An idle environment is dropped when its time has
//! come; the policy says when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_executor::keepalive::{Plan, Policy};

use crate::paper::Paper;

/// A policy for one function.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Warmer {
    /// Freehold's own.
    Own(Policy, Arc<str>),
    /// The paper's, as published.
    Paper(Paper),
}

impl Warmer {
    fn event(&mut self, now: Instant, others: u32) {
        match self {
            Self::Own(policy, name) => policy.event(now, name, others),
            Self::Paper(paper) => paper.event(now, others),
        }
    }

    fn rest(&mut self, now: Instant, others: u32) -> Plan {
        match self {
            Self::Own(policy, name) => policy.rest(now, name, others),
            Self::Paper(paper) => paper.rest(now, others),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) cold: u64,
    /// Cold starts of a function that had nothing in flight: what the policy can do something about.
    pub(crate) cold_from_zero: u64,
    pub(crate) prewarmed: u64,
    /// Idle environments, in seconds.
    pub(crate) idle: f64,
}

/// The environments of one function.
pub(crate) struct Simulation {
    warmer: Warmer,
    /// When those that run an event will be idle again.
    running: BinaryHeap<Reverse<Instant>>,
    /// Since when the others are idle and until when they are kept, in the order in which they became so.
    idle: Vec<(Instant, Instant)>,
    /// When an environment is made ahead and until when it is kept, if no event comes before.
    prewarm: Option<(Instant, Instant)>,
    pub(crate) counts: Counts,
}

impl Simulation {
    pub(crate) fn new(warmer: Warmer) -> Self {
        Self {
            warmer,
            running: BinaryHeap::new(),
            idle: Vec::new(),
            prewarm: None,
            counts: Counts::default(),
        }
    }

    /// An event comes and runs so long.
    pub(crate) fn event(&mut self, now: Instant, runs: Duration) {
        self.pass(now);
        self.warmer.event(now, self.running.len() as u32);
        self.counts.events += 1;
        match self.idle.pop() {
            Some((since, _)) => self.counts.idle += (now - since).as_secs_f64(),
            None => {
                self.counts.cold += 1;
                self.counts.cold_from_zero += u64::from(self.running.is_empty());
            }
        }
        self.running.push(Reverse(now + runs));
    }

    /// Time passes without events.
    pub(crate) fn pass(&mut self, now: Instant) {
        while let Some(Reverse(at)) = self.running.peek().copied().filter(|Reverse(at)| *at <= now) {
            self.running.pop();
            let plan = self.warmer.rest(at, self.running.len() as u32);
            self.idle.push((at, plan.drop_at));
            if self.running.is_empty() {
                self.prewarm = plan.prewarm.map(|prewarm| (prewarm.ready_at, prewarm.until));
            }
        }
        let counts = &mut self.counts;
        let mut drop_until = |idle: &mut Vec<(Instant, Instant)>, now: Instant| {
            idle.retain(|(since, until)| {
                if *until <= now {
                    counts.idle += (*until - *since).as_secs_f64();
                }
                *until > now
            });
        };
        if let Some((from, until)) = self.prewarm.take_if(|(from, _)| *from <= now) {
            drop_until(&mut self.idle, from);
            if self.idle.is_empty() {
                self.idle.push((from, until));
                self.counts.prewarmed += 1;
            }
        }
        let counts = &mut self.counts;
        self.idle.retain(|(since, until)| {
            if *until <= now {
                counts.idle += (*until - *since).as_secs_f64();
            }
            *until > now
        });
        if !self.running.is_empty() {
            self.prewarm = None;
        }
    }
}
