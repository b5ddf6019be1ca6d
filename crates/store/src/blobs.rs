//! Blobs: large immutable content under its own SHA-256. The same content is one blob, so a put can be repeated. Kept
//! through the `object_store` crate: in a folder here, in memory for tests, in a cloud's object store later.
//!
//! A blob is on disk, its name too, when `put` returns. Who refers to a blob puts the blob first and the reference
//! after; what nobody refers to is for the collector to delete.
//!
//! - `pieces`: reading and writing a blob without holding it in memory

mod pieces;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::engine::folder::create_folder;
use crate::error::StoreError;
use crate::limits::BLOB_BYTES;

pub use pieces::{BlobReader, BlobWriter, PIECE_BYTES};

/// Contents of at most this many bytes are hashed in place; larger ones on a thread that may block.
const HASH_INLINE_BYTES: usize = 64 << 10;

/// A blob's name: the SHA-256 of its content, in lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(String);

impl BlobId {
    /// The name of this content.
    pub fn of(content: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(content)))
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// The name that stands for these 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The 32 bytes that the digits stand for.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.0, &mut bytes).expect("a name is 64 hexadecimal digits");
        bytes
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Two levels, so that no folder grows too large to list.
    fn path(&self) -> ObjectPath {
        ObjectPath::from_iter([&self.0[..2], &self.0])
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BlobId({})", self.0)
    }
}

impl TryFrom<String> for BlobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
            .ok_or_else(|| format!("'{text}' is not a blob's name: expected 64 hexadecimal digits"))
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.0
    }
}

/// Why a blob couldn't be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob {0}")]
    NotFound(BlobId),
    /// What is stored under the name isn't what was put there.
    #[error("the blob {0} is damaged: its content no longer has this hash")]
    Damaged(BlobId),
    /// The content is too large.
    #[error("a blob of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The storage failed.
    #[error("cannot {step} a blob: {source}")]
    Storage {
        /// What was being done.
        step: &'static str,
        /// What the storage said.
        source: object_store::Error,
    },
}

impl BlobError {
    /// Whether the blob isn't there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// The blobs of a store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// Where they lie, if that is a folder of this machine.
    folder: Option<Arc<Path>>,
}

impl Blobs {
    pub(crate) fn in_memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), folder: None }
    }

    /// Blocks.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        create_folder(folder)?;
        let files = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| StoreError::engine("open the folder of blobs", error))?;
        // Written beside, synced, renamed, and the folder synced: a name that is there has its whole content on disk.
        Ok(Self { objects: Arc::new(files.with_fsync(true)), folder: Some(folder.into()) })
    }

    /// Keeps `content`. Does nothing if it is there already.
    pub async fn put(&self, content: Bytes) -> Result<BlobId, BlobError> {
        if content.len() > BLOB_BYTES {
            return Err(BlobError::TooLarge { size: content.len(), limit: BLOB_BYTES });
        }
        let id = name_of(content.clone()).await;
        match self.objects.head(&id.path()).await {
            Ok(found) if found.size == content.len() as u64 => return self.sync_name(id).await,
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(BlobError::Storage { step: "look for", source }),
        }
        let put = self.objects.put(&id.path(), content.into()).await;
        put.map_err(|source| BlobError::Storage { step: "write", source })?;
        Ok(id)
    }

    /// Makes sure that the name of a blob that was found is on disk too: whoever wrote it may have been killed, or may
    /// not have come so far yet.
    async fn sync_name(&self, id: BlobId) -> Result<BlobId, BlobError> {
        let Some(folder) = self.folder.clone() else { return Ok(id) };
        on_blocking_thread(move || {
            let sync = |path: &Path| std::fs::File::open(path).and_then(|folder| folder.sync_all());
            sync(&folder.join(&id.0[..2])).and_then(|()| sync(&folder)).map_err(|source| {
                BlobError::Storage {
                    step: "sync",
                    source: object_store::Error::Generic { store: "folder", source: source.into() },
                }
            })?;
            Ok(id)
        })
        .await
    }

    /// The content of a blob, checked against its name.
    pub async fn get(&self, id: &BlobId) -> Result<Bytes, BlobError> {
        let read = async { self.objects.get(&id.path()).await?.bytes().await };
        let content = match read.await {
            Ok(content) => content,
            Err(object_store::Error::NotFound { .. }) => return Err(BlobError::NotFound(id.clone())),
            Err(source) => return Err(BlobError::Storage { step: "read", source }),
        };
        if name_of(content.clone()).await != *id {
            return Err(BlobError::Damaged(id.clone()));
        }
        Ok(content)
    }

    /// Deletes a blob, if it is there. A deletion that a crash undoes is only a blob that nobody refers to.
    pub async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        match self.objects.delete(&id.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(BlobError::Storage { step: "delete", source }),
        }
    }

    /// Every blob's name, in no order, as they are found.
    pub fn list(&self) -> impl Stream<Item = Result<BlobId, BlobError>> + Send + Unpin + 'static {
        let names = self.objects.list(None).map_err(|source| BlobError::Storage { step: "list", source });
        Box::pin(names.try_filter_map(async |object| Ok(object.location.filename().and_then(BlobId::parse))))
    }
}

async fn name_of(content: Bytes) -> BlobId {
    if content.len() <= HASH_INLINE_BYTES {
        return BlobId::of(&content);
    }
    on_blocking_thread(move || BlobId::of(&content)).await
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // It is never aborted but with the whole runtime, when nobody polls this any more.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
