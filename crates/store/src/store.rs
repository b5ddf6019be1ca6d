//! The store itself: opens an engine by URL and runs transactions on it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use crate::blobs::Blobs;
use crate::engine::{AnyEngine, Engine, View, is_database, redacted};
use crate::error::StoreError;
use crate::key::Key;
use crate::limits::TRANSACTION_ATTEMPTS;
use crate::retry;
use crate::transaction::{Finished, Snapshot, Transaction};
use crate::watch::Watch;

/// An open store. Clones are the same store; it closes when the last is dropped, or at [`Store::close`].
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// What is opened.
#[derive(Clone)]
pub struct Options {
    /// `file:/path` (a folder, made if it isn't there; one process at a time), `postgres://user:password@host/database`
    /// (with libpq's parameters; tables are made in a schema of its own; any number of processes) or `memory:` (gone
    /// when closed; for tests).
    pub url: String,
    /// The folder for blobs, where the engine doesn't keep them itself: with `postgres:` it must be given, else it must
    /// not. All processes of one database need the same one.
    pub blobs: Option<PathBuf>,
}

impl Options {
    /// The store at `url`, with no folder for blobs.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), blobs: None }
    }

    /// Whether the store at this URL needs a folder for its blobs.
    pub fn needs_blobs_folder(&self) -> bool {
        is_database(&self.url)
    }

    /// The URL without its password, for people and logs.
    pub fn shown_url(&self) -> String {
        redacted(&self.url)
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").field("url", &self.shown_url()).field("blobs", &self.blobs).finish()
    }
}

struct Inner {
    engine: AnyEngine,
    blobs: Blobs,
    instance: String,
}

impl Store {
    /// Opens the store at `url`; see [`Options::url`]. A store whose blobs need a folder is opened by
    /// [`Store::open_with`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(Options::new(url)).await
    }

    /// Opens a store, on a tokio runtime that is to outlive its use: tasks of the store run there. One that a copy or restore has not finished is refused with [`StoreError::Unfinished`].
    pub async fn open_with(options: Options) -> Result<Self, StoreError> {
        let store = Self::open_unfinished(options).await?;
        if let Err(error) = crate::transfer::refuse_unfinished(&store).await {
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    /// Opens a store that may be unfinished, for those who finish it.
    pub(crate) async fn open_unfinished(options: Options) -> Result<Self, StoreError> {
        let (engine, blobs) = AnyEngine::open(options).await?;
        Ok(Self(Arc::new(Inner { engine, blobs, instance: uuid::Uuid::new_v4().to_string() })))
    }

    /// Runs `body` as a transaction: serializable, and on disk before this returns `Ok`.
    ///
    /// `body` may be run several times (up to [`TRANSACTION_ATTEMPTS`], with growing, jittered waits), each time with a
    /// new transaction, when what it read was changed by others; so it must have no effects but through the
    /// transaction: use [`Transaction::on_commit`] for those. If `body` returns an error nothing is written.
    ///
    /// If the returned future is dropped while it commits, the commit may or may not happen, whole.
    pub async fn transact<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        F: Fn(Transaction) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        E: From<StoreError>,
    {
        let mut attempts = 0;
        loop {
            let transaction = Transaction::new(self.0.engine.view().await?);
            let result = body(transaction.clone()).await;
            let mut finished = transaction.finish();
            attempts += 1;
            // A fault decides even if the closure swallowed it; else an error of the closure's own does.
            let fault = match finished.fault.take() {
                Some(fault) => fault,
                None => match result {
                    Err(error) => return Err(error),
                    Ok(value) => match self.commit(transaction, finished).await {
                        Ok(()) => return Ok(value),
                        Err(error) => error,
                    },
                },
            };
            if !fault.is_conflict() {
                return Err(fault.into());
            }
            if attempts == TRANSACTION_ATTEMPTS {
                return Err(StoreError::Conflict { attempts }.into());
            }
            let delay = retry::delay(attempts, retry::random());
            if delay.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn commit(&self, transaction: Transaction, finished: Finished) -> Result<(), StoreError> {
        let Finished { reads, writes, callbacks, fault: _ } = finished;
        if callbacks.is_empty() {
            return self.0.engine.commit(transaction.view(), reads, writes).await;
        }
        // In a task of its own, so that the callbacks run after the commit even if the caller goes away meanwhile.
        let store = self.clone();
        let task = tokio::spawn(async move {
            store.0.engine.commit(transaction.view(), reads, writes).await?;
            for callback in callbacks {
                callback();
            }
            Ok(())
        });
        match task.await {
            Ok(result) => result,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closed),
            },
        }
    }

    /// A consistent view of the whole store as it is now, with every acknowledged transaction in it.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let view = self.0.engine.view().await?;
        view.pin().await?;
        Ok(Snapshot::new(view))
    }

    /// Tells of every change under the keys that start with `prefix`, from now on.
    pub fn watch(&self, prefix: Key) -> Watch {
        self.0.engine.watch(prefix)
    }

    /// The blobs that are kept beside the keys.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// A random name of this opening of the store; no other opening ever has it.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Whether other processes may have the same store open. Where not, whoever had it open before is dead.
    pub fn is_shared(&self) -> bool {
        self.0.engine.is_shared()
    }

    /// Commits what is under way, refuses what comes after, ends all watches and lets go of the engine. Idempotent.
    /// A snapshot or transaction that is still held keeps the folder locked until it is dropped.
    pub async fn close(&self) {
        self.0.engine.close().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("engine", &self.0.engine.name()).finish_non_exhaustive()
    }
}
