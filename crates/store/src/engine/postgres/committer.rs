//! The one task of this process that commits. It takes every commit that waits, has them validated, writes those that
//! hold as one group, and answers them all: while a group is under way, the next one gathers by itself.
//!
//! ```text
//! connected ── group applied ──> connected          everyone answered
//!     │ connection lost while a group was under way
//!     ▼
//! settling ── found in the table of changes ──> connected    Ok
//!     │ ├──── not there, and made impossible ─> connected    Disconnected
//!     │ └──── trimmed since ──────────────────> connected    OutcomeUnknown
//!     └─ deadline ──> disconnected                           OutcomeUnknown
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::group::{Group, Request};
use super::turn::{Application, Changed, Failed, Turns};
use super::view::number;
use super::{Shared, failure};
use crate::engine::local::recent::RecentCommits;
use crate::error::StoreError;
use crate::limits::{COMMIT_QUEUE, RECENT_KEYS};
use crate::transaction::Writes;

/// How long commits wait for a connection to be made again before they fail.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a lost group's outcome is looked for: a server that restarts is back by then.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);
/// The first and the longest wait between two attempts to connect.
pub(super) const BACK_OFF_FIRST: Duration = Duration::from_millis(20);
pub(super) const BACK_OFF_LONGEST: Duration = Duration::from_secs(1);
/// Groups of unknown outcome that the listener looks out for.
const UNCERTAIN_GROUPS: usize = 64;

/// Connects and starts the task. It ends when the queue's senders are gone. `known` is the last commit.
pub(super) async fn start(
    shared: Arc<Shared>,
    known: i64,
    mut requests: mpsc::Receiver<Request>,
) -> Result<JoinHandle<()>, StoreError> {
    let turns = Turns::open(&shared.address).await?;
    let mut committer = Committer {
        shared,
        turns: Some(turns),
        recent: RecentCommits::new(RECENT_KEYS),
        known,
        alone: false,
        batch: 0,
        waiting: VecDeque::new(),
    };
    Ok(tokio::spawn(async move {
        let mut arrived = Vec::new();
        loop {
            if committer.waiting.is_empty() {
                if requests.recv_many(&mut arrived, COMMIT_QUEUE).await == 0 {
                    return;
                }
                // Those that were just answered are about to come again: they run first and join this group.
                tokio::task::yield_now().await;
            }
            while committer.waiting.len() + arrived.len() < COMMIT_QUEUE
                && let Ok(request) = requests.try_recv()
            {
                arrived.push(request);
            }
            committer.waiting.extend(arrived.drain(..));
            if let Err(error) = committer.commit_group().await {
                committer.waiting.drain(..).for_each(|request| request.answer(Err(error.clone())));
            }
        }
    }))
}

struct Committer {
    shared: Arc<Shared>,
    /// The connection, unless it was lost.
    turns: Option<Turns>,
    recent: RecentCommits,
    /// The last commit that `recent` has.
    known: i64,
    /// Whether nobody else committed lately, so that the next group is tried without asking.
    alone: bool,
    /// The last group's own number.
    batch: i64,
    waiting: VecDeque<Request>,
}

/// What became of a group whose connection was lost.
enum Outcome {
    Committed,
    NotCommitted,
    Unknown,
}

impl Committer {
    /// Commits what fits into one group. An error is the answer to all that wait.
    async fn commit_group(&mut self) -> Result<(), StoreError> {
        let alone = self.alone;
        if !alone {
            self.take_turn().await?;
        }
        let group = Group::form(&mut self.waiting, &self.recent);
        let turns = match self.turns.take().filter(|turns| !turns.is_closed()) {
            Some(turns) => turns,
            None => {
                // Nothing of the group was sent yet.
                group.put_back(&mut self.waiting);
                self.alone = false;
                return Ok(());
            }
        };
        if group.is_empty() {
            group.answer(&Ok(()));
            if alone || turns.give_up().await.is_ok() {
                self.turns = Some(turns);
            }
            return Ok(());
        }
        self.batch += 1;
        let application = self.application(&group.writes);
        let applied =
            if alone { turns.apply(&application).await } else { turns.apply_and_commit(&application).await };
        match applied {
            Ok(true) => {
                self.turns = Some(turns);
                self.committed(group)
            }
            Ok(false) => {
                self.turns = Some(turns);
                self.alone = false;
                group.put_back(&mut self.waiting);
                Ok(())
            }
            Err(Failed::Refused(error)) => {
                tracing::error!(%error, "the database refused a group of commits");
                self.turns = Some(turns);
                group.answer(&Err(error));
                Ok(())
            }
            Err(Failed::Lost(error)) => {
                drop(turns);
                self.alone = false;
                self.settle(group, error).await
            }
        }
    }

