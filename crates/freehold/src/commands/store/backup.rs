//! `freehold store backup`: through the running server if there is one, else from the store itself. The file is made
//! under another name, synced, read back, and only then given its own.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use freehold_store::transfer::{self, Summary};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::progress::ProgressLine;
use super::{STANDARD, flattened, open_file, open_source, standard, text_of, warn_of_missing};
use crate::cli::Backup;
use crate::config::StorePlace;
use crate::control::client::{self, Connection, Part};
use crate::exit;
use crate::output;

pub(super) async fn run(words: Backup, as_json: bool) -> Result<u8> {
    let place = StorePlace::load(words.place)?;
    if words.file == Path::new(STANDARD) {
        if std::io::stdout().is_terminal() {
            bail!("a backup is not for a terminal: name a file, or send it on with a pipe");
        }
        let stdout = standard(std::io::stdout())?;
        let summary = write(&place, stdout).await.map_err(|error| flattened(&error))?;
        return report(&summary, None, as_json);
    }
    let path = std::path::absolute(&words.file)?;
    if path.exists() && !path.is_file() {
        bail!("{} is no file: name one (or - for stdout)", path.display());
    }
    if !words.force && path.exists() {
        bail!("{} is there already: choose another name, or say --force", path.display());
    }
    let folder = path.parent().context("a backup's file needs a name")?.to_owned();
    // Readable by its owner alone, and removed again unless it gets its name below.
    let unfinished = tempfile::Builder::new()
        .prefix(".freehold-backup-")
        .tempfile_in(&folder)
        .with_context(|| format!("cannot make a file in {}", folder.display()))?;
    let file = File::from_std(unfinished.reopen()?);
    let summary = write(&place, file).await.map_err(|error| flattened(&error))?;
    let read_back = verify(unfinished.path(), &summary).await;
    read_back.context("the backup that was just written cannot be read back: check the disk")?;
    tokio::task::spawn_blocking({
        let path = path.clone();
        move || publish(unfinished, &path, words.force)
    })
    .await??;
    report(&summary, Some(path), as_json)
}

/// Writes the backup and syncs what it was written to.
async fn write(place: &StorePlace, mut writer: impl AsyncWrite + Sync + Unpin) -> Result<Summary> {
    let mut line = ProgressLine::new();
    if let Some(mut server) = client::connect(&place.data).await? {
        server.ask("backup", &place.store.url).await?;
        if let Some(summary) = receive(&mut server, &mut writer, &mut line).await? {
            return Ok(summary);
        }
    }
    let store = open_source(place.store.clone()).await?;
    let written = transfer::backup(&store, &mut writer, &mut |progress| line.show(progress)).await;
    store.close().await;
    Ok(written?)
}

/// Takes a backup from a running server; `None` if that has another store.
async fn receive(
    server: &mut Connection,
    writer: &mut (impl AsyncWrite + Unpin),
    line: &mut ProgressLine,
) -> Result<Option<Summary>> {
    loop {
        match server.next().await? {
            Part::Data(data) => writer.write_all(&data).await.context("cannot write the backup")?,
            Part::Progress(progress) => line.show(progress),
            Part::OtherStore => return Ok(None),
            Part::Done(summary) => {
                writer.flush().await.context("cannot write the backup")?;
                return Ok(Some(serde_json::from_value(summary)?));
            }
        }
    }
}

async fn verify(path: &Path, written: &Summary) -> Result<()> {
    let read = transfer::verify(open_file(path).await?, &mut |_| ()).await?;
    if read.entries != written.entries || read.blobs != written.blobs {
        bail!("its content is not what was written");
    }
    Ok(())
}

/// Puts the file on disk and gives it its name. Blocks.
fn publish(unfinished: NamedTempFile, path: &Path, force: bool) -> Result<()> {
    let named = || format!("cannot name the backup {}", path.display());
    unfinished.as_file().sync_all().context("cannot sync the backup")?;
    if force {
        unfinished.persist(path).with_context(named)?;
    } else {
        unfinished.persist_noclobber(path).with_context(named)?;
    }
    let folder = path.parent().context("a backup's file needs a name")?;
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}

/// On stderr where the backup itself went to stdout.
fn report(summary: &Summary, path: Option<PathBuf>, as_json: bool) -> Result<u8> {
    let text = if as_json {
        let mut value = json!({ "file": path.as_ref().map(|path| path.display().to_string()) });
        if let (Value::Object(all), Value::Object(rest)) = (&mut value, serde_json::to_value(summary)?) {
            all.extend(rest);
        }
        serde_json::to_string_pretty(&value)?
    } else {
        let place = path.as_ref().map(|path| format!(" to {}", path.display())).unwrap_or_default();
        format!("Backed up {}{place}.", text_of(summary))
    };
    match path {
        Some(_) => output::line(text)?,
        None => eprintln!("{text}"),
    }
    if !as_json {
        warn_of_missing(summary);
    }
    Ok(exit::OK)
}
