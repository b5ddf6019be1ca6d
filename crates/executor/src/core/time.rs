//! What happens by itself as time passes: freezing, giving up on settling environments, dropping idle ones, starting
//! provisioned ones, forgetting functions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Core;
use super::books::REQUESTS_PERIOD;
use super::model::{Action, EnvironmentId, Moment, PoolId, State};

impl Core {
    /// When an environment of this pool that goes idle now is dropped, if no event comes. The one place where that is
    /// decided; provisioned environments are not asked for.
    pub(super) fn expiry(&self, now: Instant, _pool: PoolId) -> Instant {
        now + self.limits.idle_timeout
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_tick(&self) -> Option<Instant> {
        let first = |list: &BTreeMap<Moment, EnvironmentId>, delay: Duration| {
            list.first_key_value().map(|(since, _)| since.at + delay)
        };
        let may_provide = self.provisioning < self.limits.provisioning_at_once;
        let due = self.lacking.first_key_value().filter(|_| may_provide).map(|(due, _)| due.at);
        let unused = self.unused.front().map(|(since, _)| *since + self.forget_after());
        [
            first(&self.thawed, self.limits.freeze_delay),
            first(&self.settling, Duration::ZERO),
            first(&self.expiring, Duration::ZERO),
            due,
            unused,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some(id) = expired(&self.settling, Duration::ZERO, now) {
            let pool = self.environments[&id].pool;
            self.unsettle(id);
            self.rebalance(now, pool);
        }
        while let Some(id) = expired(&self.expiring, Duration::ZERO, now) {
            self.drop_environment(now, id);
        }
        while let Some(id) = expired(&self.thawed, self.limits.freeze_delay, now) {
            let environment = self.environments.get_mut(&id).expect("a listed environment is known");
            if let State::Idle { since, frozen, .. } = &mut environment.state {
                *frozen = true;
                self.thawed.remove(since);
            }
            self.actions.push(Action::Freeze { environment: id });
        }
        self.fill(now);
        self.forget_functions(now);
    }

    fn forget_after(&self) -> Duration {
        self.limits.scaling_period.max(REQUESTS_PERIOD)
    }

    fn forget_functions(&mut self, now: Instant) {
        while let Some((since, function)) = self.unused.front() {
            let since = *since;
            if since + self.forget_after() > now {
                break;
            }
            let unused = self.functions.get(function).is_some_and(|state| {
                state.unused_since == Some(since)
                    && state.versions == 0
                    && state.share() == 0
                    && state.reserved.is_none()
            });
            if unused {
                self.functions.remove(function);
            } else if let Some(state) = self.functions.get_mut(function)
                && state.unused_since == Some(since)
            {
                // It is kept for what is reserved or provisioned; when that goes, it is noted again.
                state.unused_since = None;
            }
            self.unused.pop_front();
        }
    }
}

fn expired(list: &BTreeMap<Moment, EnvironmentId>, delay: Duration, now: Instant) -> Option<EnvironmentId> {
    let (since, id) = list.first_key_value()?;
    (since.at + delay <= now).then_some(*id)
}
