//! The inbox of a shard: what was appended and has no position yet.
//!
//! Under the shard lie `[text: key, number: version, number: call]` for records with a key, and `[number: time (us),
//! number: random]` for those without. The newest version of a key is found by one reverse scan, which reads exactly that
//! key's entries and thereby makes two that append to it conflict; and an owner that begins a page at the start of a key
//! never takes a later version before an earlier one. Versions begin at 1 again when none of a key is left here: then all
//! before have their positions. The call counts this process's appends: two that run at once in one transaction find the
//! same version, and neither may be written over the other.

use std::collections::HashMap;

use bytes::Bytes;

use super::record::{decode_entry, malformed};
use crate::error::StoreError;
use crate::key::{Key, Part, PartValue};
use crate::keyspace::LOG_INBOX;

/// What an entry was appended with, as its key in the store says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Keyed(String, u64, u64),
    Unkeyed(u64, u64),
}

/// An entry of the inbox.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) stored_at: Key,
    pub(super) name: Name,
    pub(super) appended_at_us: u64,
    pub(super) data: Bytes,
}

/// What all entries of a shard's inbox start with.
pub(super) fn prefix(log: &str, shard: u32) -> Key {
    LOG_INBOX.key(&[Part::Text(log), Part::Number(shard.into())])
}

/// What all entries of one key start with.
pub(super) fn key_prefix(log: &str, shard: u32, key: &str) -> Key {
    LOG_INBOX.key(&[Part::Text(log), Part::Number(shard.into()), Part::Text(key)])
}

/// Where an entry lies.
pub(super) fn entry_key(log: &str, shard: u32, name: &Name) -> Key {
    let (log, shard) = (Part::Text(log), Part::Number(shard.into()));
    match name {
        Name::Keyed(key, version, call) => {
            LOG_INBOX.key(&[log, shard, Part::Text(key), Part::Number(*version), Part::Number(*call)])
        }
        Name::Unkeyed(time, random) => {
            LOG_INBOX.key(&[log, shard, Part::Number(*time), Part::Number(*random)])
        }
    }
}

/// What a key under `prefix` says; `None` if it is no entry's.
pub(super) fn name(prefix: &Key, key: &Key) -> Option<Name> {
    let parts = PartValue::decode_all(key.as_bytes().strip_prefix(prefix.as_bytes())?)?;
    match parts.as_slice() {
        [PartValue::Text(key), PartValue::Number(version), PartValue::Number(call)] => {
            Some(Name::Keyed(key.clone(), *version, *call))
        }
        [PartValue::Number(time), PartValue::Number(random)] => Some(Name::Unkeyed(*time, *random)),
        _ => None,
    }
}

/// Reads an entry back.
pub(super) fn decode(prefix: &Key, stored_at: Key, value: &Bytes) -> Result<Entry, StoreError> {
    let name = name(prefix, &stored_at).ok_or_else(|| malformed("its key is not an inbox entry's"))?;
    let (appended_at_us, data) = decode_entry(value)?;
    Ok(Entry { stored_at, name, appended_at_us, data })
}

/// Puts entries in the order in which they get their positions: by the time of their append, but those of one key by
/// version, whatever their clocks said. `entries` are in the order of their names.
pub(super) fn arrange(entries: Vec<Entry>) -> Vec<Entry> {
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut timed: Vec<(u64, Entry)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut time = entry.appended_at_us;
        if let Name::Keyed(key, ..) = &entry.name {
            match latest.get_mut(key) {
                Some(before) => {
                    time = time.max(*before);
                    *before = time;
                }
                None => {
                    latest.insert(key.clone(), time);
                }
            }
        }
        timed.push((time, entry));
    }
    // Stable: of the same time, the order of names stays, and so that of versions.
    timed.sort_by_key(|(time, _)| *time);
    timed.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_key_stays_in_order_of_versions_and_all_else_by_time(
            times in prop::collection::vec((0..4_u8, 0..20_u64), 0..30),
        ) {
            let mut versions = [0; 4];
            let mut entries: Vec<_> = times.iter().map(|&(key, appended_at_us)| {
                versions[usize::from(key)] += 1;
                let name = match key {
                    0 => Name::Unkeyed(appended_at_us, versions[0]),
                    _ => Name::Keyed(key.to_string(), versions[usize::from(key)], 0),
                };
                let stored_at = entry_key("l", 0, &name);
                Entry { stored_at, name, appended_at_us, data: Bytes::new() }
            }).collect();
            entries.sort_by(|one, other| one.stored_at.cmp(&other.stored_at));
            let arranged = arrange(entries.clone());
            prop_assert_eq!(arranged.len(), entries.len());
            for key in 1..4_u8 {
                let found = arranged.iter().filter_map(|entry| match &entry.name {
                    Name::Keyed(name, version, _) if *name == key.to_string() => Some(*version),
                    _ => None,
                });
                prop_assert!(found.eq(1..=versions[usize::from(key)]));
            }
            let unkeyed = arranged.iter().filter(|entry| matches!(entry.name, Name::Unkeyed(..)));
            prop_assert!(unkeyed.map(|entry| entry.appended_at_us).is_sorted());
        }
    }

    #[test]
    fn names_read_back() {
        for entry in [Name::Keyed("a\0b".to_owned(), 3, 4), Name::Unkeyed(u64::MAX, 0)] {
            assert_eq!(name(&prefix("l", 2), &entry_key("l", 2, &entry)), Some(entry.clone()));
            assert_eq!(name(&prefix("l", 1), &entry_key("l", 2, &entry)), None);
        }
    }
}
