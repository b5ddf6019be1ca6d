//! Freehold's program floor: the command line, the configuration, and the wiring of the services into one server.
//!
//! - [`cli`]: the words of the command line
//! - [`config`]: what `serve` can be told, and from where (defaults < file < environment < flags)
//! - [`server`]: builds the parts bottom up, runs them, and takes them down in reverse
//! - [`client`]: signed requests to a server, for the commands that talk to one
//! - `control`: the socket through which commands reach a running server
//! - [`commands`]: one file per command
//!
//! This crate knows how the parts fit together and nothing of how any of them works inside.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
mod control;
mod endpoint;
pub mod exit;
mod output;
pub mod package;
pub mod server;
mod store_report;
