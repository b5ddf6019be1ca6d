//! A message's life: sent, delayed, received, extended, given back, acknowledged, expired, moved, purged.

use freehold_store::queue::{Counts, MaxReceives, Receipt, Stale, collect_deleted};
use freehold_store::{KeyRange, Read, StoreError, keyspace};

use super::*;

fn counts(visible: usize, in_flight: usize, delayed: usize) -> Counts {
    Counts { visible, in_flight, delayed }
}

async fn what_is_sent_is_received_once_and_gone_when_acknowledged(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    assert!(receive_now(&owner, 10).await.is_empty());
    let message = Message { attributes: "attributes".into(), ..Message::new("hello") };
    let sent = bench.send(&message).await;
    let received = receive_one(&owner).await;
    assert_eq!((text(&received), &received.attributes[..]), ("hello", &b"attributes"[..]));
    assert_eq!((received.id, received.receives, received.group.as_deref()), (sent.id, 1, None));
    assert_eq!(received.sent_at_ms, bench.now_ms());
    assert_eq!(owner.counts(), counts(0, 1, 0));
    assert!(receive_now(&owner, 10).await.is_empty(), "it is in flight");
    owner.acknowledge(&received.receipt).await.unwrap();
    assert_eq!(owner.counts(), counts(0, 0, 0));
    bench.pass(3_600_000);
    assert!(receive_now(&owner, 10).await.is_empty());
    assert_eq!(bench.keys().await, 0, "nothing is left in the store");
}

async fn a_message_that_is_not_acknowledged_comes_back(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a"]).await;
    let first = receive_one(&owner).await;
    bench.pass(29_999);
    assert!(receive_now(&owner, 1).await.is_empty());
    bench.pass(1);
    let second = receive_one(&owner).await;
    assert_eq!((second.id, second.receives), (first.id, 2));
    assert_eq!(second.first_received_at_ms, first.first_received_at_ms);
    let error = owner.acknowledge(&first.receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Replaced)), "{error}");
    bench.pass(60_000);
    owner.acknowledge(&second.receipt).await.unwrap();
    let error = owner.acknowledge(&second.receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Gone)), "{error}");
}

async fn a_waiting_receive_hears_of_a_message_and_of_the_clock(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    let waiting = tokio::spawn({
        let owner = owner.clone();
        async move { receive_one(&owner).await }
    });
    bench.send(&Message { delay_ms: Some(900_000), ..Message::new("later") }).await;
    until(&owner, |counts| counts.delayed == 1).await;
    assert!(!waiting.is_finished());
    bench.pass(899_999);
    assert_eq!(owner.counts(), counts(0, 0, 1));
    bench.pass(1);
    let later = waiting.await.unwrap();
    assert_eq!(text(&later), "later");
    owner.acknowledge(&later.receipt).await.unwrap();
    let none = tokio::spawn({
        let owner = owner.clone();
        async move { owner.receive(1, None, Duration::from_secs(20)).await.unwrap() }
    });
    // It begins to wait at any time.
    while !none.is_finished() {
        bench.pass(1_000);
        tokio::task::yield_now().await;
    }
    assert!(none.await.unwrap().is_empty());
}

async fn a_receive_that_is_dropped_loses_nothing(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a"]).await;
    until_visible(&owner, 1).await;
    for polls in 1..40 {
        let mut receive = Box::pin(owner.receive(1, None, NO_WAIT));
        let mut ended = false;
        for _ in 0..polls {
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(receive.as_mut().poll(context)));
            match polled.await {
                std::task::Poll::Ready(received) => {
                    ended = true;
                    let received = received.unwrap().remove(0);
                    assert_eq!(received.receives, 1, "what nobody got isn't counted");
                    owner.acknowledge(&received.receipt).await.unwrap();
                    break;
                }
                std::task::Poll::Pending => tokio::task::yield_now().await,
            }
        }
        drop(receive);
        if ended {
            bench.send_texts(&["a"]).await;
        }
        until_visible(&owner, 1).await;
    }
    assert_eq!(receive_one(&owner).await.receives, 1);
}

