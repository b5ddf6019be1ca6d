//! Reading and writing without anyone in the way.

use freehold_store::limits::{KEY_BYTES, SCAN_ENTRIES, TRANSACTION_WRITES, VALUE_BYTES};
use freehold_store::{Direction, Key, Part, Read, Record, StoreError, Table, keyspace};
use serde::{Deserialize, Serialize};

use super::{Target, all, get, key, put};

async fn a_transaction_sees_its_own_writes_and_others_do_not(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
    let before = store.snapshot().await.unwrap();
    let outside = &store;
    let transaction = store.transact(|tx| async move {
        tx.put(key("b"), "22");
        tx.delete(key("c"));
        tx.put(key("d"), "4");
        assert_eq!(tx.get(&key("b")).await?.as_deref(), Some(&b"22"[..]));
        assert_eq!(tx.get(&key("c")).await?, None);
        let seen = |entries: Vec<(Key, _)>| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let up = seen(tx.scan(all(), Direction::Forward, 10).await?);
        assert_eq!(up, [key("a"), key("b"), key("d")]);
        assert_eq!(seen(tx.scan(all(), Direction::Forward, 2).await?), [key("a"), key("b")]);
        assert_eq!(seen(tx.scan(all(), Direction::Reverse, 2).await?), [key("d"), key("b")]);
        assert_eq!(get(outside, "b").await.as_deref(), Some("2"));
        Ok::<_, StoreError>("done")
    });
    assert_eq!(transaction.await.unwrap(), "done");
    assert_eq!(get(&store, "b").await.as_deref(), Some("22"));
    assert_eq!(get(&store, "c").await, None);
    assert_eq!(before.get(&key("c")).await.unwrap().as_deref(), Some(&b"3"[..]));
}

async fn a_failed_closure_leaves_no_trace(target: &Target) {
    #[derive(Debug)]
    struct Refused(Option<StoreError>);
    impl From<StoreError> for Refused {
        fn from(error: StoreError) -> Self {
            Self(Some(error))
        }
    }
    let store = target.open().await;
    let failed = store.transact(|tx| async move {
        tx.put(key("a"), "1");
        Err::<(), _>(Refused(None))
    });
    assert!(matches!(failed.await, Err(Refused(None))));
    assert_eq!(get(&store, "a").await, None);
}

async fn a_snapshot_stands_still(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1")]).await;
    let before = store.snapshot().await.unwrap();
    for round in 0..50 {
        put(&store, &[("a", &round.to_string()), (&format!("b{round}"), "x")]).await;
    }
    assert_eq!(before.get(&key("a")).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(before.scan(all(), Direction::Forward, 100).await.unwrap().len(), 1);
    assert_eq!(get(&store, "a").await.as_deref(), Some("49"));
}

async fn what_is_too_large_is_refused_whole(target: &Target) {
    let store = target.open().await;
    let long_key = |length| Key::new([&b"store.test"[..], &vec![b'k'; length - 10]].concat());
    let write = |key: Key, length: usize| {
        let store = store.clone();
        async move {
            let write = store.transact(|tx| {
                tx.put(self::key("beside"), "x");
                tx.put(key.clone(), vec![0; length]);
                async { Ok::<_, StoreError>(()) }
            });
            write.await
        }
    };
    for (key, length) in [(long_key(KEY_BYTES + 1), 1), (key("a"), VALUE_BYTES + 1)] {
        let error = write(key, length).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }) && !error.retryable(), "{error}");
    }
    let many = store.transact(|tx| async move {
        for number in 0..=TRANSACTION_WRITES as u64 {
            tx.put(keyspace::TESTS.key(&[Part::Number(number)]), "x");
        }
        Ok::<_, StoreError>(())
    });
    assert!(matches!(many.await, Err(StoreError::TooLarge { .. })));
    assert_eq!(get(&store, "beside").await, None);
    let scan = store.snapshot().await.unwrap().scan(all(), Direction::Forward, SCAN_ENTRIES + 1).await;
    assert!(matches!(scan, Err(StoreError::TooLarge { .. })));

    write(long_key(KEY_BYTES), VALUE_BYTES).await.unwrap();
    assert_eq!(get(&store, "beside").await.as_deref(), Some("x"));
}

