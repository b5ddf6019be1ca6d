//! Runtimes that misbehave: each harms its own event at most.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_executor::Limits;
use freehold_executor::event::{Answer, InvokeError};
use freehold_sandbox::spec::Exit;
use tokio::io::AsyncWriteExt;

use crate::fake::{Deed, Program, echo, event, setup};

#[tokio::test]
async fn answers_are_taken_once_and_for_the_running_event_only() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let reply = client.answer("8f1c", b"too early").await;
        assert_eq!((reply.status, reply.error_type().as_str()), (400, "InvalidRequestID"));
        let event = client.next().await;
        let reply = client.answer("another", b"\"wrong\"").await;
        assert_eq!((reply.status, reply.error_type().as_str()), (400, "InvalidRequestID"));
        let reply = client.send("GET /2018-06-01/runtime/invocation/next", b"").await;
        assert_eq!((reply.status, reply.error_type().as_str()), (403, "InvalidStateTransition"));
        let reply = client.init_error("Runtime.Late", "{}").await;
        assert_eq!(reply.status, 403);
        assert_eq!(client.answer(&event.id(), b"\"right\"").await.status, 202);
        let reply = client.answer(&event.id(), b"\"twice\"").await;
        assert_eq!((reply.status, reply.error_type().as_str()), (403, "InvalidStateTransition"));
        let second = client.next().await;
        assert_eq!(client.answer(&event.id(), b"\"late\"").await.status, 400);
        assert_eq!(client.answer(&second.id(), b"\"second\"").await.status, 202);
        std::future::pending().await
    })
    .bench();
    for expected in ["\"right\"", "\"second\""] {
        let outcome = bench.invoke(event("{}")).await.expect("runs");
        assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(expected.as_bytes())));
    }
    assert_eq!(bench.starts(), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_counted_and_refused() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        let reply = client.answer(&event.id(), &vec![b'x'; 7_340_060]).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (413, "RequestEntityTooLarge"));
        let event = client.next().await;
        assert_eq!(client.answer(&event.id(), &vec![b'x'; 6_291_556]).await.status, 202);
        let event = client.next().await;
        let mut chunked = format!(
            "POST /2018-06-01/runtime/invocation/{}/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            event.id()
        )
        .into_bytes();
        for _ in 0..7 {
            chunked.extend_from_slice(b"100000\r\n");
            chunked.extend_from_slice(&vec![b'y'; 0x10_0000]);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        client.stream.write_all(&chunked).await.expect("read to its end");
        assert_eq!(client.reply().await.expect("a reply").status, 413);
        std::future::pending().await
    })
    .bench();
    let too_large = Answer::Error(Bytes::from_static(
        b"{\"errorType\":\"Function.ResponseSizeTooLarge\",\"errorMessage\":\"Response payload size exceeded maximum \
          allowed payload size (6291556 bytes).\"}",
    ));
    assert_eq!(bench.invoke(event("{}")).await.expect("runs").answer, too_large);
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert!(matches!(outcome.answer, Answer::Payload(body) if body.len() == 6_291_556));
    assert_eq!(bench.invoke(event("{}")).await.expect("runs").answer, too_large);
    assert_eq!(bench.starts(), 1);
}

#[tokio::test]
async fn an_answer_cut_short_counts_for_nothing() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        let head = format!("POST /2018-06-01/runtime/invocation/{}/response", event.id());
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n\"half");
        client.stream.write_all(request.as_bytes()).await.expect("sent");
        drop(client);
        let mut client = program.connect().await;
        assert_eq!(client.answer(&event.id(), b"\"whole\"").await.status, 202);
        let event = client.next().await;
        let head = format!("POST /2018-06-01/runtime/invocation/{}/response", event.id());
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n\"half");
        client.stream.write_all(request.as_bytes()).await.expect("sent");
        Exit::Status(7)
    })
    .bench();
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"\"whole\"")));
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert!(matches!(outcome.answer, Answer::Error(body) if body.ends_with(b"exit status 7\"}")));
}

#[tokio::test]
async fn a_runtime_that_never_asks_again_is_removed_and_holds_up_nobody() {
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        client.answer(&event.id(), b"1").await;
        std::future::pending().await
    });
    setup.timeout = Duration::from_millis(300);
    setup.limits = Limits::default();
    let mut bench = setup.bench();
    bench.invoke(event("{}")).await.expect("runs");
    bench.invoke(event("{}")).await.expect("runs on another");
    assert_eq!(bench.starts(), 2);
    bench.done(Deed::Stop(1)).await;
    bench.done(Deed::Stop(2)).await;
}

#[tokio::test]
async fn connections_are_bounded_and_garbage_is_answered_with_its_end() {
    let bench = setup(|program: Program| async move {
        let mut garbage = program.connect().await;
        garbage.stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await.expect("sent");
        // To its end: as long as it is open it is one of the connections that are counted.
        while let Some(reply) = garbage.reply().await {
            assert_eq!(reply.status, 400);
        }
        let mut crowd = Vec::new();
        for _ in 0..63 {
            let mut client = program.connect().await;
            assert_eq!(client.send("GET /2018-06-01/ping", b"").await.body, "pong");
            crowd.push(client);
        }
        let mut client = program.connect().await;
        assert_eq!(client.send("GET /2018-06-01/ping", b"").await.status, 200);
        let mut one_too_many = program.connect().await;
        assert!(one_too_many.reply().await.is_none(), "closed at once");
        drop(crowd);
        let event = client.next().await;
        client.answer(&event.id(), &event.body).await;
        std::future::pending().await
    })
    .bench();
    bench.invoke(event("{}")).await.expect("runs");
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        for (head, status) in [
            ("POST /2018-06-01/runtime/restore/next", 501),
            ("GET /2020-01-01/extension/register", 405),
            ("POST /2022-07-01/telemetry", 405),
            ("GET /2018-06-01/nothing", 404),
            ("POST /2018-06-01/runtime/invocation/next", 405),
        ] {
            assert_eq!(client.send(head, b"").await.status, status, "{head}");
        }
        echo(program).await
    })
    .bench();
    bench.invoke(event("{}")).await.expect("runs");
}

