//! What was moved: counts and a checksum that are the same for the same content, on whatever engine or in a file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::blobs::BlobId;
use crate::key::Key;
use crate::keyspace;

/// Names of missing blobs that a summary holds; it counts all.
const MISSING_SHOWN: usize = 100;

/// What all keys and values are, in brief. Two stores with the same one hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many keys.
    pub keys: u64,
    /// The length of all keys and values, in bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits, over each entry in order of keys: the lengths of key and value, four bytes each,
    /// the most significant first; the key; the value.
    pub sha256: String,
}

/// What was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The keys and values.
    #[serde(flatten)]
    pub entries: Fingerprint,
    /// How many blobs.
    pub blobs: u64,
    /// Their length, in bytes.
    pub blob_bytes: u64,
    /// How many blobs were deleted after the list of them was made and before they were read. Harmless if nothing refers
    /// to them, as is so for what a collector deletes.
    pub missing_blobs: u64,
    /// Some of those blobs' names.
    pub missing: Vec<BlobId>,
}

impl Summary {
    pub(super) fn note_missing(&mut self, id: BlobId) {
        self.missing_blobs += 1;
        if self.missing.len() < MISSING_SHOWN {
            self.missing.push(id);
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Blobs are being moved.
    #[default]
    Blobs,
    /// Keys are being moved.
    Keys,
    /// What was written is being read back.
    Verifying,
}

/// How far it has come: what its phase has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Keys.
    pub keys: u64,
    /// Their length with their values', in bytes.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their length, in bytes.
    pub blob_bytes: u64,
}

impl Progress {
    pub(super) fn of(phase: Phase, summary: &Summary, entries: &EntryDigest) -> Self {
        Self {
            phase,
            keys: entries.keys,
            bytes: entries.bytes,
            blobs: summary.blobs,
            blob_bytes: summary.blob_bytes,
        }
    }
}

/// Makes a [`Fingerprint`], entry by entry.
#[derive(Clone, Default)]
pub(super) struct EntryDigest {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    hash: Sha256,
}

impl EntryDigest {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys += 1;
        self.bytes += (key.len() + value.len()) as u64;
        for length in [key.len(), value.len()] {
            // Far below 4 GiB: `KEY_BYTES` and `VALUE_BYTES`.
            self.hash.update(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        self.hash.update(key);
        self.hash.update(value);
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint { keys: self.keys, bytes: self.bytes, sha256: hex::encode(self.sha256()) }
    }
}

/// Whether a key is moved: sessions are those of living processes, and the mark is the target's own.
pub(super) fn moves(key: &Key) -> bool {
    ![keyspace::SESSIONS, keyspace::UNFINISHED]
        .iter()
        .any(|prefix| key.as_bytes().starts_with(prefix.key(&[]).as_bytes()))
}