    fn application<'a>(&self, writes: &'a Writes) -> Application<'a> {
        Application { known: self.known, origin: self.shared.origin, batch: self.batch, writes }
    }

    /// Remembers the group that was just applied, tells watchers, answers.
    fn committed(&mut self, group: Group) -> Result<(), StoreError> {
        self.known += 1;
        self.recent.record(number(self.known)?, group.writes.keys());
        self.shared.hub.publish(group.writes.keys());
        group.answer(&Ok(()));
        Ok(())
    }

    /// Locks the state row on a connection that works, and learns what others did. A connection that turns out to be
    /// gone is made anew once: nothing was at stake on it.
    async fn take_turn(&mut self) -> Result<(), StoreError> {
        let deadline = Instant::now() + RECONNECT_DEADLINE;
        let mut tried_again = false;
        loop {
            let turns = self.connected(deadline).await?;
            match turns.lock(self.known, self.shared.origin).await {
                Ok((sequence, changes)) => {
                    self.turns = Some(turns);
                    self.learn(self.known, sequence, &changes)?;
                    return Ok(());
                }
                Err(Failed::Lost(error)) if !tried_again => {
                    tracing::warn!(%error, "connecting to the database again");
                    tried_again = true;
                }
                Err(failed) => return Err(failed.into_error()),
            }
        }
    }

    /// The connection, made anew if it is gone.
    async fn connected(&mut self, deadline: Instant) -> Result<Turns, StoreError> {
        if let Some(turns) = self.turns.take().filter(|turns| !turns.is_closed()) {
            return Ok(turns);
        }
        let mut wait = BACK_OFF_FIRST;
        loop {
            match Turns::open(&self.shared.address).await {
                Ok(turns) => return Ok(turns),
                Err(error @ StoreError::Disconnected { .. }) if Instant::now() + wait < deadline => {
                    tracing::debug!(%error, "cannot connect to the database yet");
                    tokio::time::sleep(wait).await;
                    wait = BACK_OFF_LONGEST.min(wait * 2);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in what was committed after `since`, in the turn that was taken. Whether all of it was there to be read.
    fn learn(&mut self, since: i64, sequence: i64, changes: &[Changed]) -> Result<bool, StoreError> {
        let is_whole = i64::try_from(changes.len()).is_ok_and(|count| count == sequence - since);
        if is_whole {
            let known = self.known;
            for change in changes.iter().filter(|change| change.sequence > known) {
                self.recent.record(number(change.sequence)?, change.keys.iter());
            }
        } else {
            // Trimmed meanwhile, or the database was put back to an earlier state.
            self.recent.forget(number(sequence)?);
        }
        self.alone = sequence == self.known;
        self.known = sequence;
        Ok(is_whole)
    }

    /// Finds out what became of a group whose connection was lost, and answers it.
    async fn settle(&mut self, group: Group, lost: StoreError) -> Result<(), StoreError> {
        tracing::warn!(error = %lost, "the connection was lost during a commit: finding out what became of it");
        let (batch, known) = (self.batch, self.known);
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let mut wait = BACK_OFF_FIRST;
        let outcome = loop {
            match tokio::time::timeout_at(deadline, self.find(batch, known, deadline)).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(error)) if Instant::now() + wait < deadline => {
                    tracing::debug!(%error, "cannot find out yet");
                    tokio::time::sleep(wait).await;
                    wait = BACK_OFF_LONGEST.min(wait * 2);
                }
                Ok(Err(_)) | Err(_) => break Outcome::Unknown,
            }
        };
        match outcome {
            Outcome::Committed => {
                self.shared.hub.publish(group.writes.keys());
                group.answer(&Ok(()));
            }
            Outcome::NotCommitted => group.answer(&Err(lost)),
            Outcome::Unknown => {
                let mut uncertain = self.shared.uncertain();
                if uncertain.len() == UNCERTAIN_GROUPS {
                    uncertain.remove(0);
                }
                uncertain.push(batch);
                drop(uncertain);
                // The listener may have heard of it already and taken it for one that watchers were told of.
                self.shared.hub.reset();
                group.answer(&Err(StoreError::OutcomeUnknown { reason: lost.to_string().into() }));
            }
        }
        Ok(())
    }

    /// Looks for group `batch`, which was applied after `known` or not at all, in the table of changes. The row lock
    /// waits until a server that is still at it has finished.
    async fn find(&mut self, batch: i64, known: i64, deadline: Instant) -> Result<Outcome, StoreError> {
        let turns = self.connected(deadline).await?;
        let (sequence, changes) = turns.lock(known, self.shared.origin).await.map_err(Failed::into_error)?;
        let is_whole = self.learn(known, sequence, &changes)?;
        self.alone = false;
        if changes.iter().any(|change| change.ours && change.batch == batch) {
            turns.give_up().await.map_err(Failed::into_error)?;
            self.turns = Some(turns);
            return Ok(Outcome::Committed);
        }
        // The server may not have come to the statement yet: moving the number on makes sure that it never will.
        self.batch += 1;
        let nothing = Writes::new();
        let fence = turns.apply_and_commit(&self.application(&nothing)).await.map_err(Failed::into_error)?;
        if !fence {
            return Err(failure::disconnected("the number of the last commit moved while it was locked"));
        }
        self.known += 1;
        self.recent.record(number(self.known)?, std::iter::empty());
        self.turns = Some(turns);
        Ok(if is_whole { Outcome::NotCommitted } else { Outcome::Unknown })
    }
}
