//! Leases: one owner at a time, and no write of a former one.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use freehold_base::clock::{ManualClock, SharedClock};
use freehold_store::{Session, Store, StoreError};
use tokio::sync::watch;

use super::{Target, get, key};

const DURATION: Duration = Duration::from_secs(10);

/// Two sessions on one store that expire, and the clock that both go by.
async fn two_sessions(store: &Store) -> (Session, Session, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + DURATION * 1_000));
    let shared: SharedClock = clock.clone();
    let first = Session::start_expiring(store, &shared, DURATION).await.unwrap();
    let second = Session::start_expiring(store, &shared, DURATION).await.unwrap();
    (first, second, clock)
}

async fn write_as(
    store: &Store,
    lease: &freehold_store::Lease,
    value: &'static str,
) -> Result<(), StoreError> {
    let write = store.transact(|tx| async move {
        lease.check(&tx).await?;
        tx.put(key("owned"), value);
        Ok(())
    });
    write.await
}

async fn a_lease_has_one_holder_until_it_is_released(target: &Target) {
    let store = target.open().await;
    let (first, second, _clock) = two_sessions(&store).await;
    let lease = first.acquire("a").await.unwrap().unwrap();
    assert_eq!(lease.token(), 1);
    assert_eq!(first.acquire("a").await.unwrap().unwrap().token(), 1, "it is held already");
    assert!(second.acquire("a").await.unwrap().is_none());
    assert_eq!(second.acquire("b").await.unwrap().unwrap().token(), 1, "another name is free");
    lease.release().await.unwrap();
    let next = second.acquire("a").await.unwrap().unwrap();
    assert_eq!(next.token(), 2);
    lease.release().await.unwrap();
    next.check(&store.snapshot().await.unwrap()).await.unwrap();
}

async fn what_a_former_owner_writes_fails(target: &Target) {
    let store = target.open().await;
    let (first, second, clock) = two_sessions(&store).await;
    let stale = first.acquire("a").await.unwrap().unwrap();
    write_as(&store, &stale, "before").await.unwrap();
    clock.advance(DURATION - Duration::from_millis(1));
    assert!(second.acquire("a").await.unwrap().is_none(), "not expired yet");
    second.renew().await.unwrap();
    clock.advance(Duration::from_millis(1));
    let fresh = second.acquire("a").await.unwrap().unwrap();
    assert!(fresh.token() > stale.token());
    assert!(write_as(&store, &stale, "stale").await.unwrap_err().is_fenced());
    assert!(first.renew().await.unwrap_err().is_fenced(), "an expired session that was noticed stays dead");
    assert_eq!(get(&store, "owned").await.as_deref(), Some("before"));
    write_as(&store, &fresh, "after").await.unwrap();
}

async fn a_renewed_session_keeps_its_leases(target: &Target) {
    let store = target.open().await;
    let (first, second, clock) = two_sessions(&store).await;
    let lease = first.acquire("a").await.unwrap().unwrap();
    for _ in 0..5 {
        clock.advance(DURATION / 2);
        first.renew().await.unwrap();
        assert!(second.acquire("a").await.unwrap().is_none());
    }
    lease.check(&store.snapshot().await.unwrap()).await.unwrap();
}

async fn many_that_want_a_lease_get_it_one_after_another(target: &Target) {
    let store = target.open().await;
    let (first, second, _clock) = two_sessions(&store).await;
    let mut tasks = tokio::task::JoinSet::new();
    for session in [first, second] {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..5 {
                let lease = session.wait_for("a").await.unwrap();
                write_as(&store, &lease, "mine").await.unwrap();
                lease.release().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}

async fn a_session_that_is_run_frees_its_leases_when_it_is_stopped(target: &Target) {
    let store = target.open().await;
    let (first, second, _clock) = two_sessions(&store).await;
    first.acquire("a").await.unwrap().unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let first = first.clone();
        async move { first.run(stopped).await }
    });
    assert!(second.acquire("a").await.unwrap().is_none());
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert_eq!(second.acquire("a").await.unwrap().unwrap().token(), 2);
}

on_every_engine! {
    a_lease_has_one_holder_until_it_is_released
    what_a_former_owner_writes_fails
    a_renewed_session_keeps_its_leases
    many_that_want_a_lease_get_it_one_after_another
    a_session_that_is_run_frees_its_leases_when_it_is_stopped
}
