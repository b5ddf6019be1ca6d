//! Where an owner has to look for entries of the inbox: at a few keys that its watch told of, or at everything, page by
//! page.
//!
//! A page begins at the first entry of a key, and the next begins at the first entry of the key that the last one ended in:
//! so of each key the lowest versions come first, whatever is appended meanwhile.

use std::collections::BTreeSet;

use super::inbox::{self, Entry, Name};
use super::shard::scan_what_fits;
use crate::error::StoreError;
use crate::key::{Key, KeyRange};
use crate::limits::{LOG_BATCH, LOG_BATCH_BYTES};
use crate::transaction::Read;
use crate::watch::Change;

/// Up to so many keys are looked up one by one; with more, everything is looked at.
const LOOK_UPS: usize = 64;

#[derive(Debug)]
pub(super) struct Pages {
    log: String,
    shard: u32,
    /// What all entries start with.
    all: Key,
    /// Where looking at everything goes on, while it does.
    from: Option<Key>,
    /// Whether everything is to be looked at once more after that.
    again: bool,
    /// What the entries start with that the watch told of.
    told: BTreeSet<Key>,
}

impl Pages {
    /// Begins with a look at everything.
    pub(super) fn new(log: &str, shard: u32) -> Self {
        let all = inbox::prefix(log, shard);
        let from = Some(all.clone());
        Self { log: log.to_owned(), shard, all, from, again: false, told: BTreeSet::new() }
    }

    /// Begins anew with a look at everything.
    pub(super) fn restart(&mut self) {
        self.from = Some(self.all.clone());
        self.again = false;
        self.told.clear();
    }

    /// Whether there is nowhere to look.
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_none() && !self.again && self.told.is_empty()
    }

    /// Takes in what the watch told.
    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Reset => self.look_at_everything(),
            Change::Keys(keys) => {
                for key in keys {
                    let prefix = match inbox::name(&self.all, &key) {
                        Some(Name::Keyed(name, ..)) => inbox::key_prefix(&self.log, self.shard, &name),
                        Some(Name::Unkeyed(..)) | None => key,
                    };
                    self.told.insert(prefix);
                }
                if self.told.len() > LOOK_UPS {
                    self.look_at_everything();
                }
            }
        }
    }

    fn look_at_everything(&mut self) {
        self.told.clear();
        self.again = true;
    }

    /// The entries of the next batch, in the order of their names. What it was told of is taken to be dealt with.
    pub(super) async fn next(&mut self, read: &impl Read) -> Result<Vec<Entry>, StoreError> {
        if self.from.is_none() && self.again {
            self.restart();
        }
        let Some(from) = &self.from else { return self.next_told(read).await };
        let range = KeyRange { start: from.clone(), ..KeyRange::prefix(&self.all) };
        let mut batch = Batch::default();
        let more = batch.fill(read, &range, &self.all).await?;
        self.from = batch.entries.last().filter(|_| more).map(|last| match &last.name {
            Name::Keyed(name, ..) => inbox::key_prefix(&self.log, self.shard, name),
            Name::Unkeyed(..) => last.stored_at.clone(),
        });
        Ok(batch.entries)
    }

    async fn next_told(&mut self, read: &impl Read) -> Result<Vec<Entry>, StoreError> {
        let mut batch = Batch::default();
        let mut left = self.told.clone();
        while let Some(prefix) = left.first() {
            if batch.fill(read, &KeyRange::prefix(prefix), &self.all).await? {
                break;
            }
            left.pop_first();
        }
        self.told = left;
        Ok(batch.entries)
    }
}

/// Entries for one transaction.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    /// Adds the entries of `range` as long as there is room; whether there may be more of them.
    async fn fill(&mut self, read: &impl Read, range: &KeyRange, all: &Key) -> Result<bool, StoreError> {
        let room = LOG_BATCH - self.entries.len();
        if room == 0 || self.bytes >= LOG_BATCH_BYTES {
            return Ok(true);
        }
        let (found, more) = scan_what_fits(read, range, room).await?;
        for (key, value) in found {
            if self.bytes + value.len() > LOG_BATCH_BYTES && !self.entries.is_empty() {
                return Ok(true);
            }
            self.bytes += value.len();
            self.entries.push(inbox::decode(all, key, &value)?);
        }
        Ok(more)
    }
}
