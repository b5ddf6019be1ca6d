//! `freehold doctor --store`: what is in the store, and whether it is whole. Through the running server if there is one.

use anyhow::Result;
use freehold_store::transfer;
use serde_json::Value;

use super::store::open_source;
use super::store::progress::{ProgressLine, size};
use crate::config::StorePlace;
use crate::control::client::{self, Part};
use crate::exit;
use crate::output;
use crate::store_report;

pub(super) async fn run(place: StorePlace, as_json: bool) -> Result<u8> {
    let (report, through_server) = match ask_server(&place).await? {
        Some(report) => (report, true),
        None => (check(&place).await?, false),
    };
    let damaged = report["damaged"].as_u64().unwrap_or_default();
    if as_json {
        output::json(&report)?;
    } else {
        print(&place, through_server, &report)?;
    }
    Ok(if damaged > 0 { exit::FAILED } else { exit::OK })
}

/// `None` if no server runs on this data folder, or if it has another store.
async fn ask_server(place: &StorePlace) -> Result<Option<Value>> {
    let Some(mut server) = client::connect(&place.data).await? else { return Ok(None) };
    server.ask("check", &place.store.url).await?;
    let mut line = ProgressLine::new();
    loop {
        match server.next().await? {
            Part::Progress(progress) => line.show(progress),
            Part::Done(report) => return Ok(Some(report)),
            Part::OtherStore => return Ok(None),
            Part::Data(_) => {}
        }
    }
}

async fn check(place: &StorePlace) -> Result<Value> {
    let store = open_source(place.store.clone()).await?;
    let mut line = ProgressLine::new();
    let checked = transfer::check(&store, &mut |progress| line.show(progress)).await;
    store.close().await;
    Ok(store_report::to_json(&checked?))
}

fn print(place: &StorePlace, through_server: bool, report: &Value) -> Result<()> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let how = if through_server { " (through the running server)" } else { "" };
    output::line(format_args!("store     {}{how}", place.store.shown_url()))?;
    output::line(format_args!(
        "keys      {} ({}), sha256 {}",
        number(&report["keys"]),
        size(number(&report["bytes"])),
        text(&report["sha256"])
    ))?;
    for prefix in report["prefixes"].as_array().into_iter().flatten() {
        let known = if prefix["known"] == Value::Bool(true) { "" } else { " (unknown)" };
        output::line(format_args!(
            "            {}{known}: {} ({})",
            text(&prefix["name"]),
            number(&prefix["keys"]),
            size(number(&prefix["bytes"]))
        ))?;
    }
    output::line(format_args!(
        "blobs     {} ({})",
        number(&report["blobs"]),
        size(number(&report["blob_bytes"]))
    ))?;
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for finding in findings {
        let word = if finding["damage"] == Value::Bool(true) { "damaged" } else { "noted" };
        output::line(format_args!("{word:9} {}: {}", text(&finding["subject"]), text(&finding["message"])))?;
    }
    let (damaged, noted) = (number(&report["damaged"]), number(&report["noted"]));
    if damaged + noted > findings.len() as u64 {
        output::line(format_args!("          … {damaged} damaged and {noted} noted in all"))?;
    }
    let verdict = match damaged {
        0 => "The store is whole.",
        _ => {
            "The store is not in order. Look at the disk; a backup is restored with `freehold store restore`."
        }
    };
    Ok(output::line(format_args!("\n{verdict}"))?)
}
