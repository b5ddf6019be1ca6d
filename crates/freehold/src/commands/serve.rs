//! `freehold serve`: runs the server until it is told to stop.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::Serve;
use crate::config::Settings;
use crate::exit;
use crate::server::Server;

pub(super) async fn run(words: Serve, as_json: bool) -> Result<u8> {
    let settings = Settings::load(words)?;
    start_own_log(&settings.log, as_json)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(settings).await?;
    announce(&server, as_json)?;
    let mut code = exit::OK;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = server.failed() => {
            tracing::error!("functions cannot be run any more");
            code = exit::FAILED;
        }
    }
    tracing::info!("stopping: finishing what is under way (a second signal leaves at once)");
    tokio::select! {
        () = server.stop() => {}
        _ = interrupt.recv() => tracing::warn!("left at once"),
        _ = terminate.recv() => tracing::warn!("left at once"),
    }
    Ok(code)
}

/// The one line on stdout; everything else goes to stderr. Whoever started us may read it to learn the port.
fn announce(server: &Server, as_json: bool) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let url = format!("http://{}", server.address());
    if as_json {
        writeln!(stdout, "{}", json!({ "endpoint": url }))?;
    } else {
        writeln!(stdout, "Freehold is listening on {url}")?;
    }
    stdout.flush().context("cannot write to stdout")
}

fn start_own_log(filter: &str, as_json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("the log filter '{filter}' is wrong"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if as_json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    Ok(())
}
