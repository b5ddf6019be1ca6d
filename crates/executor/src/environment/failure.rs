//! How an event can fail other than by the function's own error, in AWS's words.

use bytes::Bytes;
use freehold_sandbox::spec::Exit;
use serde_json::json;

use crate::runtime_api::{ANSWER_BYTES, PostedError};

/// Why an event, or an Init phase, came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It took longer than it may.
    Timeout {
        /// The function's timeout, in ms.
        timeout_ms: u64,
    },
    /// The runtime's process ended.
    Exit(Exit),
    /// The program cannot be started.
    InvalidEntrypoint(String),
    /// The runtime reported that Init has failed.
    Init(PostedError),
    /// An extension could not be started, has failed or ended.
    Extension {
        /// AWS's type.
        error_type: &'static str,
        /// What is said of it.
        message: String,
    },
    /// The answer is too large.
    TooLarge,
    /// The server is stopping, and would wait no longer.
    Stopped,
}

impl Failure {
    /// AWS's `errorType`.
    pub(super) fn error_type(&self) -> &str {
        match self {
            Self::Timeout { .. } => "Sandbox.Timedout",
            Self::Exit(Exit::OutOfMemory) => "Runtime.OutOfMemory",
            Self::Exit(_) | Self::Stopped => "Runtime.ExitError",
            Self::InvalidEntrypoint(_) => "Runtime.InvalidEntrypoint",
            Self::Init(error) => error.error_type.as_deref().unwrap_or("Runtime.Unknown"),
            Self::Extension { error_type, .. } => error_type,
            Self::TooLarge => "Function.ResponseSizeTooLarge",
        }
    }

    /// The error JSON that the caller gets.
    pub(super) fn payload(&self, request_id: &str) -> Bytes {
        let about = |text: String| format!("RequestId: {request_id} Error: {text}");
        let message = match self {
            Self::Timeout { timeout_ms } => about(timed_out(*timeout_ms)),
            Self::Exit(exit) => about(describe(*exit)),
            Self::Stopped => about("Runtime exited with error: signal: killed".to_owned()),
            Self::InvalidEntrypoint(text) => about(text.clone()),
            Self::Extension { message, .. } => about(message.clone()),
            Self::Init(error) => return error_payload(error),
            // AWS's emulator also tells the size; the service itself does not.
            Self::TooLarge => {
                format!("Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES} bytes).")
            }
        };
        Bytes::from(json!({"errorType": self.error_type(), "errorMessage": message}).to_string())
    }

    /// What happened, for people.
    pub(super) fn text(&self) -> String {
        let text = match self {
            Self::Timeout { timeout_ms } => timed_out(*timeout_ms),
            Self::Exit(exit) => describe(*exit),
            Self::Stopped => describe(Exit::Killed),
            Self::InvalidEntrypoint(text) => text.clone(),
            Self::Init(error) => {
                let payload: serde_json::Value = serde_json::from_slice(&error.body).unwrap_or_default();
                payload["errorMessage"].as_str().unwrap_or_default().to_owned()
            }
            Self::Extension { message, .. } => message.clone(),
            Self::TooLarge => String::new(),
        };
        if text.is_empty() { self.error_type().to_owned() } else { format!("{}: {text}", self.error_type()) }
    }

    /// What the Logs API says of it.
    pub(super) fn fault(&self, request_id: &str) -> String {
        let about = |text: String| format!("RequestId: {request_id} Error: {text}\n{}", self.error_type());
        match self {
            Self::Timeout { timeout_ms } => format!("RequestId: {request_id} {}", timed_out(*timeout_ms)),
            Self::Exit(exit) => about(describe(*exit)),
            Self::Extension { message, .. } | Self::InvalidEntrypoint(message) => about(message.clone()),
            other => format!("RequestId: {request_id} {}", other.error_type()),
        }
    }

    /// The end of a REPORT or INIT_REPORT line.
    pub(super) fn status(&self) -> String {
        match self {
            Self::Timeout { .. } => "Status: timeout".to_owned(),
            other => format!("Status: error\tError Type: {}", other.error_type()),
        }
    }
}

/// The error that a runtime reported, as the caller gets it. An error without a body is made from its type.
pub(super) fn error_payload(error: &PostedError) -> Bytes {
    if !error.body.is_empty() {
        return error.body.clone();
    }
    let error_type = error.error_type.as_deref().unwrap_or("Runtime.Unknown");
    Bytes::from(json!({"errorType": error_type, "errorMessage": ""}).to_string())
}

fn timed_out(timeout_ms: u64) -> String {
    format!("Task timed out after {}.{:02} seconds", timeout_ms / 1_000, timeout_ms % 1_000 / 10)
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Status(0) => "Runtime exited without providing a reason".to_owned(),
        Exit::Status(status) => format!("Runtime exited with error: exit status {status}"),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
        Exit::OutOfMemory | Exit::Killed => "Runtime exited with error: signal: killed".to_owned(),
    }
}

/// Signals by the names that AWS's supervisor, a Go program, gives them.
pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(failure: &Failure) -> String {
        String::from_utf8(failure.payload("8f1c").to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn failures_read_as_on_aws() {
        let cases = [
            (
                Failure::Timeout { timeout_ms: 3_000 },
                r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 8f1c Error: Task timed out after 3.00 seconds"}"#,
                "Status: timeout",
            ),
            (
                Failure::Exit(Exit::Status(1)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 8f1c Error: Runtime exited with error: exit status 1"}"#,
                "Status: error\tError Type: Runtime.ExitError",
            ),
            (
                Failure::Exit(Exit::Status(0)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 8f1c Error: Runtime exited without providing a reason"}"#,
                "Status: error\tError Type: Runtime.ExitError",
            ),
            (
                Failure::Exit(Exit::Signal(11)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 8f1c Error: Runtime exited with error: signal: segmentation fault"}"#,
                "Status: error\tError Type: Runtime.ExitError",
            ),
            (
                Failure::Exit(Exit::OutOfMemory),
                r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: 8f1c Error: Runtime exited with error: signal: killed"}"#,
                "Status: error\tError Type: Runtime.OutOfMemory",
            ),
            (
                Failure::TooLarge,
                r#"{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}"#,
                "Status: error\tError Type: Function.ResponseSizeTooLarge",
            ),
        ];
        for (failure, json, status) in cases {
            assert_eq!(payload(&failure), json);
            assert_eq!(failure.status(), status);
        }
    }

    #[test]
    fn an_error_without_a_body_is_made_from_its_type() {
        let error = PostedError { error_type: Some("Function.Odd".to_owned()), body: Bytes::new() };
        assert_eq!(error_payload(&error), r#"{"errorType":"Function.Odd","errorMessage":""}"#);
    }
}
