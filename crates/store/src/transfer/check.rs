//! A store looked through from end to end: what is in it, and what is wrong with it. Changes nothing.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde::Serialize;

use super::error::TransferError;
use super::pages::Pages;
use super::summary::{EntryDigest, Fingerprint, Phase, Progress, moves};
use super::target::refuse_unfinished;
use crate::blobs::{BlobError, BlobId, Blobs};
use crate::error::StoreError;
use crate::key::{Key, KeyRange, PartValue};
use crate::keyspace::{self, Prefix};
use crate::store::Store;

/// Findings that a report holds; it counts all.
pub const FINDINGS_SHOWN: usize = 100;
/// Unknown prefixes that are counted one by one.
const UNKNOWN_PREFIXES: usize = 64;
/// What those beyond are counted under.
const OTHERS: &str = "(others)";
/// Bytes of a key that a finding shows.
const KEY_SHOWN_BYTES: usize = 120;
/// Prefixes whose values are not records: any bytes at all.
const OPAQUE: &[Prefix] = &[keyspace::TESTS];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// All keys and values that a backup would hold: its checksum is a backup's, too.
    pub entries: Fingerprint,
    /// The keys of each prefix, known or not.
    pub prefixes: Vec<PrefixCount>,
    /// How many blobs could be read.
    pub blobs: u64,
    /// Their length, in bytes.
    pub blob_bytes: u64,
    /// The first [`FINDINGS_SHOWN`] findings.
    pub findings: Vec<Finding>,
    /// How many things are damaged, in all.
    pub damaged: u64,
    /// How many things are only worth knowing, in all.
    pub noted: u64,
}

/// How much lies under a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefixCount {
    /// The prefix's name.
    pub name: String,
    /// Whether this version knows it.
    pub known: bool,
    /// How many keys.
    pub keys: u64,
    /// Their length with their values', in bytes.
    pub bytes: u64,
}

/// One thing that is wrong or strange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: a key, with what isn't text escaped, or a blob's name.
    pub subject: String,
    /// What is the matter.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What is the matter with something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Problem {
    /// The keys under this prefix aren't this version's: a newer one made them. No damage.
    UnknownPrefix,
    /// The blob was deleted after it was listed. No damage.
    BlobDeleted,
    /// The key isn't made of parts.
    MalformedKey,
    /// The record has no version byte, or one that no version has.
    NoRecordVersion,
    /// Nothing can be read from this key on, up to the next prefix.
    Unreadable {
        /// What the engine said.
        reason: String,
    },
    /// The blob's content isn't what its name says.
    BlobDamaged,
    /// The blob's content can't be read.
    BlobUnreadable {
        /// What the storage said.
        reason: String,
    },
    /// A copy or restore into the store was not finished.
    Unfinished {
        /// `copy` or `restore`.
        what: String,
    },
    /// A write failed, and the store has accepted nothing since. It can be checked after a restart.
    Poisoned {
        /// The failure.
        reason: String,
    },
}

impl Problem {
    /// Whether something is broken; otherwise it is only worth knowing.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::UnknownPrefix | Self::BlobDeleted)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownPrefix => formatter.write_str("is of a prefix that a newer version made"),
            Self::BlobDeleted => formatter.write_str("was deleted while the store was checked"),
            Self::MalformedKey => formatter.write_str("is no well-formed key"),
            Self::NoRecordVersion => formatter.write_str("has a record without a version"),
            Self::Unreadable { reason } => write!(formatter, "and what follows cannot be read: {reason}"),
            Self::BlobDamaged => formatter.write_str("has a content that its name does not fit"),
            Self::BlobUnreadable { reason } => write!(formatter, "cannot be read: {reason}"),
            Self::Unfinished { what } => {
                write!(
                    formatter,
                    "is not whole: a {what} into it was interrupted; repeat it, or remove the store"
                )
            }
            Self::Poisoned { reason } => {
                write!(
                    formatter,
                    "stopped accepting work because a write failed: {reason}. Check the disk, then restart"
                )
            }
        }
    }
}

