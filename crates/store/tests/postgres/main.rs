//! What only a database across a connection can do to a store: lose it at the worst moment, and have others write to it.
//! The promises that every engine keeps are in `tests/conformance.rs`.
//!
//! - `shared`: two stores on one database, as two processes are
//! - `lost`: connections and servers that go away
//! - `bounds`: what is large, what is refused, what must not be shown
//! - `proxy`: a socket between a store and the server, that loses answers when told to
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
#[path = "../cluster/mod.rs"]
mod cluster;
mod lost;
mod proxy;
mod shared;

use freehold_store::{Key, KeyRange, Options, Part, Read, Store, StoreError, Transaction, keyspace};

use crate::cluster::Database;

async fn open(database: &Database) -> Store {
    open_at(database.url()).await
}

async fn open_at(url: String) -> Store {
    try_open(url).await.unwrap()
}

/// No test here puts a blob.
async fn try_open(url: String) -> Result<Store, StoreError> {
    Store::open_with(Options { url, blobs: Some(std::env::temp_dir()) }).await
}

fn key(name: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text(name)])
}

fn all() -> KeyRange {
    KeyRange::prefix(&keyspace::TESTS.key(&[]))
}

async fn put(store: &Store, entries: &[(&str, &str)]) -> Result<(), StoreError> {
    let write = store.transact(|tx| async move {
        for (name, value) in entries {
            tx.put(key(name), value.as_bytes().to_vec());
        }
        Ok(())
    });
    write.await
}

async fn get(store: &Store, name: &str) -> Result<Option<String>, StoreError> {
    let value = store.snapshot().await?.get(&key(name)).await?;
    Ok(value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
}

async fn number(tx: &Transaction, key: &Key) -> Result<u64, StoreError> {
    Ok(tx.get(key).await?.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap())))
}

fn put_number(tx: &Transaction, key: Key, number: u64) {
    tx.put(key, number.to_be_bytes().to_vec());
}

/// Does `work` again while the connection is found to be lost, as a client would; anything else must succeed.
async fn until_connected<T, F>(work: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match work().await {
            Err(error) if matches!(error, StoreError::Disconnected { .. }) => {
                assert!(error.retryable());
                tokio::task::yield_now().await;
            }
            result => return result.unwrap(),
        }
    }
}
