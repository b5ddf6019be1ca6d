//! What the server is when nothing happens: how soon it is ready, how much memory and processors' time it takes.

use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::functions::Definition;
use crate::support::server::{Server, resident_kib, run_time};
use crate::table::{Row, at};

const READY: Duration = Duration::from_millis(100);
const RESIDENT_KIB: u64 = 40 * 1024;
/// Functions that are stored meanwhile.
const FUNCTIONS: usize = 1_000;
/// What follows a thousand creations (folding, syncing) is not idleness.
const REST: Duration = Duration::from_secs(5);
/// The share of one processor that shows as 0.0 %.
const NOTHING: f64 = 0.0005;

pub(crate) async fn ready(bench: &mut Bench) -> Result<()> {
    let folder = bench.folder("ready")?;
    let mut series = Vec::new();
    for _ in 0..bench.count(30, 8) {
        let server = Server::start(&folder)?;
        series.push(server.ready);
        server.stop()?;
    }
    let row = Row::of("serve ready after exec", &mut series);
    bench.table.add(row.target("p50 <= 100 ms", at(&series, 0.5) <= READY));
    Ok(())
}

pub(crate) async fn idle(bench: &mut Bench) -> Result<()> {
    let server = bench.server("idle")?;
    let mut client = server.client().await?;
    Definition::python(bench.python.runtime.id)?.create_many(&mut client, "hello", FUNCTIONS).await?;
    drop(client);
    let folder = bench.folder("idle")?;
    server.stop()?;
    // A server that has just done a thousand things is not what one that idles is.
    let server = Server::start(&folder)?;
    tokio::time::sleep(REST).await;
    let processes = server.all_processes()?;
    let before: Vec<_> = processes.iter().map(|process| run_time(*process)).collect::<Result<_>>()?;
    let watched = Duration::from_secs(bench.count(20, 8) as u64);
    tokio::time::sleep(watched).await;
    let mut used = Duration::ZERO;
    for (process, before) in processes.iter().zip(before) {
        used += run_time(*process)?.saturating_sub(before);
    }
    let (serving, helping) = (resident_kib(server.id())?, resident_kib(server.helper()?)?);
    let mut others = 0;
    for process in processes.iter().filter(|process| **process != server.id()) {
        others += resident_kib(*process).unwrap_or_default();
    }
    let row = Row::value("resident when idle, 1,000 functions stored", format!("{} MiB", serving / 1024));
    let ratio = format!(
        "the helper {:.1} MiB; it and its {} prepared processes {:.1} MiB, pages shared between them counted in each",
        helping as f64 / 1024.0,
        processes.len() - 2,
        others as f64 / 1024.0
    );
    bench.table.add(row.target("<= 40 MiB", serving <= RESIDENT_KIB).ratio(ratio));
    let share = used.as_secs_f64() / watched.as_secs_f64();
    let row = Row::value("CPU when idle, server and all below it", format!("{:.2} %", share * 100.0));
    let ratio = format!("{:.1} ms in {} s", used.as_secs_f64() * 1e3, watched.as_secs());
    bench.table.add(row.target("0.0 %", share < NOTHING).ratio(ratio));
    server.stop()
}
