//! `freehold runtimes`: which of the runtimes this host has, found by running them.

use std::process::ExitCode;

use anyhow::Result;
use freehold_runtimes::catalog::{Catalog, Options};
use serde_json::{Value, json};

use crate::cli::Runtimes;
use crate::output;

pub(super) fn run(words: Runtimes, as_json: bool) -> Result<ExitCode> {
    let found = Catalog::new(Options { folders: words.runtime_folders, ..Options::default() }).all();
    if as_json {
        let rows = found.iter().map(|(runtime, installed)| match installed {
            Ok(installed) => json!({
                "id": runtime.id,
                "installed": true,
                "version": installed.version,
                "executable": installed.executable,
            }),
            Err(error) => json!({ "id": runtime.id, "installed": false, "reason": error.to_string() }),
        });
        output::json(&Value::Array(rows.collect()))?;
        return Ok(ExitCode::SUCCESS);
    }
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
            vec![runtime.id.to_owned(), version, place]
        })
        .collect();
    output::table(&["RUNTIME", "FOUND", "WHERE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
