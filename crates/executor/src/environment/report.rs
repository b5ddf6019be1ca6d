//! START, END, REPORT and INIT lines, as AWS prints them in text format.
//!
//! Sources: "Understanding the Lambda execution environment lifecycle" (the status fields) and logs of real functions
//! (the order of the fields, the tab at the end of a successful REPORT).

use std::time::Duration;

use freehold_runtimes::catalog::{Family, Installed};

use super::extensions::Status;
use super::failure::Failure;
use crate::event::Usage;
use crate::runtime_api::Api;
use crate::telemetry::Stream;

pub(super) fn start(request_id: &str, version: &str) -> String {
    format!("START RequestId: {request_id} Version: {version}")
}

pub(super) fn end(request_id: &str) -> String {
    format!("END RequestId: {request_id}")
}

pub(super) fn report(request_id: &str, usage: &Usage, failure: Option<&Failure>) -> String {
    let mut line = format!(
        "REPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\t\
         Max Memory Used: {} MB\t",
        milliseconds(usage.duration),
        usage.billed_ms,
        usage.memory_mib,
        usage.max_memory_mib,
    );
    match usage.init {
        Some(restore) if usage.restored => {
            let (took, billed_ms) = (milliseconds(restore), billed_ms(restore, None));
            line.push_str(&format!(
                "Restore Duration: {took:.2} ms\tBilled Restore Duration: {billed_ms} ms\t"
            ));
        }
        Some(init) => line.push_str(&format!("Init Duration: {:.2} ms\t", milliseconds(init))),
        None => {}
    }
    if let Some(failure) = failure {
        line.push_str(&failure.status());
    }
    line
}

/// An extension at the end of Init.
pub(super) fn extension(status: &Status) -> String {
    let Status { name, state, events, error_type } = status;
    let mut line = format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]", events.join(", "));
    if let Some(error_type) = error_type {
        line.push_str(&format!("\tError Type: {error_type}"));
    }
    line
}

/// An extension that listens.
pub(super) fn subscription(api: Api, name: &str, streams: &[Stream]) -> String {
    let api = match api {
        Api::Telemetry => "TELEMETRY",
        Api::Logs => "LOGS",
    };
    let types: Vec<_> = streams.iter().map(|stream| stream.title()).collect();
    format!("{api}\tName: {name}\tState: Subscribed\tTypes: [{}]", types.join(", "))
}

/// What is printed where Init failed; a successful one shows in the REPORT line.
pub(super) fn init_report(took: Duration, phase: Phase, failure: &Failure) -> String {
    let phase = phase.name();
    format!("INIT_REPORT Init Duration: {:.2} ms\tPhase: {phase}\t{}", milliseconds(took), failure.status())
}

/// The same of an environment that begins from a snapshot, which is told in any case.
pub(super) fn restore_report(took: Duration, failure: Option<&Failure>) -> String {
    let status = failure.map(|failure| format!("\t{}", failure.status())).unwrap_or_default();
    format!("RESTORE_REPORT Restore Duration: {:.2} ms{status}", milliseconds(took))
}

/// The first line of the log of an environment that begins from a snapshot.
pub(super) fn restore_start(installed: &Installed) -> String {
    format!("RESTORE_START Runtime Version: {}", runtime_version(installed))
}

/// The first line of an environment's log. AWS's also names the ARN of the runtime's version, which we do not have.
pub(super) fn init_start(installed: &Installed) -> String {
    format!("INIT_START Runtime Version: {}", runtime_version(installed))
}

/// Such as `python:3.12.1`.
pub(super) fn runtime_version(installed: &Installed) -> String {
    let id = installed.runtime.id;
    let (name, version) = match installed.runtime.family {
        Family::Python => ("python", installed.version.as_str()),
        Family::Node => ("nodejs", installed.version.as_str()),
        Family::Java => ("java", installed.version.as_str()),
        Family::Ruby => ("ruby", installed.version.as_str()),
        Family::Provided => id.split_once('.').unwrap_or((id, "")),
    };
    format!("{name}:{version}")
}

/// Within what Init runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// On its own, before the first event.
    Init,
    /// Again, within the first event, because the first attempt failed ("suppressed init").
    Invoke,
    /// Not at all: what follows on the snapshot of an Init, before the first event.
    Restore,
}

impl Phase {
    /// AWS's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Invoke => "invoke",
            Self::Restore => "restore",
        }
    }
}

/// What is billed: duration and Init, rounded up to the next ms.
pub(super) fn billed_ms(duration: Duration, init: Option<Duration>) -> u64 {
    let total = duration + init.unwrap_or_default();
    u64::try_from(total.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(duration_us: u64, init_us: Option<u64>) -> Usage {
        let (duration, init) = (Duration::from_micros(duration_us), init_us.map(Duration::from_micros));
        Usage {
            duration,
            billed_ms: billed_ms(duration, init),
            memory_mib: 128,
            max_memory_mib: 30,
            init,
            restored: false,
        }
    }

    #[test]
    fn restored_ones_read_as_on_aws() {
        let usage = Usage { restored: true, ..usage(42_470, Some(133_100)) };
        assert_eq!(
            report("8f1c", &usage, None),
            "REPORT RequestId: 8f1c\tDuration: 42.47 ms\tBilled Duration: 176 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 30 MB\tRestore Duration: 133.10 ms\tBilled Restore Duration: 134 ms\t"
        );
        let took = Duration::from_micros(5_120);
        assert_eq!(restore_report(took, None), "RESTORE_REPORT Restore Duration: 5.12 ms");
        assert_eq!(
            restore_report(took, Some(&Failure::Timeout { timeout_ms: 3_000 })),
            "RESTORE_REPORT Restore Duration: 5.12 ms\tStatus: timeout"
        );
    }

    #[test]
    fn reports_read_as_on_aws() {
        assert_eq!(
            report("8f1c", &usage(1_230, Some(43_210)), None),
            "REPORT RequestId: 8f1c\tDuration: 1.23 ms\tBilled Duration: 45 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 30 MB\tInit Duration: 43.21 ms\t"
        );
        assert_eq!(
            report("8f1c", &usage(1_000, None), None),
            "REPORT RequestId: 8f1c\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 30 MB\t"
        );
        assert_eq!(
            report("8f1c", &usage(3_000_000, Some(402_040)), Some(&Failure::Timeout { timeout_ms: 3_000 })),
            "REPORT RequestId: 8f1c\tDuration: 3000.00 ms\tBilled Duration: 3403 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 30 MB\tInit Duration: 402.04 ms\tStatus: timeout"
        );
    }

    #[test]
    fn a_failed_init_reports_its_phase() {
        let failure = Failure::InvalidEntrypoint(String::new());
        assert_eq!(
            init_report(Duration::from_micros(1_570), Phase::Init, &failure),
            "INIT_REPORT Init Duration: 1.57 ms\tPhase: init\tStatus: error\tError Type: Runtime.InvalidEntrypoint"
        );
    }
}
