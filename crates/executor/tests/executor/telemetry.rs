//! Telemetry and logs: what subscribers get, and how little they can do by not taking it.

use std::time::Duration;

use freehold_executor::keepalive::KeepAlive;
use freehold_executor::logging::{LogFormat, LogLevel, Logging};
use freehold_sandbox::spec::Exit;
use serde_json::{Value, json};

use crate::extension::{Listener, Registered, register};
use crate::fake::{Deed, PATIENCE, Program, Setup, event, setup};

const ALL: &[&str] = &["platform", "function", "extension"];

/// What follows events, in an environment that is not frozen: then nobody hears anything.
fn awake(mut setup: Setup) -> Setup {
    setup.limits.freeze_delay = PATIENCE;
    setup
}

/// A runtime that prints.
async fn printing(mut program: Program) -> Exit {
    let mut client = program.connect().await;
    loop {
        let event = client.next().await;
        program.print(&format!("the event is {}\n", String::from_utf8_lossy(&event.body)));
        client.answer(&event.id(), &event.body).await;
    }
}

/// Follows events to the end.
async fn to_the_end(mut extension: Registered) -> Exit {
    while extension.next().await["eventType"] != "SHUTDOWN" {}
    Exit::Status(0)
}

/// An extension that subscribes to everything, there.
fn subscriber(
    destination: Value,
) -> impl Fn(String, Program) -> std::pin::Pin<Box<dyn Future<Output = Exit> + Send>> + Send + Sync + 'static
{
    move |name, mut program| {
        let destination = destination.clone();
        Box::pin(async move {
            program.print("before\n");
            let mut extension = register(&program, &name, &["INVOKE", "SHUTDOWN"]).await;
            extension.listen(ALL, destination).await;
            to_the_end(extension).await
        })
    }
}

#[tokio::test]
async fn a_subscriber_hears_everything_from_the_beginning() {
    for http in [true, false] {
        let listener = Listener::start(http).await;
        let destination = if http { listener.http() } else { listener.tcp() };
        let mut setup = setup(printing).with_extensions(&["listener"], subscriber(destination));
        setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
        let mut bench = setup.bench();
        bench.invoke(event("1")).await.expect("runs");
        let events = listener.seen(|event| event["type"] == "platform.report").await;
        assert_eq!(
            Listener::types(&events),
            [
                "platform.initStart",
                "extension",
                "platform.telemetrySubscription",
                "platform.initRuntimeDone",
                "platform.extension",
                "platform.initReport",
                "platform.start",
                "function",
                "platform.runtimeDone",
                "platform.report",
            ],
            "{events:#?}"
        );
        assert_eq!(events[0]["record"]["initializationType"], "on-demand");
        assert_eq!(
            (&events[1]["record"], &events[7]["record"]),
            (&json!("before"), &json!("the event is 1"))
        );
        assert_eq!(
            events[2]["record"],
            json!({"name": "listener", "state": "Subscribed", "types": ["platform", "function", "extension"]})
        );
        assert_eq!(
            events[4]["record"],
            json!({"name": "listener", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]})
        );
        let report = &events[9]["record"];
        assert_eq!(
            (&report["status"], &report["spans"][0]["name"]),
            (&json!("success"), &json!("extensionOverhead"))
        );
        assert!(report["metrics"]["durationMs"].as_f64() >= report["spans"][0]["durationMs"].as_f64());
        bench.done(Deed::Stop(1)).await;
        let line = "TELEMETRY\tName: listener\tState: Subscribed\tTypes: [Platform, Function, Extension]";
        assert!(bench.lines.text().iter().any(|written| written == line));
    }
}

#[tokio::test]
async fn the_older_api_tells_its_own_events() {
    let listener = Listener::start(true).await;
    let destination = listener.http();
    let bench = awake(setup(printing))
        .with_extensions(&["listener"], move |name, program| {
            let destination = destination.clone();
            async move {
                let mut extension = register(&program, &name, &["INVOKE"]).await;
                let request = json!({"types": ["platform", "function"], "destination": destination,
                                     "buffering": {"timeoutMs": 25}});
                let reply = extension.subscribe("/2020-08-15/logs", request.clone()).await;
                assert_eq!((reply.status, &reply.body[..]), (200, &b"\"OK\""[..]));
                let again = extension.subscribe("/2020-08-15/logs", request.clone()).await;
                assert_eq!(again.status, 200, "twice is once");
                let mut other = request;
                other["schemaVersion"] = "2022-07-01".into();
                let reply = extension.subscribe("/2022-07-01/telemetry", other).await;
                assert_eq!((reply.status, reply.error_type().as_str()), (400, "ValidationError"));
                to_the_end(extension).await
            }
        })
        .bench();
    bench.invoke(event("1")).await.expect("runs");
    let events = listener.seen(|event| event["type"] == "platform.report").await;
    assert_eq!(
        Listener::types(&events),
        [
            "platform.logsSubscription",
            "platform.extension",
            "platform.start",
            "function",
            "platform.end",
            "platform.report",
        ],
        "{events:#?}"
    );
    let lines = bench.lines.text();
    assert!(
        lines
            .iter()
            .any(|line| line == "LOGS\tName: listener\tState: Subscribed\tTypes: [Platform, Function]")
    );
}

