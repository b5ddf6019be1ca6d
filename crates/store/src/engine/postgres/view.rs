//! The connections that are read through, and views: read-only transactions that begin with their first read, so that a
//! transaction which only writes takes no connection at all.
//!
//! What begins the transaction and what asks for the sequence number is sent together with the first read. What ends it is
//! sent as the connection goes back, and nobody waits for the answer: the next transaction on the connection comes after
//! it, whatever had become of the reads before. So a read that is dropped half-way harms nobody.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::future::{BoxFuture, FutureExt, Shared, try_join, try_join_all};
use futures_util::{TryStreamExt, try_join};
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Error, NoTls, Row};

use super::address::STATEMENT_TIMEOUT;
use super::failure;
use crate::engine::{Page, View};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};

/// Views of this process that read at the same time; more wait. A server takes 100 connections unless told otherwise.
const READ_CONNECTIONS: usize = 16;
/// How long a view waits for a connection.
const READ_WAIT: Duration = Duration::from_secs(10);
/// How long making a connection may take, with preparing its statements.
const READ_CONNECT: Duration = Duration::from_secs(10);
/// How long the server's answer to a read may take: longer than it lets the statement run, so that its own word comes
/// first.
const READ_DEADLINE: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const SEQUENCE: &str = "SELECT sequence FROM freehold.state WHERE id";
const GET: &str = "SELECT value FROM freehold.entry WHERE key = $1";
const FORWARD: &str = "SELECT key, value FROM freehold.entry WHERE key >= $1 ORDER BY key LIMIT $2";
const FORWARD_TO: &str =
    "SELECT key, value FROM freehold.entry WHERE key >= $1 AND key < $3 ORDER BY key LIMIT $2";
const REVERSE: &str = "SELECT key, value FROM freehold.entry WHERE key >= $1 ORDER BY key DESC LIMIT $2";
const REVERSE_FROM: &str =
    "SELECT key, value FROM freehold.entry WHERE key >= $1 AND key < $3 ORDER BY key DESC LIMIT $2";
/// Prepared on every connection as it is made.
const STATEMENTS: [&str; 6] = [SEQUENCE, GET, FORWARD, FORWARD_TO, REVERSE, REVERSE_FROM];

/// The pool of connections for reading. Clones are the same.
#[derive(Clone)]
pub(super) struct Readers(Pool);

impl Readers {
    pub(super) fn new(session: Config) -> Result<Self, StoreError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let prepare = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move {
                let prepared = STATEMENTS.map(|statement| client.prepare_cached(statement));
                try_join_all(prepared).await.map(drop).map_err(HookError::Backend)
            })
        });
        let pool = Pool::builder(Manager::from_config(session, NoTls, recycling))
            .max_size(READ_CONNECTIONS)
            .wait_timeout(Some(READ_WAIT))
            .create_timeout(Some(READ_CONNECT))
            .runtime(Runtime::Tokio1)
            .post_create(prepare)
            .build();
        Ok(Self(pool.map_err(|error| StoreError::engine("make the pool of connections", error))?))
    }

    /// Refuses new views; connections that are out are closed when they come back.
    pub(super) fn close(&self) {
        self.0.close();
    }

    async fn begin(&self) -> Result<Mutex<Option<Reading>>, StoreError> {
        let object = self.0.get().await.map_err(|error| failure::pool(error, READ_CONNECTIONS))?;
        let connection = Arc::new(Connection { object: Some(object), is_spoilt: AtomicBool::new(false) });
        let since = {
            let connection = connection.clone();
            async move {
                let client = connection.client();
                let statement = client.prepare_cached(SEQUENCE).await.map_err(|error| read(&error))?;
                let (begin, ask) = (client.batch_execute(BEGIN), client.query_one(&statement, &[]));
                let ((), row) = try_join(begin, ask).await.map_err(|error| read(&error))?;
                row.try_get(0).map_err(|error| read(&error))
            }
        };
        let since = since.boxed().shared();
        // This sends it, so that every read comes after it.
        if let Some(ended) = since.clone().now_or_never() {
            ended?;
        }
        Ok(Mutex::new(Some(Reading { connection, since })))
    }
}

/// A connection with a read-only transaction on it.
struct Connection {
    object: Option<Object>,
    /// More is under way on it than is worth waiting for.
    is_spoilt: AtomicBool,
}

