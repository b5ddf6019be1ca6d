//! Groups and poisoning, on a backend whose writes the test holds back or lets fail.

use std::sync::mpsc;

use tokio::task::JoinSet;

use super::*;

/// A backend that does nothing until it is told how: each write waits for one outcome.
#[derive(Clone)]
struct Scripted {
    outcomes: Arc<Mutex<mpsc::Receiver<Outcome>>>,
    begun: mpsc::Sender<usize>,
}

enum Outcome {
    Done,
    Failed,
    Panic,
}

#[derive(Clone)]
struct Empty;

impl BackendSnapshot for Empty {
    fn get(&self, _: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _: &KeyRange, _: Direction, _: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        Ok(Vec::new())
    }
}

impl Backend for Scripted {
    type Snapshot = Empty;

    fn snapshot(&self) -> Empty {
        Empty
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        self.begun.send(writes.len()).unwrap();
        match self.outcomes.lock().unwrap().recv().unwrap() {
            Outcome::Done => Ok(()),
            Outcome::Failed => Err(StoreError::engine("write a batch", "the disk is gone")),
            Outcome::Panic => panic!("as a damaged engine may"),
        }
    }
}

type Script = (Arc<LocalEngine<Scripted>>, mpsc::Sender<Outcome>, mpsc::Receiver<usize>);

fn scripted() -> Script {
    let (outcome, outcomes) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let backend = Scripted { outcomes: Arc::new(Mutex::new(outcomes)), begun };
    (Arc::new(LocalEngine::start(backend).unwrap()), outcome, begins)
}

fn write(engine: &Arc<LocalEngine<Scripted>>, tasks: &mut JoinSet<Result<(), StoreError>>, number: u8) {
    let engine = engine.clone();
    tasks.spawn(async move {
        let view = engine.view().await?;
        let writes = Writes::from([(Key::new(vec![number]), Some(Bytes::new()))]);
        engine.commit(&view, ReadSet::default(), writes).await
    });
}

/// Waits until `count` commits wait for the committer.
async fn until_queued(engine: &LocalEngine<Scripted>, count: usize) {
    while engine.sender().unwrap().max_capacity() - engine.sender().unwrap().capacity() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_for_a_sync_shares_the_next_one() {
    shares_a_sync(scripted()).await;
}

#[test]
fn groups_are_answered_also_without_the_runtime_that_opened_the_store() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let ended = runtime().block_on(async { scripted() });
    runtime().block_on(shares_a_sync(ended));
    runtime().block_on(shares_a_sync(scripted_outside()));
}

/// Started where there is no runtime.
fn scripted_outside() -> Script {
    std::thread::spawn(scripted).join().unwrap()
}

async fn shares_a_sync((engine, outcome, begins): Script) {
    let mut tasks = JoinSet::new();
    write(&engine, &mut tasks, 0);
    let first = tokio::task::spawn_blocking(move || (begins.recv().unwrap(), begins));
    let (size, begins) = first.await.unwrap();
    assert_eq!(size, 1);
    (1..=50).for_each(|number| write(&engine, &mut tasks, number));
    until_queued(&engine, 50).await;
    outcome.send(Outcome::Done).unwrap();
    outcome.send(Outcome::Done).unwrap();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(begins.try_iter().collect::<Vec<_>>(), [50]);
}

#[tokio::test]
async fn a_failed_write_poisons_the_store() {
    for fatal in [Outcome::Failed, Outcome::Panic] {
        let (engine, outcome, _begins) = scripted();
        let mut watch = engine.watch(Key::default());
        let mut tasks = JoinSet::new();
        outcome.send(fatal).unwrap();
        (0..10).for_each(|number| write(&engine, &mut tasks, number));
        for result in tasks.join_all().await {
            assert!(result.unwrap_err().is_poisoned());
        }
        // Even if the next write would succeed.
        let _ = outcome.send(Outcome::Done);
        let mut tasks = JoinSet::new();
        write(&engine, &mut tasks, 99);
        assert!(tasks.join_next().await.unwrap().unwrap().unwrap_err().is_poisoned());
        assert!(engine.view().await.is_err_and(|error| error.is_poisoned() && !error.retryable()));
        engine.close().await;
        assert_eq!(watch.changed().await, None, "nothing was committed");
    }
}