/// Reads every key and every blob. Errors only if the store is closed or its blobs can't be listed: what is wrong inside
/// it stands in the report.
pub async fn check(
    store: &Store,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<CheckReport, TransferError> {
    let mut report = CheckReport::default();
    let snapshot = match refuse_unfinished(store).await {
        Ok(()) => store.snapshot().await,
        Err(StoreError::Unfinished { what }) => {
            report.find("the store", Problem::Unfinished { what });
            store.snapshot().await
        }
        // The record of the mark itself: it is met again below.
        Err(StoreError::Record(_) | StoreError::Engine { .. } | StoreError::Damaged { .. }) => {
            store.snapshot().await
        }
        Err(error) => Err(error),
    };
    let snapshot = match snapshot {
        Err(StoreError::Poisoned(reason)) => {
            report.find("the store", Problem::Poisoned { reason: reason.to_string() });
            return Ok(report);
        }
        result => result?,
    };
    check_keys(Pages::new(snapshot, KeyRange::all()), &mut report, progress).await?;
    check_blobs(store.blobs(), &mut report, progress).await?;
    Ok(report)
}

impl CheckReport {
    fn find(&mut self, subject: impl Into<String>, problem: Problem) {
        *if problem.is_damage() { &mut self.damaged } else { &mut self.noted } += 1;
        if self.findings.len() < FINDINGS_SHOWN {
            self.findings.push(Finding { subject: subject.into(), problem });
        }
    }

    fn progress(&self, phase: Phase) -> Progress {
        Progress {
            phase,
            keys: self.entries.keys,
            bytes: self.entries.bytes,
            blobs: self.blobs,
            blob_bytes: self.blob_bytes,
        }
    }
}

async fn check_keys(
    mut pages: Pages,
    report: &mut CheckReport,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), TransferError> {
    let mut digest = EntryDigest::default();
    let mut prefixes: BTreeMap<String, PrefixCount> = BTreeMap::new();
    loop {
        let page = match pages.next().await {
            Ok(page) => page,
            Err(error @ (StoreError::Engine { .. } | StoreError::Damaged { .. })) => {
                let position = pages.position().cloned().unwrap_or_default();
                report.find(shown(&position), Problem::Unreadable { reason: error.to_string() });
                let Some(next) = next_prefix(&position) else { break };
                pages.skip_to(next);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if page.is_empty() {
            break;
        }
        for (key, value) in &page {
            if moves(key) {
                digest.add(key.as_bytes(), value);
            }
            check_entry(key, value, &mut prefixes, report);
        }
        (report.entries.keys, report.entries.bytes) = (digest.keys, digest.bytes);
        progress(report.progress(Phase::Keys));
    }
    report.entries = digest.fingerprint();
    report.prefixes = prefixes.into_values().collect();
    Ok(())
}

fn check_entry(
    key: &Key,
    value: &[u8],
    prefixes: &mut BTreeMap<String, PrefixCount>,
    report: &mut CheckReport,
) {
    let known =
        keyspace::ALL.iter().find(|prefix| key.as_bytes().starts_with(prefix.key(&[]).as_bytes())).copied();
    let parts = PartValue::decode_all(key.as_bytes());
    let mut name = match (known, parts.as_deref()) {
        (Some(prefix), _) => prefix.name().to_owned(),
        (None, Some([PartValue::Text(name), ..])) => name.clone(),
        (None, _) => String::new(),
    };
    if parts.is_none() {
        report.find(shown(key), Problem::MalformedKey);
    }
    if let Some(prefix) = known
        && !OPAQUE.contains(&prefix)
        && value.first().is_none_or(|&version| version == 0)
    {
        report.find(shown(key), Problem::NoRecordVersion);
    }
    if !prefixes.contains_key(&name) && prefixes.len() >= keyspace::ALL.len() + UNKNOWN_PREFIXES {
        OTHERS.clone_into(&mut name);
    }
    let bytes = (key.as_bytes().len() + value.len()) as u64;
    if let Some(count) = prefixes.get_mut(&name) {
        count.keys += 1;
        count.bytes += bytes;
        return;
    }
    if known.is_none() && parts.is_some() {
        report.find(shown(key), Problem::UnknownPrefix);
    }
    prefixes.insert(name.clone(), PrefixCount { name, known: known.is_some(), keys: 1, bytes });
}

/// The beginning of the first known prefix after this key.
fn next_prefix(position: &Key) -> Option<Key> {
    keyspace::ALL.iter().map(|prefix| prefix.key(&[])).filter(|start| start > position).min()
}

/// A key as a person can read it.
fn shown(key: &Key) -> String {
    if let Some(parts) = PartValue::decode_all(key.as_bytes()) {
        let parts: Vec<String> = parts
            .into_iter()
            .map(|part| match part {
                PartValue::Text(text) => text.escape_debug().to_string(),
                PartValue::Number(number) => number.to_string(),
            })
            .collect();
        return shortened(&format!("key {}", parts.join(" / ")));
    }
    shortened(&format!("key {}", key.as_bytes().escape_ascii()))
}

fn shortened(text: &str) -> String {
    if text.len() <= KEY_SHOWN_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(KEY_SHOWN_BYTES)])
}

async fn check_blobs(
    blobs: &Blobs,
    report: &mut CheckReport,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), TransferError> {
    let mut names = blobs.list();
    while let Some(id) = names.try_next().await? {
        let subject = format!("blob {id}");
        match read_blob(blobs, &id).await {
            Ok(bytes) => {
                report.blobs += 1;
                report.blob_bytes += bytes;
            }
            Err(BlobError::NotFound(_)) => report.find(subject, Problem::BlobDeleted),
            Err(BlobError::Damaged(_)) => report.find(subject, Problem::BlobDamaged),
            Err(error) => report.find(subject, Problem::BlobUnreadable { reason: error.to_string() }),
        }
        progress(report.progress(Phase::Blobs));
    }
    Ok(())
}

async fn read_blob(blobs: &Blobs, id: &BlobId) -> Result<u64, BlobError> {
    let (mut reader, mut bytes) = (blobs.read(id).await?, 0);
    while let Some(piece) = reader.next().await? {
        bytes += piece.len() as u64;
    }
    Ok(bytes)
}
