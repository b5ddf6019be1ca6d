//! The whole keyspace: every prefix that any crate writes under, in one place. A prefix is never reused, also not after
//! its table is gone: old data may still lie under it.
//!
//! A prefix can only be made here, so a table that isn't listed can't exist.

use std::fmt;

use crate::key::{Key, Part};

/// The name under which one table's keys lie. In keys it is encoded as a text part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefix(&'static str);

impl Prefix {
    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// The key made of this prefix and `parts`.
    pub fn key(self, parts: &[Part<'_>]) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 8 + parts.len() * 24);
        Part::Text(self.0).encode_into(&mut bytes);
        for part in parts {
            part.encode_into(&mut bytes);
        }
        Key::new(bytes)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Prefix({})", self.0)
    }
}

macro_rules! keyspace {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Prefix = Prefix($name);)*

        /// Every prefix, for tools that walk the whole store and for the test below.
        pub const ALL: &[Prefix] = &[$($constant),*];
    };
}

keyspace! {
    /// Lambda functions: account, region, name.
    LAMBDA_FUNCTIONS = "lambda.function";
    /// Who uses a deployment package: its hash, then the function's account, region, name.
    LAMBDA_CODE = "lambda.code";
    /// What each function consumed in all: function ARN.
    USAGE_TOTALS = "ledger.total";
    /// The last segment of the usage ledger that was folded in: ledger's name.
    USAGE_FOLDED = "ledger.folded";
    /// The store's own tests and benchmarks.
    TESTS = "store.test";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_begins_another() {
        for (index, one) in ALL.iter().enumerate() {
            for (other_index, other) in ALL.iter().enumerate() {
                let begins = other.key(&[]).as_bytes().starts_with(one.key(&[]).as_bytes());
                assert_eq!(begins, index == other_index, "{one:?} and {other:?}");
            }
        }
    }
}
