//! The statements by which a group becomes durable, on the committer's own connection.
//!
//! ```text
//! alone:      APPLY                                  one statement, one round trip
//! not alone:  BEGIN, LOCK, CHANGES │ APPLY, COMMIT   two round trips
//! ```
//!
//! `APPLY` takes effect only if the last commit is the one that the caller knows; then the row lock that it takes keeps
//! every other process waiting until it is committed. A process that was alone so far needs nothing else. If another has
//! committed meanwhile, `APPLY` does nothing, and the caller takes its turn by `LOCK` and learns what changed.
//!
//! For the same reason a statement whose connection was lost can be waited out: once the number has moved on it never
//! takes effect, however late the server comes to it.

use bytes::Bytes;
use futures_util::future::{join, try_join_all, try_join3};
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use super::address::{Address, Role, STATEMENT_TIMEOUT};
use super::failure;
use super::session::Session;
use crate::error::StoreError;
use crate::key::Key;
use crate::transaction::Writes;

/// The channel on which the number and the writer of each commit are told.
pub(super) const CHANNEL: &str = "freehold";
/// How long the server's answer to a group may take: longer than it lets the statement run.
const TURN_DEADLINE: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

const LOCK: &str = "SELECT sequence FROM freehold.state WHERE id FOR UPDATE";
const CHANGES: &str =
    "SELECT sequence, origin = $2, batch, keys FROM freehold.change WHERE sequence > $1 ORDER BY sequence";
/// Everything hangs on `turn`, which has one row or none.
const APPLY: &str = "
    WITH turn AS (
        UPDATE freehold.state SET sequence = sequence + 1, written = written + $2
        WHERE id AND sequence = $1 RETURNING sequence, written
    ), put AS (
        INSERT INTO freehold.entry (key, value)
        SELECT pair.key, pair.value FROM turn, unnest($3::bytea[], $4::bytea[]) AS pair (key, value)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value
    ), gone AS (
        DELETE FROM freehold.entry USING turn WHERE entry.key = ANY ($5::bytea[])
    ), told AS (
        INSERT INTO freehold.change (sequence, written, origin, batch, keys)
        SELECT sequence, written, $6::uuid, $7, $3::bytea[] || $5::bytea[] FROM turn
    )
    SELECT pg_notify('freehold', $6::uuid::text || ' ' || sequence) FROM turn";

/// Why a turn came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection is gone: what was sent may have taken effect.
    Lost(StoreError),
    /// The server refused; nothing took effect.
    Refused(StoreError),
}

impl Failed {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Lost(error) | Self::Refused(error) => error,
        }
    }
}

/// A group that some process committed.
pub(super) struct Changed {
    pub(super) sequence: i64,
    /// Whether this opening of the store wrote it.
    pub(super) ours: bool,
    /// The writer's own number of the group.
    pub(super) batch: i64,
    pub(super) keys: Vec<Key>,
}

/// A group as it is applied.
pub(super) struct Application<'a> {
    /// The number that the last commit must have.
    pub(super) known: i64,
    pub(super) origin: Uuid,
    pub(super) batch: i64,
    pub(super) writes: &'a Writes,
}

/// The committer's connection.
pub(super) struct Turns {
    session: Session,
    lock: Statement,
    changes: Statement,
    apply: Statement,
}

impl Turns {
    pub(super) async fn open(address: &Address) -> Result<Self, StoreError> {
        let session = Session::open(address, Role::Committer).await?;
        let prepared = try_join_all([LOCK, CHANGES, APPLY].map(|statement| session.prepare(statement)));
        let prepared =
            prepared.await.map_err(|error| failure::statement("prepare its statements", &error))?;
        let [lock, changes, apply] =
            <[Statement; 3]>::try_from(prepared).expect("each statement was prepared");
        Ok(Self { session, lock, changes, apply })
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Takes the turn, to be followed by `apply_and_commit` or `give_up`. Gives the number of the last commit, and what
    /// changed since `known`. After a failure the connection must be dropped.
    pub(super) async fn lock(&self, known: i64, origin: Uuid) -> Result<(i64, Vec<Changed>), Failed> {
        let taking = async {
            let begin = self.session.batch_execute("BEGIN");
            let lock = self.session.query_one(&self.lock, &[]);
            // A statement of its own, whose snapshot is made when the lock is held.
            let since: [&(dyn ToSql + Sync); 2] = [&known, &origin];
            let changes = self.session.query(&self.changes, &since);
            let ((), row, changes) = try_join3(begin, lock, changes).await?;
            Ok((row.try_get(0)?, changes.iter().map(changed).collect::<Result<_, _>>()?))
        };
        in_time(taking).await
    }

    /// Gives the turn up.
    pub(super) async fn give_up(&self) -> Result<(), Failed> {
        in_time(self.session.batch_execute("ROLLBACK")).await
    }

    /// Applies a group as a transaction of its own. `false`: the last commit is not the known one; nothing was done.
    pub(super) async fn apply(&self, group: &Application<'_>) -> Result<bool, Failed> {
        in_time(self.send(group)).await
    }

    /// Applies a group in the turn that was taken, and ends the turn in any case.
    pub(super) async fn apply_and_commit(&self, group: &Application<'_>) -> Result<bool, Failed> {
        // If the first fails, the second rolls back.
        let both = async {
            let (applied, committed) = join(self.send(group), self.session.batch_execute("COMMIT")).await;
            let applied = applied?;
            committed.map(|()| applied)
        };
        in_time(both).await
    }

    async fn send(&self, group: &Application<'_>) -> Result<bool, Error> {
        let (mut keys, mut values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in group.writes {
            match value {
                Some(value) => {
                    keys.push(key.as_bytes());
                    values.push(value.as_ref());
                }
                None => gone.push(key.as_bytes()),
            }
        }
        let count = i64::try_from(group.writes.len()).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&group.known, &count, &keys, &values, &gone, &group.origin, &group.batch];
        Ok(self.session.execute(&self.apply, &parameters).await? == 1)
    }
}

fn changed(row: &Row) -> Result<Changed, Error> {
    Ok(Changed {
        sequence: row.try_get(0)?,
        ours: row.try_get(1)?,
        batch: row.try_get(2)?,
        keys: keys(row, 3)?,
    })
}

/// A column of keys; none where it is null.
pub(super) fn keys(row: &Row, column: usize) -> Result<Vec<Key>, Error> {
    let keys: Option<Vec<&[u8]>> = row.try_get(column)?;
    Ok(keys.unwrap_or_default().into_iter().map(|key| Key::new(Bytes::copy_from_slice(key))).collect())
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match tokio::time::timeout(TURN_DEADLINE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let meaning = failure::statement("commit", &error);
            Err(if failure::ends_connection(&error) {
                Failed::Lost(meaning)
            } else {
                Failed::Refused(meaning)
            })
        }
        Err(_) => Err(Failed::Lost(failure::disconnected("the database did not answer a commit in time"))),
    }
}
