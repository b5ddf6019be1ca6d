//! What other processes changed, for this one's watchers: a connection that listens, and reads the table of changes when
//! it hears of a commit that isn't this process's own. It also trims that table.
//!
//! A notification only says that there is something to read; what is told is what the table says, in one snapshot with
//! the number of the last commit. So one that is missed while the connection is lost costs nothing: after connecting
//! again everything since the last number is read, or watchers are told to read all again where it was trimmed.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Row};
use uuid::Uuid;

use super::address::{Role, STATEMENT_TIMEOUT};
use super::committer::{BACK_OFF_FIRST, BACK_OFF_LONGEST};
use super::session::{Driven, Session};
use super::turn::{CHANNEL, keys};
use super::{Shared, failure};
use crate::error::StoreError;
use crate::key::Key;
use crate::limits::RECENT_KEYS;

/// Groups whose changed keys are kept, however few keys they have: what a process may lag before its transactions
/// conflict and its watchers read all again.
const CHANGES_KEPT: i64 = 8_192;
/// Each process trims after each of its commits whose number is a multiple of this.
const TRIM_EVERY: i64 = 128;
/// How long the server's answer may take.
const DEADLINE: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

const CHANGES: &str = "
    SELECT state.sequence, (SELECT min(sequence) FROM freehold.change), change.keys
    FROM freehold.state LEFT JOIN freehold.change
        ON change.sequence > $1 AND (change.origin <> $2 OR change.batch = ANY ($3::bigint[]))
    WHERE state.id ORDER BY change.sequence";
const TRIM: &str = "
    DELETE FROM freehold.change WHERE sequence <= greatest($1::bigint - $2::bigint, (
        SELECT max(sequence) FROM freehold.change WHERE written <= (SELECT written FROM freehold.state WHERE id) - $3::bigint
    ))";

/// The task that listens.
pub(super) struct Listener(AbortHandle);

impl Listener {
    /// Connects and starts. Tells of every commit after `sequence`.
    pub(super) async fn start(shared: Arc<Shared>, sequence: i64) -> Result<Self, StoreError> {
        // The first look finds what came between `sequence` and now.
        let heard = Heard { upto: sequence, look: true, trim: None };
        let ear = Arc::new(Ear { origin: shared.origin, heard: Mutex::new(heard), wake: Notify::new() });
        let first = listen(&shared, &ear).await?;
        Ok(Self(tokio::spawn(run(shared, ear, first)).abort_handle()))
    }

    /// Ends the task and its connection. Idempotent.
    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

/// What was heard and not yet looked at.
struct Ear {
    origin: Uuid,
    heard: Mutex<Heard>,
    wake: Notify,
}

struct Heard {
    /// Watchers know of every commit up to this one.
    upto: i64,
    /// Another process has committed since.
    look: bool,
    /// A commit after which this process trims.
    trim: Option<i64>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifications come in the order of the commits.
    fn hear(&self, payload: &str, has_uncertain: bool) {
        let told = payload.split_once(' ').and_then(|(origin, sequence)| {
            Some((origin.parse::<Uuid>().ok()?, sequence.parse::<i64>().ok()?))
        });
        let mut heard = self.heard();
        match told {
            Some((origin, sequence)) if origin == self.origin && !has_uncertain => {
                if !heard.look {
                    // The committer has told watchers of it.
                    heard.upto = heard.upto.max(sequence);
                }
                if sequence % TRIM_EVERY != 0 {
                    return;
                }
                heard.trim = Some(sequence);
            }
            _ => heard.look = true,
        }
        drop(heard);
        self.wake.notify_one();
    }
}

async fn listen(shared: &Arc<Shared>, ear: &Arc<Ear>) -> Result<Session, StoreError> {
    let (for_driver, ear) = (shared.clone(), ear.clone());
    let session =
        Session::open_with(&shared.address, Role::Listener, |driven| drive(driven, for_driver, ear)).await?;
    let failed = |error| failure::statement("listen", &error);
    session.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(failed)?;
    Ok(session)
}

async fn drive(mut connection: Driven, shared: Arc<Shared>, ear: Arc<Ear>) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(told)) => ear.hear(told.payload(), !shared.uncertain().is_empty()),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the listening connection to the database ended");
                return;
            }
        }
    }
}

async fn run(shared: Arc<Shared>, ear: Arc<Ear>, first: Session) {
    let mut session = first;
    loop {
        if let Err(error) = follow(&shared, &ear, &mut session).await {
            tracing::warn!(%error, "listening for other processes' changes again");
        }
        let mut wait = BACK_OFF_FIRST;
        session = loop {
            match listen(&shared, &ear).await {
                Ok(session) => break session,
                Err(error) => {
                    tracing::debug!(%error, "cannot listen yet");
                    tokio::time::sleep(wait).await;
                    wait = BACK_OFF_LONGEST.min(wait * 2);
                }
            }
        };
        ear.heard().look = true;
    }
}

/// Looks whenever something was heard, until the connection ends.
async fn follow(shared: &Shared, ear: &Ear, session: &mut Session) -> Result<(), StoreError> {
    loop {
        let (from, look, trim) = {
            let mut heard = ear.heard();
            (heard.upto, std::mem::take(&mut heard.look), heard.trim.take())
        };
        if look {
            tell(shared, ear, session, from).await?;
        }
        if let Some(sequence) = trim {
            let keys = i64::try_from(RECENT_KEYS).unwrap_or(i64::MAX);
            in_time(session.execute(TRIM, &[&sequence, &CHANGES_KEPT, &keys])).await?;
        }
        if look || trim.is_some() {
            continue;
        }
        tokio::select! {
            () = ear.wake.notified() => {}
            _ = &mut session.driver => return Err(failure::disconnected("the listening connection ended")),
        }
    }
}

async fn tell(shared: &Shared, ear: &Ear, session: &Session, from: i64) -> Result<(), StoreError> {
    let uncertain = shared.uncertain().clone();
    let rows = in_time(session.query(CHANGES, &[&from, &shared.origin, &uncertain])).await?;
    let read = |row: &Row| -> Result<(i64, Option<i64>, Vec<Key>), tokio_postgres::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, keys(row, 2)?))
    };
    let mut last = from;
    for row in &rows {
        let (sequence, oldest, keys) = read(row).map_err(|error| failure::statement("read", &error))?;
        if last != sequence {
            last = sequence;
            let is_trimmed = oldest.is_none_or(|oldest| oldest > from + 1);
            if sequence < from || (sequence > from && is_trimmed) {
                shared.hub.reset();
                break;
            }
        }
        shared.hub.publish(keys.iter());
    }
    let mut heard = ear.heard();
    // Below only where the database was put back to an earlier state.
    heard.upto = if last < from { last } else { heard.upto.max(last) };
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result.map_err(|error| failure::statement("follow the changes", &error)),
        Err(_) => Err(failure::disconnected("the database did not answer in time")),
    }
}
