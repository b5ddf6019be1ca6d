//! Blobs beside the keys.

use freehold_store::{BlobError, BlobId, Bytes};
use futures_util::TryStreamExt;

use super::Target;

async fn a_blob_is_kept_under_its_hash(target: &Target) {
    let large = Bytes::from(vec![7; 3 << 20]);
    let (small, id) = (Bytes::from_static(b"hello"), BlobId::of(b"hello"));
    assert_eq!(id.as_str(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    let store = target.open().await;
    for _ in 0..2 {
        assert_eq!(store.blobs().put(small.clone()).await.unwrap(), id);
        assert_eq!(store.blobs().put(large.clone()).await.unwrap(), BlobId::of(&large));
        store.blobs().put(Bytes::new()).await.unwrap();
    }
    let store = if target.keeps {
        store.close().await;
        target.open().await
    } else {
        store
    };
    assert_eq!(store.blobs().get(&id).await.unwrap(), small);
    assert_eq!(store.blobs().get(&BlobId::of(&large)).await.unwrap(), large);
    let mut names: Vec<BlobId> = store.blobs().list().try_collect().await.unwrap();
    names.sort();
    let mut expected = vec![id.clone(), BlobId::of(&large), BlobId::of(b"")];
    expected.sort();
    assert_eq!(names, expected);

    store.blobs().delete(&id).await.unwrap();
    store.blobs().delete(&id).await.unwrap();
    assert!(store.blobs().get(&id).await.unwrap_err().is_not_found());
}

async fn a_missing_blob_is_a_typed_error(target: &Target) {
    let store = target.open().await;
    let id = BlobId::of(b"never put");
    assert!(matches!(store.blobs().get(&id).await, Err(BlobError::NotFound(missing)) if missing == id));
}

on_every_engine! {
    a_blob_is_kept_under_its_hash
    a_missing_blob_is_a_typed_error
}
