//! One owner after another: what a former one does fails, and the next goes on where it stopped.

use freehold_store::queue::Stale;

use super::*;

/// An owner whose session has run out, and the next one.
async fn takeover(bench: &Bench) -> (QueueOwner, QueueOwner) {
    let (first, second) = (bench.session().await, bench.session().await);
    let lease = bench.lease(&first, &bench.queue).await;
    let stale = QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.unwrap();
    bench.send_texts(&["acknowledged", "in flight", "waiting"]).await;
    until_visible(&stale, 3).await;
    bench.pass(10_000);
    second.renew().await.unwrap();
    let lease = bench.lease(&second, &bench.queue).await;
    let fresh = QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.unwrap();
    (stale, fresh)
}

async fn every_step_of_a_stale_owner_is_fenced_and_writes_nothing(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let (first, second) = (bench.session().await, bench.session().await);
    let lease = bench.lease(&first, &bench.queue).await;
    let open = || QueueOwner::open(&bench.store, &bench.shared, lease.clone(), &bench.queue);
    // One owner for each step, since the first fenced step ends its owner.
    let stale = [open().await.unwrap(), open().await.unwrap(), open().await.unwrap(), open().await.unwrap()];
    bench.send_texts(&["a", "b"]).await;
    for owner in &stale {
        until_visible(owner, 2).await;
    }
    let received = receive_one(&stale[0]).await;
    bench.pass(10_000);
    second.renew().await.unwrap();
    let lease = bench.lease(&second, &bench.queue).await;
    let fresh = QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.unwrap();
    let before = bench.dump().await;
    let receipt = &received.receipt;
    let results = [
        stale[0].receive(2, None, PATIENCE).await.map(drop),
        stale[1].acknowledge(receipt).await,
        stale[2].extend(receipt, 1_000).await,
        stale[3].negative_acknowledge(receipt, 1_000).await,
    ];
    for (step, result) in results.into_iter().enumerate() {
        assert!(result.unwrap_err().is_fenced(), "step {step}");
        assert!(stale[step].stopped().await.is_fenced(), "step {step}");
        assert!(stale[step].receive(1, None, PATIENCE).await.unwrap_err().is_fenced(), "for good");
    }
    assert_eq!(bench.dump().await, before);
    fresh.acknowledge(receipt).await.unwrap();
    assert_ne!(receive_one(&fresh).await.id, received.id);
}

async fn a_waiting_receive_of_a_stale_owner_ends_when_there_is_a_message(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let (stale, fresh) = takeover(&bench).await;
    for _ in 0..3 {
        receive_one(&fresh).await;
    }
    let error = stale.receive(1, None, PATIENCE).await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    bench.pass(30_000);
    assert_eq!(receive_one(&fresh).await.receives, 2);
}

async fn the_next_owner_goes_on_where_the_last_stopped(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let session = bench.session().await;
    let lease = bench.lease(&session, &bench.queue).await;
    let first = QueueOwner::open(&bench.store, &bench.shared, lease.clone(), &bench.queue).await.unwrap();
    bench.send_texts(&["a", "b", "c"]).await;
    bench.send(&Message { delay_ms: Some(60_000), ..Message::new("d") }).await;
    let done = receive_one(&first).await;
    first.acknowledge(&done.receipt).await.unwrap();
    let in_flight = receive_one(&first).await;
    drop(first);
    lease.release().await.unwrap();
    // Another process, where the store can be reopened; else another owner.
    let bench = bench.reopened(target).await;
    let next = bench.owner().await;
    let counts = next.counts();
    assert_eq!((counts.visible, counts.in_flight, counts.delayed), (1, 1, 1));
    let third = receive_one(&next).await;
    assert!(third.id != done.id && third.id != in_flight.id);
    next.extend(&in_flight.receipt, 20_000).await.unwrap();
    bench.pass(20_000);
    let again = receive_one(&next).await;
    assert_eq!((again.id, again.receives), (in_flight.id, 2), "it was given out once before");
    let error = next.acknowledge(&in_flight.receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Replaced)), "{error}");
    next.acknowledge(&again.receipt).await.unwrap();
    next.acknowledge(&third.receipt).await.unwrap();
    bench.pass(40_000);
    let last = receive_one(&next).await;
    assert_eq!(text(&last), "d");
    next.acknowledge(&last.receipt).await.unwrap();
    bench.pass(3_600_000);
    assert!(receive_now(&next, 10).await.is_empty());
}

async fn a_fifo_group_stays_held_by_what_is_in_flight(target: &Target) {
    let bench = Bench::new(target, Settings { fifo: true, ..Settings::default() }).await;
    let session = bench.session().await;
    let lease = bench.lease(&session, &bench.queue).await;
    let first = QueueOwner::open(&bench.store, &bench.shared, lease.clone(), &bench.queue).await.unwrap();
    for text in ["a1", "a2"] {
        bench.send(&Message::new(text).in_group("a")).await;
    }
    let received = receive_one(&first).await;
    drop(first);
    let next = QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.unwrap();
    assert!(receive_now(&next, 10).await.is_empty());
    next.acknowledge(&received.receipt).await.unwrap();
    assert_eq!(text(&receive_one(&next).await), "a2");
}

impl Bench {
    /// The same queue in a store that was closed and opened again, where it keeps what it had.
    async fn reopened(self, target: &Target) -> Self {
        if !target.keeps {
            return self;
        }
        self.store.close().await;
        let Self { store, clock, shared, queue } = self;
        drop(store);
        Self { store: target.open().await, clock, shared, queue }
    }

    /// Everything that lies under the queue's prefixes.
    async fn dump(&self) -> Vec<(freehold_store::Key, freehold_store::Bytes)> {
        use freehold_store::{Direction, KeyRange, Read, keyspace};
        let snapshot = self.store.snapshot().await.unwrap();
        let mut entries = Vec::new();
        for table in [keyspace::QUEUES, keyspace::QUEUE_MESSAGES, keyspace::QUEUE_BODIES] {
            let range = KeyRange::prefix(&table.key(&[]));
            entries.extend(snapshot.scan(range, Direction::Forward, 1_000).await.unwrap());
        }
        entries
    }
}

on_every_engine! {
    every_step_of_a_stale_owner_is_fenced_and_writes_nothing
    a_waiting_receive_of_a_stale_owner_ends_when_there_is_a_message
    the_next_owner_goes_on_where_the_last_stopped
    a_fifo_group_stays_held_by_what_is_in_flight
}
