//! Queues: what is sent is received until it is acknowledged, by one at a time, in order where there is one.

mod behaviour;
mod fifo;
mod many;
mod owners;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use freehold_base::clock::{ManualClock, SharedClock};
use freehold_store::queue::{Enqueued, Message, Queue, QueueError, QueueOwner, Received, Settings};
use freehold_store::{Lease, Session, Store};

use super::Target;

/// How long a session lives.
const DURATION: Duration = Duration::from_secs(10);
/// Enough for what has been sent to be heard of; nothing waits that long unless it is lost.
const PATIENCE: Duration = Duration::from_secs(60);
const NO_WAIT: Duration = Duration::ZERO;

/// A store, a clock that is moved by hand, and a queue.
pub(crate) struct Bench {
    store: Store,
    clock: Arc<ManualClock>,
    shared: SharedClock,
    queue: Queue,
}

impl Bench {
    async fn new(target: &Target, settings: Settings) -> Self {
        let store = target.open().await;
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_000_000)));
        let bench = Self { store, shared: clock.clone(), clock, queue: Queue::new("queue").unwrap() };
        bench.create(&bench.queue, &settings).await;
        bench
    }

    async fn create(&self, queue: &Queue, settings: &Settings) {
        let create = self.store.transact(|tx| async move { queue.create(&tx, settings).await });
        create.await.unwrap();
    }

    async fn session(&self) -> Session {
        Session::start_expiring(&self.store, &self.shared, DURATION).await.unwrap()
    }

    async fn lease(&self, session: &Session, queue: &Queue) -> Lease {
        session.acquire(&queue.lease_name()).await.unwrap().unwrap()
    }

    async fn owner_of(&self, queue: &Queue) -> QueueOwner {
        let lease = self.lease(&self.session().await, queue).await;
        QueueOwner::open(&self.store, &self.shared, lease, queue).await.unwrap()
    }

    async fn owner(&self) -> QueueOwner {
        self.owner_of(&self.queue).await
    }

    async fn try_send(&self, message: &Message) -> Result<Enqueued, QueueError> {
        let send =
            self.store.transact(|tx| async move { self.queue.enqueue(&tx, &*self.clock, message).await });
        send.await
    }

    async fn send(&self, message: &Message) -> Enqueued {
        self.try_send(message).await.unwrap()
    }

    async fn send_texts(&self, texts: &[&str]) {
        for text in texts {
            self.send(&Message::new(text.to_string())).await;
        }
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

fn text(received: &Received) -> &str {
    std::str::from_utf8(&received.body).unwrap()
}

/// Receives one message, which must be there or on its way. By the machine's clock, so that no other clock has to move.
async fn receive_one(owner: &QueueOwner) -> Received {
    let receive = owner.receive(1, None, Duration::from_secs(3_600));
    let mut received = tokio::time::timeout(PATIENCE, receive).await.expect("a message").unwrap();
    assert_eq!(received.len(), 1);
    received.remove(0)
}

/// Waits until the owner knows of this many messages that can be given out.
async fn until_visible(owner: &QueueOwner, count: usize) {
    let wait = async {
        while owner.counts().visible != count {
            tokio::task::yield_now().await;
        }
    };
    let counts = || owner.counts();
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{count} expected: {:?}", counts()));
}

async fn receive_now(owner: &QueueOwner, max: usize) -> Vec<Received> {
    owner.receive(max, None, NO_WAIT).await.unwrap()
}

fn texts(received: &[Received]) -> Vec<&str> {
    received.iter().map(text).collect()
}
