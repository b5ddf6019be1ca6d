//! Connections and servers that go away: a typed error, never half a write, and work goes on by itself afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use freehold_store::{Change, Direction, Read, Store, StoreError};
use tokio::task::JoinSet;

use crate::cluster::{self, Cluster, Database};
use crate::proxy::{Mode, Proxy};
use crate::{all, get, key, number, open, open_at, put, put_number, until_connected};

/// How long what was sent may take to be done, on a machine that is busy with much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the connections of some role as an administrator would.
fn terminate(database: &Database, role: &str) {
    let ended = database.sql(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name LIKE 'freehold {role}'"
    ));
    assert_ne!(ended, "0", "no {role} was connected");
}

/// Lets every write of an entry wait until the lock that is returned is gone.
async fn hold_writes(database: &Database) -> tokio_postgres::Client {
    database.sql(
        "CREATE FUNCTION freehold.hold() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN new; END'; \
         CREATE TRIGGER hold BEFORE INSERT ON freehold.entry FOR EACH ROW EXECUTE FUNCTION freehold.hold()",
    );
    let (holder, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    holder.execute("SELECT pg_advisory_lock(42)", &[]).await.unwrap();
    holder
}

/// Waits until a write waits for the holder.
async fn until_held(holder: &tokio_postgres::Client) {
    let waiting =
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 42)";
    while !holder.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0) {}
}

#[tokio::test]
async fn a_snapshot_whose_connection_is_lost_fails_and_the_next_one_does_not() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    put(&store, &[("a", "1")]).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    terminate(&database, "reader");
    for _ in 0..2 {
        let error = snapshot.get(&key("a")).await.unwrap_err();
        assert!(matches!(error, StoreError::Disconnected { .. }), "{error}");
    }
    assert_eq!(until_connected(|| get(&store, "a")).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_was_read_before_the_connection_was_lost_still_counts() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    for role in ["reader", "committer", "%"] {
        put(&store, &[("a", "1"), ("b", "-"), ("c", "-")]).await.unwrap();
        let (runs, others) = (AtomicU32::new(0), open(&database).await);
        let (runs_seen, outside, others) = (&runs, &database, &others);
        let transaction = store.transact(|tx| async move {
            let read = tx.get(&key("a")).await?.unwrap();
            if runs_seen.fetch_add(1, Ordering::Relaxed) == 0 {
                until_connected(|| put(others, &[("a", "2")])).await;
                terminate(outside, role);
            }
            tx.put(key("b"), read.clone());
            tx.put(key("c"), read);
            Ok(())
        });
        let result = transaction.await;
        let expected = match result {
            Ok(()) => {
                assert!(runs.load(Ordering::Relaxed) > 1, "the conflict was found in spite of it");
                Some("2")
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Disconnected { .. }), "{error}");
                Some("-")
            }
        };
        for name in ["b", "c"] {
            assert_eq!(until_connected(|| get(&store, name)).await.as_deref(), expected, "{role}");
        }
        until_connected(|| put(&store, &[("a", "3")])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_off_in_its_midst_is_not_there() {
    let database = cluster::shared().database();
    let (store, other) = (open(&database).await, open(&database).await);
    // In the midst of the one statement of a process that is alone, and of the two round trips of one that isn't.
    for is_alone in [true, false] {
        put(&store, &[("before", "1")]).await.unwrap();
        if is_alone {
            put(&store, &[("before", "2")]).await.unwrap();
        } else {
            put(&other, &[("before", "3")]).await.unwrap();
        }
        let holder = hold_writes(&database).await;
        let commit = tokio::spawn({
            let store = store.clone();
            async move { put(&store, &[("a", "1"), ("b", "1")]).await }
        });
        until_held(&holder).await;
        terminate(&database, "committer");
        let error = commit.await.unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Disconnected { .. }), "{error}");
        drop(holder);
        assert_eq!(get(&store, "a").await.unwrap(), None);
        database.sql("DROP FUNCTION freehold.hold CASCADE");
        until_connected(|| put(&store, &[("after", "1")])).await;
        until_connected(|| put(&other, &[("after", "2")])).await;
        assert_eq!(get(&store, "a").await.unwrap(), None, "nor does it come later");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_to_have_happened() {
    let database = cluster::shared().database();
    let proxy = Proxy::start(database.sockets());
    let (store, other) = (open_at(database.url_at(proxy.folder())).await, open(&database).await);
    put(&store, &[("before", "1")]).await.unwrap();
    put(&store, &[("before", "2")]).await.unwrap();
    for round in 0..3 {
        let name = format!("a{round}");
        let mut watch = store.watch(key(&name));
        proxy.set(Mode::LoseAnswer);
        put(&store, &[(&name, "1")]).await.unwrap();
        assert_eq!(watch.changed().await, Some(Change::Keys(vec![key(&name)])));
        proxy.set(Mode::Pass);
        assert_eq!(get(&other, &name).await.unwrap().as_deref(), Some("1"));
        put(&store, &[("alone again", "1")]).await.unwrap();
        put(&store, &[("alone again", "2")]).await.unwrap();
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_found_out_is_said_to_be_unknown() {
    let database = cluster::shared().database();
    let proxy = Proxy::start(database.sockets());
    let (store, other) = (open_at(database.url_at(proxy.folder())).await, open(&database).await);
    put(&store, &[("before", "1")]).await.unwrap();
    put(&store, &[("before", "2")]).await.unwrap();
    let mut watch = store.watch(key("a"));
    proxy.set(Mode::LoseAnswerAndRefuse);
    // Nothing that is waited for can come, so the deadline may as well.
    tokio::time::pause();
    let error = put(&store, &[("a", "1")]).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, StoreError::OutcomeUnknown { .. }), "{error}");
    assert!(!error.retryable());
    proxy.set(Mode::Pass);
    until_connected(|| put(&store, &[("b", "1")])).await;
    // Here it was committed, or is about to be: the server may not have got to it yet.
    let committed = async { while until_connected(|| get(&store, "a")).await.is_none() {} };
    tokio::time::timeout(PATIENCE, committed).await.expect("it was sent");
    // One that is followed by nothing of ours is still told of.
    put(&other, &[("beside", "1")]).await.unwrap();
    assert!(watch.changed().await.is_some());
}

#[tokio::test]
async fn a_watch_catches_up_after_its_connection_was_lost() {
    let database = cluster::shared().database();
    let proxy = Proxy::start(database.sockets());
    let (store, other) = (open_at(database.url_at(proxy.folder())).await, open(&database).await);
    let mut watch = store.watch(key("a"));
    proxy.set(Mode::Cut);
    put(&other, &[("a", "1")]).await.unwrap();
    proxy.set(Mode::Pass);
    assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("a")])));
    terminate(&database, "listener");
    put(&other, &[("a", "2")]).await.unwrap();
    assert_eq!(watch.changed().await, Some(Change::Keys(vec![key("a")])));
}

