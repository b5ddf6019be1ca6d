//! Deployment packages on this host: each zip kept as a blob, and unpacked once into a folder of its hash, which
//! environments see read-only as `/var/task`.
//!
//! ```text
//! add: check, unpack beside, sync, rename --> blob --> (the caller's record) --> used
//! used --(last record gone)--> retired --(grace)--> collected: blob and folder deleted
//! ```
//!
//! The blob is the truth; a folder that is missing is made again from it. A folder is made before its blob and deleted
//! after it, so at start the folders name everything that a crash may have left unused.
//!
//! Layers are packages like any other. Where a function has several, they are merged into one more folder when it is
//! deployed (`merge`), under the hash of the list: an environment then mounts one folder at `/opt`, whatever their number,
//! and the folder is noted as used, retired and collected as a package is.
//!
//! A claim (shared lock on a hash) is held from before the zip is looked for until the caller's record is committed; the
//! collector takes the same lock alone before it asks whether the zip is used. So it never deletes what a creation has
//! just put. Replaced code stays for a grace period: environments of the old version may be in the middle of an event.

mod merge;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use freehold_base::limits::TIMEOUT_SECONDS;
use freehold_store::{BlobId, Part, Store};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::error::LambdaError;
use crate::package;
use crate::records::CODE_USES;

/// How long replaced code stays: the longest event, and a minute for what surrounds it.
const RETIRED_FOR: Duration = Duration::from_secs(*TIMEOUT_SECONDS.end() as u64 + 60);
/// How often retired code is looked at.
const COLLECTION_PERIOD: Duration = Duration::from_secs(30);
/// Locks that the hashes share.
const LOCKS: usize = 64;
/// How the names of unfinished and of discarded folders begin.
const PARTIAL: &str = ".partial-";

/// Keeps a zip from being collected while it is held.
pub(crate) type Claim = OwnedRwLockReadGuard<()>;

/// A zip that was checked and kept.
pub(crate) struct Added {
    /// Its hash.
    pub(crate) zip: BlobId,
    /// Its size unpacked, in bytes.
    pub(crate) unzipped_bytes: u64,
    /// Keeps it until a record refers to it.
    pub(crate) claim: Claim,
}

/// Under what the content of these layers, merged, is kept: `None` without layers, the layer's own package where there
/// is one.
pub(crate) fn merged(layers: &[BlobId]) -> Option<BlobId> {
    match layers {
        [] => None,
        [layer] => Some(layer.clone()),
        layers => {
            let list: Vec<&str> = layers.iter().map(BlobId::as_str).collect();
            Some(BlobId::of(format!("layers\n{}", list.join("\n")).as_bytes()))
        }
    }
}

/// The packages of all functions. Clones are the same.
#[derive(Clone)]
pub(crate) struct CodeStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    store: Store,
    clock: SharedClock,
    locks: [Arc<RwLock<()>>; LOCKS],
    /// Zips whose last use has ended, and when their grace ends.
    retired: Mutex<HashMap<BlobId, Instant>>,
}

