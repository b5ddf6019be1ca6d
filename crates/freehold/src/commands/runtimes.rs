//! `freehold runtimes`: which of the runtimes this host has, found by running them, and the AWS SDK of each; `install`
//! fetches those. Works on the data folder alone, whether a server uses it or not.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use freehold_runtimes::catalog::{Catalog, Installed, Options, Runtime, RuntimeError};
use freehold_runtimes::sdk::{Sdk, Sdks, pinned};
use serde_json::{Value, json};

use crate::cli::{Runtimes, RuntimesCommand};
use crate::config::default_data_folder;
use crate::output;
use crate::server::sdks_folder;

type Found = Vec<(Runtime, Result<Arc<Installed>, RuntimeError>)>;

pub(super) fn run(words: Runtimes, as_json: bool) -> Result<ExitCode> {
    let data = std::path::absolute(words.data.unwrap_or_else(default_data_folder))?;
    let sdks = Sdks::new(sdks_folder(&data));
    let catalog = Catalog::new(Options { folders: words.runtime_folders, ..Options::default() });
    match words.command {
        None => list(&catalog.all(), &sdks, as_json)?,
        Some(RuntimesCommand::Install { name: Some(name) }) => {
            install(&[catalog.resolve(&name)?], &sdks, as_json)?;
        }
        Some(RuntimesCommand::Install { name: None }) => {
            let all: Vec<_> = catalog.all().into_iter().filter_map(|(_, found)| found.ok()).collect();
            let carrying: Vec<_> =
                all.into_iter().filter(|installed| pinned(installed.runtime.family).is_some()).collect();
            if carrying.is_empty() {
                bail!("this host has no runtime that carries an AWS SDK: no Python and no Node.js was found");
            }
            install(&carrying, &sdks, as_json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(found: &Found, sdks: &Sdks, as_json: bool) -> Result<()> {
    if as_json {
        let rows = found.iter().map(|(runtime, installed)| match installed {
            Ok(installed) => json!({
                "id": runtime.id,
                "installed": true,
                "version": installed.version,
                "executable": installed.executable,
                "sdk": sdks.find(runtime).map(|sdk| described(&sdk)),
            }),
            Err(error) => json!({ "id": runtime.id, "installed": false, "reason": error.to_string() }),
        });
        return output::json(&Value::Array(rows.collect()));
    }
    let mut lacking = false;
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(runtime, installed)| {
            let (version, place) = match installed {
                Ok(installed) if installed.version.is_empty() => {
                    ("yes".to_owned(), "the function's own".to_owned())
                }
                Ok(installed) => (installed.version.clone(), installed.executable.display().to_string()),
                Err(error) => ("-".to_owned(), error.to_string()),
            };
            let sdk = sdks.find(runtime);
            let carries = installed.is_ok() && pinned(runtime.family).is_some();
            lacking |= carries && sdk.as_ref().is_none_or(|sdk| !sdk.is_pinned);
            vec![runtime.id.to_owned(), version, sdk_text(sdk.as_ref(), carries), place]
        })
        .collect();
    output::table(&["RUNTIME", "FOUND", "AWS SDK", "WHERE"], &rows)?;
    if lacking {
        output::line("\nFetch the AWS SDKs that are missing or old: freehold runtimes install [RUNTIME]")?;
    }
    Ok(())
}

fn sdk_text(sdk: Option<&Sdk>, carries: bool) -> String {
    match sdk {
        Some(sdk) if sdk.is_pinned => format!("{} {}", sdk.name, sdk.version),
        Some(sdk) => format!("{} {} (old)", sdk.name, sdk.version),
        None if carries => "missing".to_owned(),
        None => "-".to_owned(),
    }
}

fn described(sdk: &Sdk) -> Value {
    json!({ "name": sdk.name, "version": sdk.version, "current": sdk.is_pinned, "folder": sdk.folder })
}

fn install(runtimes: &[Arc<Installed>], sdks: &Sdks, as_json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for installed in runtimes {
        let id = installed.runtime.id;
        let mut line = Line::new(id);
        let fetched = sdks.fetch(installed, &mut |text| line.show(text));
        drop(line);
        let fetched = fetched.with_context(|| format!("the AWS SDK of {id} was not installed"))?;
        if as_json {
            let mut row = described(&fetched.sdk);
            row["id"] = json!(id);
            row["fetched"] = json!(fetched.was_missing);
            rows.push(row);
        } else {
            let verb = if fetched.was_missing { "Installed" } else { "Already there:" };
            output::line(format_args!("{verb} {} {} for {id}", fetched.sdk.name, fetched.sdk.version))?;
        }
    }
    if as_json {
        output::json(&Value::Array(rows))?;
    }
    Ok(())
}

/// The step that is being done, on stderr: one line that changes on a terminal, else a line for each.
struct Line<'a> {
    terminal: bool,
    name: &'a str,
}

impl<'a> Line<'a> {
    fn new(name: &'a str) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), name }
    }

    fn show(&mut self, text: &str) {
        let name = self.name;
        // What cannot be shown is not missed.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r{name}: {text}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{name}: {text}")
        };
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
