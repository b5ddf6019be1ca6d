//! What comes in (a [`FunctionVersion`] and an [`Event`]) and what goes out (an [`Outcome`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_base::id::RequestId;

use crate::logging::Logging;

/// Everything about a function that decides what runs. Immutable: any change of code or configuration is a new value
/// with a new [`key`](Self::key), and environments of the old one are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionVersion {
    /// Unique among all versions of all functions, and different after every update: environments belong to it for life.
    pub key: String,
    /// The function's ARN without qualifier: what concurrency limits and logs go by.
    pub function_arn: String,
    /// The function's bare name.
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// AWS's runtime identifier, such as `python3.12`.
    pub runtime: String,
    /// Such as `lambda_function.lambda_handler`.
    pub handler: String,
    /// The folder with the unzipped code, read-only from now on.
    pub code: PathBuf,
    /// The folder with its layers' content, merged, where it has layers: read-only too.
    pub layers: Option<PathBuf>,
    /// The function's own environment variables.
    pub variables: BTreeMap<String, String>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// How long one event may take.
    pub timeout: Duration,
    /// Size of `/tmp`, in MiB.
    pub ephemeral_mib: u32,
    /// The execution role's ARN.
    pub role_arn: String,
    /// The region that the function believes to be in.
    pub region: String,
    /// Where its log goes, such as `/aws/lambda/hello`.
    pub log_group: String,
    /// How its log is written.
    pub logging: Logging,
}

/// One event for a function.
#[derive(Clone, Debug)]
pub struct Event {
    /// The id that the log lines, the context object and the answer carry.
    pub request_id: RequestId,
    /// The event's JSON text, at most 6 MB; not parsed on the way.
    pub payload: Bytes,
    /// The ARN that the caller named, qualifier and all.
    pub invoked_arn: String,
    /// The client context's JSON text, where the caller gave one.
    pub client_context: Option<String>,
    /// `X-Amzn-Trace-Id`, where the caller gave one.
    pub trace_header: Option<String>,
    /// For which tenant it is, where the function keeps tenants apart: its environment never serves another one.
    pub tenant_id: Option<String>,
    /// The caller wants the end of the log: then the answer waits until that is complete, which is after extensions are
    /// done. Otherwise it is given as soon as the runtime has answered.
    pub wants_tail: bool,
}

/// How the function's error came about; `X-Amz-Function-Error` is `Unhandled` for both in AWS's managed runtimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The function's answer, as it wrote it.
    Payload(Bytes),
    /// The function failed: the error JSON that AWS gives (`errorType`, `errorMessage`, `stackTrace`, …).
    Error(Bytes),
}

impl Answer {
    /// The answer's text, whatever it is.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Payload(bytes) | Self::Error(bytes) => bytes,
        }
    }
}

/// What came of one event.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer or the function's error.
    pub answer: Answer,
    /// The last 4 KB of what this event wrote to the log, START, END and REPORT lines included.
    pub log_tail: Bytes,
    /// What it consumed.
    pub usage: Usage,
}

/// What one event consumed: the REPORT line in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// From dispatch to answer.
    pub duration: Duration,
    /// What is billed, in ms: duration plus init, rounded up.
    pub billed_ms: u64,
    /// The function's memory, in MiB.
    pub memory_mib: u32,
    /// The largest memory the environment has used so far, in MiB.
    pub max_memory_mib: u32,
    /// The Init phase, where this event waited for one.
    pub init: Option<Duration>,
}

/// What has become of one configuration of provisioned concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// How many environments were asked for.
    pub requested: u32,
    /// How many of them are initialised, with or without an event at the moment.
    pub allocated: u32,
    /// How many of those have no event at the moment.
    pub available: u32,
    /// Why the last ones could not be started, once several attempts in a row have failed.
    pub failure: Option<String>,
}

/// Why an event was not run at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvokeError {
    /// Over the account's or the function's concurrency (AWS: 429 `TooManyRequestsException` with `Reason`).
    #[error("Rate Exceeded.")]
    Throttled(ThrottleReason),
    /// No environment could be made (AWS: 502/500 `ServiceException`).
    #[error("an environment could not be started: {0}")]
    Environment(String),
    /// The runtime is not on this host.
    #[error("{0}")]
    Runtime(#[from] freehold_runtimes::catalog::RuntimeError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// AWS's `Reason` of a throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleReason {
    /// `ConcurrentInvocationLimitExceeded`: the account's concurrency or the scaling rate.
    Concurrency,
    /// `ReservedFunctionConcurrentInvocationLimitExceeded`.
    ReservedConcurrency,
    /// `FunctionInvocationRateLimitExceeded`.
    FunctionRate,
    /// `ReservedFunctionInvocationRateLimitExceeded`.
    ReservedFunctionRate,
}

/// Where function logs go. Called from the invoke path: must hand over and return at once.
pub trait LogSink: Send + Sync + 'static {
    /// Takes lines of one environment, in order.
    fn write(&self, batch: LogBatch);
}

/// Some lines of one environment's log.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The function's log group, such as `/aws/lambda/hello`.
    pub group: Arc<str>,
    /// The environment's stream, such as `2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef`.
    pub stream: Arc<str>,
    /// The lines without their ends, each with its wall time in ms since 1970.
    pub lines: Vec<(u64, Bytes)>,
}

/// Serves the platform's own endpoint inside an environment: a connection on this listener is the function's role.
pub trait PlatformEndpoint: Send + Sync + 'static {
    /// Serves `listener` until it is told to stop by `closed`.
    fn serve(
        &self,
        listener: tokio::net::TcpListener,
        identity: RoleIdentity,
        closed: tokio::sync::watch::Receiver<bool>,
    );
}

/// The temporary credentials of an execution role, as one environment got them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleIdentity {
    /// The execution role's ARN.
    pub role_arn: String,
    /// The session's name: the function's name, as on AWS.
    pub session_name: String,
    /// `ASIA…`.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The session token that goes with it.
    pub session_token: String,
}
