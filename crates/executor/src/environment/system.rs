//! What the system itself writes to a function's log: as text (module `report`) or as JSON, at AWS's levels.
//!
//! | event | text | JSON | level |
//! |---|---|---|---|
//! | the program starts | `INIT_START` | `platform.initStart` | INFO |
//! | it asks for its first event, or fails | | `platform.initRuntimeDone` | DEBUG, WARN |
//! | the same, with figures | `INIT_REPORT`, if it failed | `platform.initReport` | DEBUG, WARN |
//! | an extension subscribes | `TELEMETRY`, `LOGS` | `platform.telemetrySubscription`, `platform.logsSubscription` | INFO |
//! | Init has ended, for each extension | `EXTENSION` | `platform.extension` | INFO |
//! | an event is given to it | `START` | `platform.start` | INFO |
//! | it has answered, or failed | | `platform.runtimeDone` | DEBUG, WARN |
//! | extensions are done too | `END` | (`platform.end`, for the Logs API only) | |
//! | the same, with figures | `REPORT` | `platform.report` | INFO, WARN |
//!
//! Sources: "Event schema" of AWS's Telemetry API, "Log-level filtering" (the levels), logs of real functions (the order of
//! the members). An error that the function itself reports is a success of the runtime's, as REPORT lines show.

use std::time::Duration;

use freehold_runtimes::catalog::Installed;
use serde::Serialize;

use super::extensions::Status;
use super::failure::Failure;
use super::report::{self, Phase};
use crate::core::Purpose;
use crate::event::{FunctionVersion, Usage};
use crate::logging::LogLevel;
use crate::runtime_api::Api;
use crate::telemetry::{Stream, timestamp};

/// How environments come to be that begin from a snapshot of their version.
pub(super) const SNAP_START: &str = "snap-start";

/// How an environment comes to be otherwise, in AWS's words.
pub(super) fn initialization_type(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Demand | Purpose::Prewarm => "on-demand",
        Purpose::Provision => "provisioned-concurrency",
    }
}

const BYTES_PER_MIB: u64 = 1024 * 1024;

/// Something that the system tells.
pub(super) enum SystemEvent<'a> {
    InitStart {
        initialization_type: &'static str,
        installed: &'a Installed,
        version: &'a FunctionVersion,
        log_stream: &'a str,
    },
    InitRuntimeDone {
        initialization_type: &'static str,
        phase: Phase,
        failure: Option<&'a Failure>,
    },
    InitReport {
        initialization_type: &'static str,
        took: Duration,
        phase: Phase,
        failure: Option<&'a Failure>,
    },
    Subscription {
        api: Api,
        name: &'a str,
        streams: &'a [Stream],
    },
    Extension(&'a Status),
    Start {
        request_id: &'a str,
        tenant_id: Option<&'a str>,
        version: &'a FunctionVersion,
    },
    RuntimeDone {
        request_id: &'a str,
        duration: Duration,
        produced_bytes: usize,
        failure: Option<&'a Failure>,
    },
    /// A failure in words, for the Logs API only.
    Fault {
        request_id: &'a str,
        failure: &'a Failure,
    },
    End {
        request_id: &'a str,
    },
    Report {
        request_id: &'a str,
        tenant_id: Option<&'a str>,
        usage: &'a Usage,
        failure: Option<&'a Failure>,
        /// What extensions took beyond the runtime's answer: when that began, and how long.
        overhead: Option<(u64, Duration)>,
    },
}

