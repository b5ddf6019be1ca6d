//! Watches: whoever caches something is told when it changed.
//!
//! A watcher gets every key under its prefix that was committed after the watch began, once the new value can be read.
//! Several changes of one key may be told once. What waits for a watcher is bounded: one that lags is told to read
//! everything again ([`Change::Reset`]). To fill a cache, begin the watch, then read, then follow the watch.
//!
//! Engines publish into the `Hub`; this file doesn't know how they learn of changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::key::Key;
use crate::limits::WATCH_KEYS;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These keys changed, in order of their bytes.
    Keys(Vec<Key>),
    /// Too much changed: read everything under the prefix again.
    Reset,
}

/// Tells of changes under one prefix. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch(Arc<Watcher>);

impl Watch {
    /// Waits until something has changed. `None` once the store is closed. Cancel-safe: what was not returned is kept.
    pub async fn changed(&mut self) -> Option<Change> {
        loop {
            {
                let mut pending = lock(&self.0.pending);
                if pending.reset {
                    pending.reset = false;
                    return Some(Change::Reset);
                }
                if !pending.keys.is_empty() {
                    return Some(Change::Keys(std::mem::take(&mut pending.keys).into_iter().collect()));
                }
                if pending.closed {
                    return None;
                }
            }
            self.0.wake.notified().await;
        }
    }
}

#[derive(Debug)]
struct Watcher {
    prefix: Key,
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    keys: BTreeSet<Key>,
    reset: bool,
    closed: bool,
}

/// All watches of one store.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watchers: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    list: Vec<Weak<Watcher>>,
    closed: bool,
}

impl Hub {
    pub(crate) fn watch(&self, prefix: Key) -> Watch {
        let mut watchers = lock(&self.watchers);
        let pending = Mutex::new(Pending { closed: watchers.closed, ..Pending::default() });
        let watcher = Arc::new(Watcher { prefix, pending, wake: Notify::new() });
        watchers.list.push(Arc::downgrade(&watcher));
        Watch(watcher)
    }

    /// Tells the watchers of keys whose new values can be read.
    pub(crate) fn publish<'a>(&self, keys: impl Iterator<Item = &'a Key> + Clone) {
        lock(&self.watchers).list.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            watcher.add(keys.clone());
            true
        });
    }

    /// Tells every watcher to read all again, because it is not known any more what changed.
    pub(crate) fn reset(&self) {
        lock(&self.watchers).list.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            let mut pending = lock(&watcher.pending);
            pending.keys.clear();
            pending.reset = true;
            drop(pending);
            watcher.wake.notify_one();
            true
        });
    }

    /// Ends every watch, once what waits is taken.
    pub(crate) fn close(&self) {
        let mut watchers = lock(&self.watchers);
        watchers.closed = true;
        for watcher in watchers.list.drain(..).filter_map(|watcher| watcher.upgrade()) {
            lock(&watcher.pending).closed = true;
            watcher.wake.notify_one();
        }
    }
}

impl Watcher {
    fn add<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let mut pending = lock(&self.pending);
        let mut changed = false;
        for key in keys.filter(|key| key.as_bytes().starts_with(self.prefix.as_bytes())) {
            changed = true;
            if pending.reset {
                break;
            }
            pending.keys.insert(key.clone());
            if pending.keys.len() > WATCH_KEYS {
                pending.keys.clear();
                pending.reset = true;
            }
        }
        drop(pending);
        if changed {
            self.wake.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_that_lags_is_told_to_read_all_again() {
        let hub = Hub::default();
        let mut watch = hub.watch(Key::from("a"));
        let keys: Vec<Key> = (0..=WATCH_KEYS).map(|index| Key::new(format!("a{index:06}"))).collect();
        hub.publish(keys.iter());
        assert_eq!(watch.changed().await, Some(Change::Reset));
        hub.publish(keys[..2].iter());
        assert_eq!(watch.changed().await, Some(Change::Keys(keys[..2].to_vec())));
        hub.publish(keys[..2].iter());
        hub.reset();
        assert_eq!(watch.changed().await, Some(Change::Reset));
        hub.close();
        assert_eq!(watch.changed().await, None);
        assert_eq!(hub.watch(Key::from("a")).changed().await, None);
    }

    #[tokio::test]
    async fn dropped_watchers_are_forgotten() {
        let hub = Hub::default();
        drop(hub.watch(Key::from("a")));
        hub.publish([Key::from("a")].iter());
        assert!(lock(&hub.watchers).list.is_empty());
    }
}
