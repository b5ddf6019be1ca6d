//! Folding: sealed segments are added up into the store, one transaction each, and deleted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;

use freehold_store::keyspace::{USAGE_FOLDED, USAGE_TOTALS};
use freehold_store::{Part, Store, StoreError, Table};

use crate::ledger::{Ledger, LedgerError, blocking};
use crate::record::{Folded, Totals};
use crate::segment;

static TOTALS: Table<Totals> = Table::new(USAGE_TOTALS);
static FOLDED: Table<Folded> = Table::new(USAGE_FOLDED);

impl Ledger {
    /// Adds everything appended so far to the totals in the store and deletes its segments. What fails is kept for the
    /// next time.
    pub async fn fold(&self) -> Result<(), LedgerError> {
        let _one_at_a_time = self.0.folding.lock().await;
        self.seal();
        let folder = self.0.folder.clone();
        let active = self.active_number();
        let listed =
            blocking(move || segment::list(&folder).map_err(|error| LedgerError::io("list", &folder, error)))
                .await?;
        for (number, bytes) in listed.into_iter().filter(|&(number, _)| number < active) {
            self.fold_segment(number, bytes).await?;
        }
        Ok(())
    }

    /// What a function consumed in all, as far as it is folded; call [`Ledger::fold`] before for all of it.
    pub async fn totals(&self, function_arn: &str) -> Result<Totals, LedgerError> {
        let snapshot = self.0.store.snapshot().await?;
        Ok(TOTALS.get(&snapshot, &[Part::Text(function_arn)]).await?.unwrap_or_default())
    }

    async fn fold_segment(&self, number: u64, bytes: u64) -> Result<(), LedgerError> {
        let path = segment::path(&self.0.folder, number);
        let (sums, damaged) = {
            let path = path.clone();
            blocking(move || {
                // Synced first: what the store is told of is never undone by a loss of power.
                let read = File::open(&path).and_then(|file| file.sync_data()).and_then(|()| fs::read(&path));
                Ok(add_up(&read.map_err(|error| LedgerError::io("read", &path, error))?))
            })
            .await?
        };
        if damaged > 0 {
            tracing::warn!(segment = %path.display(), damaged, "lines of the usage ledger were torn by a crash");
        }
        let sums = Arc::new(sums);
        let name = self.0.name.as_str();
        let transaction = self.0.store.transact(|tx| {
            let sums = sums.clone();
            async move {
                let own = [Part::Text(name)];
                if FOLDED.get(&tx, &own).await?.is_some_and(|folded| number <= folded.segment) {
                    return Ok(());
                }
                for (function, sum) in sums.iter() {
                    let key = [Part::Text(function)];
                    let mut totals = TOTALS.get(&tx, &key).await?.unwrap_or_default();
                    totals.merge(sum);
                    TOTALS.put(&tx, &key, &totals)?;
                }
                FOLDED.put(&tx, &own, &Folded { segment: number })
            }
        });
        transaction.await.map_err(|error: StoreError| error)?;
        fs::remove_file(&path).map_err(|error| LedgerError::io("delete", &path, error))?;
        self.forget(bytes);
        Ok(())
    }
}

/// The last segment of the ledger `name` that is in the store.
pub(crate) async fn last_folded(store: &Store, name: &str) -> Result<u64, StoreError> {
    let snapshot = store.snapshot().await?;
    Ok(FOLDED.get(&snapshot, &[Part::Text(name)]).await?.map_or(0, |folded| folded.segment))
}

fn add_up(bytes: &[u8]) -> (BTreeMap<String, Totals>, usize) {
    let (records, damaged) = segment::decode(bytes);
    let mut sums: BTreeMap<String, Totals> = BTreeMap::new();
    for record in &records {
        sums.entry(record.function_arn.clone()).or_default().add(record);
    }
    (sums, damaged)
}
