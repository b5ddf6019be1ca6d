//! What keeps the keys. An engine supplies little: consistent views (get, ordered scan), a commit that applies writes
//! only if what was read still holds, and word of what changed.
//!
//! - `local`: everything that engines inside this process share: conflicts, group commit, poisoning
//! - `embedded`: a folder, through fjall, on top of `local`
//! - `memory`: nothing on disk, for tests, on top of `local`
//! - `postgres`: a database that several processes may have open
//! - `folder`: the data folder's layout and lock
//!
//! The trait is made so that a database across the network can implement it: every call is async, a view may hold a
//! connection on which its reads run, and a commit gets its view back. What a conflict is doesn't depend on the engine:
//! a commit fails with [`StoreError::Conflict`] and writes nothing unless its writes can be placed after all that the
//! view saw and after every commit that came between without having changed what was read.

mod embedded;
pub(crate) mod folder;
mod local;
mod memory;
mod postgres;

pub(crate) use self::postgres::redacted;

use std::future::Future;
use std::path::PathBuf;

use bytes::Bytes;

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::key::{Direction, Key, KeyRange};
use crate::limits::SCAN_BYTES;
use crate::store::Options;
use crate::transaction::{ReadSet, Writes};
use crate::watch::Watch;

/// A consistent state of all keys at one moment. May be read from several tasks at once. A read may itself fail with a
/// conflict on engines that find conflicts early.
pub(crate) trait View: Send + Sync + 'static {
    /// Makes it the state of this moment, where it isn't yet: else a view may be the state at its first read.
    fn pin(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }

    /// The value of `key`.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Up to `limit` entries of `range`, in order of `direction`; fewer only if there are no more. Fails rather than to
    /// return more than [`SCAN_BYTES`].
    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Key, Bytes)>, StoreError>> + Send;
}

/// What keeps the keys.
pub(crate) trait Engine: Send + Sync + 'static {
    /// What it is read through.
    type View: View;

    /// A state with everything in it that was acknowledged before this call; of which moment, [`View::pin`] says.
    fn view(&self) -> impl Future<Output = Result<Self::View, StoreError>> + Send;

    /// Applies `writes` as one, durably, if nothing of `reads` has changed since `view` was made. Once it has returned
    /// `Ok`, new views see the writes, and watchers are told. If the future is dropped the commit may or may not happen.
    fn commit(
        &self,
        view: &Self::View,
        reads: ReadSet,
        writes: Writes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells of every commit from now on that writes a key that starts with `prefix`.
    fn watch(&self, prefix: Key) -> Watch;

    /// Finishes the commits under way and refuses new ones. Idempotent.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// The engines that there are.
pub(crate) enum AnyEngine {
    /// A folder of this machine.
    Embedded(local::LocalEngine<embedded::Fjall>),
    /// This process's memory.
    Memory(local::LocalEngine<memory::Memory>),
    /// A PostgreSQL database.
    Postgres(postgres::PostgresEngine),
}

/// Whether `url` names a database across a connection, which keeps keys and no blobs.
pub(crate) fn is_database(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| matches!(scheme, "postgres" | "postgresql"))
}

/// A view of one of the engines.
pub(crate) enum AnyView {
    /// Of a folder.
    Embedded(local::LocalView<embedded::FjallSnapshot>),
    /// Of memory.
    Memory(local::LocalView<memory::MemorySnapshot>),
    /// Of a database.
    Postgres(postgres::PostgresView),
}

