//! How fast 64 writers are, as a ratio to what `pgbench` reaches on the same server with one upsert in each transaction.
//! Ignored: a figure, not a promise. Run it with `--release -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_store::StoreError;
use tokio::task::JoinSet;

use crate::{cluster, key, open};

const WRITERS: usize = 64;
const SECONDS: u64 = 5;
const VALUE_BYTES: usize = 1_024;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn writers_against_pgbench() {
    let database = cluster::shared().database();
    let store = open(&database).await;
    let pgbench = || {
        let script = "\\set id random(1, 100000)\n\
                      INSERT INTO upserted VALUES (:id, repeat('x', 1024)) \
                      ON CONFLICT (id) DO UPDATE SET value = excluded.value;";
        database.sql("CREATE TABLE IF NOT EXISTS upserted (id int PRIMARY KEY, value text)");
        database.pgbench(script, &["-M", "prepared", "-c", "16", "-j", "2", "-T", &SECONDS.to_string()])
    };
    let before = tokio::task::block_in_place(pgbench);
    let (count, ends) = (Arc::new(AtomicU64::new(0)), Instant::now() + Duration::from_secs(SECONDS));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, count) = (store.clone(), count.clone());
        writers.spawn(async move {
            for round in 0_u64.. {
                if Instant::now() >= ends {
                    break;
                }
                let own = key(&format!("{writer} {}", round % 1_500));
                let own = &own;
                let write = store.transact(|tx| async move {
                    tx.put(own.clone(), vec![7; VALUE_BYTES]);
                    Ok::<_, StoreError>(())
                });
                write.await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    writers.join_all().await;
    let store_rate = count.load(Ordering::Relaxed) / SECONDS;
    let groups = database.sql("SELECT sequence FROM freehold.state");
    let after = tokio::task::block_in_place(pgbench);
    println!("pgbench before {before}/s, after {after}/s; the store {store_rate}/s, in {groups} groups");
}
