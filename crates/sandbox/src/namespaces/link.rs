//! The helper and its replacement: whoever kills the helper ends every environment, but not the server.
//!
//! ```text
//! running --helper dies--> restarting --ready--> running
//!    │                         └─failed, or too often─> ended      (the server cannot go on, and says so)
//!    └──shutdown, dropped──────────────────────────────> ended
//! ```
//!
//! A new helper removes what the dead one left before it is ready. Between them, requests for environments wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connect;
use crate::client::{Client, Life};
use crate::message::Request;
use crate::options::Options;
use crate::spec::SandboxError;

/// Restarts within [`RESTART_WINDOW`]; one more, and something is wrong that a restart does not mend.
const RESTARTS_MAX: usize = 5;
/// The time over which restarts are counted.
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// Where the helper is at.
#[derive(Clone)]
enum State {
    Running(Arc<Client>),
    Restarting,
    Ended,
}

/// The current helper.
pub(super) struct Link {
    state: watch::Sender<State>,
    stopping: AtomicBool,
}

impl Link {
    /// Follows a helper that is running, and replaces it when it dies.
    pub(super) fn new(client: Arc<Client>, options: Options) -> Arc<Self> {
        let link = Arc::new(Self {
            state: watch::Sender::new(State::Running(Arc::clone(&client))),
            stopping: AtomicBool::new(false),
        });
        // Holds neither the link nor the client: dropping the sandbox ends the helper.
        tokio::spawn(follow(Arc::downgrade(&link), client.life(), options));
        link
    }

    /// The helper, once there is one.
    pub(super) async fn client(&self) -> Result<Arc<Client>, SandboxError> {
        let mut states = self.state.subscribe();
        match states.wait_for(|state| !matches!(state, State::Restarting)).await.as_deref() {
            Ok(State::Running(client)) => Ok(Arc::clone(client)),
            _ => Err(SandboxError::HelperGone),
        }
    }

    /// The helper that follows on this one, which has died.
    pub(super) async fn after(&self, dead: &Arc<Client>) -> Result<Arc<Client>, SandboxError> {
        self.is_over(dead).await;
        self.client().await
    }

    async fn is_over(&self, client: &Arc<Client>) {
        let is_other = |state: &State| !matches!(state, State::Running(now) if Arc::ptr_eq(now, client));
        // The sender is in `self`.
        let _ = self.state.subscribe().wait_for(is_other).await;
    }

    /// Waits until there is no helper any more and will be none.
    pub(super) async fn ended(&self) {
        // The sender is in `self`.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Ended)).await;
    }

    /// Has the helper remove everything and end; one that is just being replaced removes its predecessor's first.
    pub(super) async fn shutdown(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Again if it dies before it has read the request: then the one that replaces it does the rest.
        while let Ok(client) = self.client().await {
            client.request(Request::Shutdown, Vec::new());
            self.is_over(&client).await;
        }
    }
}

async fn follow(link: Weak<Link>, mut life: watch::Receiver<Life>, options: Options) {
    let mut restarts = VecDeque::new();
    loop {
        // An error means that whoever followed its life panicked.
        let end = life.wait_for(|life| *life != Life::Alive).await.map_or(Life::Died, |life| *life);
        let Some(link) = link.upgrade() else { return };
        link.state.send_replace(State::Restarting);
        // One that has ended in order has left nothing behind.
        let is_over = end == Life::Ended && link.stopping.load(Ordering::SeqCst);
        let next = if is_over { None } else { restart(&options, &mut restarts).await };
        let Some(client) = next else {
            link.state.send_replace(State::Ended);
            return;
        };
        life = client.life();
        link.state.send_replace(State::Running(client));
    }
}

/// A new helper, which has cleaned up after the last.
async fn restart(options: &Options, restarts: &mut VecDeque<Instant>) -> Option<Arc<Client>> {
    let now = Instant::now();
    while restarts.front().is_some_and(|earlier| now - *earlier > RESTART_WINDOW) {
        restarts.pop_front();
    }
    if restarts.len() == RESTARTS_MAX {
        tracing::error!("the sandbox helper has died {RESTARTS_MAX} times within a minute: giving up");
        return None;
    }
    restarts.push_back(now);
    tracing::error!("the sandbox helper has died, and every environment with it: starting another");
    let options = options.clone();
    match tokio::task::spawn_blocking(move || connect(&options)).await {
        Ok(Ok(client)) => Some(client),
        Ok(Err(error)) => {
            tracing::error!(%error, "the sandbox helper cannot be started again");
            None
        }
        Err(error) => {
            tracing::error!(%error, "starting the sandbox helper panicked");
            None
        }
    }
}
