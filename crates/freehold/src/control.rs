//! The control socket: how this program's own commands reach a server that runs, and with it the store that it has
//! locked. A Unix socket in the data folder, for the server's own user alone.
//!
//! ```text
//! command                                server
//!   freehold-control 1 backup URL\n ──────>   (or check, or greet, which does nothing)
//!   <── D data … P progress … ── then one of: O done (JSON) | E failed (text) | S another store
//! ```
//!
//! Each part of the answer is a frame: one letter, the length (four bytes, the most significant first), the content. An
//! answer without O, E or S at its end was cut off: nothing of it counts.
//!
//! - `socket`: its name in the data folder, however long that folder's path is
//! - `frames`: the parts of an answer
//! - `client`: the commands' side
//!
//! Few connections are served at once; others wait to be accepted. Every read and write has a deadline, so a command that
//! was stopped holds neither the server nor a snapshot for long.

pub(crate) mod client;
mod frames;
mod socket;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use freehold_store::Store;
use freehold_store::transfer::{self, Progress};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::frames::Kind;
use crate::store_report;

/// What a request begins with: the protocol and its version.
const GREETING: &str = "freehold-control 1";
/// Connections that are served at once: each holds a snapshot.
const CONNECTIONS: usize = 4;
/// Length of a request, in bytes: a URL of the usual length many times over.
const REQUEST_BYTES: u64 = 8 << 10;
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side may take for one frame; a command whose reader is slower than that fails.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a backup that wait to be sent.
const PIPE_BYTES: usize = 256 << 10;

/// A server's control socket.
pub(crate) struct Control {
    data: PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Control {
    /// Begins to serve the data folder's socket. One that a dead server left is replaced; one that answers is an error.
    pub(crate) async fn start(data: &Path, url: String, store: Store) -> Result<Self> {
        let listener = socket::listen(data)
            .await
            .with_context(|| format!("cannot make the control socket in {}", data.display()))?;
        let (stop, stops) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, url, store, stops));
        Ok(Self { data: data.to_owned(), stop, serving })
    }

    /// Cuts off what is under way (its other side sees that the answer has no end) and removes the socket.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the control socket broke");
        }
        socket::remove(&self.data);
    }
}

async fn serve(listener: UnixListener, url: String, store: Store, mut stops: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stops) => break,
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a control connection broke");
            },
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (url, store) = (url.clone(), store.clone());
                    connections.spawn(async move {
                        if let Err(error) = answer(stream, &url, &store).await {
                            tracing::info!(%error, "a control connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(PROGRESS_INTERVAL).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn stopped(stops: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stops.wait_for(|stop| *stop).await;
}

async fn answer(mut stream: UnixStream, url: &str, store: &Store) -> Result<()> {
    let mut line = String::new();
    let mut request = BufReader::new((&mut stream).take(REQUEST_BYTES));
    timeout(REQUEST_TIMEOUT, request.read_line(&mut line)).await.context("no request came")??;
    let words = line.trim_end_matches('\n').strip_prefix(GREETING).and_then(|rest| rest.strip_prefix(' '));
    let Some((verb, asked)) = words.and_then(|words| words.split_once(' ')).filter(|_| line.ends_with('\n'))
    else {
        let text = format!("this server speaks '{GREETING}': use the same version of freehold");
        return send(&mut stream, Kind::Failed, text.as_bytes()).await;
    };
    if asked != url {
        return send(&mut stream, Kind::OtherStore, b"").await;
    }
    tracing::info!(verb, "asked through the control socket");
    let result = match verb {
        "greet" => Ok(Value::Null),
        "backup" => backup(&mut stream, store).await?,
        "check" => check(&mut stream, store).await?,
        other => Err(format!("this server knows no '{other}'")),
    };
    match result {
        Ok(done) => send(&mut stream, Kind::Done, done.to_string().as_bytes()).await,
        Err(text) => {
            tracing::warn!(verb, error = text, "what was asked through the control socket failed");
            send(&mut stream, Kind::Failed, text.as_bytes()).await
        }
    }
}

/// What was done, or what failed; the outer error is the connection's own.
type Outcome = Result<Result<Value, String>>;

async fn backup(stream: &mut UnixStream, store: &Store) -> Outcome {
    let (progress, mut told) = watch::channel(Progress::default());
    let (writer, mut reader) = tokio::io::duplex(PIPE_BYTES);
    let mut tell = |now| {
        progress.send_replace(now);
    };
    let work = transfer::backup(store, writer, &mut tell);
    tokio::pin!(work);
    let mut result = None;
    let mut buffer = vec![0; PIPE_BYTES];
    let mut ticks = interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = &mut work, if result.is_none() => result = Some(done),
            read = reader.read(&mut buffer) => match read? {
                // The writer goes with the work's end.
                0 => break,
                count => send(stream, Kind::Data, &buffer[..count]).await?,
            },
            _ = ticks.tick() => tell_progress(stream, &mut told).await?,
        }
    }
    let result = match result {
        Some(result) => result,
        None => work.await,
    };
    Ok(match result {
        Ok(summary) => Ok(serde_json::to_value(summary)?),
        Err(error) => Err(error.to_string()),
    })
}

async fn check(stream: &mut UnixStream, store: &Store) -> Outcome {
    let (progress, mut told) = watch::channel(Progress::default());
    let mut tell = |now| {
        progress.send_replace(now);
    };
    let work = transfer::check(store, &mut tell);
    tokio::pin!(work);
    let mut ticks = interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = &mut work => return Ok(match done {
                Ok(report) => Ok(store_report::to_json(&report)),
                Err(error) => Err(error.to_string()),
            }),
            _ = ticks.tick() => tell_progress(stream, &mut told).await?,
        }
    }
}

/// Also where nothing has changed: the other side learns that somebody is there.
async fn tell_progress(stream: &mut UnixStream, told: &mut watch::Receiver<Progress>) -> Result<()> {
    let now = *told.borrow_and_update();
    send(stream, Kind::Progress, &serde_json::to_vec(&now)?).await
}

async fn send(stream: &mut UnixStream, kind: Kind, content: &[u8]) -> Result<()> {
    match timeout(WRITE_TIMEOUT, frames::write(stream, kind, content)).await {
        Ok(written) => Ok(written?),
        Err(_) => bail!("the other side did not read for {} s", WRITE_TIMEOUT.as_secs()),
    }
}
