//! What a commit sets off: callbacks and watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold_store::{Change, Key, StoreError};
use tokio::sync::mpsc;

use super::{Target, get, key, put};

async fn callbacks_run_once_and_only_after_a_commit(target: &Target) {
    let store = target.open().await;
    let (runs, called) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let (runs_seen, calls, outside) = (&runs, &called, &store);
    let transaction = store.transact(|tx| async move {
        tx.get(&key("a")).await?;
        let calls = calls.clone();
        tx.on_commit(move || {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        if runs_seen.fetch_add(1, Ordering::Relaxed) == 0 {
            put(outside, &[("a", "changed")]).await;
        }
        tx.put(key("b"), "1");
        Ok::<_, StoreError>(())
    });
    transaction.await.unwrap();
    assert_eq!((runs.load(Ordering::Relaxed), called.load(Ordering::Relaxed)), (2, 1));

    let failed = store.transact(|tx| async move {
        let calls = calls.clone();
        tx.on_commit(move || {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        Err::<(), _>(StoreError::Closed)
    });
    failed.await.unwrap_err();
    assert_eq!(called.load(Ordering::Relaxed), 1);
}

async fn callbacks_run_even_if_the_caller_goes_away(target: &Target) {
    let store = target.open().await;
    let (called, mut calls) = mpsc::unbounded_channel();
    let task = tokio::spawn({
        let store = store.clone();
        async move {
            let transaction = store.transact(|tx| {
                let called = called.clone();
                async move {
                    tx.put(key("a"), "1");
                    tx.on_commit({
                        let called = called.clone();
                        move || called.send("committed").unwrap()
                    });
                    called.send("closure done").unwrap();
                    Ok::<_, StoreError>(())
                }
            });
            transaction.await.unwrap();
        }
    });
    assert_eq!(calls.recv().await, Some("closure done"));
    task.abort();
    // Gone before the commit began, or carried to its end: both are whole.
    match calls.recv().await {
        Some(word) => {
            assert_eq!(word, "committed");
            assert_eq!(get(&store, "a").await.as_deref(), Some("1"));
        }
        None => assert_eq!(get(&store, "a").await, None),
    }
}

async fn a_watch_tells_of_its_prefix_after_the_commit(target: &Target) {
    let store = target.open().await;
    put(&store, &[("w before", "1")]).await;
    let prefix = key("w");
    let prefix = Key::new(prefix.as_bytes()[..prefix.as_bytes().len() - 2].to_vec());
    let mut watch = store.watch(prefix);
    put(&store, &[("other", "1")]).await;
    let failed = store.transact(|tx| async move {
        tx.put(key("w failed"), "1");
        Err::<(), _>(StoreError::Closed)
    });
    failed.await.unwrap_err();
    put(&store, &[("w1", "1"), ("w2", "1"), ("x", "1")]).await;
    assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("w1"), key("w2")])));
    assert_eq!(get(&store, "w2").await.as_deref(), Some("1"), "told of what can be read");
    let delete = store.transact(|tx| async move {
        tx.delete(key("w1"));
        Ok::<_, StoreError>(())
    });
    delete.await.unwrap();
    assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("w1")])));
}

on_every_engine! {
    callbacks_run_once_and_only_after_a_commit
    callbacks_run_even_if_the_caller_goes_away
    a_watch_tells_of_its_prefix_after_the_commit
}
