//! The warm path: how long an invocation takes on one connection, and how many there are a second on 64, each beside the
//! echo server that gets the same requests from the same client, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::functions::{Definition, EVENT};
use crate::load::{Connection, Prepared, Requests, Together, in_turn, together};
use crate::support::server::processor_time;
use crate::table::{Row, at};

/// Turns between the echo server and the real one, so that a busy moment of the machine touches both.
const TURNS: usize = 10;
/// What one connection may take longer than the echo server's, at the median.
const ALLOWED: Duration = Duration::from_micros(150);
/// Connections of the throughput, spread over these functions: one alone may have 10,000 events a second.
const CONNECTIONS: usize = 64;
const FUNCTIONS: usize = 4;

/// The kinds of function, and the share of the echo server's throughput that each should reach.
fn kinds(bench: &Bench) -> Result<[(&'static str, Definition, f64); 2]> {
    Ok([
        ("python", Definition::python(bench.python.runtime.id)?, 0.15),
        ("Rust function", Definition::rust(&bench.folder("rust-function")?)?, 0.25),
    ])
}

pub(crate) async fn one_connection(bench: &mut Bench) -> Result<()> {
    let each = bench.count(2_000, 400);
    let server = bench.server("warm")?;
    let address = server.address()?;
    let mut client = server.client().await?;
    for (number, (name, definition, _)) in kinds(bench)?.into_iter().enumerate() {
        let function = format!("hello-{number}");
        definition.create(&mut client, &function).await?;
        let request = Prepared::invoke(address, &function, EVENT)?;
        let (mut real, mut floor) =
            (Connection::open(address).await?, Connection::open(bench.echo.address).await?);
        in_turn(&mut real, &request, each / 4).await?;
        in_turn(&mut floor, &request, each / 4).await?;
        let (mut warm, mut echo, mut used) = (Vec::new(), Vec::new(), Duration::ZERO);
        for _ in 0..TURNS {
            echo.extend(in_turn(&mut floor, &request, each).await?);
            let before = processor_time(server.id())?;
            warm.extend(in_turn(&mut real, &request, each).await?);
            used += processor_time(server.id())? - before;
        }
        let per_request = used.as_secs_f64() * 1e6 / warm.len() as f64;
        bench.table.add(Row::of("floor: echo, one connection", &mut echo));
        let row = Row::of(format!("warm invoke, one connection, {name}"), &mut warm);
        let over = at(&warm, 0.5).saturating_sub(at(&echo, 0.5));
        let ratio = format!(
            "+{:.3} ms, {:.2} x; {per_request:.0} µs of CPU in the server",
            over.as_secs_f64() * 1e3,
            at(&warm, 0.5).as_secs_f64() / at(&echo, 0.5).as_secs_f64()
        );
        bench.table.add(row.target("floor + 0.150 ms", over <= ALLOWED).ratio(ratio));
    }
    server.stop()
}

pub(crate) async fn many_connections(bench: &mut Bench) -> Result<()> {
    let (real_each, echo_each) = (bench.count(10_000, 2_000), bench.count(30_000, 6_000));
    let server = bench.server("throughput")?;
    let address = server.address()?;
    let mut client = server.client().await?;
    for (number, (name, definition, share)) in kinds(bench)?.into_iter().enumerate() {
        let prefix = format!("hello-{number}");
        definition.create_many(&mut client, &prefix, FUNCTIONS).await?;
        let requests: Vec<_> = (0..FUNCTIONS)
            .map(|number| Prepared::invoke(address, &format!("{prefix}-{number}"), EVENT))
            .collect::<Result<_>>()?;
        storm(address, &requests, real_each).await?;
        storm(bench.echo.address, &requests, echo_each).await?;
        let (mut real, mut echo) = (Vec::new(), Vec::new());
        let times = || {
            let (echo, real) = (processor_time(bench.echo.id())?, processor_time(server.id())?);
            anyhow::Ok([echo, real, server.functions_time()?])
        };
        let before = times()?;
        for _ in 0..TURNS / 2 {
            echo.push(storm(bench.echo.address, &requests, echo_each).await?);
            real.push(storm(address, &requests, real_each).await?);
        }
        let after = times()?;
        let (echo_rate, echo_count) = rate(&echo);
        let (real_rate, real_count) = rate(&real);
        let each = |index: usize, count: f64| (after[index] - before[index]).as_secs_f64() * 1e6 / count;
        let what = format!("floor: echo, {CONNECTIONS} connections");
        let row = Row::value(what, format!("{echo_rate:.0}/s"));
        bench.table.add(row.ratio(format!("{:.0} µs of CPU in the server", each(0, echo_count))));
        let reached = real_rate / echo_rate;
        let what = format!("throughput, {CONNECTIONS} connections, {name}");
        let row = Row::value(what, format!("{real_rate:.0}/s"));
        let target = format!(">= {:.0} % of the floor", share * 100.0);
        let (serving, running) = (each(1, real_count), each(2, real_count));
        let ratio = format!(
            "{:.1} %; {serving:.0} µs of CPU in the server, {running:.0} µs in the function",
            reached * 100.0
        );
        bench.table.add(row.target(target, reached >= share).ratio(ratio));
    }
    server.stop()
}

async fn storm(address: SocketAddr, requests: &[Prepared], count: usize) -> Result<Together> {
    together(address, CONNECTIONS, Requests::Repeated(requests.to_vec(), count)).await?.sound()
}

/// Requests a second over all turns, and how many there were.
fn rate(turns: &[Together]) -> (f64, f64) {
    let requests: usize = turns.iter().map(|turn| turn.series.len()).sum();
    let took: Duration = turns.iter().map(|turn| turn.took).sum();
    (requests as f64 / took.as_secs_f64(), requests as f64)
}
