//! `freehold quickstart`: the main job in seconds. A temporary server, a function deployed and invoked through the
//! public, signed HTTP API, cold and warm; then everything is removed again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_runtimes::catalog::Family;
use freehold_sandbox::doctor::examine;
use freehold_sandbox::protection::Protection;
use freehold_wire::sigv4::Credentials;
use http::Method;
use serde_json::json;

use super::deploy::preferred_runtime;
use super::invoke::log_tail;
use crate::cli::{DoneWithout, FunctionTmp, Serve, Target};
use crate::client::{Answer, Client};
use crate::config::Settings;
use crate::exit;
use crate::output;
use crate::package;
use crate::server::{Server, code_folder};

const FUNCTION_NAME: &str = "hello-world";
const FUNCTION_FILE: &str = "lambda_function.py";
const FUNCTION_CODE: &str = "\
def lambda_handler(event, context):
    name = event.get('name', 'World')
    return {'statusCode': 200, 'body': f\"Hello, {name}!\"}
";
const EVENT: &str = r#"{"name": "Alice"}"#;
const ROLE: &str = "arn:aws:iam::123456789012:role/lambda-exec-role";
/// The runtime that the example names; another is said to the user.
const RUNTIME: &str = "python3.12";
/// How often the warm function is invoked; the median is shown.
const WARM_INVOKES: usize = 50;

pub(super) async fn run(as_json: bool) -> Result<u8> {
    let folder = tempfile::Builder::new().prefix("freehold-quickstart-").tempdir()?;
    let say = |text: &str| {
        if !as_json {
            output::line(text)?;
        }
        anyhow::Ok(())
    };
    let runtime = tokio::task::spawn_blocking(|| preferred_runtime(Family::Python)).await??;
    if runtime != RUNTIME {
        say(&format!("This host has no {RUNTIME}: using {runtime}, the newest Python found."))?;
    }
    let mut words = Serve {
        listen: Some("127.0.0.1:0".parse()?),
        data: Some(folder.path().to_path_buf()),
        log: Some("warn".to_owned()),
        ..Serve::default()
    };
    do_without(&mut words, &say)?;
    let settings = Settings::load(words)?;
    let server = Server::start(settings).await?;
    let report = demonstrate(&server, &runtime, &say).await;
    server.stop().await;
    // Its folders are read-only, which stops an ordinary user.
    freehold_lambda::package::remove(&code_folder(folder.path()));
    folder.close().context("cannot remove the temporary data folder")?;
    let report = report?;
    if as_json {
        output::json(&report)?;
        return Ok(exit::OK);
    }
    say("\nEverything is cleaned up. What next:")?;
    say("  freehold serve                     run a server that keeps its data")?;
    say("  freehold deploy DIR                put a folder with a handler on it")?;
    say(
        "  AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test aws lambda list-functions",
    )?;
    Ok(exit::OK)
}

/// An ordinary user may not get every protection. The example's code is this program's own, so it runs without them, and says so;
/// `serve`, which runs other people's, refuses.
fn do_without(words: &mut Serve, say: &impl Fn(&str) -> Result<()>) -> Result<()> {
    let findings = examine();
    let lacking = findings.iter().filter_map(|finding| Some((finding, finding.protection?)));
    let lacking: Vec<_> = lacking.collect();
    if lacking.is_empty() {
        return Ok(());
    }
    say(
        "This user does not get every protection here; the example runs without them, `freehold serve` would refuse:",
    )?;
    for (finding, protection) in lacking {
        say(&format!("  - no {} ({}): {}", finding.name, finding.detail, protection.instead()))?;
        match protection {
            Protection::TmpOnDisk => words.function_tmp = Some(FunctionTmp::Memory),
            Protection::MemoryLimit => words.allow_without_memory_limit = Some(true),
            Protection::CpuShare => without(words, DoneWithout::CpuShare),
            Protection::Freezer => without(words, DoneWithout::Freezer),
            Protection::SeparateUsers => without(words, DoneWithout::SeparateUsers),
        }
    }
    say("Run it as root for all of them, or see `freehold doctor`.\n")
}

fn without(words: &mut Serve, what: DoneWithout) {
    words.allow_without.get_or_insert_default().push(what);
}

async fn demonstrate(
    server: &Server,
    runtime: &str,
    say: &impl Fn(&str) -> Result<()>,
) -> Result<serde_json::Value> {
    let endpoint = format!("http://{}", server.address());
    say(&format!("A temporary server listens on {endpoint}."))?;
    let target = Target { endpoint, region: "us-east-1".to_owned() };
    let mut client = Client::connect_as(&target, Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY)).await?;
    let package = package::from_text(FUNCTION_FILE, FUNCTION_CODE)?;
    let function = json!({
        "FunctionName": FUNCTION_NAME,
        "Runtime": runtime,
        "Handler": "lambda_function.lambda_handler",
        "Role": ROLE,
        "Code": { "ZipFile": STANDARD.encode(&package.zip) },
    });
    let created = client.send_json(Method::POST, "", &function).await?.json()?;
    say(&format!("Created {} ({runtime}).", created["FunctionArn"].as_str().unwrap_or_default()))?;

    let (cold, answer) = timed_invoke(&mut client).await?;
    let mut warm = Vec::with_capacity(WARM_INVOKES);
    for _ in 0..WARM_INVOKES {
        warm.push(timed_invoke(&mut client).await?.0);
    }
    warm.sort();
    let warm = warm[warm.len() / 2];

    let log = log_tail(&answer)?;
    let report_line = log.lines().find(|line| line.starts_with("REPORT")).unwrap_or_default();
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    say(&format!("Invoked it with {EVENT}; the answer: {body}"))?;
    say(report_line.trim_end())?;
    say(&format!("Cold: {:.1} ms. Warm: {:.2} ms (median of {WARM_INVOKES}).", ms(cold), ms(warm)))?;
    Ok(json!({
        "Runtime": runtime,
        "Answer": body,
        "Report": report_line.trim_end(),
        "ColdMs": ms(cold),
        "WarmMs": ms(warm),
    }))
}

async fn timed_invoke(client: &mut Client) -> Result<(Duration, Answer)> {
    let start = Instant::now();
    let answer = client.invoke(FUNCTION_NAME, Bytes::from_static(EVENT.as_bytes())).await?;
    let took = start.elapsed();
    answer.checked()?;
    if answer.header("x-amz-function-error").is_some() {
        anyhow::bail!("the function failed: {}", String::from_utf8_lossy(&answer.body));
    }
    Ok((took, answer))
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
