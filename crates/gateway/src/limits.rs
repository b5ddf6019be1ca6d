//! What a stranger may cost: every limit of the front door, as settings with sound defaults.

use std::time::Duration;

/// Open connections of the public listener. Each idle one costs a few KiB and a descriptor.
const CONNECTIONS: usize = 16_384;
/// Open connections from inside one environment: as many as it may have descriptors, halved.
const ENVIRONMENT_CONNECTIONS: usize = 512;
/// Request line and headers together, in bytes: a client context (4.8 KB in base64) and a session token (2 KB) fit many
/// times over. There may be 100 headers, which is what hyper parses without a heap allocation.
const HEADER_BYTES: usize = 32 * 1024;
/// From the moment a connection waits for a request until its headers are complete: against slow clients, and what an
/// idle connection may wait.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pieces of a body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// For a whole body: 70 MB at 2 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// All bodies in flight together, in bytes: 80 synchronous invocations of the largest payload at once, or seven
/// uploads of the largest zip in base64.
const BODY_MEMORY_BYTES: usize = 512 * 1024 * 1024;
/// How long requests that are under way may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two pieces of the rest of a refused body, which is thrown away so that the client reads the answer before the
/// connection ends; all of it may take as long as a body that is wanted.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The front door's limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the public listener; further ones wait to be accepted.
    pub connections: usize,
    /// Open connections from inside one environment.
    pub environment_connections: usize,
    /// Request line and headers together, in bytes (431 beyond it).
    pub header_bytes: usize,
    /// How long a connection may wait for a request's complete headers before it is closed.
    pub header_timeout: Duration,
    /// How long may pass between two pieces of a body (408 beyond it).
    pub body_idle_timeout: Duration,
    /// How long a whole body may take (408 beyond it).
    pub body_timeout: Duration,
    /// All bodies in flight together, in bytes (503 beyond it).
    pub body_memory_bytes: usize,
    /// How long current requests may take once the server stops; then they are cut off.
    pub drain_timeout: Duration,
    /// How long may pass between two pieces of the rest of a refused body before the connection ends.
    pub linger_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            environment_connections: ENVIRONMENT_CONNECTIONS,
            header_bytes: HEADER_BYTES,
            header_timeout: HEADER_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
            body_memory_bytes: BODY_MEMORY_BYTES,
            drain_timeout: DRAIN_TIMEOUT,
            linger_timeout: LINGER_TIMEOUT,
        }
    }
}
