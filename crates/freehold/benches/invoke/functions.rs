//! The functions that are invoked: hello in Python, Node.js and Rust, one that sleeps, one that makes an SDK client.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold::client::Client;
use http::Method;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

/// The event of all of them.
pub(crate) const EVENT: &str = r#"{"name": "Alice"}"#;

const PYTHON: &str = "\
def handler(event, context):
    return {'statusCode': 200, 'body': f\"Hello, {event['name']}!\"}
";
const SLEEPING: &str = "\
import time
def handler(event, context):
    time.sleep(1)
    return 'awake'
";
const SDK: &str = "\
import boto3
table = boto3.client('dynamodb', region_name='us-east-1')
def handler(event, context):
    return table.meta.region_name
";
const NODE: &str = "\
exports.handler = async (event) => ({ statusCode: 200, body: `Hello, ${event.name}!` });
";

/// The Rust function's source, compiled when it is asked for.
const RUST: &str = include_str!("programs/function.rs");

/// What a function is made of.
#[derive(Clone)]
pub(crate) struct Definition(Value);

impl Definition {
    pub(crate) fn python(runtime: &str) -> Result<Self> {
        Self::new(runtime, "function.py", PYTHON.as_bytes())
    }

    pub(crate) fn sleeping(runtime: &str) -> Result<Self> {
        Self::new(runtime, "function.py", SLEEPING.as_bytes())
    }

    pub(crate) fn sdk(runtime: &str) -> Result<Self> {
        Self::new(runtime, "function.py", SDK.as_bytes())
    }

    pub(crate) fn node(runtime: &str) -> Result<Self> {
        Self::new(runtime, "function.js", NODE.as_bytes())
    }

    /// Compiles the Rust function, statically, with the `rustc` on the path.
    pub(crate) fn rust(folder: &Path) -> Result<Self> {
        let (source, program) = (folder.join("function.rs"), folder.join("bootstrap"));
        std::fs::write(&source, RUST)?;
        let options =
            ["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"];
        let compiled = Command::new("rustc").args(options).arg(&program).arg(&source).status();
        ensure!(compiled.context("there is no rustc")?.success(), "rustc failed");
        Self::new("provided.al2023", "bootstrap", &std::fs::read(program)?)
    }

    fn new(runtime: &str, file: &str, content: &[u8]) -> Result<Self> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file(file, SimpleFileOptions::default().unix_permissions(0o755))?;
        writer.write_all(content)?;
        let zip = STANDARD.encode(writer.finish()?.into_inner());
        Ok(Self(json!({
            "Runtime": runtime,
            "Handler": "function.handler",
            "Role": "arn:aws:iam::123456789012:role/lambda-exec-role",
            "Timeout": 60,
            "Code": { "ZipFile": zip },
        })))
    }

    /// The same with a member more.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.0[name] = value;
        self
    }

    /// Creates it.
    pub(crate) async fn create(&self, client: &mut Client, name: &str) -> Result<()> {
        let mut function = self.0.clone();
        function["FunctionName"] = json!(name);
        client.send_json(Method::POST, "", &function).await?.checked().map(drop)
    }

    /// Creates it many times, as `name-0` and so on.
    pub(crate) async fn create_many(&self, client: &mut Client, name: &str, count: usize) -> Result<()> {
        for number in 0..count {
            self.create(client, &format!("{name}-{number}")).await?;
        }
        Ok(())
    }
}
