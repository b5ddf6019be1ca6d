//! What the benchmarks share: a runtime to run on, and how a series is printed.
//!
//! - [`server`]: the real binary as a server, what it uses, and functions on it

pub(crate) mod server;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use freehold_runtimes::catalog::{Catalog, Family, Installed, Options};

/// Python 3.12 where this host has it, else another.
pub(crate) fn python() -> Result<Arc<Installed>> {
    let catalog = Catalog::new(Options::default());
    let found = catalog
        .all()
        .into_iter()
        .filter_map(|(runtime, found)| found.ok().filter(|_| runtime.family == Family::Python));
    found.min_by_key(|installed| installed.runtime.id != "python3.12").context("no Python found")
}

/// Prints the row of one series and gives its median.
#[allow(dead_code, reason = "not every benchmark prints such rows")]
pub(crate) fn row(name: &str, series: &mut [Duration]) -> Duration {
    series.sort();
    let at = |share: f64| series[((series.len() - 1) as f64 * share) as usize];
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    println!("{name:50} p50 {:8.3} ms   p99 {:8.3} ms   n {}", ms(at(0.5)), ms(at(0.99)), series.len());
    at(0.5)
}
