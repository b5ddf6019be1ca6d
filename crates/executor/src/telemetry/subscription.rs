//! A request to subscribe: what it may say, and everything that is wrong with it.
//!
//! Limits and defaults: "Telemetry API reference", "Logs API" (the two agree). What is not given has its default; what is
//! out of bounds is refused.

use std::time::Duration;

use serde_json::Value;

use super::Stream;
use crate::runtime_api::{Api, Refusal};

/// Where the Runtime API listens: "Lambda reserves port 9001".
const RESERVED_PORT: u16 = 9001;

/// The longest path of a destination, in bytes.
const PATH_BYTES: usize = 2_048;

/// The names under which an environment knows itself.
const HOSTS: [&str; 2] = ["sandbox.localdomain", "sandbox"];

/// What the Logs API tells of the system, beside `platform.runtimeDone` for who asks for the newer schema.
const LOGS_KINDS: [&str; 7] = [
    "platform.start",
    "platform.end",
    "platform.report",
    "platform.fault",
    "platform.extension",
    "platform.logsSubscription",
    "platform.logsDropped",
];

/// What only the Logs API tells.
const ONLY_LOGS_KINDS: [&str; 3] = ["platform.end", "platform.fault", "platform.logsSubscription"];

/// A bound of the buffering: its name, least, most and default.
type Bound = (&'static str, u64, u64, u64);
const MAX_ITEMS: Bound = ("maxItems", 1_000, 10_000, 10_000);
const MAX_BYTES: Bound = ("maxBytes", 262_144, 1_048_576, 262_144);
const TIMEOUT_MS: Bound = ("timeoutMs", 25, 30_000, 1_000);

/// What an extension wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    schema: Schema,
    pub(crate) streams: Vec<Stream>,
    pub(super) destination: Destination,
    pub(super) buffering: Buffering,
}

/// The version of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    Logs2020,
    Logs2021,
    TelemetryJuly2022,
    TelemetryDecember2022,
    Telemetry2025,
}

/// Where to, always inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// Arrays of events, as requests.
    Http { port: u16, host: String, path: String, method: &'static str },
    /// Events, one a line.
    Tcp { port: u16 },
}

/// When what has gathered is sent, and how much may gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffering {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) timeout: Duration,
}

impl Subscription {
    /// Reads a request.
    pub(crate) fn parse(api: Api, body: &[u8]) -> Result<Self, Refusal> {
        let request: Value =
            serde_json::from_slice(body).map_err(|error| api.invalid(format!("Invalid JSON: {error}")))?;
        let mut problems = Vec::new();
        let schema = schema(api, &request["schemaVersion"]).map_err(|problem| problems.push(problem)).ok();
        let destination =
            destination(api, &request["destination"]).map_err(|problem| problems.push(problem)).ok();
        let streams = streams(&request["types"]).map_err(|problem| problems.push(problem)).ok();
        let buffering = buffering(&request["buffering"]).map_err(|problem| problems.push(problem)).ok();
        match (schema, streams, destination, buffering) {
            (Some(schema), Some(streams), Some(destination), Some(buffering)) => {
                Ok(Self { schema, streams, destination, buffering })
            }
            _ => Err(api.invalid(problems.join("; "))),
        }
    }

    /// By which interface.
    pub(super) fn api(&self) -> Api {
        match self.schema {
            Schema::Logs2020 | Schema::Logs2021 => Api::Logs,
            Schema::TelemetryJuly2022 | Schema::TelemetryDecember2022 | Schema::Telemetry2025 => {
                Api::Telemetry
            }
        }
    }

    /// Whether it is told of this.
    pub(super) fn wants(&self, stream: Stream, kind: &str) -> bool {
        let in_schema = match (stream, self.schema) {
            (Stream::Platform, Schema::Logs2020) => LOGS_KINDS.contains(&kind),
            (Stream::Platform, Schema::Logs2021) => {
                LOGS_KINDS.contains(&kind) || kind == "platform.runtimeDone"
            }
            (Stream::Platform, _) => !ONLY_LOGS_KINDS.contains(&kind),
            (Stream::Function | Stream::Extension, _) => true,
        };
        in_schema && self.streams.contains(&stream)
    }

