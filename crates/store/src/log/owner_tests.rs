//! An owner that stops between any two of its steps: the next one loses nothing and gives nothing twice.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use freehold_base::clock::ManualClock;

use super::*;
use crate::lease::Session;

const SESSION: Duration = Duration::from_secs(10);

struct Place {
    store: Store,
    hands: Arc<ManualClock>,
    clock: SharedClock,
    log: Log,
}

impl Place {
    async fn new() -> Self {
        let store = Store::open("memory:").await.unwrap();
        let hands = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_000_000)));
        let clock: SharedClock = hands.clone();
        let log = Log::new("l", 1, &clock);
        let create = store.transact(|tx| {
            let log = log.clone();
            async move { log.create(&tx).await }
        });
        create.await.unwrap();
        Self { store, hands, clock, log }
    }

    /// A new owner; who was it before has expired.
    async fn own(&self) -> LogOwner {
        self.hands.advance(SESSION);
        let session = Session::start_expiring(&self.store, &self.clock, SESSION).await.unwrap();
        let lease = session.wait_for(&self.log.lease_name(0)).await.unwrap();
        LogOwner::open(&self.store, &self.clock, lease, &self.log, 0).await.unwrap()
    }

    async fn append(&self, key: &str, data: &str) {
        let append = self.store.transact(|tx| async move { self.log.append(&tx, key, data).await });
        append.await.unwrap();
    }

    /// All that can be read, as text.
    async fn read(&self) -> String {
        let snapshot = self.store.snapshot().await.unwrap();
        let records = self.log.read(&snapshot, 0, 1, 100).await.unwrap();
        assert!(records.iter().map(|record| record.position).eq(1..=records.len() as u64));
        records.iter().map(|record| std::str::from_utf8(&record.data).unwrap()).collect::<Vec<_>>().join(" ")
    }
}

async fn gathered(owner: &LogOwner) -> (Vec<Entry>, ShardRecord) {
    let mut pages = Pages::new("l", 0);
    owner.gather(&mut pages, &owner.store.snapshot().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn stopped_before_it_writes() {
    let place = Place::new().await;
    place.append("a", "1").await;
    let first = place.own().await;
    let (entries, seen) = gathered(&first).await;
    let second = place.own().await;
    // Late: nothing is moved yet, but it's no longer its to move.
    assert!(first.give_positions(&entries, &seen).await.unwrap_err().is_fenced());
    assert_eq!(place.read().await, "");
    place.append("a", "2").await;
    second.move_all().await.unwrap();
    assert!(first.give_positions(&entries, &seen).await.unwrap_err().is_fenced());
    assert_eq!(place.read().await, "1 2");
}

#[tokio::test]
async fn stopped_after_it_wrote_without_knowing_it() {
    let place = Place::new().await;
    place.append("a", "1").await;
    let owner = place.own().await;
    let (entries, seen) = gathered(&owner).await;
    // Its own write happens after it gave up waiting: the same lease, so that fencing says nothing.
    assert!(owner.give_positions(&entries, &seen).await.unwrap());
    assert!(!owner.give_positions(&entries, &seen).await.unwrap());
    place.append("a", "2").await;
    owner.move_all().await.unwrap();
    place.own().await.move_all().await.unwrap();
    assert_eq!(place.read().await, "1 2");
}

#[tokio::test]
async fn a_log_that_was_deleted_and_created_anew_is_another() {
    let place = Place::new().await;
    place.append("a", "old").await;
    let owner = place.own().await;
    let (entries, seen) = gathered(&owner).await;
    place.log.delete(&place.store).await.unwrap();
    assert!(matches!(owner.give_positions(&entries, &seen).await, Err(LogError::NotFound { .. })));
    let create = place.store.transact(|tx| {
        let log = place.log.clone();
        async move { log.create(&tx).await }
    });
    create.await.unwrap();
    assert!(matches!(owner.give_positions(&entries, &seen).await, Err(LogError::NotFound { .. })));
    assert_eq!(place.read().await, "");
}

impl Place {
    /// Appends `numbers` to the key "b" in one transaction.
    async fn append_numbers(&self, numbers: std::ops::Range<usize>) {
        let fill = self.store.transact(|tx| {
            let (log, numbers) = (&self.log, numbers.clone());
            async move {
                for number in numbers {
                    log.append(&tx, "b", number.to_string()).await?;
                }
                Ok::<_, LogError>(())
            }
        });
        fill.await.unwrap();
    }
}

#[tokio::test]
async fn a_key_keeps_its_order_over_pages_while_it_is_appended_to() {
    const BATCH: usize = crate::limits::LOG_BATCH;
    const COUNT: usize = 2 * BATCH + 10;
    let place = Place::new().await;
    place.append_numbers(0..BATCH).await;
    let owner = place.own().await;
    let mut pages = Pages::new("l", 0);
    assert!(owner.step(&mut pages).await.unwrap());
    // The page took all there was and was full. Versions begin anew, most of them behind where it ended.
    place.append_numbers(BATCH..COUNT).await;
    owner.run_until_idle(&mut pages).await;
    owner.move_all().await.unwrap();
    let snapshot = place.store.snapshot().await.unwrap();
    let mut found = Vec::new();
    while found.len() < COUNT {
        let page = place.log.read(&snapshot, 0, found.len() as u64 + 1, BATCH).await.unwrap();
        assert!(!page.is_empty());
        found.extend(page.into_iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()));
    }
    assert!(found.into_iter().eq((0..COUNT).map(|number| number.to_string())));
}

impl LogOwner {
    async fn run_until_idle(&self, pages: &mut Pages) {
        while self.step(pages).await.unwrap() {}
    }
}