async fn scans_page_both_ways(target: &Target) {
    let store = target.open().await;
    let names: Vec<String> = (0..700).map(|number| format!("{number:03}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    put(&store, &entries).await;
    let snapshot = store.snapshot().await.unwrap();
    for limit in [1, 7, 256, 257, 699, 700, 701] {
        for direction in [Direction::Forward, Direction::Reverse] {
            let (mut range, mut seen) = (all(), Vec::new());
            loop {
                let page = snapshot.scan(range.clone(), direction, limit).await.unwrap();
                seen.extend(page.iter().map(|(key, _)| key.clone()));
                let Some((last, _)) = page.last().filter(|_| page.len() == limit) else { break };
                match direction {
                    Direction::Forward => range.start = last.successor(),
                    Direction::Reverse => range.end = Some(last.clone()),
                }
            }
            let mut expected: Vec<Key> = names.iter().map(|name| key(name)).collect();
            if direction == Direction::Reverse {
                expected.reverse();
            }
            assert_eq!(seen, expected, "{limit} {direction:?}");
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    text: String,
}

impl Record for Entry {
    const VERSION: u8 = 1;
}

static ENTRIES: Table<Entry> = Table::new(keyspace::TESTS);

async fn tables_keep_order_and_page(target: &Target) {
    let store = target.open().await;
    let fill = store.transact(|tx| async move {
        for owner in ["one", "on", "other"] {
            for number in [300, 2, 1] {
                let entry = Entry { text: format!("{owner} {number}") };
                ENTRIES.put(&tx, &[Part::Text(owner), Part::Number(number)], &entry)?;
            }
        }
        ENTRIES.delete(&tx, &[Part::Text("one"), Part::Number(2)]);
        Ok::<_, StoreError>(())
    });
    fill.await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let owner = [Part::Text("on")];
    let texts = |found: Vec<(Key, Entry)>| found.into_iter().map(|(_, entry)| entry.text).collect::<Vec<_>>();
    let first = ENTRIES.scan(&snapshot, &owner, None, 2).await.unwrap();
    assert_eq!(texts(first), ["on 1", "on 2"]);
    let after = [Part::Text("on"), Part::Number(2)];
    assert_eq!(texts(ENTRIES.scan(&snapshot, &owner, Some(&after), 2).await.unwrap()), ["on 300"]);
    let all = ENTRIES.scan(&snapshot, &[], None, 100).await.unwrap();
    assert_eq!(all.len(), 8);
    let parts = ENTRIES.parts(&all[0].0).unwrap();
    assert_eq!(
        parts,
        [freehold_store::PartValue::Text("on".to_owned()), freehold_store::PartValue::Number(1)]
    );
    let one = ENTRIES.get(&snapshot, &[Part::Text("one"), Part::Number(1)]).await.unwrap();
    assert_eq!(one.unwrap().text, "one 1");
}

async fn a_closed_store_refuses_work(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1")]).await;
    let mut watch = store.watch(key("a"));
    store.close().await;
    store.close().await;
    assert!(matches!(store.snapshot().await, Err(StoreError::Closed)));
    let write = store.transact(|tx| async move {
        tx.put(key("a"), "2");
        Ok::<_, StoreError>(())
    });
    assert!(matches!(write.await, Err(StoreError::Closed)));
    assert_eq!(watch.changed().await, None);
    if target.keeps {
        assert_eq!(get(&target.open().await, "a").await.as_deref(), Some("1"));
    }
}

async fn what_was_acknowledged_is_there_after_reopening(target: &Target) {
    if !target.keeps {
        return;
    }
    for round in 0..5_u32 {
        let store = target.open().await;
        for earlier in 0..round {
            assert_eq!(get(&store, &format!("round {earlier}")).await.as_deref(), Some("kept"));
        }
        put(&store, &[(&format!("round {round}"), "kept")]).await;
    }
}

on_every_engine! {
    a_transaction_sees_its_own_writes_and_others_do_not
    a_failed_closure_leaves_no_trace
    a_snapshot_stands_still
    what_is_too_large_is_refused_whole
    scans_page_both_ways
    tables_keep_order_and_page
    a_closed_store_refuses_work
    what_was_acknowledged_is_there_after_reopening
}
