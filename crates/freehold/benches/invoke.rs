//! Warm and cold invocations of the hello function and how soon `serve` is ready, each beside its floor, measured
//! against the real binary over its public, signed API. Run by `cargo xtask bench invoke`; figures stand in
//! `docs/benchmarks.md`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold::cli::Target;
use freehold::client::Client;
use freehold::package;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_runtimes::catalog::{Catalog, Family, Options};
use freehold_wire::sigv4::Credentials;
use http::Method;
use serde_json::json;

const CODE: &str = "\
def lambda_handler(event, context):
    name = event.get('name', 'World')
    return {'statusCode': 200, 'body': f\"Hello, {name}!\"}
";
const WARM_INVOKES: usize = 5_000;
const COLD_INVOKES: usize = 50;
const STARTS: usize = 10;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let catalog = Catalog::new(Options::default());
    let python = catalog
        .all()
        .into_iter()
        .filter_map(|(runtime, found)| found.ok().filter(|_| runtime.family == Family::Python))
        .min_by_key(|installed| installed.runtime.id != "python3.12")
        .context("no Python found")?;
    println!("runtime: {} ({})", python.runtime.id, python.version);

    let folder = tempfile::tempdir()?;
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(folder.path())?;
        ready.push(server.ready);
        server.stop()?;
    }
    row("serve ready after exec", &mut ready);

    let mut floor = Vec::new();
    for _ in 0..COLD_INVOKES {
        let start = Instant::now();
        Command::new(&python.executable).args(["-S", "-c", "import json"]).status()?;
        floor.push(start.elapsed());
    }
    let python_floor = row("floor of cold: python -S -c 'import json'", &mut floor);

    let server = Server::start(folder.path())?;
    let target = Target { endpoint: server.endpoint.clone(), region: "us-east-1".to_owned() };
    let mut client = Client::connect_as(&target, Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY)).await?;
    create_functions(&mut client, python.runtime.id).await?;

    let mut cold = Vec::new();
    for index in 0..COLD_INVOKES {
        cold.push(invoke(&mut client, &format!("hello-{index}")).await?);
    }
    let cold = row("cold invoke, one connection", &mut cold);

    let mut echo = Vec::new();
    for _ in 0..WARM_INVOKES {
        let start = Instant::now();
        client.get("/hello-0/configuration").await?.checked()?;
        echo.push(start.elapsed());
    }
    let echo = row("floor of warm: GetFunctionConfiguration, signed", &mut echo);

    let mut warm = Vec::new();
    for _ in 0..WARM_INVOKES {
        warm.push(invoke(&mut client, "hello-0").await?);
    }
    let warm = row("warm invoke, one connection", &mut warm);
    println!("cold / python floor: {:.2}", cold.as_secs_f64() / python_floor.as_secs_f64());
    println!("warm / signed floor: {:.2}", warm.as_secs_f64() / echo.as_secs_f64());
    server.stop()
}

async fn create_functions(client: &mut Client, runtime: &str) -> Result<()> {
    let package = package::from_text("lambda_function.py", CODE)?;
    for index in 0..COLD_INVOKES {
        let function = json!({
            "FunctionName": format!("hello-{index}"),
            "Runtime": runtime,
            "Handler": "lambda_function.lambda_handler",
            "Role": "arn:aws:iam::123456789012:role/lambda-exec-role",
            "Code": { "ZipFile": STANDARD.encode(&package.zip) },
        });
        client.send_json(Method::POST, "", &function).await?.checked()?;
    }
    Ok(())
}

async fn invoke(client: &mut Client, name: &str) -> Result<Duration> {
    let start = Instant::now();
    let answer = client.invoke(name, Bytes::from_static(br#"{"name": "Alice"}"#)).await?;
    let took = start.elapsed();
    answer.checked()?;
    anyhow::ensure!(&answer.body[..] == br#"{"statusCode": 200, "body": "Hello, Alice!"}"#, "a wrong answer");
    Ok(took)
}

/// The real binary, serving on a port of its own choice.
struct Server {
    child: Child,
    endpoint: String,
    ready: Duration,
}

impl Server {
    fn start(data: &Path) -> Result<Self> {
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

    fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Prints the row of one series and gives its median.
fn row(name: &str, series: &mut [Duration]) -> Duration {
    series.sort();
    let at = |share: f64| series[((series.len() - 1) as f64 * share) as usize];
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    println!("{name:50} p50 {:8.3} ms   p99 {:8.3} ms   n {}", ms(at(0.5)), ms(at(0.99)), series.len());
    at(0.5)
}