impl SystemEvent<'_> {
    /// The line of the text format, where it has one.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::InitStart { installed, .. } => Some(report::init_start(installed)),
            Self::InitRuntimeDone { .. } | Self::RuntimeDone { .. } | Self::Fault { .. } => None,
            Self::Subscription { api, name, streams } => Some(report::subscription(*api, name, streams)),
            Self::Extension(status) => Some(report::extension(status)),
            Self::InitReport { took, phase, failure, .. } => {
                failure.map(|failure| report::init_report(*took, *phase, failure))
            }
            Self::Start { request_id, version, .. } => Some(report::start(request_id, &version.version)),
            Self::End { request_id } => Some(report::end(request_id)),
            Self::Report { request_id, usage, failure, .. } => {
                Some(report::report(request_id, usage, *failure))
            }
        }
    }

    /// Its level, which counts in the JSON format.
    pub(super) fn level(&self) -> LogLevel {
        match self {
            Self::InitStart { .. }
            | Self::Start { .. }
            | Self::Subscription { .. }
            | Self::Extension(_)
            | Self::End { .. } => LogLevel::Info,
            Self::Report { failure: None, .. } => LogLevel::Info,
            Self::InitRuntimeDone { failure: None, .. }
            | Self::InitReport { failure: None, .. }
            | Self::RuntimeDone { failure: None, .. } => LogLevel::Debug,
            Self::InitRuntimeDone { .. }
            | Self::InitReport { .. }
            | Self::RuntimeDone { .. }
            | Self::Fault { .. }
            | Self::Report { .. } => LogLevel::Warn,
        }
    }

    /// Whether it has a line in a log that is JSON.
    pub(super) fn is_logged(&self) -> bool {
        !matches!(self, Self::End { .. } | Self::Fault { .. })
    }

    /// Its type, by AWS's name.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::InitStart { .. } => "platform.initStart",
            Self::InitRuntimeDone { .. } => "platform.initRuntimeDone",
            Self::InitReport { .. } => "platform.initReport",
            Self::Subscription { api: Api::Telemetry, .. } => "platform.telemetrySubscription",
            Self::Subscription { api: Api::Logs, .. } => "platform.logsSubscription",
            Self::Extension(_) => "platform.extension",
            Self::Start { .. } => "platform.start",
            Self::RuntimeDone { .. } => "platform.runtimeDone",
            Self::Fault { .. } => "platform.fault",
            Self::End { .. } => "platform.end",
            Self::Report { .. } => "platform.report",
        }
    }

    /// The line of the JSON format. `time` is its moment in RFC 3339.
    pub(super) fn json(&self, time: &str) -> String {
        let kind = self.kind();
        let written = match self {
            Self::Fault { request_id, failure } => {
                serde_json::to_string(&Line { time, kind, record: failure.fault(request_id) })
            }
            _ => serde_json::to_string(&Line { time, kind, record: self.record() }),
        };
        written.expect("texts and numbers can be written")
    }

    fn record(&self) -> Record<'_> {
        match self {
            Self::InitStart { initialization_type, installed, version, log_stream } => Record {
                initialization_type: Some(initialization_type),
                phase: Some(Phase::Init.name()),
                runtime_version: Some(report::runtime_version(installed)),
                function_name: Some(&version.name),
                function_version: Some(&version.version),
                instance_id: Some(log_stream.replacen("/[", &format!("/{}[", version.name), 1)),
                instance_max_memory: Some(u64::from(version.memory_mib) * BYTES_PER_MIB),
                ..Record::default()
            },
            Self::InitRuntimeDone { initialization_type, phase, failure } => {
                Record::init(initialization_type, *phase).ended(*failure)
            }
            Self::InitReport { initialization_type, took, phase, failure } => {
                let metrics = Metrics { duration_ms: milliseconds(*took), ..Metrics::default() };
                let record = Record { metrics: Some(metrics), ..Record::init(initialization_type, *phase) };
                record.ended(*failure)
            }
            Self::Subscription { name, streams, .. } => Record {
                name: Some(name),
                state: Some("Subscribed"),
                types: Some(streams.iter().map(|stream| stream.name()).collect()),
                ..Record::default()
            },
            Self::Extension(status) => Record {
                name: Some(&status.name),
                state: Some(status.state),
                events: Some(&status.events),
                error_type: status.error_type.as_deref(),
                ..Record::default()
            },
            Self::Start { request_id, tenant_id, version } => Record {
                request_id: Some(request_id),
                function_arn: Some(&version.function_arn),
                version: Some(&version.version),
                tenant_id: *tenant_id,
                ..Record::default()
            },
            Self::RuntimeDone { request_id, duration, produced_bytes, failure } => {
                let metrics = Metrics {
                    duration_ms: milliseconds(*duration),
                    produced_bytes: Some(*produced_bytes),
                    ..Metrics::default()
                };
                Record::event(request_id, metrics).ended(*failure)
            }
            Self::Fault { request_id, .. } | Self::End { request_id } => {
                Record { request_id: Some(request_id), ..Record::default() }
            }
            Self::Report { request_id, tenant_id, usage, failure, overhead } => {
                let metrics = Metrics {
                    duration_ms: milliseconds(usage.duration),
                    billed_duration_ms: Some(usage.billed_ms),
                    memory_size_mb: Some(usage.memory_mib),
                    max_memory_used_mb: Some(usage.max_memory_mib),
                    init_duration_ms: usage.init.map(milliseconds),
                    ..Metrics::default()
                };
                let spans = overhead.map(|(start, duration)| {
                    let duration_ms = milliseconds(duration);
                    vec![Span { name: "extensionOverhead", start: timestamp(start), duration_ms }]
                });
                let tenant_id = *tenant_id;
                Record { spans, tenant_id, ..Record::event(request_id, metrics).ended(*failure) }
            }
        }
    }
}

/// One line.
#[derive(Serialize)]
struct Line<'a, R> {
    time: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    record: R,
}

/// A part of an event, in time.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    name: &'static str,
    start: String,
    duration_ms: f64,
}

