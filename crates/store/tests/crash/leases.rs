//! Each task takes its own lease, writes under its protection, releases it, takes it again. Tokens only grow, over every
//! restart, and what was written with a token says so.

use std::sync::Arc;

use freehold_base::clock::{SharedClock, SystemClock};
use freehold_store::lease::SESSION_DURATION;
use freehold_store::{Key, Part, Session, Store, StoreError, keyspace};

use crate::workload::{Checked, Teller, ensure, get_number, put_number};

pub(crate) const TASKS: u64 = 2;

fn name(task: u64) -> String {
    format!("crash/{task}")
}

/// Where a task writes the token that it holds.
fn owned(task: u64) -> Key {
    keyspace::TESTS.key(&[Part::Text("owned"), Part::Number(task)])
}

async fn start(store: &Store) -> Result<Session, StoreError> {
    let clock: SharedClock = Arc::new(SystemClock);
    Session::start(store, &clock, SESSION_DURATION).await
}

pub(crate) async fn work(store: &Store, teller: Teller) -> Result<(), StoreError> {
    let session = start(store).await?;
    loop {
        let lease = session.wait_for(&name(teller.task())).await?;
        let write = store.transact(|tx| {
            let lease = lease.clone();
            async move {
                lease.check(&tx).await?;
                put_number(&tx, owned(teller.task()), lease.token());
                Ok::<_, StoreError>(())
            }
        });
        write.await?;
        teller.acknowledge(lease.token());
        lease.release().await?;
    }
}

pub(crate) async fn check(store: &Store, told: impl Fn(u64) -> u64) -> Checked {
    let failed = |error: StoreError| error.to_string();
    let session = start(store).await.map_err(failed)?;
    let mut found = 0;
    for task in 0..TASKS {
        let snapshot = store.snapshot().await.map_err(failed)?;
        let (written, told) = (get_number(&snapshot, &owned(task)).await.map_err(failed)?, told(task));
        ensure(written >= told, || {
            format!("lease {task}: token {told} was acknowledged, {written} is there")
        })?;
        // Whoever held it is dead, so it is free; and its token is larger than every one before.
        let lease = session.acquire(&name(task)).await.map_err(failed)?;
        let token = lease.as_ref().map_or(0, freehold_store::Lease::token);
        ensure(token > written, || format!("lease {task}: token {token} after {written} was in use"))?;
        found += written;
    }
    session.end().await.map_err(failed)?;
    Ok(found)
}
