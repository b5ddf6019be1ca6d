//! Receipts: one for each time that a message was received. As a text they survive restarts and new owners: they name the
//! message's key and a number that its record carries until it is received again.
//!
//! ```text
//! 1-<queue's digest>-<order>-<tie-breaker>-<receive's number>-<group>      (all in hexadecimal)
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::QueueError;
use super::records::MessageKey;

const VERSION: &str = "1";

/// What a received message is acknowledged, extended or given back with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Of the queue's name.
    pub(super) queue_digest: u64,
    pub(super) key: MessageKey,
    /// Of this receive.
    pub(super) nonce: u64,
}

/// A number that stands for a queue's name, so that a receipt of another queue is told as such.
pub(super) fn queue_digest(queue: &str) -> u64 {
    let digest = Sha256::digest(queue.as_bytes());
    digest.iter().take(8).fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MessageKey { group, order, tie } = &self.key;
        let (queue, nonce, group) = (self.queue_digest, self.nonce, hex::encode(group.as_bytes()));
        write!(formatter, "{VERSION}-{queue:016x}-{order:016x}-{tie:016x}-{nonce:016x}-{group}")
    }
}

impl FromStr for Receipt {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        read(text).ok_or_else(|| QueueError::ReceiptInvalid { receipt: text.to_owned() })
    }
}

fn read(text: &str) -> Option<Receipt> {
    let mut parts = text.split('-');
    if parts.next()? != VERSION {
        return None;
    }
    let mut number = || {
        let digits = parts.next().filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (queue_digest, order, tie, nonce) = (number()?, number()?, number()?, number()?);
    let group = String::from_utf8(hex::decode(parts.next()?).ok()?).ok()?;
    if parts.next().is_some() {
        return None;
    }
    Some(Receipt { queue_digest, key: MessageKey { group: Arc::from(group), order, tie }, nonce })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn receipts_read_back(order: u64, tie: u64, nonce: u64, group in ".{0,9}") {
            let key = MessageKey { group: Arc::from(group), order, tie };
            let receipt = Receipt { queue_digest: queue_digest("queue"), key, nonce };
            prop_assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), receipt);
        }

        #[test]
        fn nonsense_is_an_error(text in "[0-9a-f-]{0,99}|.{0,40}") {
            let refused = matches!(text.parse::<Receipt>(), Err(QueueError::ReceiptInvalid { .. }));
            prop_assert!(refused);
        }
    }
}
