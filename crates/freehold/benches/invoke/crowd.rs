//! Many at once: new environments a second, a thousand simultaneous events from nothing, environments that are alive and
//! idle, and a million events in one run.

use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::functions::{Definition, EVENT};
use crate::load::{Connection, Prepared, Requests, together};
use crate::support::server::{Server, available_kib, descriptors, resident_kib};
use crate::table::{Row, ms};

/// Connections that start environments all the time.
const STARTING_CONNECTIONS: usize = 32;
const STARTS_PER_SECOND: f64 = 300.0;

/// Simultaneous events.
const BURST: usize = 1_000;
const BURST_TIME: Duration = Duration::from_secs(5);

/// How long the machine's memory takes to come to rest after environments were started.
const REST: Duration = Duration::from_secs(2);
const KIB_EACH: f64 = 2.7 * 1024.0;
const DESCRIPTORS_EACH: f64 = 4.0;
/// Raises how many environments there may be; without it, as many are started as the default allows.
const MORE_ENVIRONMENTS: &str = "--max-environments";
const DEFAULT_ENVIRONMENTS: usize = 900;

const CONNECTIONS: usize = 64;
const FUNCTIONS: usize = 4;
/// Growth that is none: what an allocator keeps, in KiB.
const GROWTH_KIB: u64 = 8 * 1024;

/// Each function is invoked for the first time and then deleted, so that as many environments go as come.
pub(crate) async fn starts(bench: &mut Bench) -> Result<()> {
    let count = bench.count(3_000, 600);
    let server = bench.server("starts")?;
    let address = server.address()?;
    let mut client = server.client().await?;
    Definition::python(bench.python.runtime.id)?.create_many(&mut client, "hello", count).await?;
    let sequence = |number| {
        let name = format!("hello-{number}");
        let delete = Prepared::signed(address, "DELETE", &format!("/2015-03-31/functions/{name}"), "")?;
        Ok(vec![Prepared::invoke(address, &name, EVENT)?, delete])
    };
    let requests = (0..count).map(sequence).collect::<Result<_>>()?;
    let mut done = together(address, STARTING_CONNECTIONS, Requests::Each(requests)).await?.sound()?;
    let rate = done.per_second();
    let what = format!("new environments a second, made, used and removed (n = {count})");
    let row = Row::value(what, format!("{rate:.0}/s"));
    bench.table.add(row.target(">= 300/s", rate >= STARTS_PER_SECOND));
    let what = format!("cold invoke meanwhile, {STARTING_CONNECTIONS} connections");
    bench.table.add(Row::of(what, &mut done.series));
    server.stop()
}

pub(crate) async fn burst(bench: &mut Bench) -> Result<()> {
    let server = bench.server("burst")?;
    let address = server.address()?;
    let mut client = server.client().await?;
    Definition::sleeping(bench.python.runtime.id)?.create(&mut client, "sleep").await?;
    let request = Prepared::invoke(address, "sleep", EVENT)?;
    let mut done = together(address, BURST, Requests::Repeated(vec![request], BURST)).await?;
    let what = format!("{BURST} simultaneous events from nothing, each sleeping 1 s: all answered within");
    let failed = done.errors.len();
    let met = failed == 0 && done.took <= BURST_TIME;
    let row = Row::value(what, ms(done.took));
    bench.table.add(row.target("<= 5 s, none failed", met).ratio(format!("{failed} failed")));
    bench.table.add(Row::of("the same, each event", &mut done.series));
    if let Some(error) = done.errors.first() {
        eprintln!("the first failure: {error}");
    }
    server.stop()
}

pub(crate) async fn alive(bench: &mut Bench) -> Result<()> {
    let raised = Server::knows(MORE_ENVIRONMENTS)?;
    let count = if raised { bench.count(3_000, 500) } else { bench.count(DEFAULT_ENVIRONMENTS, 300) };
    let settings: &[&str] = if raised { &[MORE_ENVIRONMENTS, "3500"] } else { &[] };
    let server = Server::start_with(&bench.folder("alive")?, settings)?;
    let address = server.address()?;
    let mut client = server.client().await?;
    let definition = Definition::python(bench.python.runtime.id)?;
    definition.create(&mut client, "first").await?;
    definition.create_many(&mut client, "hello", count).await?;
    Connection::open(address).await?.ask(&Prepared::invoke(address, "first", EVENT)?).await?;
    let look = || {
        let (serving, helping) = (server.id(), server.helper()?);
        anyhow::Ok((available_kib()?, descriptors(serving)?, resident_kib(serving)?, resident_kib(helping)?))
    };
    tokio::time::sleep(REST).await;
    let before = look()?;
    let request = |number| Ok(vec![Prepared::invoke(address, &format!("hello-{number}"), EVENT)?]);
    let requests = (0..count).map(request).collect::<Result<_>>()?;
    together(address, STARTING_CONNECTIONS, Requests::Each(requests)).await?.sound()?;
    tokio::time::sleep(REST).await;
    let after = look()?;
    let each = |after: f64, before: f64| (after - before) / count as f64;
    let kib = each(before.0 as f64, after.0 as f64);
    let open = each(after.1 as f64, before.1 as f64);
    let (serving, helping) = (each(after.2 as f64, before.2 as f64), each(after.3 as f64, before.3 as f64));
    let what = format!("memory that the machine loses by each idle environment (n = {count})");
    let row = Row::value(what, format!("{:.2} MiB", kib / 1024.0));
    let ratio = format!("{serving:.1} KiB of it in the server, {helping:.1} KiB in the helper");
    bench.table.add(row.target("<= 2.70 MiB", kib <= KIB_EACH).ratio(ratio));
    let row = Row::value("descriptors in the server for each idle environment", format!("{open:.2}"));
    bench.table.add(row.target("<= 4", open <= DESCRIPTORS_EACH + 0.05));
    server.stop()
}

pub(crate) async fn million(bench: &mut Bench) -> Result<()> {
    let slice = bench.count(100_000, 5_000);
    let server = bench.server("million")?;
    let address = server.address()?;
    let mut client = server.client().await?;
    Definition::python(bench.python.runtime.id)?.create_many(&mut client, "hello", FUNCTIONS).await?;
    let (mut events, mut failed, mut took) = (0, 0, Duration::ZERO);
    let mut looks = Vec::new();
    for _ in 0..10 {
        // Signed anew: a signature lives for a quarter of an hour.
        let request = |number| Prepared::invoke(address, &format!("hello-{number}"), EVENT);
        let requests = (0..FUNCTIONS).map(request).collect::<Result<_>>()?;
        let done = together(address, CONNECTIONS, Requests::Repeated(requests, slice)).await?;
        events += done.series.len();
        failed += done.errors.len();
        took += done.took;
        let (serving, helping) = (server.id(), server.helper()?);
        looks.push((resident_kib(serving)? + resident_kib(helping)?, descriptors(serving)?));
    }
    let (first, last) = (looks[0], looks[looks.len() - 1]);
    let grown = last.0.saturating_sub(first.0);
    let met = failed == 0 && grown <= GROWTH_KIB && last.1 <= first.1 + CONNECTIONS;
    let what = format!("{events} events in one run, {CONNECTIONS} connections");
    let row = Row::value(what, format!("{failed} errors"));
    let ratio = format!(
        "{:.0}/s; server and helper {} KiB after a tenth, {} KiB at the end; descriptors {} and {}",
        events as f64 / took.as_secs_f64(),
        first.0,
        last.0,
        first.1,
        last.1
    );
    bench.table.add(row.target("no error, no growth", met).ratio(ratio));
    server.stop()
}
