//! The Shutdown phase: an environment with extensions is told that it ends, and has a while to do so.
//!
//! ```text
//! SIGTERM to the runtime --its end, or its share--> SHUTDOWN to external extensions --their end, or 2 s--> everything is killed
//! ```
//!
//! Without extensions it lasts 0 ms: everything is killed at once. By then the executor has forgotten the environment, and
//! nobody waits for it but a server that stops.
//!
//! Source: "Understanding the Lambda execution environment lifecycle", Shutdown phase; "Extensions API" for the shares.

use std::time::Duration;

use tokio::time::Instant;

use super::Task;
use super::failure::Failure;
use super::instance::Instance;
use super::journal::ms_since_1970;
use crate::runtime_api::Call;

/// How long all of it may take where extensions are programs of their own.
const EXTERNAL: Duration = Duration::from_millis(2_000);
/// How long it may take where they all live in the runtime's process, and the runtime's share where some do.
const INTERNAL: Duration = Duration::from_millis(500);
/// The runtime's share where none do.
const RUNTIME_SHARE: Duration = Duration::from_millis(300);

/// Why an environment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It is not needed any more.
    Spindown,
    /// Its event took too long.
    Timeout,
    /// Something in it failed.
    Failure,
}

impl Reason {
    /// AWS's name.
    fn name(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

impl From<&Failure> for Reason {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Timeout { .. } => Self::Timeout,
            Failure::Stopped => Self::Spindown,
            _ => Self::Failure,
        }
    }
}

impl Task {
    /// Takes an environment through its last phase and removes it.
    pub(super) async fn shut_down(&mut self, mut instance: Instance, reason: Reason) {
        let grace = match instance.extensions.kinds() {
            (true, _) => EXTERNAL,
            (false, true) => INTERNAL,
            (false, false) => Duration::ZERO,
        };
        if !grace.is_zero() && self.thaw(&mut instance).await {
            self.say_farewell(&mut instance, reason, grace).await;
        }
        instance.output.pump(&mut self.journal);
        instance.output.end_line(&mut self.journal);
        self.journal.flush();
        self.journal.end_telemetry();
        instance.stop().await;
    }

    /// Lets a frozen environment go on. `false`: that is not possible.
    pub(super) async fn thaw(&mut self, instance: &mut Instance) -> bool {
        if self.frozen {
            if !instance.thaw().await {
                return false;
            }
            self.frozen = false;
            if let Some(telemetry) = self.journal.telemetry() {
                telemetry.set_frozen(false);
            }
        }
        true
    }

    async fn say_farewell(&mut self, instance: &mut Instance, reason: Reason, grace: Duration) {
        let (external, internal) = instance.extensions.kinds();
        let deadline = Instant::now() + grace;
        let deadline_ms = ms_since_1970(self.shell.clock.wall() + grace);
        self.journal.flush_telemetry();
        if !instance.process.has_ended() {
            instance.environment.terminate();
            let share = Instant::now() + if internal { INTERNAL } else { RUNTIME_SHARE };
            self.attend(instance, share, |instance| instance.process.has_ended()).await;
        }
        if external {
            self.journal.flush_telemetry();
            instance.extensions.tell_shutdown(reason.name(), deadline_ms);
            self.attend(instance, deadline, |instance| !instance.extensions.are_ending()).await;
        }
    }

    /// Serves those that are about to end, until it is `done` or too late.
    async fn attend(&mut self, instance: &mut Instance, deadline: Instant, done: impl Fn(&Instance) -> bool) {
        let mut is_served = true;
        while !done(instance) {
            let has_ended = instance.process.has_ended();
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => return,
                call = instance.api.call(), if is_served => match call {
                    Some(Call::Extension(call)) => self.extension_call(instance, *call),
                    Some(call) => self.refuse(call),
                    None => is_served = false,
                },
                _ = instance.process.exit(), if !has_ended => {}
                exits = instance.companions.ended() => instance.extensions.have_exited(exits),
                () = instance.output.readable() => {
                    instance.output.pump(&mut self.journal);
                    self.journal.flush();
                }
            }
        }
    }
}
