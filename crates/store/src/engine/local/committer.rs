//! The one thread that writes. It takes every commit that waits, validates them one after the other, writes those that
//! hold as one batch under one sync, and answers them all: while it syncs, the next group gathers by itself.
//!
//! A group is answered by a task of the runtime. To wake a task from a thread outside costs two system calls; to hand the
//! group over and have them woken from within costs that once for all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::recent::RecentCommits;
use super::{Backend, PANICKED, Shared};
use crate::error::StoreError;
use crate::limits::{COMMIT_QUEUE, GROUP_BYTES, RECENT_KEYS};
use crate::transaction::{ReadSet, Writes};

/// The part of the last write's time that a group waits for more at most.
const GATHER_PART: u32 = 4;
/// The longest that a group waits for more: the time of a sync on a good disk.
const GATHER_LONGEST: Duration = Duration::from_micros(300);

/// A transaction that wants to commit.
pub(super) struct Request {
    /// The last commit that its view is sure to have seen.
    pub(super) since: u64,
    pub(super) reads: ReadSet,
    pub(super) writes: Writes,
    pub(super) answer: Answer,
}

/// Where a commit waits for what became of it.
type Answer = oneshot::Sender<Result<(), StoreError>>;

/// Commits of which the same became.
struct Answered {
    answers: Vec<Answer>,
    result: Result<(), StoreError>,
}

impl Answered {
    fn tell(self) {
        for answer in self.answers {
            // An answer that nobody waits for any more is no error.
            let _ = answer.send(self.result.clone());
        }
    }
}

/// Starts the task that answers. It ends when the committer has, and all are answered. Without a runtime there is none,
/// and the committer answers by itself.
fn start_answering() -> Option<mpsc::UnboundedSender<Answered>> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    // Holds no more than the commits that wait for their answers.
    let (answered, mut groups) = mpsc::unbounded_channel::<Answered>();
    runtime.spawn(async move {
        while let Some(group) = groups.recv().await {
            group.tell();
        }
    });
    Some(answered)
}

/// Starts the thread. It ends when the queue's senders are gone.
pub(super) fn start<B: Backend>(
    backend: B,
    shared: Arc<Shared<B>>,
    mut requests: mpsc::Receiver<Request>,
) -> Result<JoinHandle<()>, StoreError> {
    let answering = start_answering();
    let run = move || {
        let mut committer = Committer {
            backend,
            answering,
            shared: shared.clone(),
            recent: RecentCommits::new(RECENT_KEYS),
            sequence: 0,
            last_group: 0,
            last_took: Duration::ZERO,
        };
        let mut waiting = Vec::new();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while requests.blocking_recv_many(&mut waiting, COMMIT_QUEUE) > 0 {
                committer.gather(&mut requests, &mut waiting);
                committer.commit_all(waiting.drain(..));
            }
        }));
        if ended.is_err() {
            shared.poison(PANICKED);
        }
    };
    let thread = std::thread::Builder::new().name("store-committer".to_owned());
    thread.spawn(run).map_err(|error| StoreError::engine("start the committer thread", error))
}

struct Committer<B: Backend> {
    backend: B,
    answering: Option<mpsc::UnboundedSender<Answered>>,
    shared: Arc<Shared<B>>,
    recent: RecentCommits,
    /// The last commit, published or in the group that is being made.
    sequence: u64,
    /// How many commits came together last, and how long it took to write them.
    last_group: usize,
    last_took: Duration,
}

/// Commits that are written together.
#[derive(Default)]
struct Group {
    writes: Writes,
    bytes: usize,
    answers: Vec<Answer>,
}

impl<B: Backend> Committer<B> {
    /// Waits a moment for more to come: those that were just answered are about to, and whoever comes first should not
    /// have a sync alone for which all others then wait. A lone writer never waits.
    fn gather(&mut self, requests: &mut mpsc::Receiver<Request>, waiting: &mut Vec<Request>) {
        let enough = self.last_group / 2;
        let started = Instant::now();
        let patience = (self.last_took / GATHER_PART).min(GATHER_LONGEST);
        while waiting.len() < enough && started.elapsed() < patience {
            match requests.try_recv() {
                Ok(request) => waiting.push(request),
                Err(_) => std::thread::yield_now(),
            }
        }
        self.last_group = waiting.len();
    }

    fn commit_all(&mut self, requests: impl Iterator<Item = Request>) {
        let mut group = Group::default();
        for request in requests {
            if self.recent.conflicts(request.since, &request.reads) {
                // An answer that nobody waits for any more is no error.
                let _ = request.answer.send(Err(StoreError::Conflict { attempts: 1 }));
                continue;
            }
            self.sequence += 1;
            self.recent.record(self.sequence, request.writes.keys());
            for (key, value) in request.writes {
                group.bytes += key.as_bytes().len() + value.as_ref().map_or(0, bytes::Bytes::len);
                // Of two writes of one key in a group the later commit's is the one to be seen.
                group.writes.insert(key, value);
            }
            group.answers.push(request.answer);
            if group.bytes >= GROUP_BYTES {
                self.write(std::mem::take(&mut group));
            }
        }
        self.write(group);
    }

    fn write(&mut self, group: Group) {
        if group.answers.is_empty() {
            return;
        }
        let keys: Vec<_> = group.writes.keys().cloned().collect();
        let started = Instant::now();
        let result = self.shared.check().and_then(|()| self.backend.apply(group.writes)).map_err(|error| {
            self.shared.poison(&error.to_string());
            self.shared.check().err().unwrap_or(error)
        });
        self.last_took = started.elapsed();
        if result.is_ok() {
            self.shared.published.store(self.sequence, Ordering::Release);
            self.shared.hub.publish(keys.iter());
        }
        self.answer(Answered { answers: group.answers, result });
    }

    fn answer(&self, answered: Answered) {
        match &self.answering {
            // A lone one is woken as cheaply from here. What can't be handed over comes back: the runtime has ended.
            Some(answering) if answered.answers.len() > 1 => {
                if let Err(back) = answering.send(answered) {
                    back.0.tell();
                }
            }
            _ => answered.tell(),
        }
    }
}
