//! `freehold invoke`: the function's answer on stdout, its log on stderr.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::Invoke;
use crate::client::{Answer, Client};
use crate::exit;
use crate::output;

pub(super) async fn run(words: Invoke, as_json: bool) -> Result<u8> {
    let payload = read_payload(words.payload.as_deref())?;
    let mut client = Client::connect(&words.target).await?;
    let answer = client.invoke(&words.name, payload).await?;
    answer.checked()?;
    let failed = answer.header("x-amz-function-error");
    if as_json {
        output::json(&json!({
            "StatusCode": answer.status.as_u16(),
            "FunctionError": failed,
            "ExecutedVersion": answer.header("x-amz-executed-version"),
            "LogTail": log_tail(&answer)?,
            "Payload": serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null),
        }))?;
    } else {
        eprint!("{}", log_tail(&answer)?);
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&answer.body)?;
        stdout.write_all(b"\n")?;
    }
    Ok(if failed.is_some() { exit::FUNCTION_ERROR } else { exit::OK })
}

/// The log's last 4 KB, as the answer carries it.
pub(super) fn log_tail(answer: &Answer) -> Result<String> {
    let encoded = answer.header("x-amz-log-result").unwrap_or_default();
    let log = STANDARD.decode(encoded).context("the log in the answer is not base64")?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

fn read_payload(word: Option<&str>) -> Result<Bytes> {
    match word {
        None => Ok(Bytes::from_static(b"{}")),
        Some("-") => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).context("cannot read stdin")?;
            Ok(Bytes::from(text))
        }
        Some(word) => match word.strip_prefix('@') {
            Some(path) => {
                Ok(Bytes::from(std::fs::read(path).with_context(|| format!("cannot read {path}"))?))
            }
            None => Ok(Bytes::from(word.to_owned())),
        },
    }
}
