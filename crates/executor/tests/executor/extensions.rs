//! Extensions: the three phases of their life, and each way in which they fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_executor::event::{Answer, Event};
use freehold_executor::keepalive::KeepAlive;
use freehold_sandbox::spec::Exit;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::extension::{follow, register};
use crate::fake::{Bench, Deed, Program, echo, event, eventually, setup};

/// An event whose caller does not want the end of the log.
fn plain(payload: &'static str) -> Event {
    Event { wants_tail: false, ..event(payload) }
}

fn error(answer: &Answer) -> Value {
    let Answer::Error(body) = answer else { panic!("no error: {answer:?}") };
    serde_json::from_slice(body).expect("an error is JSON")
}

/// The error's type and message, the latter without the event's id.
async fn failure(bench: &Bench) -> (String, String) {
    let outcome = bench.invoke(event("{}")).await.expect("an event ends");
    let error = error(&outcome.answer);
    let message = error["errorMessage"].as_str().expect("a message");
    let message = message.split_once(" Error: ").map_or(message, |(_, message)| message);
    (error["errorType"].as_str().expect("a type").to_owned(), message.to_owned())
}

#[tokio::test]
async fn extensions_come_before_the_runtime_follow_events_and_see_the_end() {
    let mut setup = setup(|mut program: Program| async move {
        program.print("the runtime begins\n");
        echo(program).await
    })
    .with_extensions(&["second", "first"], |name, mut program| async move {
        assert_eq!(program.spec.companions.programs.len(), 2);
        program.print(&format!("{name} begins\n"));
        follow(name, program).await
    });
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    for payload in ["1", "2"] {
        let outcome = bench.invoke(event(payload)).await.expect("runs");
        assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(payload.as_bytes())));
    }
    bench.done(Deed::Stop(1)).await;
    let lines = bench.lines.text();
    let at = |wanted: &str| {
        lines.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("{wanted}: {lines:#?}"))
    };
    for name in ["first", "second"] {
        assert!(at(&format!("{name} begins")) < at("the runtime begins"));
        let count =
            |event: &str| lines.iter().filter(|line| **line == format!("{name} sees {event}")).count();
        assert_eq!((count("INVOKE"), count("SHUTDOWN")), (2, 1), "{lines:#?}");
        at(&format!("EXTENSION\tName: {name}\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"));
    }
    assert!(bench.deeds().contains(&Deed::Terminate(1)), "SIGTERM comes first");
}

#[tokio::test]
async fn what_is_told_reads_as_on_aws() {
    let mut setup = setup(echo).with_extensions(&["teller"], |name, program| async move {
        let mut extension = register(&program, &name, &["INVOKE", "SHUTDOWN"]).await;
        assert_eq!(
            extension.body,
            json!({"functionName": "hello", "functionVersion": "$LATEST", "handler": "handler",
                   "accountId": "000000000000"})
        );
        let event = extension.next().await;
        assert!(event["deadlineMs"].as_u64().is_some_and(|deadline| deadline > 1_700_000_000_000));
        assert_eq!(event["eventType"], "INVOKE");
        assert_eq!(event["invokedFunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:hello:PROD");
        assert_eq!(event["requestId"].as_str().expect("an id").len(), 36);
        assert_eq!(event["tracing"], json!({"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"}));
        let event = extension.next().await;
        assert_eq!((&event["eventType"], &event["shutdownReason"]), (&json!("SHUTDOWN"), &json!("spindown")));
        assert!(event["deadlineMs"].is_u64());
        Exit::Status(0)
    });
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    let event = Event { trace_header: Some("Root=1-2-3".to_owned()), ..event("{}") };
    bench.invoke(event).await.expect("runs");
    bench.done(Deed::Stop(1)).await;
    let names: Vec<_> = bench.lines.text();
    assert!(names.iter().any(|line| line.starts_with("REPORT")), "{names:#?}");
}

#[tokio::test]
async fn variables_of_the_runtime_alone_are_not_the_extensions() {
    let bench = setup(echo)
        .with_extensions(&["reader"], |name, program| async move {
            let seen =
                |wanted: &str| program.spec.companions.variables.iter().any(|(name, _)| name == wanted);
            for name in ["AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_SESSION_TOKEN", "PATH"] {
                assert!(seen(name), "{name}");
            }
            for name in ["_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_EXECUTION_ENV"] {
                assert!(!seen(name), "{name}");
            }
            follow(name, program).await
        })
        .bench();
    bench.invoke(event("{}")).await.expect("runs");
}

#[tokio::test]
async fn the_caller_does_not_wait_for_extensions_but_the_next_event_does() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let setup = setup(echo).with_extensions(&["slow"], move |name, program| {
        let gate = Arc::clone(&held);
        async move {
            let mut extension = register(&program, &name, &["INVOKE"]).await;
            loop {
                extension.next().await;
                gate.acquire().await.expect("never closed").forget();
            }
        }
    });
    let bench = setup.bench();
    let outcome = bench.invoke(plain("\"early\"")).await.expect("runs");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"\"early\"")));
    assert!(
        !bench.lines.text().iter().any(|line| line.starts_with("REPORT")),
        "its duration is not known yet"
    );
    // The next one waits for the environment, which waits for the extension.
    let next = tokio::spawn({
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        async move { executor.invoke(version, plain("\"next\"")).await }
    });
    eventually(|| bench.executor.in_flight() == 1).await;
    assert!(!bench.lines.text().iter().any(|line| line.starts_with("REPORT")));
    gate.add_permits(1);
    let outcome = next.await.expect("no panic").expect("runs");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"\"next\"")));
    let lines = bench.lines.text();
    let reports = lines.iter().filter(|line| line.starts_with("REPORT")).count();
    assert_eq!((bench.starts(), reports), (1, 1), "{lines:#?}");
    gate.add_permits(10);
}

