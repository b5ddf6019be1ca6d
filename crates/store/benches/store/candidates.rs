//! The crates that the choice was between, each as it would be used: batches synced as a whole, one tree.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::Failure;

/// What is asked of an engine.
pub(crate) trait Candidate: Send + Sync {
    fn apply(&self, batch: Vec<(Bytes, Vec<u8>)>) -> Result<(), Failure>;
    fn get(&self, key: &[u8]) -> Result<bool, Failure>;
    fn scan(&self, start: &[u8], entries: usize) -> Result<usize, Failure>;
}

/// Memory for blocks or pages, in bytes: the same for both.
const CACHE_BYTES: usize = 64 << 20;

pub(crate) fn open(name: &str, path: &Path) -> Result<Arc<dyn Candidate>, Failure> {
    match name {
        "fjall" => {
            let database = Database::builder(path).cache_size(CACHE_BYTES as u64).open()?;
            let tree = database.keyspace("keys", KeyspaceCreateOptions::default)?;
            Ok(Arc::new(Fjall { database, tree }))
        }
        #[cfg(feature = "compare")]
        "redb" => Ok(Arc::new(redb::open(path, false)?)),
        #[cfg(feature = "compare")]
        "redb-quick-repair" => Ok(Arc::new(redb::open(path, true)?)),
        _ => Err(format!("no candidate is called {name} (redb needs --features compare)").into()),
    }
}

struct Fjall {
    database: Database,
    tree: Keyspace,
}

impl Candidate for Fjall {
    fn apply(&self, batch: Vec<(Bytes, Vec<u8>)>) -> Result<(), Failure> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in batch {
            writes.insert(&self.tree, key, value);
        }
        Ok(writes.commit()?)
    }

    fn get(&self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.tree.get(key)?.is_some())
    }

    fn scan(&self, start: &[u8], entries: usize) -> Result<usize, Failure> {
        let mut count = 0;
        for entry in self.tree.range(start..).take(entries) {
            let (key, value) = entry.into_inner()?;
            std::hint::black_box((Bytes::from(key), Bytes::from(value)));
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(feature = "compare")]
mod redb {
    use std::path::Path;

    use bytes::Bytes;
    use redb::{Database, Durability, ReadableDatabase, TableDefinition};

    use super::{CACHE_BYTES, Candidate};
    use crate::Failure;

    const TREE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");

    pub(super) struct Redb {
        database: Database,
        quick_repair: bool,
    }

    pub(super) fn open(path: &Path, quick_repair: bool) -> Result<Redb, Failure> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(TREE)?;
        transaction.commit()?;
        Ok(Redb { database, quick_repair })
    }

    impl Candidate for Redb {
        fn apply(&self, batch: Vec<(Bytes, Vec<u8>)>) -> Result<(), Failure> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_quick_repair(self.quick_repair);
            {
                let mut tree = transaction.open_table(TREE)?;
                for (key, value) in &batch {
                    tree.insert(&**key, &**value)?;
                }
            }
            Ok(transaction.commit()?)
        }

        fn get(&self, key: &[u8]) -> Result<bool, Failure> {
            let tree = self.database.begin_read()?.open_table(TREE)?;
            let found = tree.get(key)?;
            Ok(found.is_some_and(|value| !Bytes::copy_from_slice(value.value()).is_empty()))
        }

        fn scan(&self, start: &[u8], entries: usize) -> Result<usize, Failure> {
            let tree = self.database.begin_read()?.open_table(TREE)?;
            let mut count = 0;
            for entry in tree.range(start..)?.take(entries) {
                let (key, value) = entry?;
                std::hint::black_box((
                    Bytes::copy_from_slice(key.value()),
                    Bytes::copy_from_slice(value.value()),
                ));
                count += 1;
            }
            Ok(count)
        }
    }
}
