//! One task writes large values over a few keys, so that memtables are flushed, tables merged and journals begun while
//! the others work. Only in some rounds, since it fills the disk.

use freehold_store::{Key, Part, Read, Store, StoreError, keyspace};

use crate::workload::{Checked, Teller, ensure, get_number, put_number};

pub(crate) const TASKS: u64 = 1;
/// Keys that are written over and over.
const KEYS: u64 = 24;
/// Length of their values, in bytes: a memtable is full after a few dozen.
const VALUE_BYTES: usize = 256 << 10;

fn slot(number: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("bulk"), Part::Number(number % KEYS)])
}

fn last() -> Key {
    keyspace::TESTS.key(&[Part::Text("bulk last")])
}

fn content(number: u64) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    loop {
        let write = store.transact(|tx| async move {
            let number = get_number(&tx, &last()).await? + 1;
            tx.put(slot(number), content(number));
            put_number(&tx, last(), number);
            Ok::<_, StoreError>(number)
        });
        teller.acknowledge(write.await?);
    }
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let snapshot = store.snapshot().await.map_err(|error| error.to_string())?;
    let written = get_number(&snapshot, &last()).await.map_err(|error| error.to_string())?;
    let told = told(0);
    ensure(written >= told, || format!("bulk: {told} was acknowledged, {written} is there"))?;
    for number in written.saturating_sub(KEYS - 1).max(1)..=written {
        let value = snapshot.get(&slot(number)).await.map_err(|error| error.to_string())?;
        let whole = value.as_deref() == Some(&content(number)[..]);
        ensure(whole, || format!("bulk: value {number} is not as it was written"))?;
    }
    Ok(written)
}