#[tokio::test]
async fn a_caller_that_wants_the_log_waits_for_its_end() {
    let bench = setup(echo)
        .with_extensions(&["slow"], |name, mut program| async move {
            let mut extension = register(&program, &name, &["INVOKE"]).await;
            loop {
                extension.next().await;
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                program.print("afterwards\n");
            }
        })
        .bench();
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    let tail = String::from_utf8_lossy(&outcome.log_tail).into_owned();
    let at = |wanted: &str| tail.find(wanted).unwrap_or_else(|| panic!("{wanted}: {tail}"));
    assert!(at("START") < at("afterwards") && at("afterwards") < at("END") && at("END") < at("REPORT"));
}

#[tokio::test]
async fn an_extension_that_ends_in_init_fails_the_event() {
    let bench =
        setup(echo).with_extensions(&["broken"], |_, _program| async move { Exit::Status(7) }).bench();
    assert_eq!(failure(&bench).await, ("Extension.Crash".to_owned(), "exit status 7".to_owned()));
    let lines = bench.lines.text();
    let line = "EXTENSION\tName: broken\tState: Exited\tEvents: []\tError Type: Extension.Crash";
    assert!(lines.iter().any(|written| written == line), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.ends_with("Phase: init\tStatus: error\tError Type: Extension.Crash"))
    );
    assert!(lines.iter().any(|line| line.ends_with("\tStatus: error\tError Type: Extension.Crash")));
}

#[tokio::test]
async fn an_extension_that_ends_during_an_event_fails_it_and_only_it() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        loop {
            let event = client.next().await;
            if event.body == "\"wait\"" {
                std::future::pending::<()>().await;
            }
            client.answer(&event.id(), &event.body).await;
        }
    })
    .with_extensions(&["brittle"], |name, program| async move {
        let mut extension = register(&program, &name, &["INVOKE"]).await;
        if program.number == 1 {
            extension.next().await;
            return Exit::Status(0);
        }
        loop {
            extension.next().await;
        }
    })
    .bench();
    let outcome = bench.invoke(event("\"wait\"")).await.expect("an event ends");
    let error = error(&outcome.answer);
    assert_eq!(error["errorType"], "Extension.Crash");
    assert!(error["errorMessage"].as_str().is_some_and(|message| message.ends_with("Error: exit code 0")));
    let outcome = bench.invoke(event("1")).await.expect("runs on another");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"1")));
    assert_eq!(bench.starts(), 2);
}

