//! `freehold store`: a whole store copied, backed up, restored. A store that a running server has locked is backed up
//! through that server.
//!
//! - `backup`: the file, and where its content comes from
//! - `progress`: what is shown meanwhile

mod backup;
pub(super) mod progress;

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use freehold_store::transfer::{self, Summary, TransferError};
use freehold_store::{Options, Store, StoreError};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncRead, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use self::progress::{ProgressLine, size};
use crate::cli::{Copy, Restore, StoreCommand};
use crate::config::StorePlace;
use crate::control::client::{self, Part};
use crate::exit;
use crate::output;

/// The file name that stands for stdin or stdout.
const STANDARD: &str = "-";
/// What is read of a backup at once, in bytes.
const READ_BYTES: usize = 256 << 10;

pub(super) async fn run(command: StoreCommand, as_json: bool) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let work = async {
        match command {
            StoreCommand::Copy(words) => copy(words, as_json).await,
            StoreCommand::Backup(words) => backup::run(words, as_json).await,
            StoreCommand::Restore(words) => restore(words, as_json).await,
        }
    };
    // Dropped rather than killed: files that are not finished are removed.
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}

async fn copy(words: Copy, as_json: bool) -> Result<u8> {
    let from = open_source(Options { url: words.from, blobs: words.from_blobs }).await?;
    let to = open_target(Options { url: words.to, blobs: words.to_blobs }).await?;
    let mut line = ProgressLine::new();
    let copied = transfer::copy(&from, &to, &mut |progress| line.show(progress)).await;
    drop(line);
    from.close().await;
    to.close().await;
    let summary = copied.context("the copy failed")?;
    if as_json {
        output::json(&serde_json::to_value(&summary)?)?;
    } else {
        output::line(format_args!("Copied {}, and read back.", text_of(&summary)))?;
        warn_of_missing(&summary);
    }
    Ok(exit::OK)
}

async fn restore(words: Restore, as_json: bool) -> Result<u8> {
    let place = StorePlace::load(words.place)?;
    if let Some(mut server) = client::connect(&place.data).await? {
        server.ask("greet", &place.store.url).await?;
        if !matches!(server.next().await?, Part::OtherStore) {
            bail!("a server uses this store (data folder {}): stop it, then restore", place.data.display());
        }
    }
    let mut line = ProgressLine::new();
    let mut show = |progress| line.show(progress);
    let reader: Box<dyn AsyncRead + Send + Unpin> = if words.file == Path::new(STANDARD) {
        Box::new(standard(std::io::stdin())?)
    } else if !words.file.is_file() {
        // Perhaps a pipe, which can be read once.
        Box::new(open_file(&words.file).await?)
    } else {
        // Once to see that it is whole: then a wrong file changes nothing at all.
        let checked = transfer::verify(open_file(&words.file).await?, &mut show).await;
        checked.with_context(|| format!("{} cannot be restored", words.file.display()))?;
        Box::new(open_file(&words.file).await?)
    };
    let shown = place.store.shown_url();
    let store = open_target(place.store).await?;
    let restored = transfer::restore(reader, &store, &mut show).await;
    drop(line);
    store.close().await;
    let summary = match restored {
        Err(TransferError::NotEmpty) => {
            bail!("the store {shown} is not empty: restore into a new data folder (--data), and serve that")
        }
        result => result.context("the restore failed")?,
    };
    if as_json {
        output::json(&with_store(&summary, &shown)?)?;
    } else {
        output::line(format_args!("Restored {} into {shown}.", text_of(&summary)))?;
        warn_of_missing(&summary);
    }
    Ok(exit::OK)
}

/// stdin or stdout as a file. It may be a pipe: it is only read or written from one end to the other.
fn standard(stream: impl AsFd) -> Result<File> {
    let descriptor = stream.as_fd().try_clone_to_owned().context("cannot use stdin or stdout")?;
    Ok(File::from_std(descriptor.into()))
}

async fn open_file(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).await.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::with_capacity(READ_BYTES, file))
}

/// Opens a store that must be there and whole.
pub(super) async fn open_source(options: Options) -> Result<Store> {
    let shown = options.shown_url();
    let opened = transfer::open_source(options).await;
    opened.map_err(explained).with_context(|| format!("cannot open the store {shown}"))
}

/// Opens a store that is to be filled.
async fn open_target(options: Options) -> Result<Store> {
    let shown = options.shown_url();
    let opened = transfer::open_target(options).await;
    opened.map_err(explained).with_context(|| format!("cannot open the store {shown} in order to fill it"))
}

/// Adds what to do about a store that somebody else has open.
fn explained(error: TransferError) -> anyhow::Error {
    let locked = matches!(error, TransferError::Store(StoreError::Locked { .. }));
    let error = anyhow::Error::new(error);
    if locked {
        error.context("it is in use: stop the server that uses it, or name its data folder with --data")
    } else {
        error
    }
}

fn text_of(summary: &Summary) -> String {
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{} ({}) and {} ({})",
        counted(summary.entries.keys, "key"),
        size(summary.entries.bytes),
        counted(summary.blobs, "blob"),
        size(summary.blob_bytes)
    )
}

fn warn_of_missing(summary: &Summary) {
    if summary.missing_blobs > 0 {
        eprintln!(
            "warning: {} blobs were deleted before they could be read, which is as it should be if nothing uses them: {}",
            summary.missing_blobs,
            summary.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        );
    }
}

fn with_store(summary: &Summary, shown: &str) -> Result<Value> {
    let mut value = json!({ "store": shown });
    if let (Value::Object(all), Value::Object(rest)) = (&mut value, serde_json::to_value(summary)?) {
        all.extend(rest);
    }
    Ok(value)
}

/// An error without its causes. A pipe that broke below is a failure here, and not a reader who has seen enough.
fn flattened(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
