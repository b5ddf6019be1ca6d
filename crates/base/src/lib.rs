//! Ground floor: what every other crate may speak of.
//!
//! - [`id`]: a newtype for each identifier (account, region, request, revision)
//! - [`arn`]: Amazon Resource Names, and the ways a Lambda function can be named
//! - [`clock`]: wall and monotonic time as an argument, never as a global
//! - [`limits`]: AWS's limits that more than one crate needs, with unit and source
//!
//! This crate does no I/O and knows no service.
#![forbid(unsafe_code)]

pub mod arn;
pub mod clock;
pub mod id;
pub mod limits;