/// The records of all events; each has some of the members, in this order.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initialization_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_max_memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn init(initialization_type: &'static str, phase: Phase) -> Self {
        let (initialization_type, phase) = (Some(initialization_type), Some(phase.name()));
        Self { initialization_type, phase, ..Self::default() }
    }

    fn event(request_id: &'a str, metrics: Metrics) -> Self {
        Self { request_id: Some(request_id), metrics: Some(metrics), ..Self::default() }
    }

    fn ended(self, failure: Option<&'a Failure>) -> Self {
        let (status, error_type) = match failure {
            None => ("success", None),
            Some(Failure::Timeout { .. }) => ("timeout", None),
            Some(other) => ("error", Some(other.error_type())),
        };
        Self { status: Some(status), error_type, ..self }
    }
}

#[derive(Default, Serialize)]
struct Metrics {
    #[serde(rename = "durationMs")]
    duration_ms: f64,
    #[serde(rename = "producedBytes", skip_serializing_if = "Option::is_none")]
    produced_bytes: Option<usize>,
    #[serde(rename = "billedDurationMs", skip_serializing_if = "Option::is_none")]
    billed_duration_ms: Option<u64>,
    #[serde(rename = "memorySizeMB", skip_serializing_if = "Option::is_none")]
    memory_size_mb: Option<u32>,
    #[serde(rename = "maxMemoryUsedMB", skip_serializing_if = "Option::is_none")]
    max_memory_used_mb: Option<u32>,
    #[serde(rename = "initDurationMs", skip_serializing_if = "Option::is_none")]
    init_duration_ms: Option<f64>,
}

/// With three decimals, as AWS gives them.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-10-08T07:30:29.470Z";

    fn usage(init_us: Option<u64>) -> Usage {
        Usage {
            duration: Duration::from_micros(1_233_960),
            billed_ms: 1_698,
            memory_mib: 256,
            max_memory_mib: 123,
            init: init_us.map(Duration::from_micros),
        }
    }

    #[test]
    fn lines_read_as_on_aws() {
        let report = SystemEvent::Report {
            request_id: "79b5",
            tenant_id: None,
            usage: &usage(Some(463_512)),
            failure: None,
            overhead: None,
        };
        assert_eq!(
            report.json(TIME),
            r#"{"time":"2026-10-08T07:30:29.470Z","type":"platform.report","record":{"requestId":"79b5","metrics":{"durationMs":1233.96,"billedDurationMs":1698,"memorySizeMB":256,"maxMemoryUsedMB":123,"initDurationMs":463.512},"status":"success"}}"#
        );
        let report = SystemEvent::Report {
            request_id: "79b5",
            tenant_id: Some("BlueTenant"),
            usage: &usage(None),
            failure: None,
            overhead: None,
        };
        assert_eq!(
            report.json(TIME),
            r#"{"time":"2026-10-08T07:30:29.470Z","type":"platform.report","record":{"requestId":"79b5","tenantId":"BlueTenant","metrics":{"durationMs":1233.96,"billedDurationMs":1698,"memorySizeMB":256,"maxMemoryUsedMB":123},"status":"success"}}"#
        );
        let timeout = Failure::Timeout { timeout_ms: 5_000 };
        let took = Duration::from_micros(10_000_487);
        let init = SystemEvent::InitReport {
            initialization_type: "on-demand",
            took,
            phase: Phase::Init,
            failure: Some(&timeout),
        };
        assert_eq!(
            init.json(TIME),
            r#"{"time":"2026-10-08T07:30:29.470Z","type":"platform.initReport","record":{"initializationType":"on-demand","phase":"init","metrics":{"durationMs":10000.487},"status":"timeout"}}"#
        );
        let failure = Failure::InvalidEntrypoint(String::new());
        let done = SystemEvent::RuntimeDone {
            request_id: "79b5",
            duration: Duration::from_secs(5),
            produced_bytes: 0,
            failure: Some(&failure),
        };
        assert_eq!(
            done.json(TIME),
            r#"{"time":"2026-10-08T07:30:29.470Z","type":"platform.runtimeDone","record":{"requestId":"79b5","metrics":{"durationMs":5000.0,"producedBytes":0},"status":"error","errorType":"Runtime.InvalidEntrypoint"}}"#
        );
    }

    #[test]
    fn failures_are_told_at_a_higher_level() {
        let failure = Failure::InvalidEntrypoint(String::new());
        let (usage, took, phase) = (usage(None), Duration::ZERO, Phase::Init);
        for (failure, report, others) in
            [(None, LogLevel::Info, LogLevel::Debug), (Some(&failure), LogLevel::Warn, LogLevel::Warn)]
        {
            let request_id = "79b5";
            let done = SystemEvent::RuntimeDone { request_id, duration: took, produced_bytes: 0, failure };
            assert_eq!(done.level(), others);
            let (tenant_id, initialization_type, overhead) = (None, "on-demand", None);
            let reported = SystemEvent::Report { request_id, tenant_id, usage: &usage, failure, overhead };
            assert_eq!(reported.level(), report);
            assert_eq!(SystemEvent::InitRuntimeDone { initialization_type, phase, failure }.level(), others);
            assert_eq!(SystemEvent::InitReport { initialization_type, took, phase, failure }.level(), others);
        }
    }
}
