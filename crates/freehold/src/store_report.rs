//! What a check of a store found, as JSON: the form in which it crosses the control socket, and which `--json` prints.

use freehold_store::transfer::CheckReport;
use serde_json::{Value, json};

/// The report, with a text for each finding.
pub(crate) fn to_json(report: &CheckReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "subject": finding.subject,
                "damage": finding.problem.is_damage(),
                "message": finding.problem.to_string(),
            })
        })
        .collect();
    json!({
        "keys": report.entries.keys,
        "bytes": report.entries.bytes,
        "sha256": report.entries.sha256,
        "prefixes": report.prefixes,
        "blobs": report.blobs,
        "blob_bytes": report.blob_bytes,
        "damaged": report.damaged,
        "noted": report.noted,
        "findings": findings,
    })
}
