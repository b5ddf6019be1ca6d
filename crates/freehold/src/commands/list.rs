//! `freehold list`: every function, one per line.

use anyhow::Result;
use serde_json::Value;

use crate::cli::List;
use crate::client::{Client, encode};
use crate::exit;
use crate::output;

pub(super) async fn run(words: List, json: bool) -> Result<u8> {
    let mut client = Client::connect(&words.target).await?;
    let functions = all(&mut client).await?;
    if json {
        output::json(&Value::Array(functions))?;
        return Ok(exit::OK);
    }
    if functions.is_empty() {
        output::line("No functions yet. Deploy one: freehold deploy DIR")?;
        return Ok(exit::OK);
    }
    let cell = |function: &Value, name: &str| match &function[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let columns = ["FunctionName", "Runtime", "MemorySize", "Timeout", "CodeSize", "LastModified"];
    let rows: Vec<Vec<String>> =
        functions.iter().map(|function| columns.map(|name| cell(function, name)).to_vec()).collect();
    output::table(&["NAME", "RUNTIME", "MEMORY MB", "TIMEOUT S", "CODE BYTES", "LAST MODIFIED"], &rows)?;
    Ok(exit::OK)
}

/// Follows the pages to the last.
async fn all(client: &mut Client) -> Result<Vec<Value>> {
    let mut functions = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let query = marker.map(|marker| format!("?Marker={}", encode(&marker))).unwrap_or_default();
        let mut page = client.get(&format!("/{query}")).await?.json()?;
        if let Value::Array(items) = page["Functions"].take() {
            functions.extend(items);
        }
        marker = page["NextMarker"].as_str().filter(|marker| !marker.is_empty()).map(str::to_owned);
        if marker.is_none() {
            return Ok(functions);
        }
    }
}
