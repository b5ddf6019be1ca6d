//! Two stores on one database, as two processes are: they share nothing but the server.

use std::sync::atomic::{AtomicU32, Ordering};

use freehold_store::{Change, Direction, Read, StoreError};
use tokio::task::JoinSet;

use crate::cluster;
use crate::{all, get, key, number, open, open_at, put, put_number};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_an_empty_database_at_once() {
    let database = cluster::shared().database();
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        tasks.spawn(open_at(database.url()));
    }
    let stores = tasks.join_all().await;
    put(&stores[0], &[("a", "1")]).await.unwrap();
    for store in &stores {
        assert!(store.is_shared());
        assert_eq!(get(store, "a").await.unwrap().as_deref(), Some("1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_between_processes() {
    const EACH: u64 = 40;
    let database = cluster::shared().database();
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let store = open(&database).await;
        for _ in 0..3 {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..EACH {
                    let add = store.transact(|tx| async move {
                        let count = number(&tx, &key("count")).await?;
                        put_number(&tx, key("count"), count + 1);
                        Ok::<_, StoreError>(())
                    });
                    add.await.unwrap();
                }
            });
        }
    }
    tasks.join_all().await;
    let store = open(&database).await;
    let count = store.transact(|tx| async move { number(&tx, &key("count")).await }).await.unwrap();
    assert_eq!(count, 9 * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn money_is_neither_made_nor_lost_between_processes() {
    const ACCOUNTS: u64 = 6;
    const EACH: u64 = 100;
    let database = cluster::shared().database();
    let stores = [open(&database).await, open(&database).await];
    let account = |number: u64| key(&format!("account {number}"));
    let fill = stores[0].transact(|tx| async move {
        (0..ACCOUNTS).for_each(|number| put_number(&tx, account(number), EACH));
        Ok::<_, StoreError>(())
    });
    fill.await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..6_u64 {
        let store = stores[usize::try_from(task % 2).unwrap()].clone();
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
                let snapshot = store.snapshot().await.unwrap();
                let found = snapshot.scan(all(), Direction::Forward, 100).await.unwrap();
                let sum: u64 =
                    found.iter().map(|(_, held)| u64::from_be_bytes(held[..].try_into().unwrap())).sum();
                assert_eq!(sum, ACCOUNTS * EACH);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn what_another_process_commits_in_a_scanned_range_runs_the_transaction_again() {
    let database = cluster::shared().database();
    let (store, other) = (open(&database).await, open(&database).await);
    for (between, expected) in [("n", 2), ("x", 1)] {
        let (runs, other) = (AtomicU32::new(0), &other);
        let runs_seen = &runs;
        let transaction = store.transact(|tx| async move {
            let range = freehold_store::KeyRange::new(key("m"), key("p"));
            tx.scan(range, Direction::Forward, 10).await?;
            if runs_seen.fetch_add(1, Ordering::Relaxed) == 0 {
                put(other, &[(between, "1")]).await?;
            }
            tx.put(key("result"), "written");
            Ok::<_, StoreError>(())
        });
        transaction.await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), expected, "{between}");
    }
}

#[tokio::test]
async fn a_watch_tells_of_what_another_process_commits() {
    let database = cluster::shared().database();
    let (store, other) = (open(&database).await, open(&database).await);
    let mut watch = store.watch(key("w"));
    for round in 0..20 {
        let value = round.to_string();
        put(&other, &[("beside", "1")]).await.unwrap();
        put(&other, &[("w", &value)]).await.unwrap();
        assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("w")])));
        assert_eq!(get(&store, "w").await.unwrap(), Some(value), "told of what can be read");
        put(&store, &[("w", "own")]).await.unwrap();
        assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("w")])));
    }
}

#[tokio::test]
async fn an_acknowledged_commit_is_seen_by_every_process_at_once() {
    let database = cluster::shared().database();
    let (store, other) = (open(&database).await, open(&database).await);
    for round in 0..50 {
        let value = round.to_string();
        put(&store, &[("a", &value)]).await.unwrap();
        assert_eq!(get(&other, "a").await.unwrap(), Some(value));
    }
}
