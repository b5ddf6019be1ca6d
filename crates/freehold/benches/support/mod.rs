//! What the benchmarks share: the real binary as a server, a runtime to run on, and how a series is printed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use freehold::cli::Target;
use freehold::client::Client;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_runtimes::catalog::{Catalog, Family, Installed, Options};
use freehold_wire::sigv4::Credentials;

/// Python 3.12 where this host has it, else another.
pub(crate) fn python() -> Result<Arc<Installed>> {
    let catalog = Catalog::new(Options::default());
    let found = catalog
        .all()
        .into_iter()
        .filter_map(|(runtime, found)| found.ok().filter(|_| runtime.family == Family::Python));
    found.min_by_key(|installed| installed.runtime.id != "python3.12").context("no Python found")
}

/// The real binary, serving on a port of its own choice.
pub(crate) struct Server {
    child: Child,
    endpoint: String,
    /// From the start to the line that says where it listens.
    pub(crate) ready: Duration,
}

impl Server {
    /// Starts it on a data folder.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_freehold"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let ready = start.elapsed();
        let endpoint =
            line.split_whitespace().find(|word| word.starts_with("http")).context("no address")?.to_owned();
        Ok(Self { child, endpoint, ready })
    }

    /// A connection with the development key.
    pub(crate) async fn client(&self) -> Result<Client> {
        let target = Target { endpoint: self.endpoint.clone(), region: "us-east-1".to_owned() };
        Client::connect_as(&target, Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY)).await
    }

    /// Stops it politely.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Prints the row of one series and gives its median.
pub(crate) fn row(name: &str, series: &mut [Duration]) -> Duration {
    series.sort();
    let at = |share: f64| series[((series.len() - 1) as f64 * share) as usize];
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    println!("{name:50} p50 {:8.3} ms   p99 {:8.3} ms   n {}", ms(at(0.5)), ms(at(0.99)), series.len());
    at(0.5)
}
