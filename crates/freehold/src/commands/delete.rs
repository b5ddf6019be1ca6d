//! `freehold delete`: removes a function.

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use crate::cli::Delete;
use crate::client::{Client, encode};
use crate::exit;
use crate::output;

pub(super) async fn run(words: Delete, json: bool) -> Result<u8> {
    let mut client = Client::connect(&words.target).await?;
    client
        .lambda(Method::DELETE, &format!("/{}", encode(&words.name)), &[], Bytes::new())
        .await?
        .checked()?;
    if json {
        output::json(&serde_json::json!({ "deleted": words.name }))?;
        return Ok(exit::OK);
    }
    output::line(format_args!("Deleted {}", words.name))?;
    Ok(exit::OK)
}