impl AnyEngine {
    /// Opens the engine that `options` name, and the blobs that go with it.
    pub(crate) async fn open(options: Options) -> Result<(Self, Blobs), StoreError> {
        let url = &options.url;
        let unknown = || StoreError::Url { url: redacted(url) };
        let (scheme, rest) = url.split_once(':').ok_or_else(unknown)?;
        if !is_database(url) && options.blobs.is_some() {
            let reason = format!("a {scheme}: store keeps its blobs itself, and takes no folder for them");
            return Err(StoreError::Options { reason });
        }
        match (scheme, rest) {
            ("memory", "") => {
                Ok((Self::Memory(local::LocalEngine::start(memory::Memory::default())?), Blobs::in_memory()))
            }
            ("file", path) => {
                let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
                if path.as_os_str().is_empty() {
                    return Err(unknown());
                }
                blocking(move || {
                    let folder = folder::Folder::open(&path)?;
                    let blobs = Blobs::in_folder(&folder.blobs())?;
                    Ok((Self::Embedded(local::LocalEngine::start(embedded::Fjall::open(folder)?)?), blobs))
                })
                .await
            }
            _ if is_database(url) => {
                let Some(folder) = options.blobs else {
                    let reason = "a database does not keep blobs: name a folder for them".to_owned();
                    return Err(StoreError::Options { reason });
                };
                let engine = postgres::PostgresEngine::open(url).await?;
                let blobs = blocking(move || {
                    folder::create_folder(&folder)?;
                    Blobs::in_folder(&folder)
                });
                Ok((Self::Postgres(engine), blobs.await?))
            }
            _ => Err(unknown()),
        }
    }

    /// Whether other processes may have the same store open.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Embedded(_) | Self::Memory(_) => false,
            Self::Postgres(_) => true,
        }
    }

    /// The URL scheme.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "file",
            Self::Memory(_) => "memory",
            Self::Postgres(_) => "postgres",
        }
    }
}

impl Engine for AnyEngine {
    type View = AnyView;

    async fn view(&self) -> Result<AnyView, StoreError> {
        Ok(match self {
            Self::Embedded(engine) => AnyView::Embedded(engine.view().await?),
            Self::Memory(engine) => AnyView::Memory(engine.view().await?),
            Self::Postgres(engine) => AnyView::Postgres(engine.view().await?),
        })
    }

    async fn commit(&self, view: &AnyView, reads: ReadSet, writes: Writes) -> Result<(), StoreError> {
        match (self, view) {
            (Self::Embedded(engine), AnyView::Embedded(view)) => engine.commit(view, reads, writes).await,
            (Self::Memory(engine), AnyView::Memory(view)) => engine.commit(view, reads, writes).await,
            (Self::Postgres(engine), AnyView::Postgres(view)) => engine.commit(view, reads, writes).await,
            _ => unreachable!("a store commits only views that its own engine made"),
        }
    }

    fn watch(&self, prefix: Key) -> Watch {
        match self {
            Self::Embedded(engine) => engine.watch(prefix),
            Self::Memory(engine) => engine.watch(prefix),
            Self::Postgres(engine) => engine.watch(prefix),
        }
    }

    async fn close(&self) {
        match self {
            Self::Embedded(engine) => engine.close().await,
            Self::Memory(engine) => engine.close().await,
            Self::Postgres(engine) => engine.close().await,
        }
    }
}

impl View for AnyView {
    async fn pin(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(view) => view.pin().await,
            Self::Memory(view) => view.pin().await,
            Self::Postgres(view) => view.pin().await,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Embedded(view) => view.get(key).await,
            Self::Memory(view) => view.get(key).await,
            Self::Postgres(view) => view.get(key).await,
        }
    }

    async fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        match self {
            Self::Embedded(view) => view.scan(range, direction, limit).await,
            Self::Memory(view) => view.scan(range, direction, limit).await,
            Self::Postgres(view) => view.scan(range, direction, limit).await,
        }
    }
}

/// Gathers the entries of a scan, up to its limits.
struct Page {
    entries: Vec<(Key, Bytes)>,
    bytes: usize,
    limit: usize,
}

impl Page {
    fn new(limit: usize) -> Self {
        Self { entries: Vec::with_capacity(limit.min(128)), bytes: 0, limit }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    fn push(&mut self, key: Bytes, value: Bytes) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        crate::error::within("the entries of a scan, in bytes,", self.bytes, SCAN_BYTES)?;
        self.entries.push((Key::new(key), value));
        Ok(())
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Closed),
        },
    }
}
