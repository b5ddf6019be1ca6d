//! Transactions in each other's way. What happens between a transaction's reads and its commit is decided here, not by
//! luck: a closure lets another transaction go through in its midst.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold_store::limits::TRANSACTION_ATTEMPTS;
use freehold_store::{Direction, KeyRange, Read, Store, StoreError, Transaction};
use tokio::task::JoinSet;

use super::{Target, all, get, key, number, put, put_number};

/// Runs a transaction that reads with `read`, then lets `between` be committed (in its first run only), then writes.
/// Gives how often it ran.
async fn runs_with<F>(store: &Store, read: impl Fn(Transaction) -> F + Sync, between: &[(&str, &str)]) -> u32
where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let runs = AtomicU32::new(0);
    let (runs_seen, read) = (&runs, &read);
    let transaction = store.transact(|tx| {
        let reading = read(tx.clone());
        async move {
            reading.await?;
            if runs_seen.fetch_add(1, Ordering::Relaxed) == 0 {
                put(store, between).await;
            }
            tx.put(key("result"), "written");
            Ok::<_, StoreError>(())
        }
    });
    transaction.await.unwrap();
    runs.load(Ordering::Relaxed)
}

async fn no_update_is_lost(target: &Target) {
    const TASKS: u64 = 16;
    const ROUNDS: u64 = 10;
    let store = target.open().await;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                let add = store.transact(|tx| async move {
                    let count = number(&tx, &key("count")).await?;
                    put_number(&tx, key("count"), count + 1);
                    Ok::<_, StoreError>(())
                });
                add.await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let count = store.transact(|tx| async move { number(&tx, &key("count")).await }).await.unwrap();
    assert_eq!(count, TASKS * ROUNDS);
}

async fn a_changed_key_runs_the_transaction_again(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1")]).await;
    let reads = |name: &'static str| move |tx: Transaction| async move { tx.get(&key(name)).await.map(drop) };
    assert_eq!(runs_with(&store, reads("a"), &[("a", "2")]).await, 2, "changed");
    assert_eq!(runs_with(&store, reads("b"), &[("b", "1")]).await, 2, "made");
    assert_eq!(runs_with(&store, reads("a"), &[("c", "1")]).await, 1, "another's");
}

async fn a_new_key_in_a_scanned_range_runs_the_transaction_again(target: &Target) {
    let store = target.open().await;
    for direction in [Direction::Forward, Direction::Reverse] {
        let scans = |tx: Transaction| async move {
            tx.scan(KeyRange::new(key("m"), key("p")), direction, 10).await.map(drop)
        };
        assert_eq!(runs_with(&store, scans, &[("n", "1")]).await, 2, "a phantom");
        assert_eq!(runs_with(&store, scans, &[("p", "1"), ("l", "1")]).await, 1, "beside the range");
        let with_own_writes = |tx: Transaction| async move {
            tx.put(key("o"), "own");
            tx.delete(key("n"));
            tx.scan(KeyRange::new(key("m"), key("p")), direction, 10).await.map(drop)
        };
        assert_eq!(
            runs_with(&store, with_own_writes, &[("mm", "1")]).await,
            2,
            "a phantom beside own writes"
        );
    }
}

async fn a_scan_depends_only_on_what_it_reached(target: &Target) {
    let store = target.open().await;
    put(&store, &[("b", "1"), ("m", "1"), ("y", "1")]).await;
    let first = |tx: Transaction| async move {
        assert_eq!(tx.scan(KeyRange::new(key("a"), key("z")), Direction::Forward, 1).await?.len(), 1);
        Ok(())
    };
    assert_eq!(runs_with(&store, first, &[("c", "1")]).await, 1, "after what was reached");
    assert_eq!(runs_with(&store, first, &[("a", "1")]).await, 2, "before what was reached");
    let last = |tx: Transaction| async move {
        assert_eq!(tx.scan(KeyRange::new(key("a"), key("z")), Direction::Reverse, 1).await?.len(), 1);
        Ok(())
    };
    assert_eq!(runs_with(&store, last, &[("x", "1")]).await, 1, "before what was reached");
    assert_eq!(runs_with(&store, last, &[("yy", "1")]).await, 2, "after what was reached");
}