async fn a_message_can_be_kept_longer_and_given_back(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a"]).await;
    let first = receive_one(&owner).await;
    bench.pass(20_000);
    owner.extend(&first.receipt, 60_000).await.unwrap();
    bench.pass(59_999);
    assert!(receive_now(&owner, 1).await.is_empty());
    owner.extend(&first.receipt, 0).await.unwrap();
    let error = owner.extend(&first.receipt, 5_000).await.unwrap_err();
    assert!(matches!(error, QueueError::NotInFlight), "{error}");
    let second = receive_one(&owner).await;
    owner.negative_acknowledge(&second.receipt, 5_000).await.unwrap();
    assert_eq!(owner.counts(), counts(0, 0, 1));
    let error = owner.acknowledge(&second.receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Replaced)), "{error}");
    bench.pass(5_000);
    let third = receive_one(&owner).await;
    assert_eq!(third.receives, 3);
    let error = owner.extend(&third.receipt, 12 * 3_600_000 + 1).await.unwrap_err();
    assert!(matches!(error, QueueError::TooLarge { .. }), "{error}");
    bench.pass(10_000);
    let error = owner.extend(&third.receipt, 12 * 3_600_000 - 9_999).await.unwrap_err();
    assert!(matches!(error, QueueError::TooLarge { .. }), "in all, since it was received: {error}");
    owner.extend(&third.receipt, 12 * 3_600_000 - 10_000).await.unwrap();
}

async fn an_acknowledgement_belongs_to_its_transaction(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a", "b"]).await;
    until_visible(&owner, 2).await;
    let received = receive_now(&owner, 2).await;
    let (owner_seen, received_seen) = (&owner, &received);
    let failed = bench.store.transact(|tx| async move {
        owner_seen.acknowledge_in(&tx, &received_seen[0].receipt).await?;
        Err::<(), _>(QueueError::NotInFlight)
    });
    failed.await.unwrap_err();
    assert_eq!(owner.counts(), counts(0, 2, 0), "nothing of it happened");
    let done = bench.store.transact(|tx| async move {
        for received in received_seen {
            owner_seen.acknowledge_in(&tx, &received.receipt).await?;
        }
        tx.put(crate::suite::key("result"), "done");
        Ok::<_, QueueError>(())
    });
    done.await.unwrap();
    assert_eq!(crate::suite::get(&bench.store, "result").await.as_deref(), Some("done"));
    until(&owner, |now| *now == counts(0, 0, 0)).await;
}

async fn receipts_are_texts_and_of_one_queue(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let other = Queue::new("other").unwrap();
    bench.create(&other, &Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a"]).await;
    let receipt = receive_one(&owner).await.receipt.to_string().parse::<Receipt>().unwrap();
    let error = bench.owner_of(&other).await.acknowledge(&receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptInvalid { .. }), "{error}");
    owner.acknowledge(&receipt).await.unwrap();
}

async fn a_message_received_too_often_moves_whole(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let dead = Queue::new("dead").unwrap();
    bench.create(&dead, &Settings { retention_ms: 3_600_000, ..Settings::default() }).await;
    let max_receives = Some(MaxReceives { count: 2, dead_letter: "dead".to_owned() });
    bench.configure(&Settings { max_receives, ..Settings::default() }).await.unwrap();
    let (owner, dead_owner) = (bench.owner().await, bench.owner_of(&dead).await);
    let sent = bench.send(&Message { attributes: "more".into(), ..Message::new("poison") }).await;
    let sent_at_ms = bench.now_ms();
    for receives in 1..=2 {
        let received = receive_one(&owner).await;
        assert_eq!(received.receives, receives);
        owner.negative_acknowledge(&received.receipt, 30_000).await.unwrap();
        bench.pass(30_000);
    }
    assert!(receive_now(&owner, 10).await.is_empty());
    assert_eq!(owner.counts(), counts(0, 0, 0));
    let moved = receive_one(&dead_owner).await;
    assert_eq!((text(&moved), &moved.attributes[..]), ("poison", &b"more"[..]));
    assert_eq!((moved.id, moved.sent_at_ms, moved.receives), (sent.id, sent_at_ms, 1));
    bench.pass(3_600_000 - 60_000);
    assert!(receive_now(&dead_owner, 1).await.is_empty(), "its retention counts from when it was sent");
    until_keys(&bench, 0).await;
}

async fn without_its_dead_letter_queue_a_message_stays(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let dead = Queue::new("dead").unwrap();
    bench.create(&dead, &Settings::default()).await;
    let max_receives = Some(MaxReceives { count: 1, dead_letter: "dead".to_owned() });
    bench.configure(&Settings { max_receives, ..Settings::default() }).await.unwrap();
    let owner = bench.owner().await;
    bench
        .store
        .transact(|tx| {
            let dead = &dead;
            async move { dead.delete(&tx).await }
        })
        .await
        .unwrap();
    bench.send_texts(&["a"]).await;
    for receives in 1..=3 {
        assert_eq!(receive_one(&owner).await.receives, receives);
        bench.pass(30_000);
    }
}