#[tokio::test]
async fn an_extension_can_say_that_it_has_failed() {
    for (path, state, error_type) in [
        ("init/error", "InitError", "Extension.InitError"),
        ("exit/error", "ExitError", "Extension.ExitError"),
    ] {
        let bench = setup(echo)
            .with_extensions(&["honest"], move |name, program| async move {
                let mut extension = register(&program, &name, &["INVOKE"]).await;
                let path = format!("/2020-01-01/extension/{path}");
                let id = extension.id.clone();
                let client = &mut extension.client;
                let without = [("Lambda-Extension-Identifier", id.as_str())];
                let reply = client.request("POST", &path, &without, &json!({})).await;
                assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.MissingHeader"));
                let headers = [without[0], ("Lambda-Extension-Function-Error-Type", "Extension.NoConfig")];
                let reply = client.request("POST", &path, &headers, &json!({"errorMessage": "none"})).await;
                assert_eq!((reply.status, &reply.body[..]), (202, &b"{\"status\":\"OK\"}\n"[..]));
                Exit::Status(1)
            })
            .bench();
        assert_eq!(failure(&bench).await, (error_type.to_owned(), "Extension.NoConfig".to_owned()));
        let lines = bench.lines.text();
        let line = format!(
            "EXTENSION\tName: honest\tState: {state}\tEvents: [INVOKE]\tError Type: Extension.NoConfig"
        );
        assert!(lines.contains(&line), "{lines:#?}");
    }
}

#[tokio::test]
async fn eleven_extensions_are_too_many() {
    const NAMES: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let bench = setup(echo).with_extensions(&NAMES, follow).bench();
    assert_eq!(
        failure(&bench).await,
        ("Extension.LaunchError".to_owned(), "ErrTooManyExtensions".to_owned())
    );
    assert_eq!(bench.starts(), 0, "nothing is started");
    let lines = bench.lines.text();
    let line = "EXTENSION\tName: k\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions";
    assert!(lines.iter().any(|written| written == line), "{lines:#?}");
    let bench = setup(echo).with_extensions(&NAMES[..10], follow).bench();
    bench.invoke(event("{}")).await.expect("ten run");
}

#[tokio::test]
async fn an_extension_that_never_registers_takes_the_time_of_init() {
    let mut setup = setup(|_program: Program| async { panic!("the runtime is not started") })
        .with_extensions(&["mute"], |_, _program| std::future::pending());
    setup.limits.init_timeout = Duration::from_millis(30);
    setup.timeout = Duration::from_millis(40);
    let bench = setup.bench();
    let (error_type, message) = failure(&bench).await;
    assert_eq!(
        (error_type.as_str(), message.as_str()),
        ("Sandbox.Timedout", "Task timed out after 0.04 seconds")
    );
    let lines = bench.lines.text();
    let line = "EXTENSION\tName: mute\tState: Started\tEvents: []";
    assert!(lines.iter().any(|written| written == line), "{lines:#?}");
}

#[tokio::test]
async fn an_extension_that_never_asks_again_is_removed_with_its_environment() {
    let mut setup = setup(echo).with_extensions(&["hanging"], |name, program| async move {
        let mut extension = register(&program, &name, &["INVOKE"]).await;
        extension.next().await;
        std::future::pending().await
    });
    setup.timeout = Duration::from_millis(300);
    setup.limits.settle_grace = Duration::from_millis(1);
    let mut bench = setup.bench();
    bench.invoke(plain("{}")).await.expect("runs");
    bench.invoke(plain("{}")).await.expect("runs on another");
    bench.done(Deed::Stop(1)).await;
    bench.done(Deed::Stop(2)).await;
    let lines = bench.lines.text();
    let report = lines.iter().find(|line| line.starts_with("REPORT")).expect("a report");
    assert!(report.contains("Duration: 300.00 ms") && report.ends_with("Status: timeout"), "{report}");
}

#[tokio::test]
async fn who_ignores_the_end_is_killed() {
    let mut setup = setup(echo).with_extensions(&["deaf"], |name, program| async move {
        let mut extension = register(&program, &name, &["SHUTDOWN"]).await;
        extension.next().await;
        std::future::pending().await
    });
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    let began = std::time::Instant::now();
    bench.invoke(event("{}")).await.expect("an extension without INVOKE delays nothing");
    bench.done(Deed::Stop(1)).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "it has had its time");
}

