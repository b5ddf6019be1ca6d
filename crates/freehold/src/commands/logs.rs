//! `freehold logs`: a function's log, from the plain files in the server's data folder.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use freehold_base::arn::FunctionReference;
use freehold_executor::logs::{LogLine, LogReader};
use serde_json::json;

use crate::cli::Logs;
use crate::config::default_data_folder;
use crate::exit;
use crate::server::logs_folder;

/// How often the files are looked at while following.
pub(super) const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// How many of the last lines are printed first.
const LINES_MAX: usize = 10_000;

pub(super) async fn run(words: Logs, as_json: bool) -> Result<u8> {
    let reference: FunctionReference = words.name.parse()?;
    let data = words.data.unwrap_or_else(default_data_folder);
    let folder = logs_folder(&data);
    if !folder.is_dir() {
        bail!("{} holds no logs: is it the server's data folder? (see --data)", data.display());
    }
    let group = words.group.unwrap_or_else(|| format!("/aws/lambda/{}", reference.name));
    let mut reader = LogReader::open(&folder, &group);
    print(reader.last_lines(LINES_MAX)?, as_json)?;
    if !words.follow {
        return Ok(exit::OK);
    }
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        print(reader.next_lines()?, as_json)?;
    }
}

fn print(lines: Vec<LogLine>, as_json: bool) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        if as_json {
            let line = json!({ "timestamp": line.time, "stream": line.stream, "message": line.text });
            writeln!(stdout, "{line}")
        } else {
            writeln!(stdout, "{}  {}", line.time, line.text)
        }
        .context("cannot write to stdout")?;
    }
    stdout.flush().context("cannot write to stdout")
}