async fn expired_messages_are_never_given_out_and_are_deleted(target: &Target) {
    let bench = Bench::new(target, Settings { retention_ms: 100_000, ..Settings::default() }).await;
    let owner = bench.owner().await;
    bench.send_texts(&["in flight", "waiting"]).await;
    until_visible(&owner, 2).await;
    let received = receive_now(&owner, 1).await;
    owner.extend(&received[0].receipt, 200_000).await.unwrap();
    bench.pass(99_999);
    assert_eq!(owner.counts(), counts(1, 1, 0));
    bench.pass(1);
    assert!(receive_now(&owner, 10).await.is_empty());
    assert_eq!(owner.counts(), counts(0, 0, 0));
    until_keys(&bench, 0).await;
    let error = owner.acknowledge(&received[0].receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Gone)), "{error}");
}

async fn changed_settings_hold_for_what_is_there(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a"]).await;
    let changed = Settings { retention_ms: 50_000, visibility_timeout_ms: 5_000, ..Settings::default() };
    bench.configure(&changed).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while owner.settings() != changed {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let received = receive_one(&owner).await;
    assert_eq!(received.visible_at_ms, bench.now_ms() + 5_000);
    bench.pass(50_000);
    assert!(receive_now(&owner, 1).await.is_empty());
    until_keys(&bench, 0).await;
}

async fn a_purged_queue_is_empty_and_goes_on(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    bench.send_texts(&["a", "b", "c"]).await;
    until_visible(&owner, 3).await;
    let received = receive_now(&owner, 1).await;
    bench
        .store
        .transact(|tx| {
            let queue = &bench.queue;
            async move { queue.purge(&tx).await }
        })
        .await
        .unwrap();
    until(&owner, |now| *now == counts(0, 0, 0)).await;
    until_keys(&bench, 0).await;
    let error = owner.acknowledge(&received[0].receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Gone)), "{error}");
    bench.send_texts(&["d"]).await;
    assert_eq!(text(&receive_one(&owner).await), "d");
}

async fn a_deleted_queue_is_gone_and_a_new_one_of_its_name_is_empty(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let session = bench.session().await;
    let lease = bench.lease(&session, &bench.queue).await;
    let owner = QueueOwner::open(&bench.store, &bench.shared, lease.clone(), &bench.queue).await.unwrap();
    bench.send_texts(&["a"]).await;
    bench
        .store
        .transact(|tx| {
            let queue = &bench.queue;
            async move { queue.delete(&tx).await }
        })
        .await
        .unwrap();
    assert!(matches!(owner.stopped().await, QueueError::NoSuchQueue { .. }));
    let error = owner.receive(1, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, QueueError::NoSuchQueue { .. }), "{error}");
    let error = bench.try_send(&Message::new("b")).await.unwrap_err();
    assert!(matches!(error, QueueError::NoSuchQueue { .. }), "{error}");
    bench.create(&bench.queue, &Settings::default()).await;
    let owner = QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.unwrap();
    assert!(receive_now(&owner, 1).await.is_empty());
    until_keys(&bench, 0).await;
}

async fn what_a_deleted_queue_leaves_can_be_collected_by_anyone(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    bench.send_texts(&["a", "b"]).await;
    bench.send(&Message { deduplication: Some("once".to_owned()), ..Message::new("c") }).await;
    assert_eq!(bench.keys().await, 8);
    bench
        .store
        .transact(|tx| {
            let queue = &bench.queue;
            async move { queue.delete(&tx).await }
        })
        .await
        .unwrap();
    assert!(collect_deleted(&bench.store).await.unwrap() > 0);
    assert_eq!(bench.keys().await, 0);
    assert_eq!(collect_deleted(&bench.store).await.unwrap(), 0);
}

