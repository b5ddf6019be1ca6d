//! AWS wire formats, without any service's rules: how requests are signed, how operations are told apart, how answers
//! and errors look.
//!
//! - [`service`]: what a service shows to the front door (operations, calls, replies)
//! - [`error`]: the one error type that a client may see
//! - [`route`]: which operation a method and a path, a target or an action means
//! - [`protocol`]: replies and errors as each protocol writes them
//! - [`sigv4`]: signing, presigning and verifying requests
//! - [`form`]: query strings and form bodies
//! - [`xml`]: the little XML that query answers need
//!
//! This crate does no I/O and knows no service's state.
#![forbid(unsafe_code)]

pub mod error;
pub mod form;
pub mod protocol;
pub mod route;
pub mod service;
pub mod sigv4;
pub mod xml;
