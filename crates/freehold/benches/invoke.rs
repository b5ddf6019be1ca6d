//! Warm and cold invocations of the hello function and how soon `serve` is ready, each beside its floor, measured
//! against the real binary over its public, signed API. Run by `cargo xtask bench invoke`; figures stand in
//! `docs/benchmarks.md`.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold::client::Client;
use freehold::package;
use http::Method;
use serde_json::json;
use support::{Server, python, row};

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
    let python = python()?;
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
    let mut client = server.client().await?;
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
