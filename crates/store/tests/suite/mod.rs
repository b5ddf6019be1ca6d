//! The conformance suite: knows the store's promises and no engine.

/// Makes a test of each of these functions (`async fn name(target: &Target)`) on each engine.
macro_rules! on_every_engine {
    ($($name:ident)+) => {
        on_engine!(embedded, crate::suite::Target::folder(), $($name)+);
        on_engine!(memory, crate::suite::Target::memory(), $($name)+);
        on_engine!(postgres, crate::suite::Target::database(), $($name)+);
    };
}

macro_rules! on_engine {
    ($engine:ident, $target:expr, $($name:ident)+) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    super::$name(&$target).await;
                }
            )+
        }
    };
}

mod basics;
mod blobs;
mod conflicts;
mod effects;
mod lease;
mod log;
mod model;
mod queue;
mod timer;
mod transfer;

use freehold_store::{Key, KeyRange, Options, Part, Store, StoreError, Transaction, keyspace};

use crate::cluster::{self, Database};

/// An engine under test, with a place of its own.
pub(crate) struct Target {
    options: Options,
    /// Whether what was written is there after reopening.
    pub(crate) keeps: bool,
    _folder: Option<tempfile::TempDir>,
    _database: Option<Database>,
}

impl Target {
    pub(crate) fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(format!("file:{}/data", folder.path().display()));
        Self { options, keeps: true, _folder: Some(folder), _database: None }
    }

    pub(crate) fn memory() -> Self {
        Self { options: Options::new("memory:"), keeps: false, _folder: None, _database: None }
    }

    pub(crate) fn database() -> Self {
        let (folder, database) = (tempfile::tempdir().unwrap(), cluster::shared().database());
        let options = Options { url: database.url(), blobs: Some(folder.path().join("blobs")) };
        Self { options, keeps: true, _folder: Some(folder), _database: Some(database) }
    }

    pub(crate) fn options(&self) -> Options {
        self.options.clone()
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open_with(self.options.clone()).await.unwrap()
    }
}

pub(crate) fn key(name: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text(name)])
}

pub(crate) fn all() -> KeyRange {
    KeyRange::prefix(&keyspace::TESTS.key(&[]))
}

/// Writes keys and their values in one transaction.
pub(crate) async fn put(store: &Store, entries: &[(&str, &str)]) {
    let write = store.transact(|tx| async move {
        for (name, value) in entries {
            tx.put(key(name), value.as_bytes().to_vec());
        }
        Ok::<_, StoreError>(())
    });
    write.await.unwrap();
}

/// The value of a key, as text.
pub(crate) async fn get(store: &Store, name: &str) -> Option<String> {
    use freehold_store::Read;
    let value = store.snapshot().await.unwrap().get(&key(name)).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The value of a key as a number, 0 where there is none.
pub(crate) async fn number(tx: &Transaction, key: &Key) -> Result<u64, StoreError> {
    let value = tx.get(key).await?;
    Ok(value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().unwrap())))
}

pub(crate) fn put_number(tx: &Transaction, key: Key, number: u64) {
    tx.put(key, number.to_be_bytes().to_vec());
}
