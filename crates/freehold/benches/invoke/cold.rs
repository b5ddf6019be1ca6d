//! Cold starts: the first invocation of a function that was never invoked, one after the other, each in an environment of
//! its own, with a pause in which prepared environments are made again, as there is one between real cold starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use freehold::client::Client;
use freehold_runtimes::catalog::{Catalog, Family, Options};
use http::Method;
use serde_json::json;

use crate::Bench;
use crate::floors::{executions, forks};
use crate::functions::{Definition, EVENT};
use crate::load::{Connection, Prepared};
use crate::support::server::Server;
use crate::table::{Row, at};

/// Between two cold starts.
const PAUSE: Duration = Duration::from_millis(40);
/// How long publishing a version may take: Init's own limit and some.
const PUBLISHING: Duration = Duration::from_secs(30);

/// What a cold start should take at most, in ms.
struct Target {
    p50: u64,
    p99: Option<u64>,
}

impl Target {
    fn text(&self) -> String {
        let p99 = self.p99.map_or(String::new(), |p99| format!(", p99 <= {p99} ms"));
        format!("p50 <= {} ms{p99}", self.p50)
    }

    fn met(&self, sorted: &[Duration]) -> bool {
        at(sorted, 0.5) <= Duration::from_millis(self.p50)
            && self.p99.is_none_or(|p99| at(sorted, 0.99) <= Duration::from_millis(p99))
    }
}

/// What starts cost outside: a bare fork, a bare fork and exec, and the interpreters themselves.
pub(crate) async fn floors(bench: &mut Bench) -> Result<()> {
    let count = bench.count(200, 50);
    bench.table.add(Row::of("floor: bare fork (of python)", &mut forks(&bench.python.executable, count)?));
    bench.table.add(Row::of("floor: bare fork and exec (/bin/true)", &mut executions(count)?));
    Ok(())
}

pub(crate) async fn python(bench: &mut Bench) -> Result<()> {
    let definition = Definition::python(bench.python.runtime.id)?;
    let name = format!("cold invoke, {}", bench.python.runtime.id);
    measure(bench, "cold-python", &name, &definition, &Target { p50: 5, p99: Some(20) }).await
}

pub(crate) async fn node(bench: &mut Bench) -> Result<()> {
    let catalog = Catalog::new(Options { folders: runtime_folders(), ..Options::default() });
    let found = catalog.all().into_iter().filter(|(runtime, _)| runtime.family == Family::Node);
    let Some((runtime, _)) = found.filter(|(_, found)| found.is_ok()).last() else {
        eprintln!("SKIPPED cold-node: no Node.js that AWS runs is installed (FREEHOLD_RUNTIME_FOLDERS)");
        return Ok(());
    };
    let (definition, name) = (Definition::node(runtime.id)?, format!("cold invoke, {}", runtime.id));
    measure(bench, "cold-node", &name, &definition, &Target { p50: 15, p99: None }).await
}

pub(crate) async fn rust(bench: &mut Bench) -> Result<()> {
    let definition = Definition::rust(&bench.folder("rust-cold")?)?;
    let name = "cold invoke, provided.al2023, a static Rust program";
    measure(bench, "cold-rust", name, &definition, &Target { p50: 6, p99: None }).await
}

