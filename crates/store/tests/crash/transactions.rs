//! Each task writes transactions numbered 1, 2, 3, …: two entries and the task's own count, and now and then adds to a
//! count that all share, so that they conflict.

use freehold_store::{Key, Part, Read, Store, StoreError, keyspace};

use crate::workload::{Checked, Teller, count_keys, ensure, get_number, put_number};

pub(crate) const TASKS: u64 = 8;
/// Every so many transactions a task adds to the shared count.
const SHARED_EVERY: u64 = 5;

fn entry(task: u64, number: u64, half: &str) -> Key {
    keyspace::TESTS.key(&[Part::Text("entry"), Part::Number(task), Part::Number(number), Part::Text(half)])
}

fn count(task: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("count"), Part::Number(task)])
}

fn shared() -> Key {
    keyspace::TESTS.key(&[Part::Text("shared")])
}

/// A value that tells whose it is, of a length from a few bytes to several pages.
fn content(task: u64, number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(7) { 9_000 } else { 20 + (number % 50) as usize };
    format!("{task}/{number} ").bytes().cycle().take(length).collect()
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    let task = teller.task();
    loop {
        let write = store.transact(|tx| async move {
            let number = get_number(&tx, &count(task)).await? + 1;
            tx.put(entry(task, number, "left"), content(task, number));
            tx.put(entry(task, number, "right"), content(task, number));
            put_number(&tx, count(task), number);
            if number.is_multiple_of(SHARED_EVERY) {
                put_number(&tx, shared(), get_number(&tx, &shared()).await? + SHARED_EVERY);
            }
            Ok::<_, StoreError>(number)
        });
        teller.acknowledge(write.await?);
    }
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let snapshot = store.snapshot().await.map_err(|error| error.to_string())?;
    let get = async |key: Key| snapshot.get(&key).await.map_err(|error| error.to_string());
    let number = async |key: Key| get_number(&snapshot, &key).await.map_err(|error| error.to_string());
    let (mut found, mut shared_count) = (0, 0);
    for task in 0..TASKS {
        let (written, told) = (number(count(task)).await?, told(task));
        ensure(written >= told, || format!("task {task}: {told} was acknowledged, {written} is there"))?;
        for number in 1..=written {
            for half in ["left", "right"] {
                let value = get(entry(task, number, half)).await?;
                let whole = value.as_deref() == Some(&content(task, number)[..]);
                ensure(whole, || format!("task {task}: the {half} of {number} is not as it was written"))?;
            }
        }
        found += written;
        shared_count += written / SHARED_EVERY * SHARED_EVERY;
    }
    let shared = number(shared()).await?;
    ensure(shared == shared_count, || format!("the shared count is {shared} and not {shared_count}"))?;
    let entries = keyspace::TESTS.key(&[Part::Text("entry")]);
    let stored = count_keys(&snapshot, &entries).await.map_err(|error| error.to_string())?;
    ensure(stored == 2 * found, || format!("{stored} entries, and the counts know of {}", 2 * found))?;
    Ok(found)
}