#[tokio::test]
async fn lines_that_are_json_are_sent_as_such() {
    let listener = Listener::start(true).await;
    let mut setup = awake(setup(|mut program: Program| async move {
        program.print("{\"level\": \"INFO\", \"message\": \"structured\"}\nplain\n");
        printing(program).await
    }))
    .with_extensions(&["listener"], subscriber(listener.http()));
    setup.logging =
        Logging { format: LogFormat::Json, application_level: LogLevel::Trace, system_level: LogLevel::Warn };
    let bench = setup.bench();
    bench.invoke(event("1")).await.expect("runs");
    // Whatever of the system's lines the log keeps.
    let events = listener.seen(|event| event["type"] == "platform.report").await;
    let records: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "function")
        .map(|event| event["record"].clone())
        .collect();
    assert_eq!(
        records,
        [json!({"level": "INFO", "message": "structured"}), json!("plain"), json!("the event is 1")]
    );
    assert!(!bench.lines.text().iter().any(|line| line.contains("platform.report")));
}

#[tokio::test]
async fn subscribing_ends_with_init() {
    let listener = Listener::start(true).await;
    let destination = listener.http();
    let bench = setup(printing)
        .with_extensions(&["late"], move |name, program| {
            let destination = destination.clone();
            async move {
                let mut extension = register(&program, &name, &["INVOKE"]).await;
                loop {
                    extension.next().await;
                    for (path, schema, error_type) in [
                        ("/2022-07-01/telemetry", "2022-07-01", "Telemetry.SubscriptionClosed"),
                        ("/2020-08-15/logs", "2020-08-15", "Logs.SubscriptionClosed"),
                    ] {
                        let request =
                            json!({"schemaVersion": schema, "types": ["platform"], "destination": destination});
                        let reply = extension.subscribe(path, request).await;
                        assert_eq!((reply.status, reply.error_type().as_str()), (403, error_type));
                    }
                }
            }
        })
        .bench();
    bench.invoke(event("1")).await.expect("runs");
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_disturbs_nobody_and_hears_what_it_has_missed() {
    const LINES: usize = 60_000;
    let healthy = Listener::start(true).await;
    // Accepts connections, and never reads.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let hanging_port = hanging.local_addr().expect("bound").port();
    let destination = healthy.http();
    let bench = awake(setup(|mut program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        // On a thread: the pipe holds 64 KiB, and this writes megabytes.
        let program = tokio::task::spawn_blocking(move || {
            let text = format!("{}\n", "x".repeat(99));
            for _ in 0..LINES {
                program.print(&text);
            }
            program
        })
        .await
        .expect("no panic");
        client.answer(&event.id(), &event.body).await;
        client.next().await;
        drop(program);
        Exit::Status(0)
    }))
    .with_extensions(&["hanging", "healthy"], move |name, program| {
        let destination = match name.as_str() {
            "hanging" => json!({"protocol": "HTTP", "URI": format!("http://sandbox:{hanging_port}")}),
            _ => destination.clone(),
        };
        async move {
            let mut extension = register(&program, &name, &["INVOKE"]).await;
            extension.listen(ALL, destination).await;
            to_the_end(extension).await
        }
    })
    .bench();
    let outcome = bench.invoke(event("1")).await.expect("runs");
    assert_eq!(outcome.answer.bytes(), "1");
    let events = healthy.seen(|event| event["type"] == "platform.report").await;
    let lines = events.iter().filter(|event| event["type"] == "function").count();
    let missed: u64 = events
        .iter()
        .filter(|event| event["type"] == "platform.logsDropped")
        .map(|event| event["record"]["droppedRecords"].as_u64().expect("a number"))
        .sum();
    // Each is there or is said not to be; platform events may be among those that were dropped.
    assert!((lines as u64 + missed) >= LINES as u64, "{lines} + {missed}");
    drop(hanging);
}

#[tokio::test]
async fn internal_extensions_listen_too() {
    let listener = Listener::start(true).await;
    let destination = listener.http();
    let bench = awake(setup(move |program: Program| {
        let destination = destination.clone();
        async move {
            let mut inner = register(&program, "inner", &["INVOKE"]).await;
            inner.listen(&["platform"], destination).await;
            tokio::spawn(to_the_end(inner));
            printing(program).await
        }
    }))
    .bench();
    bench.invoke(event("1")).await.expect("runs");
    let events = listener.seen(|event| event["type"] == "platform.report").await;
    assert_eq!(Listener::types(&events)[..2], ["platform.initStart", "platform.telemetrySubscription"]);
}

#[tokio::test]
async fn what_was_said_is_heard_before_the_freeze() {
    let listener = Listener::start(true).await;
    let mut setup = setup(printing).with_extensions(&["listener"], subscriber(listener.http()));
    setup.limits.freeze_delay = Duration::from_millis(1);
    let mut bench = setup.bench();
    bench.invoke(event("1")).await.expect("runs");
    bench.done(Deed::Freeze(1)).await;
    let events = listener.seen(|_| true).await;
    assert_eq!(Listener::types(&events).last().map(String::as_str), Some("platform.report"), "{events:#?}");
}

#[tokio::test]
async fn who_does_not_listen_holds_up_the_freeze_for_a_while_only() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = hanging.local_addr().expect("bound").port();
    let mut setup = setup(printing).with_extensions(&["listener"], move |name, program| {
        let destination = json!({"protocol": "HTTP", "URI": format!("http://sandbox:{port}")});
        async move {
            let mut extension = register(&program, &name, &["INVOKE"]).await;
            extension.listen(ALL, destination).await;
            to_the_end(extension).await
        }
    });
    setup.limits.freeze_delay = Duration::from_millis(1);
    let mut bench = setup.bench();
    bench.invoke(event("1")).await.expect("runs");
    bench.done(Deed::Freeze(1)).await;
    bench.invoke(event("2")).await.expect("runs");
    assert_eq!(bench.starts(), 1);
    drop(hanging);
}
