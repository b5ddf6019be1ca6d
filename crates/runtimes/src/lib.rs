//! The programs that run inside an environment: which of AWS's runtimes this host has, and how each is started.
//!
//! - [`catalog`]: AWS's runtime identifiers and what was found for them
//! - [`launch`]: what an environment needs in order to run a function on a runtime
//! - [`template`]: what of that can be captured once and begun from many times
//! - [`sdk`]: the AWS SDKs that AWS's runtimes carry, fetched once per machine
//! - `find`: looks for interpreters on this host, by running them
//! - `bootstrap`: the programs inside that speak the Runtime API for Python and Node.js functions, in this crate's
//!   `bootstraps` folder and part of the binary
//!
//! This crate knows neither AWS's wire formats nor who the caller is.
#![forbid(unsafe_code)]

mod bootstrap;
pub mod catalog;
mod find;
mod java;
pub mod launch;
mod locale;
pub mod sdk;
pub mod template;
