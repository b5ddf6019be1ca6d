//! Time as an argument. Whoever needs to know the time is given a [`Clock`]; tests give a [`ManualClock`] and move it.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Where a component reads the time from.
pub trait Clock: Send + Sync + 'static {
    /// Wall time: for what people and protocols see. May jump.
    fn wall(&self) -> SystemTime;

    /// Monotonic time: for durations and deadlines. Never goes back.
    fn monotonic(&self) -> Instant;
}

/// A clock that is shared between components.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<(SystemTime, Instant)>);

impl ManualClock {
    /// A clock that shows `wall`.
    pub fn new(wall: SystemTime) -> Self {
        Self(Mutex::new((wall, Instant::now())))
    }

    /// Moves both faces forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("no code panics while it holds the clock");
        now.0 += by;
        now.1 += by;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        self.0.lock().expect("no code panics while it holds the clock").0
    }

    fn monotonic(&self) -> Instant {
        self.0.lock().expect("no code panics while it holds the clock").1
    }
}
