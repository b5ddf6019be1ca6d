//! Time as an argument. Whoever needs to know the time is given a [`Clock`]; tests give a [`ManualClock`] and move it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Where a component reads the time from.
pub trait Clock: Send + Sync + 'static {
    /// Wall time: for what people and protocols see. May jump.
    fn wall(&self) -> SystemTime;

    /// Monotonic time: for durations and deadlines. Never goes back.
    fn monotonic(&self) -> Instant;

    /// Ends when [`Clock::monotonic`] shows `deadline` or later. Needs a tokio runtime.
    fn until(&self, deadline: Instant) -> Wait<'_>;

    /// Wall time in milliseconds since 1970: how records keep it. A time before 1970 is 0.
    fn wall_ms(&self) -> u64 {
        let since = self.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A wait for a moment of a clock.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

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

    fn until(&self, deadline: Instant) -> Wait<'_> {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}

/// A clock that stands still until it is moved. Who waits for a moment of it is woken when it gets there.
#[derive(Debug)]
pub struct ManualClock {
    faces: Mutex<(SystemTime, Instant)>,
    moved: Notify,
}

impl ManualClock {
    /// A clock that shows `wall`.
    pub fn new(wall: SystemTime) -> Self {
        Self { faces: Mutex::new((wall, Instant::now())), moved: Notify::new() }
    }

    /// Moves both faces forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.faces.lock().expect("no code panics while it holds the clock");
        now.0 += by;
        now.1 += by;
        drop(now);
        self.moved.notify_waiters();
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        self.faces.lock().expect("no code panics while it holds the clock").0
    }

    fn monotonic(&self) -> Instant {
        self.faces.lock().expect("no code panics while it holds the clock").1
    }

    fn until(&self, deadline: Instant) -> Wait<'_> {
        Box::pin(async move {
            loop {
                // Registered before the clock is read, so that no move is missed.
                let moved = self.moved.notified();
                if self.monotonic() >= deadline {
                    return;
                }
                moved.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_moment_is_woken_when_the_clock_gets_there() {
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(7)));
        assert_eq!(clock.wall_ms(), 7);
        let day = Duration::from_secs(86_400);
        let deadline = clock.monotonic() + day;
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.until(deadline).await }
        });
        clock.advance(day - Duration::from_millis(1));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(Duration::from_millis(1));
        waiting.await.expect("the wait ends");
    }
}
