//! `freehold doctor`: what this host supports, and what to do about what it lacks.

use std::process::ExitCode;

use anyhow::Result;
use freehold_sandbox::doctor::{Finding, Verdict, examine};
use freehold_sandbox::protection::{Protection, words};
use serde_json::{Value, json};

use crate::exit;
use crate::output;

pub(super) fn run(as_json: bool) -> Result<ExitCode> {
    let findings = examine();
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    let lacking: Vec<_> = findings.iter().filter_map(|finding| finding.protection).collect();
    if as_json {
        let rows = findings.iter().map(|finding: &Finding| {
            json!({
                "name": finding.name,
                "verdict": word(finding.verdict),
                "detail": finding.detail,
                "advice": finding.advice,
                "flag": finding.protection.map(|protection| words(&[protection])),
            })
        });
        output::json(&Value::Array(rows.collect()))?;
    } else {
        for finding in &findings {
            output::line(format_args!("{:9} {}: {}", word(finding.verdict), finding.name, finding.detail))?;
            if !finding.advice.is_empty() {
                output::line(format_args!("{:9} -> {}", "", finding.advice))?;
            }
        }
        output::line(format_args!("\n{}", conclusion(missing, &lacking)))?;
    }
    // What `serve` refuses without more words is no success.
    Ok(ExitCode::from(if missing || !lacking.is_empty() { exit::FAILED } else { exit::OK }))
}

fn conclusion(missing: bool, lacking: &[Protection]) -> String {
    match (missing, lacking.is_empty()) {
        (true, _) => "This host cannot run functions as it is.".to_owned(),
        (false, true) => "This host can run functions.".to_owned(),
        (false, false) => format!(
            "For this user, this host can run functions only with less protection than designed, if told so:\n  freehold serve {}",
            words(lacking)
        ),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Degraded => "degraded",
        Verdict::NeedsFlag => "flag",
        Verdict::Missing => "missing",
    }
}