#[tokio::test]
async fn a_flood_of_output_fills_nothing_and_stands_before_the_end() {
    let bench = setup(|mut program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        // On a thread: the pipe holds 64 KiB, and this writes 20 MB.
        let (program, _) = tokio::task::spawn_blocking(move || {
            let line = format!("{}\n", "x".repeat(199));
            for _ in 0..100_000 {
                program.print(&line);
            }
            program.print("the last line\n");
            (program, ())
        })
        .await
        .expect("no panic");
        client.answer(&event.id(), b"1").await;
        let _program = program;
        std::future::pending().await
    })
    .bench();
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(outcome.log_tail.len(), 4_096);
    let lines = bench.lines.text();
    assert_eq!(lines.len(), 2 + 100_001 + 2);
    assert_eq!(lines[lines.len() - 3], "the last line");
    assert!(lines[lines.len() - 2].starts_with("END"));
}

#[tokio::test]
async fn a_panic_kills_one_environment_only() {
    let mut setup = setup(echo);
    setup.sandbox.panics_on = Some(1);
    let bench = setup.bench();
    let error = bench.invoke(event("{}")).await.expect_err("its environment panicked");
    assert!(matches!(error, InvokeError::Environment(_)), "{error}");
    crate::fake::eventually(|| bench.executor.environments() == 0).await;
    assert_eq!(bench.executor.in_flight(), 0);
    bench.invoke(event("{}")).await.expect("runs on another");
}

#[tokio::test]
async fn an_environment_that_ends_between_events_costs_no_event() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        client.answer(&event.id(), &event.body).await;
        let head = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        client.stream.write_all(head.as_bytes()).await.expect("sent");
        Exit::Status(0)
    })
    .bench();
    for _ in 0..50 {
        let outcome = bench.invoke(event("\"mine\"")).await.expect("runs");
        assert!(
            matches!(&outcome.answer, Answer::Payload(body) if *body == "\"mine\"")
                || matches!(&outcome.answer, Answer::Error(body) if body.ends_with(b"without providing a reason\"}")),
            "{:?}",
            outcome.answer
        );
    }
}

#[tokio::test]
async fn an_event_goes_to_a_runtime_that_is_there_to_take_it() {
    let bench = setup(|program: Program| async move {
        let head = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut client = program.connect().await;
        loop {
            // A long poll that is given up, as by a client with a timeout, before the one that counts.
            let mut impatient = program.connect().await;
            impatient.stream.write_all(head.as_bytes()).await.expect("sent");
            drop(impatient);
            let event = client.next().await;
            client.answer(&event.id(), &event.body).await;
        }
    })
    .bench();
    for _ in 0..20 {
        bench.invoke(event("{}")).await.expect("runs");
    }
    assert_eq!(bench.starts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_is_lost_between_environments_that_come_and_go() {
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        // Each lives for another number of events, and some do not get that far.
        for _ in 0..program.number % 7 {
            let event = client.next().await;
            if program.number % 13 == 5 {
                return Exit::Signal(11);
            }
            client.answer(&event.id(), &event.body).await;
        }
        let head = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        client.stream.write_all(head.as_bytes()).await.expect("sent");
        Exit::Status(0)
    });
    setup.limits.scaling_burst = 1_000_000;
    setup.limits.freeze_delay = Duration::from_millis(1);
    let bench = setup.bench();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
            tokio::spawn(async move {
                let mut failed = 0;
                for _ in 0..100 {
                    let outcome = executor.invoke(Arc::clone(&version), event("\"mine\"")).await;
                    let answered = outcome
                        .as_ref()
                        .is_ok_and(|outcome| outcome.answer == Answer::Payload("\"mine\"".into()));
                    failed += usize::from(!answered);
                }
                failed
            })
        })
        .collect();
    let mut failed = 0;
    for caller in callers {
        failed += tokio::time::timeout(Duration::from_secs(60), caller)
            .await
            .expect("none waits")
            .expect("no panic");
    }
    assert!(failed < 1_600, "some were answered");
    crate::fake::eventually(|| bench.executor.in_flight() == 0).await;
    assert!(bench.lines.text().iter().filter(|line| line.starts_with("END")).count() <= 1_600);
}

#[tokio::test]
async fn a_slow_body_times_out_with_its_event() {
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        let head = format!("POST /2018-06-01/runtime/invocation/{}/response", event.id());
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n\"slow");
        client.stream.write_all(request.as_bytes()).await.expect("sent");
        let _client = client;
        std::future::pending().await
    });
    setup.timeout = Duration::from_millis(100);
    let outcome = setup.bench().invoke(event("{}")).await.expect("runs");
    assert!(
        matches!(outcome.answer, Answer::Error(body) if body.starts_with(b"{\"errorType\":\"Sandbox.Timedout\""))
    );
}
