//! Records: typed values that carry the version of their form, so that old data stays readable.
//!
//! A stored record is one byte of version and the value as JSON: readable with common tools, and new optional fields
//! need no new version. What changes the meaning of a field does: raise [`Record::VERSION`] and read the old form in
//! [`Record::upgrade`].

use std::any::type_name;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that can be stored.
pub trait Record: Serialize + DeserializeOwned + Send {
    /// The version that is written now. Starts at 1; never goes back.
    const VERSION: u8;

    /// Reads the form of an earlier version. `bytes` is the JSON without the version byte.
    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, RecordError> {
        let _ = bytes;
        Err(RecordError::UnknownVersion { record: type_name::<Self>(), version })
    }
}

/// Why a record cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Stored by a version that this one doesn't know (mostly a newer one).
    #[error("a stored {record} has version {version}, which this version of Freehold can't read")]
    UnknownVersion {
        /// The record's type.
        record: &'static str,
        /// The version byte.
        version: u8,
    },
    /// The bytes are not this record.
    #[error("a stored {record} can't be read: {reason}")]
    Malformed {
        /// The record's type.
        record: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The value can't be written down (such as a map whose keys aren't texts).
    #[error("a {record} can't be stored: {reason}")]
    Unwritable {
        /// The record's type.
        record: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl RecordError {
    /// For [`Record::upgrade`]: the bytes are not what that version wrote.
    pub fn malformed<R>(reason: impl ToString) -> Self {
        Self::Malformed { record: type_name::<R>(), reason: reason.to_string() }
    }
}

/// Writes a record down.
pub fn encode<R: Record>(record: &R) -> Result<Bytes, RecordError> {
    let mut bytes = vec![R::VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| RecordError::Unwritable { record: type_name::<R>(), reason: error.to_string() })?;
    Ok(bytes.into())
}

/// Reads a record of the current or of an earlier version.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, RecordError> {
    let Some((&version, body)) = bytes.split_first() else {
        return Err(RecordError::malformed::<R>("it is empty"));
    };
    if version == R::VERSION {
        serde_json::from_slice(body).map_err(RecordError::malformed::<R>)
    } else {
        R::upgrade(version, body)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        seconds: u64,
    }

    impl Record for Old {
        const VERSION: u8 = 1;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        milliseconds: u64,
    }

    impl Record for New {
        const VERSION: u8 = 2;

        fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, RecordError> {
            match version {
                1 => {
                    let old: Old = serde_json::from_slice(bytes).map_err(RecordError::malformed::<Self>)?;
                    Ok(Self { milliseconds: old.seconds * 1_000 })
                }
                _ => Err(RecordError::UnknownVersion { record: "New", version }),
            }
        }
    }

    #[test]
    fn an_old_record_is_read_in_its_new_form() {
        let stored = encode(&Old { seconds: 3 }).unwrap();
        assert_eq!(decode::<New>(&stored), Ok(New { milliseconds: 3_000 }));
        assert_eq!(decode::<Old>(&stored), Ok(Old { seconds: 3 }));
    }

    #[test]
    fn a_record_of_the_future_or_of_nonsense_is_an_error() {
        let stored = encode(&New { milliseconds: 3 }).unwrap();
        assert!(matches!(decode::<Old>(&stored), Err(RecordError::UnknownVersion { version: 2, .. })));
        assert!(matches!(decode::<Old>(b""), Err(RecordError::Malformed { .. })));
        assert!(matches!(decode::<Old>(b"\x01{"), Err(RecordError::Malformed { .. })));
    }
}
