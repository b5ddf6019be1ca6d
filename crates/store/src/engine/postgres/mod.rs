//! The engine on a PostgreSQL database, which many processes may have open at once.
//!
//! ```text
//!           view ── first read ──> pooled connection: BEGIN REPEATABLE READ, read the sequence number, then reads
//! commit() ─┐
//! commit() ─┼─> queue ─> committer task: one group at a time, on its own connection:
//! commit() ─┘              lock the state row │ learn what other processes changed │ validate │ apply, NOTIFY, COMMIT
//!                                                                                     │
//!   watchers <── hub <── own groups, directly; others' by the listener's connection <─┘
//! ```
//!
//! - `address`: the URL, and what each of our sessions sets
//! - `schema`: the tables, their format mark, and making them
//! - `failure`: what the client's errors mean
//! - `session`: one connection and the task that drives it
//! - `view`: the connections that are read through
//! - `group`: which waiting commits are written together; pure
//! - `turn`: the statements by which a group becomes durable
//! - `committer`: the task that makes groups and answers them, also when the connection is lost
//! - `changes`: the listener
//!
//! **Order.** The one row of `freehold.state` holds the number of the last commit. A group locks it, and so has its turn,
//! until it is committed: all commits of all processes are in one order, and no number becomes visible before a smaller
//! one. A view's snapshot contains exactly the commits up to the number that it reads in that snapshot. So a conflict is
//! found just as on the embedded engine, by the same `RecentCommits`, and PostgreSQL's own isolation levels find nothing
//! more.
//!
//! **Lost connections.** Nothing here poisons: the database keeps what it acknowledged, and connections are made anew.

mod address;
mod changes;
mod committer;
mod failure;
mod group;
mod schema;
mod session;
mod turn;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) use self::address::redacted;
pub(crate) use self::view::PostgresView;

use self::address::{Address, Role};
use self::changes::Listener;
use self::group::Request;
use self::view::Readers;
use super::Engine;
use crate::error::StoreError;
use crate::key::Key;
use crate::limits::COMMIT_QUEUE;
use crate::transaction::{ReadSet, Writes};
use crate::watch::{Hub, Watch};

/// A database.
pub(crate) struct PostgresEngine {
    shared: Arc<Shared>,
    readers: Readers,
    listener: Listener,
    /// Gone when closed; the committer ends when it has done what was sent before.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine's tasks share.
struct Shared {
    address: Address,
    /// Names this opening of the store in the rows that it writes.
    origin: Uuid,
    hub: Hub,
    /// Groups of ours of which nobody knows whether they were committed: the listener tells of them if they come.
    uncertain: Mutex<Vec<i64>>,
}

impl Shared {
    fn uncertain(&self) -> MutexGuard<'_, Vec<i64>> {
        self.uncertain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PostgresEngine {
    /// Connects, and makes the tables if they aren't there.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        let sequence = schema::open(&address).await?;
        let readers = Readers::new(address.session(Role::Reader))?;
        let shared = Arc::new(Shared {
            address,
            origin: Uuid::new_v4(),
            hub: Hub::default(),
            uncertain: Mutex::default(),
        });
        let listener = Listener::start(shared.clone(), sequence).await?;
        let (queue, requests) = mpsc::channel(COMMIT_QUEUE);
        let committer = committer::start(shared.clone(), sequence, requests).await?;
        Ok(Self {
            shared,
            readers,
            listener,
            queue: Mutex::new(Some(queue)),
            committer: Mutex::new(Some(committer)),
        })
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, StoreError> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }
}

impl Engine for PostgresEngine {
    type View = PostgresView;

    /// Costs nothing yet: it is the state at the moment of its first read.
    async fn view(&self) -> Result<PostgresView, StoreError> {
        self.sender()?;
        Ok(PostgresView::new(self.readers.clone()))
    }

    async fn commit(&self, view: &PostgresView, reads: ReadSet, writes: Writes) -> Result<(), StoreError> {
        let since = view.end().await?;
        if writes.is_empty() {
            // It read one consistent state and changes nothing: it belongs where that state was.
            return Ok(());
        }
        let reads_something = !reads.keys.is_empty() || !reads.ranges.is_empty();
        let since = match since {
            Some(since) => since,
            None if reads_something => {
                return Err(failure::disconnected("the transaction's reads had failed"));
            }
            None => 0,
        };
        let (answer, answered) = oneshot::channel();
        let request = Request { since, reads, writes, answer };
        self.sender()?.send(request).await.map_err(|_| StoreError::Closed)?;
        // The committer answers all that it takes, also when the store closes; else its runtime has ended.
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn watch(&self, prefix: Key) -> Watch {
        self.shared.hub.watch(prefix)
    }

    async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer
            && let Err(error) = committer.await
        {
            tracing::error!(%error, "the committer broke");
        }
        self.listener.stop();
        self.readers.close();
        self.shared.hub.close();
    }
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        // The committer ends by itself once it has done what was sent.
        self.listener.stop();
        self.readers.close();
        self.shared.hub.close();
    }
}
