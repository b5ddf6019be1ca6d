//! What an execution environment is and what it cannot do.
//!
//! - [`spec`]: what the executor asks for, and what it gets
//!
//! This crate knows neither AWS nor who the caller is.

pub mod spec;
