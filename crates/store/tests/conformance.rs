//! What every engine promises, and what the primitives promise on every engine. A new engine joins in one place: the
//! macro of `suite/mod.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod suite;

#[tokio::test]
async fn urls_that_name_no_engine_are_refused() {
    use freehold_store::{Options, Store, StoreError};
    for url in ["", "here", "file:", "memory:here", "s3:bucket"] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Url { .. })), "{url}");
    }
    for url in ["postgres://localhost/base", "postgres:"] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Options { .. })), "{url}");
    }
    let with_blobs = Options { url: "memory:".to_owned(), blobs: Some("/nowhere".into()) };
    assert!(matches!(Store::open_with(with_blobs).await, Err(StoreError::Options { .. })));
}

#[tokio::test]
async fn a_folder_that_is_open_is_refused_by_name() {
    use freehold_store::{Store, StoreError};
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().display());
    let store = Store::open(&url).await.unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(store);
    Store::open(&url).await.unwrap();
}
