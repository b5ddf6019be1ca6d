//! Blobs in pieces, for whoever moves them and must not hold a whole one in memory: copies, backups, checks.
//!
//! A reader and a writer both compute the hash on the way. A reader tells of damage after the last piece, so what it
//! gave before is not to be trusted until it has ended. A writer names the blob only once its content has proved right.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{MultipartUpload, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::{BlobError, BlobId, Blobs};
use crate::limits::BLOB_BYTES;

/// Size of a piece, in bytes: hashed in well under a millisecond, so it needs no thread of its own.
pub const PIECE_BYTES: usize = 256 << 10;
/// Size of a part of an upload, in bytes. Clouds take no smaller ones than 5 MiB, but for the last.
const PART_BYTES: usize = 8 << 20;

/// Gives a blob's content piece by piece.
pub struct BlobReader {
    id: BlobId,
    size_bytes: u64,
    content: BoxStream<'static, object_store::Result<Bytes>>,
    /// What has come and is less than a piece.
    waiting: BytesMut,
    hash: Sha256,
    ended: bool,
}

impl Blobs {
    /// Opens a blob for reading. Once open it can be read to its end, also if it is deleted meanwhile.
    pub async fn read(&self, id: &BlobId) -> Result<BlobReader, BlobError> {
        let found = match self.objects.get(&id.path()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(BlobError::NotFound(id.clone())),
            Err(source) => return Err(BlobError::Storage { step: "read", source }),
        };
        Ok(BlobReader {
            id: id.clone(),
            size_bytes: found.meta.size,
            content: found.into_stream(),
            waiting: BytesMut::new(),
            hash: Sha256::new(),
            ended: false,
        })
    }

    /// Begins to write the blob of this name. What is there already under the name is replaced when it ends.
    pub fn write(&self, id: &BlobId) -> BlobWriter {
        BlobWriter {
            blobs: self.clone(),
            id: id.clone(),
            part: BytesMut::new(),
            upload: None,
            size_bytes: 0,
            hash: Sha256::new(),
        }
    }
}

impl BlobReader {
    /// The size that the storage says it has, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The next piece, of at most [`PIECE_BYTES`]; `None` after the last, when the whole has proved right.
    /// [`BlobError::Damaged`] instead of `None` if it has not.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        while !self.ended && self.waiting.len() < PIECE_BYTES {
            match self.content.next().await {
                Some(Ok(bytes)) => self.waiting.extend_from_slice(&bytes),
                Some(Err(source)) => return Err(BlobError::Storage { step: "read", source }),
                None => self.ended = true,
            }
        }
        if self.waiting.is_empty() {
            let found = hex::encode(self.hash.clone().finalize());
            return if found == self.id.as_str() {
                Ok(None)
            } else {
                Err(BlobError::Damaged(self.id.clone()))
            };
        }
        let piece = self.waiting.split_to(self.waiting.len().min(PIECE_BYTES)).freeze();
        self.hash.update(&piece);
        Ok(Some(piece))
    }
}

/// Takes a blob's content piece by piece. Dropped before [`BlobWriter::finish`], it leaves no blob.
pub struct BlobWriter {
    blobs: Blobs,
    id: BlobId,
    /// What has come and is less than a part.
    part: BytesMut,
    /// There once the content is larger than one part.
    upload: Option<Box<dyn MultipartUpload>>,
    size_bytes: usize,
    hash: Sha256,
}

impl BlobWriter {
    /// Takes the next piece.
    pub async fn push(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.size_bytes += piece.len();
        if self.size_bytes > BLOB_BYTES {
            return Err(BlobError::TooLarge { size: self.size_bytes, limit: BLOB_BYTES });
        }
        self.hash.update(piece);
        self.part.extend_from_slice(piece);
        if self.part.len() >= PART_BYTES { self.send_part().await } else { Ok(()) }
    }

    async fn send_part(&mut self) -> Result<(), BlobError> {
        let failed = |source| BlobError::Storage { step: "write", source };
        if self.upload.is_none() {
            self.upload = Some(self.blobs.objects.put_multipart(&self.id.path()).await.map_err(failed)?);
        }
        let upload = self.upload.as_mut().expect("it was just made where it was missing");
        upload.put_part(self.part.split().freeze().into()).await.map_err(failed)
    }

    /// Names the blob, on disk as after [`Blobs::put`]; [`BlobError::Damaged`], and no blob, if the content isn't the
    /// name's.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        let failed = |source| BlobError::Storage { step: "write", source };
        let found = hex::encode(self.hash.clone().finalize());
        if found != self.id.as_str() {
            if let Some(mut upload) = self.upload.take() {
                upload.abort().await.map_err(failed)?;
            }
            return Err(BlobError::Damaged(self.id.clone()));
        }
        if self.upload.is_none() {
            let content = self.part.split().freeze();
            return self.blobs.objects.put(&self.id.path(), content.into()).await.map(drop).map_err(failed);
        }
        if !self.part.is_empty() {
            self.send_part().await?;
        }
        match self.upload.take() {
            Some(mut upload) => upload.complete().await.map(drop).map_err(failed),
            None => Ok(()),
        }
    }
}
