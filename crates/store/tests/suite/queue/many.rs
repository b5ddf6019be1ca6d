//! Many at once, and more than memory holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold_store::queue::MessageId;
use freehold_store::queue::limits::READY;
use tokio::task::JoinSet;

use super::*;

const PRODUCERS: usize = 16;
const CONSUMERS: usize = 24;
const MESSAGES: usize = 30;

/// What the consumers of a test have seen between them.
#[derive(Default)]
struct Seen {
    in_hand: Mutex<BTreeSet<MessageId>>,
    /// The texts that were dealt with, by group.
    done: Mutex<BTreeMap<String, Vec<String>>>,
    left: AtomicUsize,
}

impl Seen {
    fn take(&self, received: &Received) {
        assert!(self.in_hand.lock().unwrap().insert(received.id), "two have it: {received:?}");
    }

    fn let_go(&self, received: &Received) {
        assert!(self.in_hand.lock().unwrap().remove(&received.id));
    }

    fn finish(&self, received: &Received) {
        let group = received.group.clone().unwrap_or_default();
        self.done.lock().unwrap().entry(group).or_default().push(text(received).to_owned());
        self.left.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Deals with what it receives in order; at times it fails, and gives the rest of the batch back, or lets go of a receive.
async fn consume(owner: QueueOwner, seen: Arc<Seen>, consumer: usize) {
    let mut round = consumer;
    while seen.left.load(Ordering::Relaxed) > 0 {
        round += 1;
        let receive = owner.receive(1 + round % 4, None, NO_WAIT);
        let batch = if round.is_multiple_of(7) {
            // Let go of, unless it was so quick that it is over.
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => continue,
                received = receive => received.unwrap(),
            }
        } else {
            receive.await.unwrap()
        };
        batch.iter().for_each(|received| seen.take(received));
        let fails_at = if round.is_multiple_of(5) { round % 3 } else { batch.len() };
        let (good, bad) = batch.split_at(fails_at.min(batch.len()));
        for received in good {
            seen.finish(received);
            seen.let_go(received);
            owner.acknowledge(&received.receipt).await.unwrap();
        }
        bad.iter().for_each(|received| seen.let_go(received));
        for received in bad {
            owner.negative_acknowledge(&received.receipt, 0).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
}

async fn run(target: &Target, fifo: bool) -> Arc<Seen> {
    let bench = Arc::new(Bench::new(target, Settings { fifo, ..Settings::default() }).await);
    let owner = bench.owner().await;
    let seen = Arc::new(Seen::default());
    seen.left.store(PRODUCERS * MESSAGES, Ordering::Relaxed);
    let mut tasks = JoinSet::new();
    for producer in 0..PRODUCERS {
        let bench = bench.clone();
        tasks.spawn(async move {
            for number in 0..MESSAGES {
                let mut message = Message::new(format!("{producer} {number}"));
                if fifo {
                    // Two producers to a group, so that they meet.
                    message = message.in_group(format!("group {}", producer / 2));
                }
                bench.send(&message).await;
            }
        });
    }
    for consumer in 0..CONSUMERS {
        tasks.spawn(consume(owner.clone(), seen.clone(), consumer));
    }
    tokio::time::timeout(PATIENCE * 3, tasks.join_all()).await.expect("every message is dealt with");
    let counts = owner.counts();
    assert_eq!((counts.visible, counts.in_flight, counts.delayed), (0, 0, 0));
    seen
}

async fn many_producers_and_consumers_lose_and_repeat_nothing(target: &Target) {
    let seen = run(target, false).await;
    let mut done = seen.done.lock().unwrap().remove("").unwrap();
    done.sort();
    let mut sent: Vec<_> =
        (0..PRODUCERS * MESSAGES).map(|index| format!("{} {}", index / MESSAGES, index % MESSAGES)).collect();
    sent.sort();
    assert_eq!(done, sent);
}

async fn many_producers_and_consumers_keep_every_group_s_order(target: &Target) {
    let seen = run(target, true).await;
    let done = seen.done.lock().unwrap();
    assert_eq!(done.len(), PRODUCERS / 2);
    for (group, texts) in done.iter() {
        assert_eq!(texts.len(), 2 * MESSAGES, "{group}");
        for producer in 0..PRODUCERS {
            let start = format!("{producer} ");
            let own: Vec<usize> = texts
                .iter()
                .filter_map(|text| text.strip_prefix(&start))
                .map(|text| text.parse().unwrap())
                .collect();
            assert!(own.is_empty() || own == (0..MESSAGES).collect::<Vec<_>>(), "{group}: {own:?}");
        }
    }
}

/// Sends numbered messages, many to a transaction.
async fn send_many(bench: &Bench, numbers: std::ops::Range<usize>) {
    const BATCH: usize = 3_000;
    for start in numbers.clone().step_by(BATCH) {
        let end = (start + BATCH).min(numbers.end);
        let send = bench.store.transact(|tx| async move {
            for number in start..end {
                bench.queue.enqueue(&tx, &*bench.clock, &Message::new(number.to_string())).await?;
            }
            Ok::<_, QueueError>(())
        });
        send.await.unwrap();
    }
}

async fn receive_all(owner: &QueueOwner, count: usize) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    while numbers.len() < count {
        let receive = owner.receive(1_000, None, Duration::from_secs(3_600));
        for received in tokio::time::timeout(PATIENCE, receive).await.expect("more messages").unwrap() {
            assert!(numbers.insert(text(&received).parse().unwrap()), "received twice");
        }
    }
    numbers
}

async fn a_queue_that_is_longer_than_the_window_is_given_out_whole(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let before = READY + READY / 2;
    send_many(&bench, 0..before).await;
    let owner = bench.owner().await;
    assert_eq!(owner.counts().visible, before, "counted when it was opened");
    let after = before + 2_000;
    send_many(&bench, before..after).await;
    assert_eq!(receive_all(&owner, after).await, (0..after).collect());
    assert_eq!(owner.counts().in_flight, after);
    assert!(receive_now(&owner, 1).await.is_empty());
}

async fn a_burst_that_overflows_the_watch_is_heard_of(target: &Target) {
    let bench = Bench::new(target, Settings::default()).await;
    let owner = bench.owner().await;
    send_many(&bench, 0..2_500).await;
    assert_eq!(receive_all(&owner, 2_500).await, (0..2_500).collect());
}

on_every_engine! {
    many_producers_and_consumers_lose_and_repeat_nothing
    many_producers_and_consumers_keep_every_group_s_order
    a_queue_that_is_longer_than_the_window_is_given_out_whole
    a_burst_that_overflows_the_watch_is_heard_of
}
