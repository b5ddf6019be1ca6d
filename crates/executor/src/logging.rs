//! How a function's log is written: its format, and what of it is kept.
//!
//! In the text format everything is kept. In the JSON format a line of the function is kept if its level is high enough;
//! its level is the member `level` of the JSON object that it is. A line that is none, says no level that is known, or has
//! no time counts as INFO, as AWS documents ("Log-level filtering").

use jiff::Timestamp;
use serde::Deserialize;

/// How a function's log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Of the system's lines, and of the function's where its runtime knows the format.
    pub format: LogFormat,
    /// The least level of the function's own lines that is kept (only in JSON).
    pub application_level: LogLevel,
    /// The least level of the system's lines that is kept (only in JSON).
    pub system_level: LogLevel,
}

impl Default for Logging {
    /// Text, of which everything is kept.
    fn default() -> Self {
        Self { format: LogFormat::Text, application_level: LogLevel::Trace, system_level: LogLevel::Debug }
    }
}

/// AWS's `LogFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `Text`.
    Text,
    /// `JSON`.
    Json,
}

/// The levels of both AWS's `ApplicationLogLevel` and `SystemLogLevel`, most detailed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `TRACE`.
    Trace,
    /// `DEBUG`.
    Debug,
    /// `INFO`.
    Info,
    /// `WARN`.
    Warn,
    /// `ERROR`.
    Error,
    /// `FATAL`.
    Fatal,
}

impl LogLevel {
    /// The level that AWS, or a runtime's logging library, calls so, in whatever case.
    pub fn named(name: &str) -> Option<Self> {
        let level = match name.to_ascii_uppercase().as_str() {
            "TRACE" => Self::Trace,
            "DEBUG" => Self::Debug,
            "INFO" | "INFORMATION" => Self::Info,
            "WARN" | "WARNING" => Self::Warn,
            "ERROR" => Self::Error,
            "FATAL" | "CRITICAL" => Self::Fatal,
            _ => return None,
        };
        Some(level)
    }

    /// AWS's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

impl Logging {
    /// Whether a line that the function wrote is kept.
    pub(crate) fn keeps(&self, line: &[u8]) -> bool {
        self.format == LogFormat::Text
            || self.application_level == LogLevel::Trace
            || level_of(line) >= self.application_level
    }
}

/// What decides a line's level, by the names that logging libraries use.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "Level", alias = "LEVEL", alias = "LogLevel", alias = "logLevel")]
    level: String,
    #[serde(alias = "Timestamp", alias = "@timestamp", alias = "time", alias = "Time")]
    timestamp: String,
}

fn level_of(line: &[u8]) -> LogLevel {
    if line.first() != Some(&b'{') {
        return LogLevel::Info;
    }
    let Ok(line) = serde_json::from_slice::<Line>(line) else { return LogLevel::Info };
    if line.timestamp.parse::<Timestamp>().is_err() {
        return LogLevel::Info;
    }
    LogLevel::named(&line.level).unwrap_or(LogLevel::Info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(application_level: LogLevel, line: &str) -> bool {
        let system_level = LogLevel::Info;
        Logging { format: LogFormat::Json, application_level, system_level }.keeps(line.as_bytes())
    }

    #[test]
    fn a_line_is_kept_by_the_level_that_it_says() {
        let debug =
            r#"{"level": "debug", "msg": "my debug log", "timestamp": "2024-11-02T16:51:31.587199Z"}"#;
        assert!(kept(LogLevel::Debug, debug));
        assert!(!kept(LogLevel::Info, debug));
        let warning =
            r#"{"timestamp": "2024-06-18T02:07:06Z", "level": "WARNING", "message": {"level": "DEBUG"}}"#;
        assert!(kept(LogLevel::Warn, warning));
        assert!(!kept(LogLevel::Error, warning));
        let critical = r#"{"time":"2024-06-18T02:07:06Z","Level":"CRITICAL"}"#;
        assert!(kept(LogLevel::Fatal, critical));
    }

    #[test]
    fn what_says_no_level_counts_as_info() {
        for line in [
            "printed",
            "",
            "{not json",
            "[1, 2]",
            "null",
            r#"{"message": "no level", "timestamp": "2024-06-18T02:07:06Z"}"#,
            r#"{"level": "loud", "timestamp": "2024-06-18T02:07:06Z"}"#,
            r#"{"level": 7, "timestamp": "2024-06-18T02:07:06Z"}"#,
            r#"{"level": "ERROR", "message": "no time"}"#,
            r#"{"level": "ERROR", "timestamp": "yesterday"}"#,
        ] {
            assert!(kept(LogLevel::Info, line), "{line}");
            assert!(!kept(LogLevel::Warn, line), "{line}");
        }
    }

    #[test]
    fn text_is_kept_whole() {
        assert!(Logging::default().keeps(br#"{"level": "TRACE", "timestamp": "2024-06-18T02:07:06Z"}"#));
    }
}