impl CodeStore {
    /// Opens the folder, making it where it is missing, and removes what an earlier process left unfinished in it.
    pub(crate) async fn open(folder: PathBuf, store: Store, clock: SharedClock) -> Result<Self, LambdaError> {
        let prepared = folder.clone();
        blocking("open the code folder", move || {
            std::fs::create_dir_all(&prepared)?;
            for entry in std::fs::read_dir(&prepared)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    package::remove(&entry.path());
                }
            }
            Ok::<_, std::io::Error>(())
        })
        .await?
        .map_err(|error| LambdaError::Internal { step: "open the code folder", reason: error.to_string() })?;
        let locks = std::array::from_fn(|_| Arc::default());
        Ok(Self(Arc::new(Inner { folder, store, clock, locks, retired: Mutex::default() })))
    }

    /// Checks, unpacks and keeps a zip. It stays while the claim is held, and longer only if a record refers to it then.
    pub(crate) async fn add(&self, zip: Bytes) -> Result<Added, LambdaError> {
        let measured = zip.clone();
        let measure = move || package::unzipped_bytes(&measured).map(|bytes| (BlobId::of(&measured), bytes));
        let (id, unzipped_bytes) = blocking("measure a package", measure).await??;
        let claim = Arc::clone(self.lock_of(&id)).read_owned().await;
        self.unpack_if_missing(&id, &zip).await?;
        self.0.store.blobs().put(zip).await?;
        Ok(Added { zip: id, unzipped_bytes, claim })
    }

    /// Checks a zip as [`add`](Self::add) does, and keeps nothing: its hash, and its size unpacked.
    pub(crate) async fn check(&self, zip: Bytes) -> Result<(BlobId, u64), LambdaError> {
        let checked = move || {
            package::check(&zip)?;
            Ok::<_, package::PackageError>((BlobId::of(&zip), package::unzipped_bytes(&zip)?))
        };
        Ok(blocking("check a package", checked).await??)
    }

    /// The folder with the unpacked zip, made again where it is missing.
    pub(crate) async fn folder(&self, id: &BlobId) -> Result<PathBuf, LambdaError> {
        let folder = self.folder_of(id);
        if !is_folder(&folder).await {
            let _claim = Arc::clone(self.lock_of(id)).read_owned().await;
            let zip = self.0.store.blobs().get(id).await?;
            self.unpack_if_missing(id, &zip).await?;
        }
        Ok(folder)
    }

    /// The folder with the content of these layers, the later over the earlier, made where it is missing; `None` without
    /// layers. Nothing is held of it afterwards: what is not committed as used may be collected, and is then made again.
    pub(crate) async fn merged_folder(&self, layers: &[BlobId]) -> Result<Option<PathBuf>, LambdaError> {
        let id = match layers {
            [] => return Ok(None),
            [layer] => return self.folder(layer).await.map(Some),
            layers => merged(layers).expect("there are layers"),
        };
        let folder = self.folder_of(&id);
        {
            // While it is looked for, it is not collected.
            let _claim = Arc::clone(self.lock_of(&id)).read_owned().await;
            if is_folder(&folder).await {
                return Ok(Some(folder));
            }
        }
        // Without the claim: a layer's lock may be the same one, which nobody may take twice.
        let mut sources = Vec::new();
        for layer in layers {
            sources.push(self.folder(layer).await?);
        }
        let _claim = Arc::clone(self.lock_of(&id)).read_owned().await;
        let (whole, partial) = (folder.clone(), self.partial());
        blocking("merge layers", move || {
            make_whole(&whole, &partial, |partial| merge::merge(&sources, partial))
        })
        .await??;
        Ok(Some(folder))
    }

    /// Tells that a function no longer uses this zip. If no other does, it is collected after the grace period.
    pub(crate) fn retire(&self, id: BlobId) {
        let until = self.0.clock.monotonic() + RETIRED_FOR;
        lock(&self.0.retired).insert(id, until);
    }

    /// Deletes the zip now, unless a function uses it: for one that no environment can have seen.
    pub(crate) async fn discard(&self, id: &BlobId) -> Result<(), LambdaError> {
        let _alone = Arc::clone(self.lock_of(id)).write_owned().await;
        let snapshot = self.0.store.snapshot().await?;
        if !CODE_USES.scan(&snapshot, &[Part::Text(id.as_str())], None, 1).await?.is_empty() {
            return Ok(());
        }
        self.0.store.blobs().delete(id).await?;
        let (folder, discarded) = (self.folder_of(id), self.partial());
        blocking("remove a code folder", move || {
            // Renamed first: half a folder must never be found under the hash.
            if std::fs::rename(&folder, &discarded).is_ok() {
                package::remove(&discarded);
            }
        })
        .await
    }

    /// Collects the retired zips whose grace is over.
    pub(crate) async fn collect_retired(&self) {
        let now = self.0.clock.monotonic();
        let due: Vec<BlobId> = {
            let mut retired = lock(&self.0.retired);
            let due: Vec<BlobId> =
                retired.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
            retired.retain(|_, until| *until > now);
            due
        };
        for id in due {
            self.discard_or_warn(&id).await;
        }
    }

    /// Collects whatever an earlier process left unused. For the start: no environment of an earlier process lives.
    pub(crate) async fn collect_leftovers(&self) {
        let folder = self.0.folder.clone();
        let names = blocking("list the code folder", move || {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .filter_map(|entry| BlobId::parse(&entry.file_name().to_string_lossy()))
                .collect::<Vec<_>>()
        });
        for id in names.await.unwrap_or_default() {
            self.discard_or_warn(&id).await;
        }
    }

    /// Collects leftovers, then what retires, until the store is dropped by everybody else.
    pub(crate) fn collect_in_background(&self) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            if let Some(inner) = inner.upgrade() {
                Self(inner).collect_leftovers().await;
            }
            loop {
                tokio::time::sleep(COLLECTION_PERIOD).await;
                let Some(inner) = inner.upgrade() else { return };
                Self(inner).collect_retired().await;
            }
        });
    }

    async fn discard_or_warn(&self, id: &BlobId) {
        if let Err(error) = self.discard(id).await {
            tracing::warn!(%id, %error, "cannot collect an unused package; the next start tries again");
        }
    }

    async fn unpack_if_missing(&self, id: &BlobId, zip: &Bytes) -> Result<(), LambdaError> {
        let (folder, partial, zip) = (self.folder_of(id), self.partial(), zip.clone());
        let unpacked = blocking("unpack a package", move || {
            make_whole(&folder, &partial, |partial| package::unpack(&zip, partial))
        });
        Ok(unpacked.await??)
    }

    fn folder_of(&self, id: &BlobId) -> PathBuf {
        self.0.folder.join(id.as_str())
    }

    fn partial(&self) -> PathBuf {
        self.0.folder.join(format!("{PARTIAL}{}", uuid::Uuid::new_v4().simple()))
    }

    fn lock_of(&self, id: &BlobId) -> &Arc<RwLock<()>> {
        let byte = u8::from_str_radix(&id.as_str()[..2], 16).unwrap_or_default();
        &self.0.locks[usize::from(byte) % LOCKS]
    }
}

/// Makes a folder beside and renames it, so that a folder under the hash is always whole.
fn make_whole(
    folder: &Path,
    partial: &Path,
    make: impl FnOnce(&Path) -> Result<(), package::PackageError>,
) -> Result<(), package::PackageError> {
    if folder.is_dir() {
        return Ok(());
    }
    make(partial)?;
    let failed = |step| move |source| package::PackageError::Io { step, source };
    if let Err(error) = std::fs::rename(partial, folder) {
        package::remove(partial);
        // Somebody else was faster with the same zip.
        return if folder.is_dir() { Ok(()) } else { Err(failed("name a code folder")(error)) };
    }
    let parent = folder.parent().expect("the folder was made by joining a name to its parent");
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync the code folder"))
}

async fn is_folder(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

/// Does work that blocks where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LambdaError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LambdaError::Internal { step, reason: error.to_string() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is under it is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
