//! `freehold doctor`: what this host supports, and what to do about what it lacks.

use std::process::ExitCode;

use anyhow::Result;
use freehold_sandbox::doctor::{Verdict, examine};
use serde_json::{Value, json};

use crate::exit;
use crate::output;

pub(super) fn run(as_json: bool) -> Result<ExitCode> {
    let findings = examine();
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    if as_json {
        let rows = findings.iter().map(|finding| {
            json!({
                "name": finding.name,
                "verdict": word(finding.verdict),
                "detail": finding.detail,
                "advice": finding.advice,
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
        let verdict =
            if missing { "This host cannot run functions as it is." } else { "This host can run functions." };
        output::line(format_args!("\n{verdict}"))?;
    }
    Ok(ExitCode::from(if missing { exit::FAILED } else { exit::OK }))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Degraded => "degraded",
        Verdict::Missing => "missing",
    }
}