async fn two_that_read_what_the_other_writes_do_not_both_commit(target: &Target) {
    // Two doctors are on call; each may leave if the other stays. By key, then by range.
    let store = target.open().await;
    for by_range in [false, true] {
        put(&store, &[("doctor 1", "on"), ("doctor 2", "on")]).await;
        let both_have_read = Arc::new(tokio::sync::Barrier::new(2));
        let mut tasks = JoinSet::new();
        for own in ["doctor 1", "doctor 2"] {
            let (store, both_have_read) = (store.clone(), both_have_read.clone());
            tasks.spawn(async move {
                let runs = AtomicU32::new(0);
                let (runs, both_have_read) = (&runs, &both_have_read);
                let leave = store.transact(|tx| async move {
                    let on = count_on_call(&tx, by_range).await?;
                    if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                        both_have_read.wait().await;
                    }
                    if on == 2 {
                        tx.put(key(own), "off");
                    }
                    Ok::<_, StoreError>(on == 2)
                });
                leave.await.unwrap()
            });
        }
        let left = tasks.join_all().await.into_iter().filter(|left| *left).count();
        assert_eq!(left, 1, "by range: {by_range}");
    }
}

async fn count_on_call(tx: &Transaction, by_range: bool) -> Result<usize, StoreError> {
    if by_range {
        let range = KeyRange::new(key("doctor"), key("doctors"));
        let found = tx.scan(range, Direction::Forward, 10).await?;
        return Ok(found.iter().filter(|(_, value)| &value[..] == b"on").count());
    }
    let mut on = 0;
    for name in ["doctor 1", "doctor 2"] {
        on += usize::from(tx.get(&key(name)).await?.as_deref() == Some(b"on"));
    }
    Ok(on)
}

async fn writers_that_read_nothing_never_conflict(target: &Target) {
    let store = target.open().await;
    assert_eq!(runs_with(&store, |_| async { Ok(()) }, &[("result", "another's")]).await, 1);
    assert_eq!(get(&store, "result").await.as_deref(), Some("written"));
}

async fn readers_never_conflict(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1")]).await;
    let runs = AtomicU32::new(0);
    let (runs_seen, outside) = (&runs, &store);
    let read = store.transact(|tx| async move {
        let first = tx.get(&key("a")).await?;
        runs_seen.fetch_add(1, Ordering::Relaxed);
        put(outside, &[("a", "2"), ("b", "2")]).await;
        assert_eq!(tx.get(&key("b")).await?, None, "one state, to the end");
        Ok::<_, StoreError>(first)
    });
    assert_eq!(read.await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

async fn money_is_neither_made_nor_lost(target: &Target) {
    const ACCOUNTS: u64 = 6;
    const EACH: u64 = 100;
    let store = target.open().await;
    let account = |number: u64| key(&format!("account {number}"));
    let open = store.transact(|tx| async move {
        (0..ACCOUNTS).for_each(|number| put_number(&tx, account(number), EACH));
        Ok::<_, StoreError>(())
    });
    open.await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..25 {
                let (from, to) = ((task + round) % ACCOUNTS, (task * 3 + round * 5 + 1) % ACCOUNTS);
                let transfer = store.transact(|tx| async move {
                    let held = number(&tx, &account(from)).await?;
                    let amount = held.min(7);
                    put_number(&tx, account(from), held - amount);
                    let there = number(&tx, &account(to)).await?;
                    put_number(&tx, account(to), there + amount);
                    Ok::<_, StoreError>(())
                });
                transfer.await.unwrap();
                let found =
                    store.snapshot().await.unwrap().scan(all(), Direction::Forward, 100).await.unwrap();
                let sum: u64 =
                    found.iter().map(|(_, held)| u64::from_be_bytes(held[..].try_into().unwrap())).sum();
                assert_eq!(sum, ACCOUNTS * EACH);
            }
        });
    }
    tasks.join_all().await;
}

async fn endless_conflicts_end_in_a_typed_error(target: &Target) {
    let store = target.open().await;
    let runs = AtomicU32::new(0);
    let (runs_seen, outside) = (&runs, &store);
    let hopeless = store.transact(|tx| async move {
        runs_seen.fetch_add(1, Ordering::Relaxed);
        tx.get(&key("a")).await?;
        put(outside, &[("a", "changed")]).await;
        tx.put(key("b"), "1");
        Ok::<_, StoreError>(())
    });
    let error = hopeless.await.unwrap_err();
    assert!(error.is_conflict() && error.retryable() && !error.is_poisoned(), "{error}");
    assert!(matches!(error, StoreError::Conflict { attempts: TRANSACTION_ATTEMPTS }));
    assert_eq!(runs.load(Ordering::Relaxed), TRANSACTION_ATTEMPTS);
    assert_eq!(get(&store, "b").await, None);
}

on_every_engine! {
    no_update_is_lost
    a_changed_key_runs_the_transaction_again
    a_new_key_in_a_scanned_range_runs_the_transaction_again
    a_scan_depends_only_on_what_it_reached
    two_that_read_what_the_other_writes_do_not_both_commit
    writers_that_read_nothing_never_conflict
    readers_never_conflict
    money_is_neither_made_nor_lost
    endless_conflicts_end_in_a_typed_error
}