/// A function that imports boto3 and makes a client in Init: with its whole Init each time, and with SnapStart.
pub(crate) async fn sdk(bench: &mut Bench) -> Result<()> {
    let runtime = bench.python.runtime.id;
    let Some(sdk) = fetched(runtime)? else {
        eprintln!("SKIPPED cold-sdk: the SDK of {runtime} could not be fetched");
        return Ok(());
    };
    let folder = bench.folder("cold-sdk")?;
    // A copy: the server that is measured may remove what it does not know.
    let copied = Command::new("cp").arg("-a").arg(sdk.join("runtimes")).arg(&folder).status()?;
    ensure!(copied.success(), "the SDK cannot be copied");
    let server = Server::start(&folder)?;
    let address = server.address()?;
    let mut client = server.client().await?;
    let mut connection = Connection::open(address).await?;
    let definition = Definition::sdk(runtime)?;
    let count = bench.count(20, 5);
    let mut cold = Vec::new();
    for number in 0..=count {
        definition.create(&mut client, &format!("sdk-{number}")).await?;
        let request = Prepared::invoke(address, &format!("sdk-{number}"), EVENT)?;
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        connection.ask(&request).await?;
        // The first start of a runtime prepares what all later ones use.
        cold.extend((number > 0).then(|| start.elapsed()));
    }
    bench.table.add(Row::of("cold invoke, boto3 and a client in Init", &mut cold));
    let definition = definition.with("SnapStart", json!({ "ApplyOn": "PublishedVersions" }));
    definition.create(&mut client, "snap").await?;
    if !published(&mut client, "snap").await? {
        eprintln!("SKIPPED cold-sdk with SnapStart: this server makes no snapshots of versions");
        return server.stop();
    }
    let mut snap = Vec::new();
    for number in 0..=count {
        let name = format!("snap-{number}");
        definition.create(&mut client, &name).await?;
        published(&mut client, &name).await?;
        let request = Prepared::invoke(address, &format!("{name}:1"), EVENT)?;
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        connection.ask(&request).await?;
        snap.extend((number > 0).then(|| start.elapsed()));
    }
    let target = Target { p50: 10, p99: None };
    let row = Row::of("the same with SnapStart", &mut snap);
    let ratio = at(&snap, 0.5).as_secs_f64() / at(&cold, 0.5).as_secs_f64();
    let met = target.met(&snap);
    bench.table.add(row.target(target.text(), met).ratio(format!("{ratio:.3} x the whole Init")));
    server.stop()
}

/// Publishes a version, and waits until it can be invoked. Whether it has a snapshot.
async fn published(client: &mut Client, name: &str) -> Result<bool> {
    client.send_json(Method::POST, &format!("/{name}/versions"), &json!({})).await?.checked()?;
    let start = Instant::now();
    loop {
        let path = format!("/{name}/configuration?Qualifier=1");
        let version = client.get(&path).await?.json()?;
        match version["State"].as_str() {
            Some("Active") => return Ok(version["SnapStart"]["OptimizationStatus"] == "On"),
            Some("Pending") if start.elapsed() < PUBLISHING => tokio::time::sleep(PAUSE).await,
            state => bail!("version 1 of {name} is {state:?}"),
        }
    }
}

/// A data folder with nothing but the runtime's SDK, kept for all runs of this checkout; fetched if it is not there.
fn fetched(runtime: &str) -> Result<Option<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/sdk");
    let mut fetch = Command::new(env!("CARGO_BIN_EXE_freehold"));
    fetch.args(["runtimes", "install", runtime, "--data"]).arg(&folder).stdout(Stdio::null());
    Ok(fetch.status()?.success().then_some(folder))
}

/// The folders with runtimes that the server will find too, by its own variable.
fn runtime_folders() -> Vec<PathBuf> {
    let folders = std::env::var_os("FREEHOLD_RUNTIME_FOLDERS").unwrap_or_default();
    std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

async fn measure(
    bench: &mut Bench,
    part: &str,
    name: &str,
    definition: &Definition,
    target: &Target,
) -> Result<()> {
    let count = bench.count(300, 60);
    let server = bench.server(part)?;
    let address = server.address()?;
    let mut client = server.client().await?;
    // The first start of a runtime prepares what all later ones use.
    definition.create(&mut client, "first").await?;
    definition.create_many(&mut client, part, count).await?;
    let mut connection = Connection::open(address).await?;
    connection.ask(&Prepared::invoke(address, "first", EVENT)?).await?;
    let (mut cold, mut floor) = (Vec::new(), Vec::new());
    for number in 0..count {
        let request = Prepared::invoke(address, &format!("{part}-{number}"), EVENT)?;
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        connection.ask(&request).await?;
        cold.push(start.elapsed());
        floor.extend(executions(1)?);
    }
    floor.sort_unstable();
    let row = Row::of(name, &mut cold);
    let ratio = at(&cold, 0.5).as_secs_f64() / at(&floor, 0.5).as_secs_f64();
    let met = target.met(&cold);
    bench.table.add(row.target(target.text(), met).ratio(format!("{ratio:.1} x fork and exec")));
    server.stop()
}
