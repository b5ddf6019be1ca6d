//! AWS wire formats, without any service's rules: how requests are signed, how operations are told apart, how answers
//! and errors look.
//!
//! - [`service`]: what a service shows to the front door (operations, calls, replies)
//! - [`error`]: the one error type that a client may see
//!
//! This crate does no I/O and knows no service's state.
#![forbid(unsafe_code)]

pub mod error;
pub mod service;
