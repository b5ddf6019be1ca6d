//! A record of a log, and the form in which it is stored: by hand, since every append and every read passes through it.
//!
//! ```text
//! in the inbox    version (1), appended at (8, in us), data
//! at a position   version (1), appended at (8, in ms), length of the key plus one, or 0 for none (4), key, data
//! ```
//!
//! Numbers have their most significant byte first.

use bytes::Bytes;

use crate::error::StoreError;
use crate::record::RecordError;

const VERSION: u8 = 1;

/// A record at its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in its shard. The first is 1; there are no gaps.
    pub position: u64,
    /// The key that it was appended with, if with one.
    pub key: Option<String>,
    /// What was appended.
    pub data: Bytes,
    /// When it was appended, in milliseconds since 1970 by the clock of whoever did; never before the record in front of
    /// it, nor after it got its position.
    pub appended_at_ms: u64,
}

impl LogRecord {
    /// What it counts as, in bytes.
    pub(super) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, String::len) + self.data.len()
    }

    pub(super) fn encode(&self) -> Bytes {
        let key = self.key.as_deref().unwrap_or_default();
        let key_length = self.key.as_ref().map_or(0, |key| key.len() as u32 + 1);
        let mut bytes = Vec::with_capacity(13 + self.size());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.appended_at_ms.to_be_bytes());
        bytes.extend_from_slice(&key_length.to_be_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&self.data);
        bytes.into()
    }

    pub(super) fn decode(position: u64, value: &Bytes) -> Result<Self, StoreError> {
        let (appended_at_ms, rest) = head(value)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it is cut off"))?;
        let key = match u32::from_be_bytes(*length).checked_sub(1) {
            None => None,
            Some(length) => {
                let key = rest.get(..length as usize).ok_or_else(|| malformed("its key is cut off"))?;
                let key = String::from_utf8(key.to_vec()).map_err(|_| malformed("its key is no text"))?;
                Some(key)
            }
        };
        let data = value.slice(13 + key.as_ref().map_or(0, String::len)..);
        Ok(Self { position, key, data, appended_at_ms })
    }
}

/// What waits in the inbox.
pub(super) fn encode_entry(appended_at_us: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + data.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&appended_at_us.to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

pub(super) fn decode_entry(value: &Bytes) -> Result<(u64, Bytes), StoreError> {
    let (appended_at_us, _) = head(value)?;
    Ok((appended_at_us, value.slice(9..)))
}

fn head(value: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    match value.split_first() {
        Some((&VERSION, rest)) => {
            let (time, rest) = rest.split_first_chunk::<8>().ok_or_else(|| malformed("it is cut off"))?;
            Ok((u64::from_be_bytes(*time), rest))
        }
        Some((&version, _)) => Err(RecordError::UnknownVersion { record: "log record", version }.into()),
        None => Err(malformed("it is empty")),
    }
}

pub(super) fn malformed(reason: &str) -> StoreError {
    RecordError::Malformed { record: "log record", reason: reason.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_read_back(key in prop::option::of(".{0,6}"), data in prop::collection::vec(any::<u8>(), 0..9)) {
            let record = LogRecord { position: 7, key, data: data.into(), appended_at_ms: 5 };
            prop_assert_eq!(LogRecord::decode(7, &record.encode()).unwrap(), record.clone());
            let entry = encode_entry(9, &record.data).into();
            prop_assert_eq!(decode_entry(&entry).unwrap(), (9, record.data));
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(0..3_u8, 0..20)) {
            let bytes = Bytes::from(bytes);
            let _ = (LogRecord::decode(1, &bytes), decode_entry(&bytes));
        }
    }
}