#[derive(Default)]
struct Progress {
    commits: AtomicU32,
    /// Whether the server has crashed and was started again.
    is_back: AtomicBool,
}

/// What one writer was told of its transactions, by their numbers.
#[derive(Default)]
struct Told {
    acknowledged: Vec<u32>,
    unknown: Vec<u32>,
}

/// Writes one key of its own and adds to a common count, in one transaction, until `after` have succeeded since the
/// server is back.
async fn write_through_a_loss(store: Store, writer: usize, progress: Arc<Progress>, after: usize) -> Told {
    let (mut told, mut more) = (Told::default(), 0);
    for round in 0.. {
        let own = key(&format!("writer {writer} round {round:06}"));
        let own = &own;
        let write = store.transact(|tx| async move {
            let count = number(&tx, &key("count")).await?;
            put_number(&tx, key("count"), count + 1);
            tx.put(own.clone(), "x");
            Ok::<_, StoreError>(())
        });
        match write.await {
            Ok(()) => {
                told.acknowledged.push(round);
                progress.commits.fetch_add(1, Ordering::Relaxed);
                more += usize::from(progress.is_back.load(Ordering::Relaxed));
            }
            Err(StoreError::Disconnected { .. }) => {}
            Err(StoreError::OutcomeUnknown { .. }) => told.unknown.push(round),
            Err(error) => panic!("{error}"),
        }
        if more == after {
            break;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_done_when_the_server_crashes() {
    const WRITERS: usize = 6;
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start()));
    let database = cluster.database();
    let stores = [open(&database).await, open(&database).await];
    let progress = Arc::new(Progress::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, progress) = (stores[writer % 2].clone(), progress.clone());
        writers.spawn(async move { (writer, write_through_a_loss(store, writer, progress, 5).await) });
    }
    while progress.commits.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(|| {
        cluster.stop();
        cluster.restart();
    })
    .await
    .unwrap();
    progress.is_back.store(true, Ordering::Relaxed);
    let told = writers.join_all().await;
    let store = open(&database).await;
    let mut found = std::collections::BTreeSet::new();
    let mut range = all();
    loop {
        let snapshot = store.snapshot().await.unwrap();
        let page = snapshot.scan(range.clone(), Direction::Forward, 1_000).await.unwrap();
        found.extend(page.iter().map(|(key, _)| key.clone()));
        let Some((last, _)) = page.last() else { break };
        range.start = last.successor();
    }
    let count = store.transact(|tx| async move { number(&tx, &key("count")).await }).await.unwrap();
    assert!(found.remove(&key("count")));
    assert_eq!(found.len() as u64, count, "each transaction is there whole or not at all");
    for (writer, told) in told {
        let name = |round: &u32| key(&format!("writer {writer} round {round:06}"));
        for round in &told.acknowledged {
            assert!(found.remove(&name(round)), "lost: writer {writer} round {round}");
        }
        for round in &told.unknown {
            found.remove(&name(round));
        }
    }
    assert_eq!(found.len(), 0, "what was said not to have happened is there: {found:?}");
    for store in stores {
        store.close().await;
    }
    cluster.end();
}
