//! FIFO: the order of a group, and deduplication.

use freehold_store::queue::{DeduplicationScope, MaxReceives, Stale};

use super::behaviour::until_keys;
use super::*;

fn fifo() -> Settings {
    Settings { fifo: true, ..Settings::default() }
}

async fn send_to(bench: &Bench, group: &str, texts: &[&str]) {
    for text in texts {
        bench.send(&Message::new(text.to_string()).in_group(group)).await;
    }
}

async fn a_group_is_given_out_in_order_and_waits_for_what_is_in_flight(target: &Target) {
    let bench = Bench::new(target, fifo()).await;
    let owner = bench.owner().await;
    send_to(&bench, "a", &["a1", "a2", "a3"]).await;
    bench.pass(1);
    send_to(&bench, "b", &["b1", "b2"]).await;
    until_visible(&owner, 5).await;
    let first = receive_now(&owner, 2).await;
    assert_eq!(texts(&first), ["a1", "a2"], "several of a group at once");
    let second = receive_now(&owner, 1).await;
    assert_eq!(texts(&second), ["b1"]);
    assert!(receive_now(&owner, 10).await.is_empty(), "both groups wait");
    owner.acknowledge(&first[0].receipt).await.unwrap();
    assert!(receive_now(&owner, 10).await.is_empty(), "a2 is in flight");
    owner.acknowledge(&first[1].receipt).await.unwrap();
    assert_eq!(texts(&receive_now(&owner, 10).await), ["a3"]);
    owner.acknowledge(&second[0].receipt).await.unwrap();
    assert_eq!(texts(&receive_now(&owner, 10).await), ["b2"]);
}

async fn a_failure_keeps_the_order(target: &Target) {
    let bench = Bench::new(target, fifo()).await;
    let owner = bench.owner().await;
    send_to(&bench, "a", &["a1", "a2", "a3"]).await;
    until_visible(&owner, 3).await;
    let received = receive_now(&owner, 2).await;
    owner.negative_acknowledge(&received[0].receipt, 40_000).await.unwrap();
    assert!(receive_now(&owner, 10).await.is_empty());
    bench.pass(30_000);
    assert!(receive_now(&owner, 10).await.is_empty(), "a2 is visible again, behind a1");
    bench.pass(10_000);
    let again = receive_now(&owner, 10).await;
    assert_eq!(texts(&again), ["a1", "a2", "a3"]);
    assert_eq!(again.iter().map(|received| received.receives).collect::<Vec<_>>(), [2, 2, 1]);
}

async fn a_receipt_holds_no_longer_than_the_visibility_timeout(target: &Target) {
    let bench = Bench::new(target, fifo()).await;
    let owner = bench.owner().await;
    send_to(&bench, "a", &["a1"]).await;
    let received = receive_one(&owner).await;
    bench.pass(30_000);
    let error = owner.acknowledge(&received.receipt).await.unwrap_err();
    assert!(matches!(error, QueueError::ReceiptStale(Stale::Expired)), "{error}");
    assert_eq!(receive_one(&owner).await.receives, 2);
}

async fn a_duplicate_is_accepted_and_not_stored_for_five_minutes(target: &Target) {
    let bench = Bench::new(target, fifo()).await;
    let owner = bench.owner().await;
    let message = |group: &str| Message {
        deduplication: Some("once".to_owned()),
        ..Message::new(group.to_owned()).in_group(group)
    };
    let first = bench.send(&message("a")).await;
    let received = receive_one(&owner).await;
    owner.acknowledge(&received.receipt).await.unwrap();
    bench.pass(299_999);
    let second = bench.send(&message("b")).await;
    assert_eq!((second.id, second.sequence, second.deduplicated), (first.id, first.sequence, true));
    bench.pass(1);
    let third = bench.send(&message("b")).await;
    assert!(!third.deduplicated && third.id != first.id);
    let received = receive_one(&owner).await;
    assert_eq!(received.id, third.id);
    owner.acknowledge(&received.receipt).await.unwrap();
    bench.pass(300_000);
    until_keys(&bench, 0).await;
}

