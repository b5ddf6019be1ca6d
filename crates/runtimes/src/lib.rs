//! The programs that run inside an environment: which of AWS's runtimes this host has, and how each is started.
//!
//! - [`catalog`]: AWS's runtime identifiers and what was found for them
//! - [`launch`]: what an environment needs in order to run a function on a runtime
//!
//! This crate knows neither AWS's wire formats nor who the caller is.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod launch;
