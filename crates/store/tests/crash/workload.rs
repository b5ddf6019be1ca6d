//! What the writers do, and how it is checked afterwards. Each workload writes under its own keys, tells what was
//! acknowledged as numbers of a task, and can tell from the store alone whether all of that is there, whole.
//!
//! A primitive gets its place here: a module, and a line in [`Workload::ALL`].

use std::collections::BTreeMap;

use freehold_store::{Direction, Key, KeyRange, Read, Store, StoreError, Transaction};

use crate::{bulk, leases, logs, queues, timers, transactions};

/// The number of a task's last acknowledged step; numbers of a task only grow.
pub(crate) type Acknowledged = BTreeMap<(Workload, u64), u64>;

/// What a check found: what is wrong, in words, if anything is.
pub(crate) type Checked = Result<u64, String>;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// Entries, counts and a count that all tasks share.
    Transactions,
    /// Leases taken, used and released.
    Leases,
    /// Timers set and fired.
    Timers,
    /// Messages sent and handled.
    Queues,
    /// Records appended, given positions and followed.
    Logs,
    /// Values so large that memtables and journals fill.
    Bulk,
}

/// Tells that a step of a task was acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Teller {
    workload: Workload,
    task: u64,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] =
        [Self::Transactions, Self::Leases, Self::Timers, Self::Queues, Self::Logs, Self::Bulk];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Leases => "leases",
            Self::Timers => "timers",
            Self::Queues => "queues",
            Self::Logs => "logs",
            Self::Bulk => "bulk",
        }
    }

    pub(crate) fn tasks(self) -> u64 {
        match self {
            Self::Transactions => transactions::TASKS,
            Self::Leases => leases::TASKS,
            Self::Timers => timers::TASKS,
            Self::Queues => queues::TASKS,
            Self::Logs => logs::TASKS,
            Self::Bulk => bulk::TASKS,
        }
    }

    /// Works until the process is killed or the store fails.
    pub(crate) async fn work(self, store: Store, task: u64) -> Result<(), StoreError> {
        let teller = Teller { workload: self, task };
        match self {
            Self::Transactions => transactions::work(&store, teller).await,
            Self::Leases => leases::work(&store, teller).await,
            Self::Timers => timers::work(&store, teller).await,
            Self::Queues => queues::work(&store, teller).await,
            Self::Logs => logs::work(&store, teller).await,
            Self::Bulk => bulk::work(&store, teller).await,
        }
    }

    /// Checks a store that was opened again; gives how many transactions are in it.
    pub(crate) async fn check(self, store: &Store, acknowledged: &Acknowledged) -> Checked {
        let told = |task| acknowledged.get(&(self, task)).copied().unwrap_or(0);
        match self {
            Self::Transactions => transactions::check(store, told).await,
            Self::Leases => leases::check(store, told).await,
            Self::Timers => timers::check(store, told).await,
            Self::Queues => queues::check(store, told).await,
            Self::Logs => logs::check(store, told).await,
            Self::Bulk => bulk::check(store, told).await,
        }
    }
}

impl Teller {
    pub(crate) fn task(self) -> u64 {
        self.task
    }

    pub(crate) fn acknowledge(self, number: u64) {
        // A line of its own, also after what the test harness has written.
        println!("\nacknowledged {} {} {number}.", self.workload.name(), self.task);
    }
}

/// Reads a line that a [`Teller`] wrote; none if it is something else, or was cut short by the kill.
pub(crate) fn parse(line: &str) -> Option<((Workload, u64), u64)> {
    let mut words = line.strip_prefix("acknowledged ")?.strip_suffix('.')?.split(' ');
    let name = words.next()?;
    let workload = Workload::ALL.into_iter().find(|workload| workload.name() == name)?;
    Some(((workload, words.next()?.parse().ok()?), words.next()?.parse().ok()?))
}

pub(crate) async fn get_number(from: &impl Read, key: &Key) -> Result<u64, StoreError> {
    let value = from.get(key).await?;
    Ok(value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().expect("numbers have eight bytes"))))
}

pub(crate) fn put_number(tx: &Transaction, key: Key, number: u64) {
    tx.put(key, number.to_be_bytes().to_vec());
}

/// How many keys begin with `prefix`.
pub(crate) async fn count_keys(from: &impl Read, prefix: &Key) -> Result<u64, StoreError> {
    let mut rest = KeyRange::prefix(prefix);
    let mut count = 0;
    loop {
        let page = from.scan(rest.clone(), Direction::Forward, 1_000).await?;
        count += page.len() as u64;
        let Some((last, _)) = page.last() else { return Ok(count) };
        rest.start = last.successor();
    }
}

/// An error in words if `right` is not so.
pub(crate) fn ensure(right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(what()) }
}