    /// Whether lines that are JSON objects are sent as such.
    pub(super) fn knows_objects(&self) -> bool {
        matches!(self.schema, Schema::TelemetryDecember2022 | Schema::Telemetry2025)
    }
}

fn schema(api: Api, value: &Value) -> Result<Schema, String> {
    let known: &[(&str, Schema)] = match api {
        Api::Logs => &[("2020-08-15", Schema::Logs2020), ("2021-03-18", Schema::Logs2021)],
        Api::Telemetry => &[
            ("2022-07-01", Schema::TelemetryJuly2022),
            ("2022-12-13", Schema::TelemetryDecember2022),
            ("2025-01-29", Schema::Telemetry2025),
        ],
    };
    match (value, api) {
        (Value::Null, Api::Logs) => Ok(Schema::Logs2020),
        (Value::Null, Api::Telemetry) => Err("schemaVersion is not provided".to_owned()),
        (value, _) => {
            let found = known.iter().find(|(name, _)| Some(*name) == value.as_str());
            found.map(|(_, schema)| *schema).ok_or_else(|| format!("schemaVersion {value} is not supported"))
        }
    }
}

fn streams(value: &Value) -> Result<Vec<Stream>, String> {
    let empty = || "types should not be empty".to_owned();
    let mut streams = Vec::new();
    for value in value.as_array().ok_or_else(empty)? {
        let all = [Stream::Platform, Stream::Function, Stream::Extension];
        let stream = all.into_iter().find(|stream| Some(stream.name()) == value.as_str());
        let stream = stream.ok_or_else(|| format!("type {value} is not supported"))?;
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    if streams.is_empty() { Err(empty()) } else { Ok(streams) }
}

fn destination(api: Api, value: &Value) -> Result<Destination, String> {
    let missing = |what: &str| format!("destination {what} is not provided");
    let protocol = value["protocol"].as_str().ok_or_else(|| missing("protocol"))?;
    match protocol {
        "HTTP" => {
            let method = match (api, value["method"].as_str()) {
                (Api::Logs, Some("PUT")) => "PUT",
                (_, None | Some("POST")) => "POST",
                (_, Some(other)) => return Err(format!("destination method {other} is not supported")),
            };
            let uri = value["URI"].as_str().ok_or_else(|| missing("URI"))?;
            let (host, port, path) = address(uri, "http://")?;
            Ok(Destination::Http { port, host: format!("{host}:{port}"), path: path.to_owned(), method })
        }
        "TCP" => match (&value["port"], value["URI"].as_str()) {
            (Value::Null, Some(uri)) => Ok(Destination::Tcp { port: address(uri, "tcp://")?.1 }),
            (port, _) => {
                let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
                Ok(Destination::Tcp { port: allowed(port.ok_or_else(|| missing("port"))?)? })
            }
        },
        other => Err(format!("destination protocol {other} is not supported")),
    }
}

/// Host, port and path of an address inside.
fn address<'a>(uri: &'a str, scheme: &str) -> Result<(&'a str, u16, &'a str), String> {
    let rest = uri.strip_prefix(scheme).ok_or_else(|| format!("URI scheme must be {scheme}"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |start| rest.split_at(start));
    let (host, port) = authority.split_once(':').ok_or("URI port is not provided")?;
    if !HOSTS.contains(&host) {
        return Err("URI host must be sandbox.localdomain".to_owned());
    }
    if path.len() > PATH_BYTES || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("URI path is not valid".to_owned());
    }
    let port = port.parse().map_err(|_| "URI port is not valid")?;
    Ok((host, allowed(port)?, path))
}

fn allowed(port: u16) -> Result<u16, String> {
    if port == 0 || port == RESERVED_PORT { Err(format!("port {port} is reserved")) } else { Ok(port) }
}

fn buffering(value: &Value) -> Result<Buffering, String> {
    let number = |(name, least, most, default): Bound| match &value[name] {
        Value::Null => Ok(default),
        given => match given.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("buffering {name} must be between {least} and {most}")),
        },
    };
    Ok(Buffering {
        items: usize::try_from(number(MAX_ITEMS)?).expect("at most its bound"),
        bytes: usize::try_from(number(MAX_BYTES)?).expect("at most its bound"),
        timeout: Duration::from_millis(number(TIMEOUT_MS)?),
    })
}
