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
    /// Published versions of functions: account, region, name, number.
    LAMBDA_VERSIONS = "lambda.version";
    /// The last version number that was ever given under a function's name: account, region, name.
    LAMBDA_NUMBERS = "lambda.number";
    /// Aliases of functions: account, region, name, alias.
    LAMBDA_ALIASES = "lambda.alias";
    /// Resource-based policies: account, region, function's name, and `$LATEST`, a version's number or an alias.
    LAMBDA_POLICIES = "lambda.policy";
    /// Reserved concurrency of functions: account, region, name.
    LAMBDA_RESERVED = "lambda.reserved";
    /// Provisioned concurrency of versions and aliases: account, region, function's name, and a version's number or an alias.
    LAMBDA_PROVISIONED = "lambda.provisioned";
    /// How many functions and bytes of code an account has in a region, in counters: account, region, counter. Without parts:
    /// that all have been counted.
    LAMBDA_USAGE = "lambda.usage";
    /// Code-signing configurations: account, region, id.
    LAMBDA_SIGNING = "lambda.signing";
    /// The functions that are deployed by a code-signing configuration: account, region, id, name.
    LAMBDA_SIGNING_USES = "lambda.signed";
    /// Versions of layers: account, region, name, number.
    LAMBDA_LAYERS = "lambda.layer";
    /// The last version number that was ever given under a layer's name: account, region, name.
    LAMBDA_LAYER_NUMBERS = "lambda.layer-number";
    /// Policies of versions of layers: account, region, name, number.
    LAMBDA_LAYER_POLICIES = "lambda.layer-policy";
    /// Who uses a deployment package: its hash, then account, region, name and version.
    LAMBDA_CODE = "lambda.code";
    /// What each function consumed in all: function ARN.
    USAGE_TOTALS = "ledger.total";
    /// The last segment of the usage ledger that was folded in: ledger's name.
    USAGE_FOLDED = "ledger.folded";
    /// Processes that hold leases: session.
    SESSIONS = "store.session";
    /// Who owns what, with the fencing token: lease's name.
    LEASES = "store.lease";
    /// Here while a store is being copied or restored into, and not whole: no parts.
    UNFINISHED = "store.unfinished";
    /// Payloads of timers, in the order in which they fall due: partition, due (ms since 1970), id.
    TIMERS_DUE = "timer.due";
    /// When each timer is due: partition, id.
    TIMERS = "timer.timer";
    /// Settings of a log: log.
    LOGS = "log.log";
    /// What was appended to a log and has no position yet: log, shard, then key, the key's version, call; or, without a
    /// key, time (us), random.
    LOG_INBOX = "log.inbox";
    /// Records of a log: log, shard, position.
    LOG_RECORDS = "log.record";
    /// How far a log's shard goes: log, shard.
    LOG_SHARDS = "log.shard";
    /// How far each consumer of a log is: log, consumer, shard.
    LOG_CHECKPOINTS = "log.checkpoint";
    /// A queue's settings, and the incarnation (a random number) under which the rest of it lies: queue.
    QUEUES = "queue.queue";
    /// The small, changing part of a message: queue, incarnation, group (empty where it has none), order, tie-breaker.
    QUEUE_MESSAGES = "queue.message";
    /// The body and attributes of a message, which never change: as the message's.
    QUEUE_BODIES = "queue.body";
    /// What a queue has seen lately: queue, incarnation, group (empty if the scope is the queue), deduplication id.
    QUEUE_SEEN = "queue.seen";
    /// When what a queue has seen may be forgotten: queue, incarnation, time (ms since 1970), then as what was seen.
    QUEUE_FORGET = "queue.forget";
    /// Incarnations that were purged or deleted, and whose messages are still to be collected: queue, incarnation.
    QUEUE_DOOMED = "queue.doomed";
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
