//! `freehold delete`: removes a function.

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use crate::cli::Delete;
use crate::client::{Client, encode};
use crate::exit;

pub(super) async fn run(words: Delete, json: bool) -> Result<u8> {
    let mut client = Client::connect(&words.target).await?;
    client
        .lambda(Method::DELETE, &format!("/{}", encode(&words.name)), &[], Bytes::new())
        .await?
        .checked()?;
    if json {
        return super::print_json(&serde_json::json!({ "deleted": words.name }));
    }
    println!("Deleted {}", words.name);
    Ok(exit::OK)
}