impl Connection {
    fn client(&self) -> &Object {
        self.object.as_ref().expect("the connection is given back only on drop")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        {
            // The first poll sends it; the connection's task takes the answer in.
            let mut end = pin!(object.batch_execute("COMMIT"));
            let _ = end.as_mut().now_or_never();
        }
        if object.is_closed() || *self.is_spoilt.get_mut() {
            drop(Object::take(object));
        }
    }
}

/// A transaction that was begun. Clones are the same; it ends with the last.
#[derive(Clone)]
struct Reading {
    connection: Arc<Connection>,
    /// The last commit that the transaction sees.
    since: Shared<BoxFuture<'static, Result<i64, StoreError>>>,
}

/// A consistent state of the database.
pub(crate) struct PostgresView {
    readers: Readers,
    /// Nothing before the first read; empty again when the view was ended.
    reading: OnceCell<Mutex<Option<Reading>>>,
}

impl PostgresView {
    pub(super) fn new(readers: Readers) -> Self {
        Self { readers, reading: OnceCell::new() }
    }

    async fn reading(&self) -> Result<Reading, StoreError> {
        let reading = self.reading.get_or_try_init(|| self.readers.begin()).await?;
        reading.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Gives the connection back. Tells the number of the last commit that was seen, if anything was read.
    pub(super) async fn end(&self) -> Result<Option<u64>, StoreError> {
        let Some(reading) = self.reading.get() else { return Ok(None) };
        let reading = reading.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(reading) = reading else { return Ok(None) };
        Ok(Some(number(in_time(reading.since.clone()).await?)?))
    }
}

impl View for PostgresView {
    async fn pin(&self) -> Result<(), StoreError> {
        let reading = self.reading().await?;
        in_time(reading.since.clone()).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let reading = self.reading().await?;
        let get = async {
            let client = reading.connection.client();
            let statement = client.prepare_cached(GET).await.map_err(|error| read(&error))?;
            let row = client.query_opt(&statement, &[&key.as_bytes()]).await.map_err(|error| read(&error))?;
            row.map(|row| bytes(&row, 0)).transpose()
        };
        let (_, value) = in_time(async { try_join!(reading.since.clone(), get) }).await?;
        Ok(value)
    }

    async fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let reading = self.reading().await?;
        let text = match (direction, &range.end) {
            (Direction::Forward, None) => FORWARD,
            (Direction::Forward, Some(_)) => FORWARD_TO,
            (Direction::Reverse, None) => REVERSE,
            (Direction::Reverse, Some(_)) => REVERSE_FROM,
        };
        let scan = async {
            let client = reading.connection.client();
            let statement = client.prepare_cached(text).await.map_err(|error| read(&error))?;
            let (start, rows) = (range.start.as_bytes(), i64::try_from(limit).unwrap_or(i64::MAX));
            let end = range.end.as_ref().map(Key::as_bytes);
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&start, &rows];
            parameters.extend(end.as_ref().map(|end| end as &(dyn ToSql + Sync)));
            let found = client.query_raw(&statement, parameters).await.map_err(|error| read(&error))?;
            let mut found = pin!(found);
            let mut page = Page::new(limit);
            while let Some(row) = found.try_next().await.map_err(|error| read(&error))? {
                let pushed = page.push(bytes(&row, 0)?, bytes(&row, 1)?);
                // The server would go on to send all the rest.
                pushed.inspect_err(|_| reading.connection.is_spoilt.store(true, Ordering::Relaxed))?;
            }
            Ok(page.entries)
        };
        let (_, entries) = in_time(async { try_join!(reading.since.clone(), scan) }).await?;
        Ok(entries)
    }
}

/// A server that says nothing at all is as good as gone.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(READ_DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(failure::disconnected("the database did not answer a read in time")),
    }
}

fn read(error: &Error) -> StoreError {
    failure::statement("read", error)
}

fn bytes(row: &Row, column: usize) -> Result<Bytes, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(|error| read(&error))?;
    Ok(Bytes::copy_from_slice(bytes))
}

/// Sequence numbers are never negative.
pub(super) fn number(sequence: i64) -> Result<u64, StoreError> {
    u64::try_from(sequence).map_err(|_| StoreError::engine("read", "its sequence number is negative"))
}