async fn bad_input_is_a_typed_error_that_leaves_no_trace(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let fifo = Queue::new("fifo").unwrap();
    bench.create(&fifo, &Settings { fifo: true, ..Settings::default() }).await;
    let nowhere = Queue::new("nowhere").unwrap();
    let send = |queue: &Queue, message: Message| {
        let (bench, queue) = (&bench, queue.clone());
        async move {
            let (queue, message) = (&queue, &message);
            let send =
                bench.store.transact(|tx| async move { queue.enqueue(&tx, &*bench.clock, message).await });
            send.await.unwrap_err()
        }
    };
    let message = || Message::new("a");
    assert!(matches!(send(&nowhere, message()).await, QueueError::NoSuchQueue { .. }));
    assert!(matches!(send(&fifo, message()).await, QueueError::GroupMissing { .. }));
    assert!(matches!(send(&fifo, message().in_group("")).await, QueueError::TooSmall { .. }));
    assert!(matches!(send(&bench.queue, message().in_group("a")).await, QueueError::GroupNotAllowed { .. }));
    let delayed = Message { delay_ms: Some(1), ..message().in_group("a") };
    assert!(matches!(send(&fifo, delayed).await, QueueError::DelayNotAllowed { .. }));
    let long = Message { delay_ms: Some(u64::MAX), ..message() };
    assert!(matches!(send(&bench.queue, long).await, QueueError::TooLarge { .. }));
    assert!(matches!(send(&bench.queue, Message::new(vec![0; 3 << 20])).await, QueueError::TooLarge { .. }));
    let dead = |dead_letter: &str| Settings {
        max_receives: Some(MaxReceives { count: 1, dead_letter: dead_letter.to_owned() }),
        ..Settings::default()
    };
    for name in ["nowhere", "queue", "fifo"] {
        let error = bench.configure(&dead(name)).await.unwrap_err();
        assert!(matches!(error, QueueError::DeadLetter { .. }), "{name}: {error}");
    }
    let error = bench.configure(&Settings { fifo: true, ..Settings::default() }).await.unwrap_err();
    assert!(matches!(error, QueueError::KindFixed { .. }), "{error}");
    let error = bench.configure(&Settings { retention_ms: 0, ..Settings::default() }).await.unwrap_err();
    assert!(matches!(error, QueueError::TooSmall { .. }), "{error}");
    let lease = bench.lease(&bench.session().await, &fifo).await;
    let error =
        QueueOwner::open(&bench.store, &bench.shared, lease, &bench.queue).await.map(drop).unwrap_err();
    assert!(matches!(error, QueueError::WrongLease { .. }), "{error}");
    let owner = bench.owner().await;
    assert!(matches!(owner.receive(0, None, NO_WAIT).await.unwrap_err(), QueueError::TooSmall { .. }));
    assert!(matches!(
        owner.receive(1, Some(u64::MAX), NO_WAIT).await.unwrap_err(),
        QueueError::TooLarge { .. }
    ));
    assert_eq!(bench.keys().await, 0);
}

async fn a_closed_store_ends_every_wait(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    let waiting = tokio::spawn({
        let owner = owner.clone();
        async move { owner.receive(1, None, PATIENCE).await.unwrap_err() }
    });
    bench.store.close().await;
    assert!(matches!(waiting.await.unwrap(), QueueError::Store(StoreError::Closed)));
}

impl Bench {
    fn now_ms(&self) -> u64 {
        use freehold_base::clock::Clock;
        self.clock.wall_ms()
    }

    async fn configure(&self, settings: &Settings) -> Result<(), QueueError> {
        self.store.transact(|tx| async move { self.queue.configure(&tx, settings).await }).await
    }

    /// How many keys all queues have in the store, but for their own records.
    async fn keys(&self) -> usize {
        let snapshot = self.store.snapshot().await.unwrap();
        let mut keys = 0;
        let tables = [
            keyspace::QUEUE_MESSAGES,
            keyspace::QUEUE_BODIES,
            keyspace::QUEUE_SEEN,
            keyspace::QUEUE_FORGET,
            keyspace::QUEUE_DOOMED,
        ];
        for table in tables {
            let range = KeyRange::prefix(&table.key(&[]));
            keys += snapshot.scan(range, freehold_store::Direction::Forward, 1_000).await.unwrap().len();
        }
        keys
    }
}

pub(crate) async fn until_keys(bench: &Bench, count: usize) {
    let wait = async {
        while bench.keys().await != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("what is over is deleted");
}

async fn until(owner: &QueueOwner, reached: impl Fn(&Counts) -> bool) {
    let wait = async {
        while !reached(&owner.counts()) {
            tokio::task::yield_now().await;
        }
    };
    let now = || owner.counts();
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{:?}", now()));
}

on_every_engine! {
    what_is_sent_is_received_once_and_gone_when_acknowledged
    a_message_that_is_not_acknowledged_comes_back
    a_waiting_receive_hears_of_a_message_and_of_the_clock
    a_receive_that_is_dropped_loses_nothing
    a_message_can_be_kept_longer_and_given_back
    an_acknowledgement_belongs_to_its_transaction
    receipts_are_texts_and_of_one_queue
    a_message_received_too_often_moves_whole
    without_its_dead_letter_queue_a_message_stays
    expired_messages_are_never_given_out_and_are_deleted
    changed_settings_hold_for_what_is_there
    a_purged_queue_is_empty_and_goes_on
    a_deleted_queue_is_gone_and_a_new_one_of_its_name_is_empty
    what_a_deleted_queue_leaves_can_be_collected_by_anyone
    bad_input_is_a_typed_error_that_leaves_no_trace
    a_closed_store_ends_every_wait
}
