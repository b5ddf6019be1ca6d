//! The data plane, measured against the real binary over its public, signed API: cold starts, the warm path, bursts, what
//! an idle server and idle environments cost; each figure beside a floor measured in the same run. Run by
//! `cargo xtask bench invoke [--quick] [PART...]`; figures stand in `docs/benchmarks.md`.
//!
//! - [`mod@self`]: the parts and their order
//! - `cold`, `warm`, `crowd`, `idle`: the parts
//! - `load`: the load generator; `floors`: the echo server and bare forks; `functions`: what is invoked; `table`: the result

#[path = "../support/mod.rs"]
mod support;

mod cold;
mod crowd;
mod floors;
mod functions;
mod idle;
mod load;
mod table;
mod warm;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Result, bail};
use freehold_runtimes::catalog::Installed;
use tempfile::TempDir;

use crate::floors::Echo;
use crate::support::python;
use crate::support::server::Server;
use crate::table::Table;

type Step<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A part that can be run by itself.
struct Part {
    name: &'static str,
    run: for<'a> fn(&'a mut Bench) -> Step<'a>,
}

const PARTS: &[Part] = &[
    Part { name: "floors", run: |bench| Box::pin(cold::floors(bench)) },
    Part { name: "cold-python", run: |bench| Box::pin(cold::python(bench)) },
    Part { name: "cold-node", run: |bench| Box::pin(cold::node(bench)) },
    Part { name: "cold-rust", run: |bench| Box::pin(cold::rust(bench)) },
    Part { name: "cold-sdk", run: |bench| Box::pin(cold::sdk(bench)) },
    Part { name: "warm", run: |bench| Box::pin(warm::one_connection(bench)) },
    Part { name: "throughput", run: |bench| Box::pin(warm::many_connections(bench)) },
    Part { name: "starts", run: |bench| Box::pin(crowd::starts(bench)) },
    Part { name: "burst", run: |bench| Box::pin(crowd::burst(bench)) },
    Part { name: "alive", run: |bench| Box::pin(crowd::alive(bench)) },
    Part { name: "ready", run: |bench| Box::pin(idle::ready(bench)) },
    Part { name: "idle", run: |bench| Box::pin(idle::idle(bench)) },
    Part { name: "million", run: |bench| Box::pin(crowd::million(bench)) },
];

/// What all parts share.
pub(crate) struct Bench {
    /// Fewer of everything.
    pub(crate) quick: bool,
    pub(crate) table: Table,
    pub(crate) echo: Echo,
    pub(crate) python: Arc<Installed>,
    folder: TempDir,
}

impl Bench {
    /// So many, or in a quick run so many.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// A folder of its own, empty unless it was asked for before.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A server on an empty folder.
    pub(crate) fn server(&self, name: &str) -> Result<Server> {
        Server::start(&self.folder(name)?)
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == floors::ECHO_SERVER) {
        return floors::serve_echo();
    }
    let mut quick = false;
    let mut wanted = Vec::new();
    for word in &words {
        match word.as_str() {
            "--quick" => quick = true,
            // Cargo's own.
            "--bench" => {}
            name if PARTS.iter().any(|part| part.name == name) => wanted.push(name),
            name => {
                let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
                bail!("there is no part '{name}'; there are: {}", names.join(", "));
            }
        }
    }
    // One thread: the generator leaves the machine to what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(quick, &wanted))
}

async fn measure(quick: bool, wanted: &[&str]) -> Result<()> {
    let python = python()?;
    eprintln!("runtime: {} ({})", python.runtime.id, python.version);
    let (table, echo, folder) = (Table::default(), Echo::start()?, tempfile::tempdir()?);
    let mut bench = Bench { quick, table, echo, python, folder };
    for part in PARTS {
        if !wanted.is_empty() && !wanted.contains(&part.name) {
            continue;
        }
        if let Err(error) = (part.run)(&mut bench).await {
            // The other parts' figures are worth having.
            eprintln!("FAILED {}: {error:#}", part.name);
            bench
                .table
                .add(table::Row::value(format!("{} FAILED: {error}", part.name), "").target("", false));
        }
    }
    bench.table.print();
    Ok(())
}
