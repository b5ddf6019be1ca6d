//! Requests, and what waits for a slow subscriber.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::queue::{Due, Queue};
use super::subscription::{Buffering, Subscription};
use super::{Record, Stream};
use crate::runtime_api::Api;

fn request(change: impl FnOnce(&mut Value)) -> Value {
    let mut request = json!({
        "schemaVersion": "2022-07-01",
        "types": ["platform", "function"],
        "buffering": {"maxItems": 1_000, "maxBytes": 262_144, "timeoutMs": 100},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/path"},
    });
    change(&mut request);
    request
}

fn parse(api: Api, request: &Value) -> Result<Subscription, String> {
    Subscription::parse(api, request.to_string().as_bytes()).map_err(|refusal| {
        assert_eq!(refusal.status, 400);
        refusal.message
    })
}

#[test]
fn what_aws_accepts_is_accepted() {
    type Change = fn(&mut Value);
    let changes: &[(Api, Change)] = &[
        (Api::Telemetry, |_| {}),
        (Api::Telemetry, |request| request["schemaVersion"] = "2022-12-13".into()),
        (Api::Telemetry, |request| request["schemaVersion"] = "2025-01-29".into()),
        (Api::Telemetry, |request| request["buffering"] = Value::Null),
        (Api::Telemetry, |request| request["destination"]["URI"] = "http://sandbox:8080".into()),
        (Api::Telemetry, |request| request["destination"] = json!({"protocol": "TCP", "port": 8080})),
        (Api::Telemetry, |request| request["buffering"] = json!({"maxItems": 10_000, "timeoutMs": 30_000})),
        (Api::Logs, |request| request["schemaVersion"] = Value::Null),
        (Api::Logs, |request| request["schemaVersion"] = "2021-03-18".into()),
        (Api::Logs, |request| {
            request["schemaVersion"] = "2020-08-15".into();
            request["destination"]["method"] = "PUT".into();
        }),
    ];
    for (api, change) in changes {
        let request = request(change);
        assert!(parse(*api, &request).is_ok(), "{request}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    type Change = fn(&mut Value);
    let changes: &[(Change, &str)] = &[
        (|request| request["schemaVersion"] = Value::Null, "schemaVersion is not provided"),
        (
            |request| request["schemaVersion"] = "2020-08-15".into(),
            "schemaVersion \"2020-08-15\" is not supported",
        ),
        (|request| request["types"] = json!([]), "types should not be empty"),
        (|request| request["types"] = json!(["all"]), "type \"all\" is not supported"),
        (|request| request["destination"] = Value::Null, "destination protocol is not provided"),
        (
            |request| request["destination"]["URI"] = "http://sandbox.localdomain".into(),
            "URI port is not provided",
        ),
        (|request| request["destination"]["URI"] = "https://sandbox:1".into(), "URI scheme must be http://"),
        (
            |request| request["destination"]["URI"] = "http://127.0.0.1:80".into(),
            "URI host must be sandbox.localdomain",
        ),
        (|request| request["destination"]["URI"] = "http://sandbox:9001".into(), "port 9001 is reserved"),
        (|request| request["destination"] = json!({"protocol": "TCP", "port": 0}), "port 0 is reserved"),
        (
            |request| request["destination"]["URI"] = "http://sandbox:80/a b\r\nX: y".into(),
            "URI path is not valid",
        ),
        (
            |request| request["buffering"]["maxItems"] = 999.into(),
            "buffering maxItems must be between 1000 and 10000",
        ),
        (
            |request| request["buffering"]["timeoutMs"] = 30_001.into(),
            "buffering timeoutMs must be between 25 and 30000",
        ),
        (
            |request| {
                request["types"] = json!([]);
                request["destination"]["URI"] = "http://sandbox".into();
            },
            "URI port is not provided; types should not be empty",
        ),
    ];
    for (change, message) in changes {
        let request = request(change);
        assert_eq!(parse(Api::Telemetry, &request), Err((*message).to_owned()), "{request}");
    }
    assert!(parse(Api::Telemetry, &json!("text")).is_err());
}

#[test]
fn each_schema_has_its_events() {
    let all = |request: &mut Value| request["types"] = json!(["platform"]);
    let telemetry = parse(Api::Telemetry, &request(all)).expect("valid");
    let logs = |schema: &str| {
        let request = request(|request| {
            all(request);
            request["schemaVersion"] = schema.into();
        });
        parse(Api::Logs, &request).expect("valid")
    };
    let (old, new) = (logs("2020-08-15"), logs("2021-03-18"));
    for (kind, expected) in [
        ("platform.initStart", [true, false, false]),
        ("platform.runtimeDone", [true, false, true]),
        ("platform.report", [true, true, true]),
        ("platform.end", [false, true, true]),
        ("platform.telemetrySubscription", [true, false, false]),
    ] {
        let wants = [&telemetry, &old, &new].map(|subscription| subscription.wants(Stream::Platform, kind));
        assert_eq!(wants, expected, "{kind}");
    }
    assert!(!telemetry.wants(Stream::Function, "function"), "it was not asked for");
}

#[test]
fn lines_that_are_json_keep_their_text() {
    let line = br#"{"level": "INFO", "number": 12345678901234567890.10}"#;
    let record = Record::line(Stream::Function, "2026-01-01T00:00:00.000Z", line, true);
    assert_eq!(
        record.object.expect("an object"),
        r#"{"time":"2026-01-01T00:00:00.000Z","type":"function","record":{"level": "INFO", "number": 12345678901234567890.10}}"#
    );
    for line in ["plain", "[1]", "{broken", ""] {
        assert!(Record::line(Stream::Function, "x", line.as_bytes(), true).object.is_none(), "{line}");
    }
    let record = Record::line(Stream::Extension, "x", b"one\rtwo\xff", false);
    assert_eq!(record.text, "{\"time\":\"x\",\"type\":\"extension\",\"record\":\"one\\ntwo\u{fffd}\"}");
    assert!(record.object.is_none());
}

fn queue() -> Queue {
    Queue::new(Buffering { items: 1_000, bytes: 262_144, timeout: Duration::from_millis(100) })
}

#[test]
fn a_batch_is_due_by_number_size_or_age() {
    let now = Instant::now();
    let mut queue = queue();
    assert_eq!(queue.due(), Due::Never);
    queue.push(now, Bytes::from_static(b"1"));
    queue.push(now + Duration::from_millis(50), Bytes::from_static(b"2"));
    assert_eq!(queue.due(), Due::At(now + Duration::from_millis(100)));
    for _ in 2..1_000 {
        queue.push(now, Bytes::from_static(b"3"));
    }
    assert_eq!(queue.due(), Due::Now);
    assert_eq!(queue.take(now, "now").len(), 1_000);
    queue.push(now, Bytes::from(vec![b'x'; 262_144]));
    assert_eq!(queue.due(), Due::Now);
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let now = Instant::now();
    let mut queue = queue();
    for _ in 0..4_007 {
        queue.push(now, Bytes::from_static(b"{}"));
    }
    // One that is larger than all the room finds some when there is nothing else.
    let batch = queue.take(now, "now");
    assert_eq!(batch.len(), 1_000);
    let told: Value = serde_json::from_slice(&batch[0]).expect("JSON");
    assert_eq!(told["type"], "platform.logsDropped");
    assert_eq!((&told["record"]["droppedRecords"], &told["record"]["droppedBytes"]), (&json!(7), &json!(14)));
    let mut rest = 999;
    while queue.due() != Due::Never {
        rest += queue.take(now, "now").len();
    }
    assert_eq!(rest, 4_000, "everything else is there");
    queue.push(now, Bytes::from(vec![b'x'; 2 << 20]));
    assert_eq!(queue.take(now, "now").len(), 1);
}
