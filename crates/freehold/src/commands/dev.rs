//! `freehold dev`: a folder's function, deployed anew whenever a file is saved, with its log and the answer of a test event.
//!
//! ```text
//! saved ──settled──> packed ──differs?──> deployed ──> test event ──> answer, on stdout
//!                                            the log, as it comes ──> stderr
//! ```
//!
//! What goes wrong in a round is told and waits for the next save: files are saved half-written, and servers restart. The log is
//! followed where the server's data folder is at hand; elsewhere the end of it comes with each answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use freehold_executor::logs::{LogLine, LogReader};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant as Moment, timeout_at};

use super::deploy::{function_name, put};
use super::invoke::log_tail;
use super::logs::FOLLOW_INTERVAL;
use crate::cli::Dev;
use crate::client::{Answer, Client};
use crate::config::default_data_folder;
use crate::output;
use crate::package::{self, Package};
use crate::server::logs_folder;

/// The test event that is looked for in the folder.
const EVENT_FILE: &str = "event.json";
/// How long nothing must be saved before the folder is packed: editors save in several steps.
const QUIET: Duration = Duration::from_millis(40);
/// How long saving may go on before it is packed anyway.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long the log of an event that is answered may take to come.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for.
const LOG_INTERVAL: Duration = Duration::from_millis(5);

pub(super) async fn run(words: Dev, as_json: bool) -> Result<u8> {
    let folder = words.deploy.source.canonicalize();
    let folder = folder.with_context(|| format!("cannot read {}", words.deploy.source.display()))?;
    if !folder.is_dir() {
        bail!("{} is not a folder: dev works on one", folder.display());
    }
    let name = function_name(&words.deploy)?;
    let event_file = match &words.event {
        Some(file) => file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?,
        None => folder.join(EVENT_FILE),
    };
    // Begun before the first deployment, so that what is saved meanwhile is seen.
    let mut saves = Saves::watch(&folder, &event_file)?;
    let log = follow(&words, &name)?;
    let mut bench = Bench { words, name, folder, event_file, log, deployed: None, tried: None, as_json };
    bench.round().await?;
    bench.say(format_args!("Watching {}; interrupt to end.", bench.folder.display()));
    loop {
        tokio::select! {
            ended = saves.settled() => {
                ended?;
                if let Err(error) = bench.round().await {
                    bench.say(format_args!("{error:#}"));
                }
            }
            () = tokio::time::sleep(FOLLOW_INTERVAL), if bench.log.is_some() => drop(bench.print_log()?),
        }
    }
}

/// The function's log, where the server's data folder is at hand.
fn follow(words: &Dev, name: &str) -> Result<Option<LogReader>> {
    let folder = logs_folder(&words.data.clone().unwrap_or_else(default_data_folder));
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut reader = LogReader::open(&folder, &format!("/aws/lambda/{name}"));
    // What was logged before is no news.
    while !reader.next_lines()?.is_empty() {}
    Ok(Some(reader))
}

/// The function that is worked on.
struct Bench {
    words: Dev,
    name: String,
    folder: PathBuf,
    event_file: PathBuf,
    log: Option<LogReader>,
    /// The zip that was deployed last.
    deployed: Option<Vec<u8>>,
    /// The test event that was tried last with it.
    tried: Option<Bytes>,
    as_json: bool,
}

impl Bench {
    /// Deploys what was saved, if anything was, and tries the test event, if there is one and either is new.
    async fn round(&mut self) -> Result<()> {
        let start = Instant::now();
        let package = self.pack().await?;
        let mut client = None;
        if self.deployed.as_ref() != Some(&package.zip) {
            let client = client.insert(Client::connect(&self.words.deploy.target).await?);
            let (verb, _) = put(client, &self.name, &self.words.deploy, &package).await?;
            self.say(format_args!("{verb} {} in {} ms", self.name, start.elapsed().as_millis()));
            (self.deployed, self.tried) = (Some(package.zip), None);
        }
        let Ok(event) = tokio::fs::read(&self.event_file).await.map(Bytes::from) else { return Ok(()) };
        if self.tried.as_ref() == Some(&event) {
            return Ok(());
        }
        self.tried = Some(event.clone());
        let mut client = match client {
            Some(client) => client,
            None => Client::connect(&self.words.deploy.target).await?,
        };
        let sent = Instant::now();
        let answer = client.invoke(&self.name, event).await?;
        answer.checked()?;
        let took = sent.elapsed();
        if !self.as_json && !self.print_log_of(&answer).await? {
            eprint!("{}", log_tail(&answer)?);
        }
        self.show(&answer, took)
    }

    async fn pack(&self) -> Result<Package> {
        let (folder, event_file) = (self.folder.clone(), self.event_file.clone());
        let packing = tokio::task::spawn_blocking(move || package::read_folder(&folder, Some(&event_file)));
        packing.await.context("packing broke off")?
    }

