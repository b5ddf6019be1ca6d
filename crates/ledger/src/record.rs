//! What one invocation consumed, and what a function consumed in all.

use freehold_base::id::RequestId;
use freehold_store::Record;
use serde::{Deserialize, Serialize};

/// What one invocation consumed: the REPORT line in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The invocation.
    pub request_id: RequestId,
    /// The function's ARN, without qualifier: what totals go by.
    pub function_arn: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// Wall time of the answer, in ms since 1970.
    pub at_ms: u64,
    /// From dispatch to answer, in µs.
    pub duration_us: u64,
    /// What is billed, in ms.
    pub billed_ms: u64,
    /// The Init phase, where this event waited for one, in µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_us: Option<u64>,
    /// The function's memory, in MiB.
    pub memory_mib: u32,
    /// The largest memory that its environment had used so far, in MiB.
    pub max_memory_mib: u32,
    /// Whether the function failed.
    pub failed: bool,
}

/// What a function consumed in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Invocations, failed ones too.
    pub invocations: u64,
    /// Invocations in which the function failed.
    pub errors: u64,
    /// Time from dispatch to answer, in µs.
    pub duration_us: u64,
    /// Time billed, in ms.
    pub billed_ms: u64,
    /// Time billed times the function's memory, in MiB·ms: exact, unlike gigabyte-seconds.
    pub mib_ms: u64,
}

impl Totals {
    /// Adds one invocation.
    pub fn add(&mut self, record: &UsageRecord) {
        self.merge(&Self {
            invocations: 1,
            errors: u64::from(record.failed),
            duration_us: record.duration_us,
            billed_ms: record.billed_ms,
            mib_ms: record.billed_ms.saturating_mul(u64::from(record.memory_mib)),
        });
    }

    /// Adds other totals.
    pub fn merge(&mut self, other: &Self) {
        self.invocations = self.invocations.saturating_add(other.invocations);
        self.errors = self.errors.saturating_add(other.errors);
        self.duration_us = self.duration_us.saturating_add(other.duration_us);
        self.billed_ms = self.billed_ms.saturating_add(other.billed_ms);
        self.mib_ms = self.mib_ms.saturating_add(other.mib_ms);
    }

    /// Gigabyte-milliseconds, as bills count them (a gigabyte is 1,024 MiB), rounded down.
    pub fn gb_ms(&self) -> u64 {
        self.mib_ms / 1_024
    }
}

impl Record for Totals {
    const VERSION: u8 = 1;
}

/// The last segment of one ledger that is in the totals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Folded {
    pub(crate) segment: u64,
}

impl Record for Folded {
    const VERSION: u8 = 1;
}
