//! A backup read again: into an empty store, or only to see whether it is whole.
//!
//! Both read with the same [`Reading`], which takes nothing on trust: frames in their order, keys and names of blobs
//! ascending, each blob of its length and hash, and in the end counts and hashes of all.

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::error::TransferError;
use super::format::{Frame, FrameReader, Tag, Trailer, split_entry};
use super::summary::{EntryDigest, Phase, Progress, Summary, moves};
use super::target::Target;
use crate::blobs::{BlobError, BlobId, BlobWriter};
use crate::key::Key;
use crate::store::Store;

/// Fills `store`, which must be empty, from a backup; then reads it back and compares. See [the module](super) for what
/// becomes of the store if this fails or is interrupted: it is never taken for whole.
pub async fn restore(
    reader: impl AsyncRead + Unpin,
    store: &Store,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, TransferError> {
    // Before anything is written: most wrong files show here.
    let frames = FrameReader::begin(reader).await?;
    let mut target = Target::begin(store, "restore").await?;
    match Reading::new(frames).run(Some(&mut target), progress).await {
        Ok(summary) => {
            target.finish(&summary, progress).await?;
            Ok(summary)
        }
        Err(error) => {
            target.abandon().await;
            Err(error)
        }
    }
}

/// Reads a backup to its end and checks all of it, as a restore does, and writes nothing.
pub async fn verify(
    reader: impl AsyncRead + Unpin,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, TransferError> {
    Reading::new(FrameReader::begin(reader).await?).run(None, progress).await
}

/// A blob whose pieces are being read.
struct OpenBlob {
    id: BlobId,
    offset: u64,
    missing_bytes: u64,
    writer: Option<BlobWriter>,
    hash: BlobHash,
}

/// Hashes pieces where no writer does.
type BlobHash = sha2::Sha256;

struct Reading<R> {
    frames: FrameReader<R>,
    summary: Summary,
    digest: EntryDigest,
    last_blob: Option<[u8; 32]>,
    last_key: Option<Bytes>,
    blob: Option<OpenBlob>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    fn new(frames: FrameReader<R>) -> Self {
        Self {
            frames,
            summary: Summary::default(),
            digest: EntryDigest::default(),
            last_blob: None,
            last_key: None,
            blob: None,
        }
    }

    async fn run(
        mut self,
        mut target: Option<&mut Target>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Summary, TransferError> {
        /// Frames between two reports of progress.
        const FRAMES: u64 = 256;
        let mut count = 0;
        loop {
            let frame = self.frames.next().await?;
            if frame.tag != Tag::Piece {
                self.end_blob(frame.offset).await?;
            }
            match frame.tag {
                Tag::Blob => self.begin_blob(&frame, target.as_deref())?,
                Tag::Piece => self.piece(&frame).await?,
                Tag::MissingBlob => {
                    let id = self.blob_name(&frame)?;
                    if frame.payload.len() > 32 {
                        return Err(corrupt(&frame, "a missing blob has more than a name"));
                    }
                    self.summary.note_missing(id);
                }
                Tag::Entry => {
                    let (key, value) = self.entry(&frame)?;
                    if let Some(target) = &mut target {
                        target.put(Key::new(key), value).await?;
                    }
                }
                Tag::End => {
                    self.end(&frame)?;
                    self.frames.expect_end().await?;
                    return Ok(self.summary);
                }
            }
            count += 1;
            if count % FRAMES == 0 {
                let phase = if self.last_key.is_some() { Phase::Keys } else { Phase::Blobs };
                progress(Progress::of(phase, &self.summary, &self.digest));
                tokio::task::yield_now().await;
            }
        }
    }

    /// The name that a frame about a blob begins with.
    fn blob_name(&mut self, frame: &Frame) -> Result<BlobId, TransferError> {
        let name = frame.payload.first_chunk::<32>().ok_or_else(|| corrupt(frame, "a blob has no name"))?;
        if self.last_blob.as_ref().is_some_and(|last| last >= name) || self.last_key.is_some() {
            return Err(corrupt(frame, "a blob stands where it does not belong"));
        }
        self.last_blob = Some(*name);
        Ok(BlobId::from_bytes(name))
    }

    fn begin_blob(&mut self, frame: &Frame, target: Option<&Target>) -> Result<(), TransferError> {
        let id = self.blob_name(frame)?;
        let size = frame.payload[32..].try_into().map_err(|_| corrupt(frame, "a blob has no length"))?;
        let missing_bytes = u64::from_be_bytes(size);
        self.summary.blobs += 1;
        self.summary.blob_bytes = self
            .summary
            .blob_bytes
            .checked_add(missing_bytes)
            .ok_or_else(|| corrupt(frame, "a blob is longer than can be"))?;
        let writer = target.map(|target| target.blobs().write(&id));
        self.blob =
            Some(OpenBlob { id, offset: frame.offset, missing_bytes, writer, hash: BlobHash::default() });
        Ok(())
    }

    async fn piece(&mut self, frame: &Frame) -> Result<(), TransferError> {
        let blob = self.blob.as_mut().ok_or_else(|| corrupt(frame, "a piece belongs to no blob"))?;
        let length = frame.payload.len() as u64;
        if length == 0 || length > blob.missing_bytes {
            return Err(corrupt(frame, "a blob's piece is empty or too long"));
        }
        blob.missing_bytes -= length;
        match &mut blob.writer {
            Some(writer) => writer.push(&frame.payload).await?,
            None => sha2::Digest::update(&mut blob.hash, &frame.payload),
        }
        Ok(())
    }

    /// Ends the blob that is open, if one is, before the frame at `offset`.
    async fn end_blob(&mut self, offset: u64) -> Result<(), TransferError> {
        let Some(blob) = self.blob.take() else { return Ok(()) };
        if blob.missing_bytes > 0 {
            let reason = format!("the blob {} lacks {} bytes", blob.id, blob.missing_bytes);
            return Err(TransferError::Corrupt { offset, reason });
        }
        let proved = match blob.writer {
            Some(writer) => match writer.finish().await {
                Err(BlobError::Damaged(_)) => false,
                result => result.map(|()| true)?,
            },
            None => {
                let found: [u8; 32] = sha2::Digest::finalize(blob.hash).into();
                found == blob.id.to_bytes()
            }
        };
        if proved {
            return Ok(());
        }
        let reason = format!("the content of the blob {} does not have this hash", blob.id);
        Err(TransferError::Corrupt { offset: blob.offset, reason })
    }

    fn entry(&mut self, frame: &Frame) -> Result<(Bytes, Bytes), TransferError> {
        let (key, value) =
            split_entry(&frame.payload).ok_or_else(|| corrupt(frame, "an entry has no key"))?;
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(corrupt(frame, "a key stands where it does not belong"));
        }
        if !moves(&Key::new(key.clone())) {
            return Err(corrupt(frame, "a key that is never in a backup"));
        }
        self.digest.add(&key, &value);
        // Copied: it must not keep its frame in memory.
        self.last_key = Some(Bytes::copy_from_slice(&key));
        Ok((key, value))
    }

    fn end(&mut self, frame: &Frame) -> Result<(), TransferError> {
        let trailer =
            Trailer::decode(&frame.payload).ok_or_else(|| corrupt(frame, "the trailer is malformed"))?;
        let read = Trailer {
            keys: self.digest.keys,
            bytes: self.digest.bytes,
            blobs: self.summary.blobs,
            blob_bytes: self.summary.blob_bytes,
            missing_blobs: self.summary.missing_blobs,
            entries_sha256: self.digest.sha256(),
            file_sha256: frame.sha256_before.unwrap_or_default(),
        };
        if trailer != read {
            return Err(corrupt(frame, "the trailer's counts and hashes are not those of what was read"));
        }
        self.summary.entries = self.digest.fingerprint();
        Ok(())
    }
}

fn corrupt(frame: &Frame, reason: &str) -> TransferError {
    TransferError::Corrupt { offset: frame.offset, reason: reason.to_owned() }
}
