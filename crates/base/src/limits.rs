//! AWS's limits that more than one crate needs. Source unless said otherwise: "Lambda quotas",
//! <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Memory of a function, in MB (AWS's MB is a MiB), in steps of 1.
pub const MEMORY_MIB: RangeInclusive<u32> = 128..=10_240;
/// Memory of a function that does not say, in MiB.
pub const MEMORY_DEFAULT_MIB: u32 = 128;
/// The memory that buys one whole vCPU, in MiB.
pub const MEMORY_PER_VCPU_MIB: u32 = 1_769;
/// A function's timeout, in seconds.
pub const TIMEOUT_SECONDS: RangeInclusive<u32> = 1..=900;
/// Timeout of a function that does not say, in seconds.
pub const TIMEOUT_DEFAULT_SECONDS: u32 = 3;
/// How long the Init phase may take before it is done again inside the invocation.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Request and response of a synchronous invocation, in bytes.
pub const SYNC_PAYLOAD_BYTES: usize = 6_291_456;
/// Length of the client context as it is sent, in base64, in bytes.
pub const CLIENT_CONTEXT_BYTES: usize = 3_583;
/// How much of the log `LogType=Tail` returns, in bytes.
pub const LOG_TAIL_BYTES: usize = 4_096;
/// All environment variables of a function together, in bytes.
pub const ENVIRONMENT_BYTES: usize = 4_096;
/// A zip uploaded in the request, in bytes.
pub const ZIP_DIRECT_BYTES: usize = 50 * 1024 * 1024;
/// Code and layers of a function, unzipped, in bytes.
pub const UNZIPPED_BYTES: u64 = 250 * 1024 * 1024;
/// Size of `/tmp`, in MiB.
pub const EPHEMERAL_MIB: RangeInclusive<u32> = 512..=10_240;
/// Size of `/tmp` of a function that does not say, in MiB.
pub const EPHEMERAL_DEFAULT_MIB: u32 = 512;
/// Open files of one environment.
pub const OPEN_FILES: u64 = 1_024;
/// Processes and threads of one environment.
pub const PROCESSES: u64 = 1_024;
/// Concurrent executions of an account in a region.
pub const ACCOUNT_CONCURRENCY: u32 = 1_000;
/// New environments that a function may start in [`SCALING_PERIOD`].
pub const SCALING_BURST: u32 = 1_000;
/// The period of [`SCALING_BURST`].
pub const SCALING_PERIOD: Duration = Duration::from_secs(10);