async fn a_deduplication_id_can_be_of_its_group(target: &Target) {
    let settings = Settings { deduplication_scope: DeduplicationScope::Group, ..fifo() };
    let bench = Bench::new(target, settings).await;
    for (group, deduplicated) in [("a", false), ("b", false), ("a", true)] {
        let message = Message { deduplication: Some("once".to_owned()), ..Message::new("x").in_group(group) };
        assert_eq!(bench.send(&message).await.deduplicated, deduplicated, "{group}");
    }
}

async fn the_order_of_a_group_is_that_of_its_commits(target: &Target) {
    const PRODUCERS: usize = 8;
    const MESSAGES: usize = 12;
    let bench = Arc::new(Bench::new(target, fifo()).await);
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let bench = bench.clone();
        tasks.spawn(async move {
            let mut last = 0;
            for number in 0..MESSAGES {
                let sent = bench.send(&Message::new(format!("{producer} {number}")).in_group("a")).await;
                assert!(sent.sequence > last);
                last = sent.sequence;
            }
        });
    }
    tasks.join_all().await;
    let owner = bench.owner().await;
    let received = receive_now(&owner, 1_000).await;
    assert_eq!(received.len(), PRODUCERS * MESSAGES);
    assert!(received.is_sorted_by(|one, next| one.sequence < next.sequence));
    for producer in 0..PRODUCERS {
        let start = format!("{producer} ");
        let own: Vec<_> = texts(&received).into_iter().filter(|text| text.starts_with(&start)).collect();
        let sent: Vec<_> = (0..MESSAGES).map(|number| format!("{producer} {number}")).collect();
        assert_eq!(own, sent);
    }
}

async fn a_dead_letter_keeps_its_group_and_lets_the_next_through(target: &Target) {
    let bench = Bench::new(target, fifo()).await;
    let dead = Queue::new("dead").unwrap();
    bench.create(&dead, &Settings { retention_ms: 50_000, ..fifo() }).await;
    let max_receives = Some(MaxReceives { count: 1, dead_letter: "dead".to_owned() });
    let settings = Settings { max_receives, ..fifo() };
    let configure = bench.store.transact(|tx| {
        let (queue, settings) = (&bench.queue, &settings);
        async move { queue.configure(&tx, settings).await }
    });
    configure.await.unwrap();
    let (owner, dead_owner) = (bench.owner().await, bench.owner_of(&dead).await);
    let sent = bench.send(&Message::new("a1").in_group("a")).await;
    send_to(&bench, "a", &["a2"]).await;
    assert_eq!(text(&receive_one(&owner).await), "a1");
    bench.pass(30_000);
    assert_eq!(text(&receive_one(&owner).await), "a2", "a1 has moved");
    let moved = receive_one(&dead_owner).await;
    assert_eq!((moved.id, moved.group.as_deref(), text(&moved)), (sent.id, Some("a"), "a1"));
    bench.pass(49_999);
    assert_eq!(dead_owner.counts().visible, 1, "its retention counts from when it moved");
    bench.pass(1);
    assert_eq!(dead_owner.counts().visible, 0);
}

async fn a_queue_s_delay_holds_for_each_message(target: &Target) {
    let bench = Bench::new(target, Settings { delay_ms: 5_000, ..fifo() }).await;
    let owner = bench.owner().await;
    send_to(&bench, "a", &["a1"]).await;
    bench.pass(3_000);
    send_to(&bench, "a", &["a2"]).await;
    bench.pass(2_000);
    assert_eq!(text(&receive_one(&owner).await), "a1");
    bench.pass(3_000);
    assert_eq!(owner.counts().in_flight, 1);
    assert!(receive_now(&owner, 1).await.is_empty());
}

on_every_engine! {
    a_group_is_given_out_in_order_and_waits_for_what_is_in_flight
    a_failure_keeps_the_order
    a_receipt_holds_no_longer_than_the_visibility_timeout
    a_duplicate_is_accepted_and_not_stored_for_five_minutes
    a_deduplication_id_can_be_of_its_group
    the_order_of_a_group_is_that_of_its_commits
    a_dead_letter_keeps_its_group_and_lets_the_next_through
    a_queue_s_delay_holds_for_each_message
}
