//! A whole store as one file, consistent while the store is in use.

use tokio::io::AsyncWrite;

use super::copy::snapshot_and_blobs;
use super::error::TransferError;
use super::format::{FrameWriter, Tag, Trailer, entry_parts};
use super::pages::Pages;
use super::summary::{EntryDigest, Phase, Progress, Summary, moves};
use super::target::refuse_unfinished;
use crate::blobs::{BlobError, BlobId, Blobs};
use crate::key::KeyRange;
use crate::store::Store;

/// Writes all of `store`, as it is now, to `writer`: everything that was acknowledged before the call. The store may be
/// written to meanwhile. What was written is a backup only if this returned `Ok`; making it durable is the caller's.
pub async fn backup(
    store: &Store,
    writer: impl AsyncWrite + Unpin,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, TransferError> {
    refuse_unfinished(store).await?;
    let (snapshot, blobs) = snapshot_and_blobs(store).await?;
    let (mut summary, mut digest) = (Summary::default(), EntryDigest::default());
    let mut pages = Pages::new(snapshot, KeyRange::all());
    let mut frames = FrameWriter::begin(writer).await?;
    for id in blobs.iter().map(BlobId::from_bytes) {
        match write_blob(&mut frames, store.blobs(), &id, &mut pages).await? {
            Some(bytes) => {
                summary.blobs += 1;
                summary.blob_bytes += bytes;
            }
            None => summary.note_missing(id),
        }
        progress(Progress::of(Phase::Blobs, &summary, &digest));
    }
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for (key, value) in page.iter().filter(|(key, _)| moves(key)) {
            digest.add(key.as_bytes(), value);
            frames.frame(Tag::Entry, &entry_parts(key.as_bytes(), value, &mut [0; 4])).await?;
        }
        progress(Progress::of(Phase::Keys, &summary, &digest));
    }
    summary.entries = digest.fingerprint();
    let trailer = Trailer {
        keys: digest.keys,
        bytes: digest.bytes,
        blobs: summary.blobs,
        blob_bytes: summary.blob_bytes,
        missing_blobs: summary.missing_blobs,
        entries_sha256: digest.sha256(),
        ..Trailer::default()
    };
    frames.end(trailer).await?;
    Ok(summary)
}

/// The blob's length, in bytes; `None` if it is gone.
async fn write_blob(
    frames: &mut FrameWriter<impl AsyncWrite + Unpin>,
    blobs: &Blobs,
    id: &BlobId,
    pages: &mut Pages,
) -> Result<Option<u64>, TransferError> {
    pages.hold().await?;
    let mut reader = match blobs.read(id).await {
        Err(BlobError::NotFound(id)) => {
            frames.frame(Tag::MissingBlob, &[&id.to_bytes()]).await?;
            return Ok(None);
        }
        result => result?,
    };
    let size = reader.size_bytes();
    frames.frame(Tag::Blob, &[&id.to_bytes(), &size.to_be_bytes()]).await?;
    while let Some(piece) = reader.next().await? {
        frames.frame(Tag::Piece, &[&piece]).await?;
        pages.hold().await?;
    }
    Ok(Some(size))
}
