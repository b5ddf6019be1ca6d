//! `freehold deploy`: creates a function from a folder or a zip, or updates the one that is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold_base::arn::is_function_name;
use freehold_runtimes::catalog::{Catalog, Family, Options};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::cli::Deploy;
use crate::client::{Client, encode};
use crate::exit;
use crate::output;
use crate::package::{self, Guess, Package};

/// The role of a function whose deployer named none. Roles decide nothing until IAM is there.
const ROLE_DEFAULT: &str = "arn:aws:iam::000000000000:role/lambda-role";
/// Tried first for each kind, then the newest that the host has.
const PYTHON_FIRST: &str = "python3.12";
const NODE_FIRST: &str = "nodejs22.x";
const RUBY_FIRST: &str = "ruby3.3";
const JAVA_FIRST: &str = "java21";
const PROVIDED: &str = "provided.al2023";

pub(super) async fn run(words: Deploy, as_json: bool) -> Result<u8> {
    let start = Instant::now();
    let name = function_name(&words)?;
    progress(as_json, &format!("Packing {}", words.source.display()));
    let package = package::read(&words.source)?;
    let mut client = Client::connect(&words.target).await?;
    progress(as_json, &format!("Deploying {name} ({} KiB)", package.zip.len().div_ceil(1024)));
    let (verb, result) = put(&mut client, &name, &words, &package).await?;
    if as_json {
        output::json(&result)?;
        return Ok(exit::OK);
    }
    let text = |field: &str| result[field].as_str().unwrap_or_default().to_owned();
    output::line(format_args!("{verb} {name} in {} ms", start.elapsed().as_millis()))?;
    output::line(format_args!("  ARN      {}", text("FunctionArn")))?;
    output::line(format_args!("  Runtime  {}", text("Runtime")))?;
    output::line(format_args!("  Handler  {}", text("Handler")))?;
    output::line(format_args!("Invoke it: freehold invoke {name} '{{}}'"))?;
    Ok(exit::OK)
}

/// Creates the function, or updates the one that is there; what was done, and the function as the server tells it.
pub(super) async fn put(
    client: &mut Client,
    name: &str,
    words: &Deploy,
    package: &Package,
) -> Result<(&'static str, Value)> {
    let settings = settings(words)?;
    let there = client.get(&format!("/{}/configuration", encode(name))).await?;
    if there.status == StatusCode::NOT_FOUND {
        return Ok(("Created", create(client, name, words, package, settings).await?));
    }
    there.checked()?;
    Ok(("Updated", update(client, name, words, package, settings).await?))
}

fn progress(as_json: bool, text: &str) {
    if !as_json {
        eprintln!("{text} …");
    }
}

async fn create(
    client: &mut Client,
    name: &str,
    words: &Deploy,
    package: &Package,
    mut settings: Map<String, Value>,
) -> Result<Value> {
    let guess = package.guess.as_ref();
    settings.insert("FunctionName".to_owned(), json!(name));
    settings.entry("Role").or_insert_with(|| json!(ROLE_DEFAULT));
    if words.handler.is_none() {
        settings.insert("Handler".to_owned(), json!(needed(guess, "--handler")?.handler));
    }
    if words.runtime.is_none() {
        settings.insert("Runtime".to_owned(), json!(preferred_runtime(needed(guess, "--runtime")?.family)?));
    }
    settings.insert("Code".to_owned(), json!({ "ZipFile": STANDARD.encode(&package.zip) }));
    client.send_json(Method::POST, "", &Value::Object(settings)).await?.json()
}

/// The code first, then what else was said. What was not said stays as it is.
async fn update(
    client: &mut Client,
    name: &str,
    words: &Deploy,
    package: &Package,
    mut settings: Map<String, Value>,
) -> Result<Value> {
    let path = format!("/{}", encode(name));
    let code = json!({ "ZipFile": STANDARD.encode(&package.zip) });
    let result = client.send_json(Method::PUT, &format!("{path}/code"), &code).await?.json()?;
    let told = package.guess.as_ref().map(|guess| guess.handler.as_str());
    if words.handler.is_none() && told.is_some_and(|handler| result["Handler"] != handler) {
        settings.insert("Handler".to_owned(), json!(told));
    }
    if settings.is_empty() {
        return Ok(result);
    }
    client.send_json(Method::PUT, &format!("{path}/configuration"), &Value::Object(settings)).await?.json()
}

fn needed<'a>(guess: Option<&'a Guess>, flag: &str) -> Result<&'a Guess> {
    guess.with_context(|| {
        format!(
            "cannot tell from the code how to run it: found no executable `bootstrap`, no index.js/.mjs with a \
             `handler`, no .py or .rb file with `def lambda_handler(` or `def handler(`. Say {flag}"
        )
    })
}

/// What the words say of the configuration, in the API's fields.
fn settings(words: &Deploy) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            settings.insert(name.to_owned(), value);
        }
    };
    set("Runtime", words.runtime.as_ref().map(|text| json!(text)));
    set("Handler", words.handler.as_ref().map(|text| json!(text)));
    set("Role", words.role.as_ref().map(|text| json!(text)));
    set("MemorySize", words.memory.map(|mib| json!(mib)));
    set("Timeout", words.timeout.map(|seconds| json!(seconds)));
    if !words.variables.is_empty() {
        let mut variables = BTreeMap::new();
        for pair in &words.variables {
            let Some((key, value)) = pair.split_once('=') else { bail!("--env '{pair}' is not KEY=VALUE") };
            variables.insert(key, value);
        }
        set("Environment", Some(json!({ "Variables": variables })));
    }
    Ok(settings)
}

/// The function's name: as said, else the folder's or zip's.
pub(super) fn function_name(words: &Deploy) -> Result<String> {
    let name = match &words.name {
        Some(name) => name.clone(),
        None => {
            let path = words
                .source
                .canonicalize()
                .with_context(|| format!("cannot read {}", words.source.display()))?;
            let name = if path.is_dir() { path.file_name() } else { Path::new(&path).file_stem() };
            name.and_then(|name| name.to_str()).unwrap_or_default().to_owned()
        }
    };
    if !is_function_name(&name) {
        bail!("'{name}' cannot be a function's name (1 to 64 letters, digits, - and _): say --name");
    }
    Ok(name)
}

/// The runtime to take for a kind of code: the usual one where this host has it, else the newest found.
pub(super) fn preferred_runtime(family: Family) -> Result<String> {
    let first = match family {
        Family::Python => PYTHON_FIRST,
        Family::Node => NODE_FIRST,
        Family::Ruby => RUBY_FIRST,
        Family::Java => JAVA_FIRST,
        Family::Provided => return Ok(PROVIDED.to_owned()),
    };
    let catalog = Catalog::new(Options::default());
    if catalog.resolve(first).is_ok() {
        return Ok(first.to_owned());
    }
    let found = catalog.all().into_iter().rfind(|(runtime, found)| runtime.family == family && found.is_ok());
    match found {
        Some((runtime, _)) => Ok(runtime.id.to_owned()),
        None => bail!("this host has no runtime for the code; see freehold runtimes"),
    }
}
