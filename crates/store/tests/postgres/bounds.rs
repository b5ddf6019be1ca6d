//! What is large, what is refused, and what must not be shown.

use freehold_store::limits::{RECENT_KEYS, TRANSACTION_WRITES};
use freehold_store::{Change, Direction, Part, Read, Store, StoreError, keyspace};

use crate::cluster;
use crate::proxy::{Mode, Proxy};
use crate::{all, get, key, open, open_at, put, try_open};

async fn fill(store: &Store, value: &'static str) {
    let fill = store.transact(|tx| async move {
        for number in 0..TRANSACTION_WRITES as u64 {
            tx.put(keyspace::TESTS.key(&[Part::Number(number)]), value);
        }
        Ok::<_, StoreError>(())
    });
    fill.await.unwrap();
}

#[tokio::test]
async fn the_largest_number_of_keys_is_written_and_deleted_as_one() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    fill(&store, "x").await;
    let snapshot = store.snapshot().await.unwrap();
    let found = snapshot.scan(all(), Direction::Forward, TRANSACTION_WRITES).await.unwrap();
    assert_eq!(found.len(), TRANSACTION_WRITES);
    let clear = store.transact(|tx| {
        found.iter().for_each(|(key, _)| tx.delete(key.clone()));
        async { Ok::<_, StoreError>(()) }
    });
    clear.await.unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM freehold.entry"), "0");
}

#[tokio::test]
async fn a_scan_of_too_many_bytes_is_refused_and_harms_no_later_one() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    for number in 0..17_u64 {
        let write = store.transact(|tx| async move {
            tx.put(keyspace::TESTS.key(&[Part::Number(number)]), vec![0; 4 << 20]);
            Ok::<_, StoreError>(())
        });
        write.await.unwrap();
    }
    let snapshot = store.snapshot().await.unwrap();
    let error = snapshot.scan(all(), Direction::Forward, 100).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    drop(snapshot);
    assert_eq!(get(&store, "a").await.unwrap(), None);
}

#[tokio::test]
async fn the_table_of_changes_is_bounded_and_who_lags_behind_it_reads_all_again() {
    let database = cluster::shared().database();
    let proxy = Proxy::start(database.sockets());
    let (store, lagging) = (open(&database).await, open_at(database.url_at(proxy.folder())).await);
    put(&lagging, &[("a", "1")]).await.unwrap();
    let mut watch = lagging.watch(key("a"));
    proxy.set(Mode::Cut);
    // The newest commits with this many keys in all, and one that is cut through.
    const KEPT: usize = RECENT_KEYS + TRANSACTION_WRITES;
    for _ in 0..=KEPT / TRANSACTION_WRITES {
        fill(&store, "x").await;
    }
    let kept =
        || -> usize { database.sql("SELECT sum(cardinality(keys)) FROM freehold.change").parse().unwrap() };
    assert!(kept() > KEPT);
    let mut commits = 0;
    while kept() > KEPT {
        put(&store, &[("b", "1")]).await.unwrap();
        commits += 1;
        assert!(commits < 1_000, "it was never trimmed");
    }
    proxy.set(Mode::Pass);
    assert_eq!(watch.changed().await, Some(Change::Reset));
    crate::until_connected(|| put(&lagging, &[("a", "2")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_a_typed_error_and_the_store_goes_on() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    put(&store, &[("a", "1")]).await.unwrap();
    database.sql(
        "CREATE FUNCTION freehold.full() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''no space left''; END'; \
         CREATE TRIGGER full_disk BEFORE INSERT ON freehold.change FOR EACH ROW EXECUTE FUNCTION freehold.full()",
    );
    for _ in 0..3 {
        let error = put(&store, &[("a", "2"), ("b", "2")]).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Engine { reason, .. } if reason.contains("no space left")),
            "{error}"
        );
        assert!(!error.is_poisoned());
        assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("1"));
        assert_eq!(get(&store, "b").await.unwrap(), None);
    }
    database.sql("DROP FUNCTION freehold.full CASCADE");
    put(&store, &[("a", "3")]).await.unwrap();
    assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("3"));
}

#[tokio::test]
async fn deadlocks_and_failures_to_serialize_are_conflicts_and_are_tried_again() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    database.sql(
        "CREATE SEQUENCE freehold.tries; CREATE FUNCTION freehold.fail() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF nextval(''freehold.tries'') < 4 THEN RAISE EXCEPTION USING ERRCODE = ''40001''; END IF; \
         RETURN new; END'; \
         CREATE TRIGGER fails BEFORE INSERT ON freehold.entry FOR EACH ROW EXECUTE FUNCTION freehold.fail()",
    );
    put(&store, &[("a", "1")]).await.unwrap();
    assert_eq!(database.sql("SELECT last_value FROM freehold.tries"), "4");
}

#[tokio::test]
async fn too_many_views_at_once_are_told_why() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(store.snapshot().await.unwrap());
    }
    tokio::time::pause();
    let error = store.snapshot().await.map(drop).unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, StoreError::Busy { connections: 16 }), "{error}");
    assert!(error.retryable());
    // Who only writes needs none.
    put(&store, &[("a", "1")]).await.unwrap();
    held.pop();
    assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_database_of_another_format_is_refused_and_left_alone() {
    let database = cluster::shared().database();
    drop(open(&database).await);
    database.sql("UPDATE freehold.state SET format = 'freehold-store 9 other'");
    let error = try_open(database.url()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::DatabaseFormat { found, .. } if found == "freehold-store 9 other"),
        "{error}"
    );
    database.sql("DROP SCHEMA freehold CASCADE; CREATE SCHEMA freehold; CREATE TABLE freehold.theirs ()");
    let error = try_open(database.url()).await.unwrap_err();
    assert!(matches!(&error, StoreError::DatabaseFormat { found, .. } if found == "unmarked"), "{error}");
    assert_eq!(database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'freehold'"), "1");
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let database = cluster::shared().database();
    let folder = database.sockets().display();
    let options = freehold_store::Options::new("postgres://me:hunter2@localhost/base");
    let mut texts = vec![format!("{options:?}")];
    for url in [
        format!("postgres://nobody:hunter2@/base?host={folder}"),
        "postgres://me:hunter2@localhost:1/base".to_owned(),
        "postgres://me:hunter2@elsewhere/base".to_owned(),
        "postgres://me:hunter2@localhost/base?sslmode=require".to_owned(),
        "postgres://me:hunter2@localhost/base?nonsense=1".to_owned(),
        "postgress://me:hunter2@localhost/base".to_owned(),
        "postgres://localhost:1/base?user=me&password=hunter2".to_owned(),
    ] {
        let error = try_open(url.clone()).await.unwrap_err();
        texts.push(format!("{error} {error:?}"));
        texts.extend(Store::open(&url).await.err().map(|error| format!("{error} {error:?}")));
    }
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
