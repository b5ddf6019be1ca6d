//! A whole store into another, whatever their engines.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;

use super::error::TransferError;
use super::pages::Pages;
use super::summary::{EntryDigest, Phase, Progress, Summary, moves};
use super::target::{Target, refuse_unfinished};
use crate::blobs::{BlobError, BlobId, Blobs};
use crate::key::KeyRange;
use crate::store::Store;
use crate::transaction::Snapshot;

/// Copies all of `from`, as it is now, into `to`, which must be empty; then reads `to` back and compares counts and
/// checksum of keys and values, and every blob's hash. `from` may be written to meanwhile. See [the module](super) for
/// what becomes of `to` if this fails or is interrupted.
pub async fn copy(
    from: &Store,
    to: &Store,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, TransferError> {
    refuse_unfinished(from).await?;
    let mut target = Target::begin(to, "copy").await?;
    match fill(from, &mut target, progress).await {
        Ok(summary) => match target.finish(&summary, progress).await {
            Ok(()) => Ok(summary),
            Err(error) => Err(error),
        },
        Err(error) => {
            target.abandon().await;
            Err(error)
        }
    }
}

async fn fill(
    from: &Store,
    target: &mut Target,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, TransferError> {
    let (snapshot, blobs) = snapshot_and_blobs(from).await?;
    let mut pages = Pages::new(snapshot, KeyRange::all());
    let (mut summary, mut digest) = (Summary::default(), EntryDigest::default());
    for id in blobs.iter().map(BlobId::from_bytes) {
        match copy_blob(from.blobs(), target.blobs(), &id, &mut pages).await {
            Ok(bytes) => {
                summary.blobs += 1;
                summary.blob_bytes += bytes;
            }
            Err(TransferError::Blob(BlobError::NotFound(id))) => summary.note_missing(id),
            Err(error) => return Err(error),
        }
        progress(Progress::of(Phase::Blobs, &summary, &digest));
    }
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for (key, value) in page.into_iter().filter(|(key, _)| moves(key)) {
            digest.add(key.as_bytes(), &value);
            target.put(key, value).await?;
        }
        progress(Progress::of(Phase::Keys, &summary, &digest));
    }
    summary.entries = digest.fingerprint();
    Ok(summary)
}

/// Copies one blob: the writer checks its hash, then it is read back whole. Its length, in bytes.
async fn copy_blob(from: &Blobs, to: &Blobs, id: &BlobId, pages: &mut Pages) -> Result<u64, TransferError> {
    pages.hold().await?;
    let (mut reader, mut writer) = (from.read(id).await?, to.write(id));
    let mut bytes = 0;
    while let Some(piece) = reader.next().await? {
        bytes += piece.len() as u64;
        writer.push(&piece).await?;
        pages.hold().await?;
    }
    writer.finish().await?;
    let gone = |error| match error {
        // Not the source's: it was there just now.
        BlobError::NotFound(id) => BlobError::Damaged(id),
        other => other,
    };
    let mut written = to.read(id).await.map_err(gone)?;
    while written.next().await?.is_some() {}
    Ok(bytes)
}

/// A snapshot and the names of all blobs that it can refer to. A blob is put before what refers to it, so all of those
/// are there when the snapshot is taken. They are listed before it and after it, so that one that is deleted from then on
/// is missed when it is to be read.
pub(super) async fn snapshot_and_blobs(
    store: &Store,
) -> Result<(Snapshot, BTreeSet<[u8; 32]>), TransferError> {
    let mut blobs = BTreeSet::new();
    add_all(store.blobs(), &mut blobs).await?;
    let snapshot = store.snapshot().await?;
    add_all(store.blobs(), &mut blobs).await?;
    Ok((snapshot, blobs))
}

async fn add_all(blobs: &Blobs, names: &mut BTreeSet<[u8; 32]>) -> Result<(), BlobError> {
    let mut list = blobs.list();
    while let Some(id) = list.try_next().await? {
        names.insert(id.to_bytes());
    }
    Ok(())
}
