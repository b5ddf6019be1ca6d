//! Which environment runs an event, and when one is made or dropped.
//!
//! - [`event`]: what comes in (a function version, an event) and what goes out (an outcome, a usage record, log lines)
//!
//! This crate knows neither AWS's wire formats nor who the caller is.
#![forbid(unsafe_code)]

pub mod event;
