//! The shapes of Lambda's requests and answers, and what AWS's model demands of them.
//!
//! - [`json`]: reading bodies; AWS's texts for what is not JSON or of the wrong type
//! - [`requests`], [`responses`]: the shapes, member by member as in AWS's model; [`settings`], [`signing`], [`provisioned`]: those of these
//!   groups
//! - `state`: how far something is, in answers
//! - [`layers`]: all of that for layers
//! - [`constraints`]: lengths, ranges, patterns and enumerations of the members
//! - [`tags`]: what may be a tag
//! - [`unsupported`]: members that would change what runs and cannot be honoured (yet)
//! - [`validation`]: how violations are collected and told
//!
//! Nothing here reads the store or the host.

pub(crate) mod constraints;
pub(crate) mod json;
pub(crate) mod layers;
pub(crate) mod provisioned;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod settings;
pub(crate) mod signing;
mod state;
pub(crate) mod tags;
pub(crate) mod unsupported;
pub(crate) mod validation;