    fn show(&self, answer: &Answer, took: Duration) -> Result<()> {
        let failed = answer.header("x-amz-function-error");
        if self.as_json {
            return output::json(&json!({
                "StatusCode": answer.status.as_u16(),
                "FunctionError": failed,
                "LogTail": log_tail(answer)?,
                "Payload": serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null),
            }));
        }
        let milliseconds = took.as_secs_f64() * 1e3;
        let word = if failed.is_some() { "Failed" } else { "Answered" };
        self.say(format_args!("{word} in {milliseconds:.1} ms"));
        Ok(output::line(String::from_utf8_lossy(&answer.body))?)
    }

    /// Prints the log until the answered event's last line has come, so that it stands before the answer. False if it has not:
    /// the log is not followed, or it is not that server's.
    async fn print_log_of(&mut self, answer: &Answer) -> Result<bool> {
        let event = answer.header("x-amzn-requestid").unwrap_or_default().to_owned();
        let deadline = Moment::now() + LOG_PATIENCE;
        while self.log.is_some() && Moment::now() < deadline {
            let lines = self.print_log()?;
            if lines.iter().any(|line| is_report(&line.text, &event)) {
                return Ok(true);
            }
            tokio::time::sleep(LOG_INTERVAL).await;
        }
        Ok(false)
    }

    /// Prints what has been logged since the last time, and gives it.
    fn print_log(&mut self) -> Result<Vec<LogLine>> {
        let Some(reader) = &mut self.log else { return Ok(Vec::new()) };
        let lines = reader.next_lines()?;
        for line in &lines {
            eprintln!("{}  {}", line.time, line.text);
        }
        Ok(lines)
    }

    /// Tells what happens, on stderr.
    fn say(&self, text: std::fmt::Arguments<'_>) {
        eprintln!("{text}");
    }
}

/// Whether a line is the last that an event's log has, in either format.
fn is_report(line: &str, event: &str) -> bool {
    line.contains(event) && (line.starts_with("REPORT RequestId: ") || line.contains("platform.report"))
}

/// What is saved in the folder, and the test event.
struct Saves {
    // Watches as long as it lives.
    _watcher: RecommendedWatcher,
    /// Full while something has been saved that nobody has looked at.
    news: mpsc::Receiver<Result<(), notify::Error>>,
    /// Since when saving goes on.
    since: Option<Moment>,
}

impl Saves {
    fn watch(folder: &Path, event_file: &Path) -> Result<Self> {
        let (tell, news) = mpsc::channel(1);
        let root = folder.to_owned();
        let handle = move |event: notify::Result<Event>| {
            let news = match event {
                Ok(event) if is_save(&root, &event) => Ok(()),
                Ok(_) => return,
                Err(error) => Err(error),
            };
            // Where it is full, what was saved is looked at anyway.
            let _ = tell.try_send(news);
        };
        let mut watcher = notify::recommended_watcher(handle).context("cannot watch files")?;
        let watched = watcher.watch(folder, RecursiveMode::Recursive);
        watched.with_context(|| format!("cannot watch {}", folder.display()))?;
        // The event's folder, not its file: editors replace files.
        let parent = event_file.parent().filter(|parent| !parent.starts_with(folder));
        if let Some(parent) = parent {
            let watched = watcher.watch(parent, RecursiveMode::NonRecursive);
            watched.with_context(|| format!("cannot watch {}", parent.display()))?;
        }
        Ok(Self { _watcher: watcher, news, since: None })
    }

    /// Waits until something was saved and saving has paused. May be dropped and asked again: nothing is lost.
    async fn settled(&mut self) -> Result<()> {
        let first = match self.since {
            Some(first) => first,
            None => {
                self.next().await?;
                *self.since.insert(Moment::now())
            }
        };
        let latest = first + PATIENCE;
        while Moment::now() < latest {
            match timeout_at((Moment::now() + QUIET).min(latest), self.next()).await {
                Ok(news) => news?,
                Err(_) => break,
            }
        }
        self.since = None;
        Ok(())
    }

    async fn next(&mut self) -> Result<()> {
        let news = self.news.recv().await.context("the watch on the folder has ended")?;
        news.context("the watch on the folder has failed")
    }
}

/// Whether an event tells of something that may be part of the package. Reading does not: packing itself reads.
fn is_save(root: &Path, event: &Event) -> bool {
    !event.kind.is_access()
        && (event.paths.is_empty()
            || event.paths.iter().any(|path| !package::is_left_out(path.strip_prefix(root).unwrap_or(path))))
}

#[cfg(test)]
mod tests {
    use notify::EventKind;
    use notify::event::{AccessKind, CreateKind, ModifyKind};

    use super::*;

    #[tokio::test]
    async fn what_is_saved_is_seen_once_it_has_settled() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut saves = Saves::watch(folder.path(), &folder.path().join("event.json")).expect("watches");
        for round in 0..3 {
            std::fs::write(folder.path().join("app.py"), format!("# {round}")).expect("writes");
            saves.settled().await.expect("the save is seen");
        }
        std::fs::create_dir(folder.path().join("new")).expect("creates");
        saves.settled().await.expect("a new folder is seen");
        std::fs::write(folder.path().join("new/file"), "x").expect("writes");
        saves.settled().await.expect("what is saved in it too");
    }

    #[test]
    fn reading_and_what_is_left_out_are_no_saves() {
        let root = Path::new("/work/.git/function");
        let event =
            |kind, path: &str| Event { kind, paths: vec![root.join(path)], attrs: Default::default() };
        let (create, modify) = (EventKind::Create(CreateKind::File), EventKind::Modify(ModifyKind::Any));
        assert!(is_save(root, &event(create, "app.py")));
        assert!(is_save(root, &event(modify, "folder/data")));
        assert!(!is_save(root, &event(EventKind::Access(AccessKind::Read), "app.py")));
        assert!(!is_save(root, &event(create, "__pycache__/app.pyc")));
        assert!(!is_save(root, &event(modify, ".git/index")));
    }
}
