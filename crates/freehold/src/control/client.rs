//! The commands' side of the control socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use freehold_store::transfer::Progress;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::frames::{self, Kind};
use super::{GREETING, socket};

/// How long a server may say nothing. One that works tells of its progress all the time.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a server.
pub(crate) struct Connection(BufReader<UnixStream>);

/// What comes next of an answer.
pub(crate) enum Part {
    /// A piece of what was asked for.
    Data(Bytes),
    /// How far it has come.
    Progress(Progress),
    /// The end: it is done.
    Done(Value),
    /// The end: the server has another store.
    OtherStore,
}

/// Connects to the server of a data folder; `None` if none runs.
pub(crate) async fn connect(data: &Path) -> Result<Option<Connection>> {
    let stream = socket::connect(data).await;
    let stream =
        stream.with_context(|| format!("cannot reach the server of the data folder {}", data.display()))?;
    Ok(stream.map(|stream| Connection(BufReader::new(stream))))
}

impl Connection {
    /// Asks for `verb` on the store at `url`.
    pub(crate) async fn ask(&mut self, verb: &str, url: &str) -> Result<()> {
        let request = format!("{GREETING} {verb} {url}\n");
        self.0.get_mut().write_all(request.as_bytes()).await.context("cannot ask the server")
    }

    /// The next part. A failure that the server tells of is an error.
    pub(crate) async fn next(&mut self) -> Result<Part> {
        let read = timeout(SILENCE_TIMEOUT, frames::read(&mut self.0)).await;
        let (kind, content) = match read {
            Err(_) => bail!("the server has said nothing for {} s", SILENCE_TIMEOUT.as_secs()),
            // Without its cause: a pipe that broke is not that of this command's own output.
            Ok(Err(error)) => bail!("the server's answer was cut off ({error}): has the server stopped?"),
            Ok(Ok(frame)) => frame,
        };
        Ok(match kind {
            Kind::Data => Part::Data(content),
            Kind::Progress => Part::Progress(serde_json::from_slice(&content)?),
            Kind::Done => Part::Done(serde_json::from_slice(&content)?),
            Kind::OtherStore => Part::OtherStore,
            Kind::Failed => return Err(anyhow!("{}", String::from_utf8_lossy(&content))),
        })
    }
}