#[tokio::test]
async fn internal_extensions_live_within_the_runtime() {
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let reply = client.register("inner", &["INVOKE", "SHUTDOWN"]).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.InvalidEventType"));
        let _inner = register(&program, "inner", &["INVOKE"]).await;
        let reply = client.register("inner", &["INVOKE"]).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.InvalidExtensionState"));
        for number in 1..10 {
            register(&program, &format!("inner-{number}"), &[]).await;
        }
        let reply = client.register("one too many", &[]).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.TooManyExtensions"));
        std::future::pending().await
    });
    setup.limits.init_timeout = Duration::from_millis(200);
    setup.timeout = Duration::from_millis(200);
    // Nine of them never ask.
    let (error_type, _) = failure(&setup.bench()).await;
    assert_eq!(error_type, "Sandbox.Timedout");

    let mut setup = crate::fake::setup(|program: Program| async move {
        let mut inner = register(&program, "inner", &["INVOKE"]).await;
        let follow = tokio::spawn(async move {
            loop {
                assert_eq!(inner.next().await["eventType"], "INVOKE");
            }
        });
        let mut client = program.connect().await;
        let mut late = program.connect().await;
        for _ in 0..2 {
            let event = client.next().await;
            let reply = late.register("late", &["INVOKE"]).await;
            assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.RegistrationClosed"));
            client.answer(&event.id(), &event.body).await;
        }
        let head = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, head.as_bytes()).await.expect("sent");
        program.terminated.notified().await;
        follow.abort();
        Exit::Status(0)
    });
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    for _ in 0..2 {
        bench.invoke(event("{}")).await.expect("runs");
    }
    bench.done(Deed::Stop(1)).await;
    assert!(bench.deeds().contains(&Deed::Terminate(1)), "the runtime hears of the end");
    assert_eq!(bench.starts(), 1);
}

#[tokio::test]
async fn without_extensions_there_is_no_last_phase() {
    let mut setup = setup(echo);
    setup.limits.keep_alive = KeepAlive::Fixed(Duration::from_millis(20));
    let mut bench = setup.bench();
    bench.invoke(event("{}")).await.expect("runs");
    bench.done(Deed::Stop(1)).await;
    assert!(!bench.deeds().contains(&Deed::Terminate(1)));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_name() {
    let bench = setup(echo)
        .with_extensions(&["tester"], |name, program| async move {
            let mut client = program.connect().await;
            let next = "/2020-01-01/extension/event/next";
            let unknown = "00000000-0000-4000-8000-000000000000";
            for (headers, error_type) in [
                (vec![], "Extension.MissingExtensionIdentifier"),
                (vec![("Lambda-Extension-Identifier", "me")], "Extension.InvalidExtensionIdentifier"),
                (vec![("Lambda-Extension-Identifier", unknown)], "Extension.UnknownExtensionIdentifier"),
            ] {
                let reply = client.request("GET", next, &headers, &json!({})).await;
                assert_eq!((reply.status, reply.error_type().as_str()), (403, error_type));
            }
            let register = "/2020-01-01/extension/register";
            let named = [("Lambda-Extension-Name", name.as_str())];
            for (headers, body, error_type) in [
                (&[][..], json!({"events": []}), "Extension.InvalidExtensionName"),
                (&named[..], json!({"events": "INVOKE"}), "InvalidRequestFormat"),
                (&named[..], json!({"configurationKeys": ["x"]}), "InvalidRequestFormat"),
                (&named[..], json!({"events": ["RESTORE"]}), "Extension.InvalidEventType"),
            ] {
                let reply = client.request("POST", register, headers, &body).await;
                assert_eq!((reply.status, reply.error_type().as_str()), (403, error_type));
            }
            let mut extension = crate::extension::register(&program, &name, &["INVOKE"]).await;
            let reply = client.register(&name, &["INVOKE"]).await;
            assert_eq!((reply.status, reply.error_type().as_str()), (403, "Extension.InvalidExtensionState"));
            loop {
                extension.next().await;
            }
        })
        .bench();
    bench.invoke(event("{}")).await.expect("runs");
}
