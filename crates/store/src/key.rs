//! Keys, ranges of keys, and the encoding of typed parts into keys.
//!
//! A key is a prefix (see [`crate::keyspace`]) followed by encoded parts. The encoding keeps order (keys sort as their
//! parts do, texts by bytes) and no part's encoding is the beginning of another's, so that a scan of the keys that start
//! with some parts finds exactly those:
//!
//! ```text
//! text    0x02, the bytes with 0x00 written as 0x00 0xFF, then 0x00 0x01
//! number  0x03, eight bytes, the most significant first
//! ```

use std::fmt;

use bytes::Bytes;

const TEXT: u8 = 0x02;
const NUMBER: u8 = 0x03;
const ZERO: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;

/// A key of the store; ordered by its bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Bytes);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The smallest key that is larger than this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Self::new(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.0.escape_ascii())
    }
}

impl From<&'static str> for Key {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

/// The keys from `start` on, up to but without `end`; without an `end`, all that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that belongs.
    pub start: Key,
    /// The first key that no longer belongs.
    pub end: Option<Key>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Key::default(), end: None }
    }

    /// From `start` up to but without `end`.
    pub fn new(start: Key, end: Key) -> Self {
        Self { start, end: Some(end) }
    }

    /// Every key that starts with the bytes of `prefix`.
    pub fn prefix(prefix: &Key) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = end.pop().map(|last| {
            end.push(last + 1);
            Key::new(end)
        });
        Self { start: prefix.clone(), end }
    }

    /// Whether `key` is one of these.
    pub fn contains(&self, key: &Key) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }

    /// Whether no key can be one of these.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Reverse,
}

/// One typed part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part<'a> {
    /// A text, ordered by its bytes.
    Text(&'a str),
    /// A number.
    Number(u64),
}

/// A part as it was read back from a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartValue {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

impl Part<'_> {
    /// Appends this part's encoding.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                bytes.push(TEXT);
                for &byte in text.as_bytes() {
                    bytes.push(byte);
                    if byte == ZERO {
                        bytes.push(ESCAPED_ZERO);
                    }
                }
                bytes.extend_from_slice(&[ZERO, END]);
            }
            Self::Number(number) => {
                bytes.push(NUMBER);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
    }
}

impl PartValue {
    /// Reads the parts that `bytes` are made of; `None` if they are not made of parts.
    pub fn decode_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while let Some((&tag, after)) = rest.split_first() {
            let (part, next) = match tag {
                TEXT => decode_text(after)?,
                NUMBER => {
                    let (number, next) = after.split_first_chunk::<8>()?;
                    (Self::Number(u64::from_be_bytes(*number)), next)
                }
                _ => return None,
            };
            parts.push(part);
            rest = next;
        }
        Some(parts)
    }
}

fn decode_text(mut bytes: &[u8]) -> Option<(PartValue, &[u8])> {
    let mut text = Vec::new();
    loop {
        match bytes {
            [ZERO, ESCAPED_ZERO, rest @ ..] => {
                text.push(ZERO);
                bytes = rest;
            }
            [ZERO, END, rest @ ..] => return Some((PartValue::Text(String::from_utf8(text).ok()?), rest)),
            [ZERO, ..] | [] => return None,
            [byte, rest @ ..] => {
                text.push(*byte);
                bytes = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_part() -> impl Strategy<Value = PartValue> {
        prop_oneof![
            "[a-c\0\u{1}\u{ff}]{0,5}".prop_map(PartValue::Text),
            prop_oneof![0..4_u64, any::<u64>()].prop_map(PartValue::Number),
        ]
    }

    fn encode(parts: &[PartValue]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                PartValue::Text(text) => Part::Text(text).encode_into(&mut bytes),
                PartValue::Number(number) => Part::Number(*number).encode_into(&mut bytes),
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn parts_read_back_and_sort_as_they_do_decoded(
            left in prop::collection::vec(any_part(), 0..4),
            right in prop::collection::vec(any_part(), 0..4),
        ) {
            let (left_bytes, right_bytes) = (encode(&left), encode(&right));
            prop_assert_eq!(PartValue::decode_all(&left_bytes), Some(left.clone()));
            prop_assert_eq!(left_bytes.cmp(&right_bytes), left.cmp(&right));
        }

        #[test]
        fn no_part_begins_another(left in any_part(), right in any_part()) {
            prop_assume!(left != right);
            prop_assert!(!encode(&[right]).starts_with(&encode(&[left])));
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            PartValue::decode_all(&bytes);
        }

        #[test]
        fn a_prefix_range_holds_exactly_what_starts_with_it(
            prefix in prop::collection::vec(prop_oneof![Just(0_u8), Just(254), Just(255)], 0..3),
            key in prop::collection::vec(prop_oneof![Just(0_u8), Just(254), Just(255)], 0..5),
        ) {
            let range = KeyRange::prefix(&Key::new(prefix.clone()));
            prop_assert_eq!(range.contains(&Key::new(key.clone())), key.starts_with(&prefix));
        }
    }

    #[test]
    fn nothing_lies_between_a_key_and_its_successor() {
        let key = Key::from("a");
        assert!(key < key.successor());
        assert!(KeyRange::new(key.clone(), key.successor()).contains(&key));
        assert!(!KeyRange::new(key.successor(), Key::from("b")).contains(&key));
    }
}
