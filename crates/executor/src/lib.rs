//! Which environment runs an event, and when one is made or dropped.
//!
//! ```text
//! invoke ──> executor ──> core (pure: which environment?) ──> actions
//!                │                                              │
//!                └── environment (a task each) <────────────────┘
//!                        ├── sandbox: start, freeze, thaw, stop
//!                        ├── runtime_api: the HTTP side that the function's runtime speaks to
//!                        └── output, journal: its log lines, START / END / REPORT
//! ```
//!
//! - [`event`]: what comes in (a function version, an event) and what goes out (an outcome, a usage record, log lines)
//! - [`executor`]: the handle: invoke, retire, shut down
//! - `shell`: what stands between it, the core and environments' tasks; [`host`]: what memory there is
//! - `images`: what environments begin from instead of booting
//! - [`limits`]: the settings, AWS's quotas by default
//! - [`core`]: the pure state machine behind it
//! - [`keepalive`]: how long an idle environment is kept, and when one is made ahead
//! - [`logging`]: how a function's log is written, and what of it is kept
//! - [`logs`]: where log lines go, for now: plain files
//! - `environment`, `runtime_api`: the shell, one task for each environment
//!
//! This crate knows neither AWS's wire formats (the Runtime API apart) nor who the caller is.
#![forbid(unsafe_code)]

pub mod core;
mod environment;
pub mod event;
pub mod executor;
pub mod host;
mod images;
pub mod keepalive;
pub mod limits;
pub mod logging;
pub mod logs;
mod runtime_api;
mod shell;
mod telemetry;

pub use environment::PrepareError;
pub use executor::{Executor, Options};
pub use limits::Limits;
