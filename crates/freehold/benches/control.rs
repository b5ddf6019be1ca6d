//! Lambda's control plane against the real binary over its public, signed API, with 10,000 functions stored: reads, mixed
//! calls (each change synced), creation to the first answer, the largest package. Run by `cargo xtask bench control`; figures
//! stand in `docs/benchmarks.md`.

mod support;

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold::client::Client;
use freehold::package;
use http::Method;
use serde_json::{Value, json};
use support::server::Server;
use support::{python, row};
use tokio::task::JoinSet;
use zip::write::SimpleFileOptions;

const CODE: &str = "def handler(event, context):\n    return event\n";
const FUNCTIONS: usize = 10_000;
const CONNECTIONS: usize = 32;
const SYNCS: usize = 500;
const READS: usize = 5_000;
const MIXED_CALLS: usize = 20_000;
const FIRST_ANSWERS: usize = 30;
const LARGE_PACKAGES: usize = 5;
/// Just below the limit of a zip that is sent directly.
const LARGE_BYTES: usize = 52_428_800 - 4_096;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let python = python()?;
    println!("runtime: {} ({})", python.runtime.id, python.version);
    let folder = tempfile::tempdir()?;
    row("floor of changes: write + fdatasync of 1 KiB", &mut syncs(folder.path())?);
    let server = Arc::new(Server::start(folder.path())?);
    println!("ready after {} ms", server.ready.as_millis());
    let mut client = server.client().await?;
    let package = STANDARD.encode(package::from_text("lambda_function.py", CODE)?.zip);
    let package = Arc::new(function(python.runtime.id, &package));

    let took = spread(&server, FUNCTIONS, {
        let package = Arc::clone(&package);
        move |client, number| {
            let package = Arc::clone(&package);
            Box::pin(async move { create(client, &name(number), &package).await })
        }
    });
    rate("CreateFunction", FUNCTIONS, took.await?);

    let mut floor = Vec::new();
    let mut reads = Vec::new();
    for number in 0..READS {
        floor.push(timed(client.get("/no-such-function/configuration")).await?);
        reads.push(timed(client.get(&format!("/{}", name(number * 7919 % FUNCTIONS)))).await?);
    }
    row("floor of reads: a function that is not there", &mut floor);
    row("GetFunction of 10,000", &mut reads);

    let took = spread(&server, MIXED_CALLS, |client, number| Box::pin(mixed(client, number)));
    rate("mixed calls, changes synced", MIXED_CALLS, took.await?);

    let mut first = Vec::new();
    for number in 0..FIRST_ANSWERS {
        let start = Instant::now();
        create(&mut client, &format!("first-{number}"), &package).await?;
        answered(&mut client, &format!("first-{number}")).await?;
        first.push(start.elapsed());
    }
    row("CreateFunction to the first answer", &mut first);

    let mut large = Vec::new();
    for number in 0..LARGE_PACKAGES {
        let package = function(python.runtime.id, &STANDARD.encode(large_zip(number)?));
        let start = Instant::now();
        create(&mut client, &format!("large-{number}"), &package).await?;
        answered(&mut client, &format!("large-{number}")).await?;
        large.push(start.elapsed());
    }
    row("the same with a zip of 50 MB", &mut large);
    Arc::into_inner(server).context("every connection has ended")?.stop()
}

/// The machine's own limit: a lone synced write.
fn syncs(folder: &Path) -> Result<Vec<Duration>> {
    let mut file = std::fs::File::create(folder.join("floor"))?;
    let mut series = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[7; 1024])?;
        file.sync_data()?;
        series.push(start.elapsed());
    }
    Ok(series)
}

type Step<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Does `count` things over many connections at once; how long it took.
async fn spread<W>(server: &Arc<Server>, count: usize, work: W) -> Result<Duration>
where
    W: for<'a> Fn(&'a mut Client, usize) -> Step<'a> + Send + Sync + 'static,
{
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.client().await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (work, next) = (Arc::clone(&work), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                work(&mut client, number).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

/// One of ten: five reads, a page of the list, a change of the configuration, a publication, an alias pointed, a page of versions.
/// Two clients may meet at one function, which AWS answers with a conflict.
async fn mixed(client: &mut Client, number: usize) -> Result<()> {
    let name = name(number * 7919 % FUNCTIONS);
    let memory = json!({ "MemorySize": 128 + number % 1024 });
    let answer = match number % 10 {
        5 => client.get("?MaxItems=10").await?,
        6 => client.send_json(Method::PUT, &format!("/{name}/configuration"), &memory).await?,
        7 => client.send_json(Method::POST, &format!("/{name}/versions"), &json!({})).await?,
        8 => {
            let alias = json!({ "Name": format!("a{number}"), "FunctionVersion": "$LATEST" });
            client.send_json(Method::POST, &format!("/{name}/aliases"), &alias).await?
        }
        9 => client.get(&format!("/{name}/versions")).await?,
        _ => client.get(&format!("/{name}/configuration")).await?,
    };
    if answer.status.as_u16() != 409 {
        answer.checked()?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("function-{number:05}")
}

fn function(runtime: &str, package: &str) -> Value {
    json!({
        "Runtime": runtime,
        "Handler": "lambda_function.handler",
        "Role": "arn:aws:iam::123456789012:role/lambda-exec-role",
        "Code": { "ZipFile": package },
    })
}

async fn create(client: &mut Client, name: &str, function: &Value) -> Result<()> {
    let mut function = function.clone();
    function["FunctionName"] = json!(name);
    client.send_json(Method::POST, "", &function).await?.checked().map(drop)
}

async fn answered(client: &mut Client, name: &str) -> Result<()> {
    let answer = client.invoke(name, Bytes::from_static(b"[1]")).await?;
    answer.checked()?;
    ensure!(&answer.body[..] == b"[1]", "a wrong answer");
    Ok(())
}

async fn timed(call: impl Future<Output = Result<freehold::client::Answer>>) -> Result<Duration> {
    let start = Instant::now();
    call.await?;
    Ok(start.elapsed())
}

/// The handler and one file that cannot be compressed, different for each number.
fn large_zip(number: usize) -> Result<Vec<u8>> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::with_capacity(LARGE_BYTES)));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("lambda_function.py", options)?;
    writer.write_all(CODE.as_bytes())?;
    writer.start_file("data", options)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_add(number as u64);
    let mut content = Vec::with_capacity(LARGE_BYTES);
    while content.len() < LARGE_BYTES - 1024 {
        // xorshift: cheap, and incompressible.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    writer.write_all(&content)?;
    Ok(writer.finish()?.into_inner())
}

fn rate(name: &str, count: usize, took: Duration) {
    println!("{name:50} {:8.0}/s over {CONNECTIONS} connections", count as f64 / took.as_secs_f64());
}
