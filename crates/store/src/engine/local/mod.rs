//! What engines inside this process share: a [`Backend`] only keeps sorted keys; conflicts, group commit, watching and
//! poisoning are here.
//!
//! ```text
//! commit() ─┐
//! commit() ─┼─> queue ─> committer thread: validate each against `recent`, merge, Backend::apply (one sync)
//! commit() ─┘                └─> publish the new sequence number ─> tell watchers ─> answer everyone
//! ```
//!
//! - `recent`: which keys were written lately, and so who conflicts
//! - `committer`: the thread, and the task by which a group's commits are told
//!
//! Each commit has a sequence number. A view remembers the number that was published when it was made, read *before* its
//! snapshot was taken: the snapshot may be newer than the number says, never older, so a race costs at most a needless
//! conflict.
//!
//! Reads run in place, on the caller's own thread: they mostly hit memory (memtable, block cache, page cache) and cost
//! about a microsecond, less than moving them to another thread. Long scans do move
//! ([`crate::limits::SCAN_INLINE_ENTRIES`]). Writes only ever block the committer.

mod committer;
pub(crate) mod recent;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::committer::Request;
use super::{Engine, View, blocking};
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::limits::{COMMIT_QUEUE, SCAN_INLINE_ENTRIES};
use crate::transaction::{ReadSet, Writes};
use crate::watch::{Hub, Watch};

/// Why a store whose committer panicked is poisoned.
const PANICKED: &str = "the committer thread panicked";

/// Keeps sorted keys. Clones are the same backend. `apply` is only ever called by one thread.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// A consistent state.
    type Snapshot: BackendSnapshot;

    /// The state with every `apply` in it that has returned.
    fn snapshot(&self) -> Self::Snapshot;

    /// Writes all of `writes` or nothing. On disk, and visible to new snapshots, when it returns `Ok`; not visible
    /// before it is on disk. After an error the backend isn't used any more.
    fn apply(&self, writes: Writes) -> Result<(), StoreError>;

    /// After the last `apply`, when the store is closed in good order: what makes the next opening quick. What was
    /// applied is kept without it.
    fn close(&self) {}
}

/// A consistent state of a backend; clones are the same.
pub(crate) trait BackendSnapshot: Clone + Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// As [`View::scan`].
    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError>;
}

/// An engine made of a backend and a committer thread.
pub(crate) struct LocalEngine<B: Backend> {
    shared: Arc<Shared<B>>,
    /// Gone when closed; the committer ends when it has done what was sent before.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine, its views and its committer share.
pub(crate) struct Shared<B> {
    /// Gone when closed.
    backend: Mutex<Option<B>>,
    /// Sequence number of the last commit that can be seen.
    published: AtomicU64,
    /// Set once, by the first write that failed.
    poison: OnceLock<Arc<str>>,
    hub: Hub,
}

impl<B: Backend> Shared<B> {
    fn check(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            Some(reason) => Err(StoreError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    fn backend(&self) -> Result<B, StoreError> {
        self.check()?;
        self.backend.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    fn poison(&self, reason: &str) {
        if self.poison.set(reason.into()).is_ok() {
            tracing::error!(reason, "the store stopped accepting work");
        }
    }
}

impl<B: Backend> LocalEngine<B> {
    /// Starts the committer.
    pub(crate) fn start(backend: B) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            backend: Mutex::new(Some(backend.clone())),
            published: AtomicU64::new(0),
            poison: OnceLock::new(),
            hub: Hub::default(),
        });
        let (queue, requests) = mpsc::channel(COMMIT_QUEUE);
        let committer = committer::start(backend, shared.clone(), requests)?;
        Ok(Self { shared, queue: Mutex::new(Some(queue)), committer: Mutex::new(Some(committer)) })
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, StoreError> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Refuses new commits; what it returns waits until those under way are done, then lets go of the backend, after
    /// closing it if there is time for that.
    fn stop(&self, in_order: bool) -> impl FnOnce() -> Result<(), StoreError> + Send + 'static {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = self.shared.clone();
        move || {
            if let Some(committer) = committer {
                // A panic in there has already poisoned the store.
                let _ = committer.join();
            }
            let backend = shared.backend.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(backend) = backend
                && in_order
                && shared.poison.get().is_none()
            {
                backend.close();
            }
            shared.hub.close();
            Ok(())
        }
    }

    /// What a commit meets when the committer is gone.
    fn gone(&self) -> StoreError {
        self.shared.check().err().unwrap_or(StoreError::Closed)
    }
}

impl<B: Backend> Drop for LocalEngine<B> {
    fn drop(&mut self) {
        // Waits for one sync at most, so that whoever opens the folder next finds it free.
        let _ = self.stop(false)();
    }
}

impl<B: Backend> Engine for LocalEngine<B> {
    type View = LocalView<B::Snapshot>;

    async fn view(&self) -> Result<Self::View, StoreError> {
        let backend = self.shared.backend()?;
        let since = self.shared.published.load(Ordering::Acquire);
        Ok(LocalView { since, snapshot: backend.snapshot() })
    }

    async fn commit(&self, view: &Self::View, reads: ReadSet, writes: Writes) -> Result<(), StoreError> {
        self.shared.check()?;
        if writes.is_empty() {
            // It read one consistent state and changes nothing: it belongs where that state was.
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { since: view.since, reads, writes, answer };
        self.sender()?.send(request).await.map_err(|_| self.gone())?;
        answered.await.unwrap_or_else(|_| {
            // The committer answers all that it takes, also when the store closes, unless it panicked.
            self.shared.poison(PANICKED);
            Err(self.gone())
        })
    }

    fn watch(&self, prefix: Key) -> Watch {
        self.shared.hub.watch(prefix)
    }

    async fn close(&self) {
        let stop = self.stop(true);
        let _ = blocking(stop).await;
    }
}

/// A view of a backend.
pub(crate) struct LocalView<S> {
    since: u64,
    snapshot: S,
}

impl<S: BackendSnapshot> View for LocalView<S> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.snapshot.get(key)
    }

    async fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if limit <= SCAN_INLINE_ENTRIES {
            return self.snapshot.scan(range, direction, limit);
        }
        let (snapshot, range) = (self.snapshot.clone(), range.clone());
        blocking(move || snapshot.scan(&range, direction, limit)).await
    }
}
