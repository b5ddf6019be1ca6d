//! What comes of an event: answers, errors, timeouts, exits, and the log and bill that go with each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_base::id::RequestId;
use freehold_executor::event::{Answer, InvokeError, Outcome};
use freehold_ledger::Ledger;
use freehold_sandbox::spec::{Exit, SandboxError};
use freehold_store::Store;

use crate::fake::{Deed, Program, echo, event, eventually, setup};

fn error(outcome: &Outcome) -> String {
    match &outcome.answer {
        Answer::Error(body) => String::from_utf8(body.to_vec()).expect("JSON is UTF-8"),
        Answer::Payload(body) => panic!("an error was expected, got {body:?}"),
    }
}

fn tail(outcome: &Outcome) -> Vec<String> {
    String::from_utf8_lossy(&outcome.log_tail).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_event_is_answered_and_its_environment_serves_the_next() {
    let bench = setup(|mut program: Program| async move {
        program.print("importing\n");
        let mut client = program.connect().await;
        loop {
            let event = client.next().await;
            assert_eq!(event.headers["content-type"], "application/json");
            assert!(event.headers["lambda-runtime-invoked-function-arn"].ends_with(":function:hello:PROD"));
            assert!(event.headers["lambda-runtime-trace-id"].starts_with("Root=1-"));
            assert!(
                event.headers["lambda-runtime-deadline-ms"].parse::<u64>().expect("a number")
                    > 1_000_000_000_000
            );
            assert!(!event.headers.contains_key("lambda-runtime-client-context"));
            program.print(&format!("got {}\n", String::from_utf8_lossy(&event.body)));
            program.print("no line end");
            assert_eq!(client.answer(&event.id(), b"{\"hello\":\"Alice\"}").await.status, 202);
        }
    })
    .bench();
    let first = event("{\"name\":\"Alice\"}");
    let id = first.request_id.clone();
    let outcome = bench.invoke(first).await.expect("runs");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"{\"hello\":\"Alice\"}")));
    let lines = tail(&outcome);
    assert_eq!(
        lines[..5],
        [
            "importing".to_owned(),
            format!("START RequestId: {id} Version: $LATEST"),
            "got {\"name\":\"Alice\"}".to_owned(),
            "no line end".to_owned(),
            format!("END RequestId: {id}"),
        ]
    );
    assert!(lines[5].starts_with(&format!("REPORT RequestId: {id}\tDuration: ")), "{}", lines[5]);
    assert!(
        lines[5].contains(" ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\tInit Duration: "),
        "{}",
        lines[5]
    );
    assert!(lines[5].ends_with(" ms\t"), "{}", lines[5]);
    let init = outcome.usage.init.expect("it waited for Init");
    assert_eq!(
        outcome.usage.billed_ms,
        (outcome.usage.duration + init).as_nanos().div_ceil(1_000_000) as u64
    );

    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(outcome.usage.init, None);
    assert!(tail(&outcome)[0].starts_with("START"), "{:?}", tail(&outcome));
    assert_eq!(bench.starts(), 1);
    let lines = bench.lines.text();
    assert_eq!(lines[0], "INIT_START Runtime Version: provided:al2023");
    assert_eq!(lines.len(), 2 + 5 + 5);
}

#[tokio::test]
async fn the_program_gets_its_sandbox_its_variables_and_its_role() {
    let bench = setup(|program: Program| async move {
        let spec = &program.spec;
        assert_eq!((spec.memory_mib, spec.tmp_mib, spec.cpu_millis), (128, 512, 72));
        let ports: Vec<_> = spec.listeners.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["127.0.0.1:9001", "127.0.0.1:4566"]);
        let variables = serde_json::to_vec(&spec.variables).expect("text");
        let mut client = program.connect().await;
        let event = client.next().await;
        assert_eq!(event.headers["lambda-runtime-client-context"], "{ \"custom\": \"Grüße\" }");
        client.answer(&event.id(), &variables).await;
        std::future::pending().await
    })
    .bench();
    let mut with_context = event("{}");
    with_context.client_context = Some("{\n\"custom\": \"Grüße\"\n}".to_owned());
    let outcome = bench.invoke(with_context).await.expect("runs");
    let Answer::Payload(body) = outcome.answer else { panic!("{outcome:?}") };
    let variables: Vec<(String, String)> = serde_json::from_slice(&body).expect("as it was written");
    let role = bench.endpoint.0.lock().expect("no panic holds it")[0].clone();
    assert!(role.access_key_id.starts_with("ASIA") && role.access_key_id.len() == 20, "{role:?}");
    for (name, value) in [
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_ACCESS_KEY_ID", role.access_key_id.as_str()),
        ("AWS_SESSION_TOKEN", role.session_token.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "hello"),
    ] {
        assert!(variables.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
}

#[tokio::test]
async fn a_functions_error_is_passed_on_and_its_environment_kept() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        loop {
            let event = client.next().await;
            client.error(&event.id(), br#"{"errorType":"KeyError","errorMessage":"'name'"}"#).await;
        }
    })
    .bench();
    for _ in 0..2 {
        let outcome = bench.invoke(event("{}")).await.expect("runs");
        assert_eq!(error(&outcome), r#"{"errorType":"KeyError","errorMessage":"'name'"}"#);
    }
    assert_eq!(bench.starts(), 1);
}

#[tokio::test]
async fn a_failed_init_is_tried_again_within_the_event() {
    let bench = setup(|mut program: Program| async move {
        program.print("[ERROR] Runtime.ImportModuleError\n");
        let mut client = program.connect().await;
        let error = r#"{"errorMessage":"No module named 'x'","errorType":"Runtime.ImportModuleError"}"#;
        assert_eq!(client.init_error("Runtime.ImportModuleError", error).await.status, 202);
        Exit::Status(1)
    })
    .bench();
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(
        error(&outcome),
        r#"{"errorMessage":"No module named 'x'","errorType":"Runtime.ImportModuleError"}"#
    );
    assert_eq!(outcome.usage.init, None, "the second Init is the event's own time");
    let lines = bench.lines.text();
    let starts =
        |beginning: &str| lines.iter().position(|line| line.starts_with(beginning)).expect(beginning);
    let status = "Status: error\tError Type: Runtime.ImportModuleError";
    let reports: Vec<_> = lines.iter().filter(|line| line.starts_with("INIT_REPORT")).collect();
    assert!(reports[0].ends_with(&format!(" ms\tPhase: init\t{status}")), "{reports:?}");
    assert!(reports[1].ends_with(&format!(" ms\tPhase: invoke\t{status}")), "{reports:?}");
    assert!(starts("START") < starts("END") && starts("END") < starts("REPORT"), "{lines:?}");
    assert!(
        lines.last().expect("lines").ends_with(&format!("Max Memory Used: 30 MB\t{status}")),
        "{lines:?}"
    );
    assert_eq!(bench.starts(), 2);
    assert_eq!(bench.executor.environments(), 0);
}

#[tokio::test]
async fn an_event_survives_an_init_that_fails_once() {
    let bench = setup(|program: Program| async move {
        if program.number == 1 { Exit::Signal(11) } else { echo(program).await }
    })
    .bench();
    let outcome = bench.invoke(event("\"again\"")).await.expect("runs");
    assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"\"again\"")));
    assert!(
        bench
            .lines
            .text()
            .iter()
            .any(|line| line.contains("Phase: init\tStatus: error\tError Type: Runtime.ExitError"))
    );
}

#[tokio::test]
async fn an_init_that_never_ends_times_out_twice() {
    let mut setup = setup(|program: Program| async move {
        let _program = program;
        std::future::pending().await
    });
    setup.limits.init_timeout = Duration::from_millis(50);
    setup.timeout = Duration::from_millis(120);
    let bench = setup.bench();
    let first = event("{}");
    let id = first.request_id.clone();
    let outcome = bench.invoke(first).await.expect("runs");
    let expected = format!("RequestId: {id} Error: Task timed out after 0.12 seconds");
    assert_eq!(error(&outcome), format!(r#"{{"errorType":"Sandbox.Timedout","errorMessage":"{expected}"}}"#));
    let lines = bench.lines.text();
    assert!(lines.iter().any(|line| line.ends_with("Phase: init\tStatus: timeout")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("Phase: invoke\tStatus: timeout")), "{lines:?}");
    assert_eq!(bench.executor.environments(), 0);
}

#[tokio::test]
async fn a_timeout_ends_the_environment() {
    let mut bench = setup(|mut program: Program| async move {
        if program.number > 1 {
            return echo(program).await;
        }
        let mut client = program.connect().await;
        let _event = client.next().await;
        program.print("working\n");
        std::future::pending().await
    })
    .bench();
    let first = event("{}");
    let id = first.request_id.clone();
    let invocation = tokio::spawn({
        let (executor, version) = (bench.executor.clone(), Arc::clone(&bench.version));
        async move { executor.invoke(version, first).await }
    });
    eventually(|| bench.lines.text().contains(&"working".to_owned())).await;
    // The function has done all that it will ever do, so its time may as well be over.
    tokio::time::pause();
    tokio::time::advance(bench.version.timeout).await;
    tokio::time::resume();
    let outcome = invocation.await.expect("no panic").expect("runs");
    let expected = format!("RequestId: {id} Error: Task timed out after 60.00 seconds");
    assert_eq!(error(&outcome), format!(r#"{{"errorType":"Sandbox.Timedout","errorMessage":"{expected}"}}"#));
    let lines = tail(&outcome);
    assert_eq!(lines[1], "working");
    assert!(lines[3].contains("\tDuration: 60000.00 ms\tBilled Duration: "), "{lines:?}");
    assert!(lines[3].ends_with("\tStatus: timeout"), "{lines:?}");
    bench.done(Deed::Stop(1)).await;
    bench.invoke(event("{}")).await.expect("runs");
    assert_eq!(bench.starts(), 2);
}

#[tokio::test]
async fn an_exit_within_an_event_says_how() {
    for (exit, error_type, message) in [
        (Exit::Status(1), "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        (Exit::Status(0), "Runtime.ExitError", "Runtime exited without providing a reason"),
        (Exit::Signal(9), "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        (Exit::OutOfMemory, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
    ] {
        let bench = setup(move |mut program: Program| async move {
            let mut client = program.connect().await;
            client.next().await;
            program.print("last words\n");
            exit
        })
        .bench();
        let first = event("{}");
        let id = first.request_id.clone();
        let outcome = bench.invoke(first).await.expect("runs");
        let expected =
            format!(r#"{{"errorType":"{error_type}","errorMessage":"RequestId: {id} Error: {message}"}}"#);
        assert_eq!(error(&outcome), expected);
        let lines = tail(&outcome);
        assert_eq!(lines[1], "last words");
        assert!(lines[3].ends_with(&format!("\tStatus: error\tError Type: {error_type}")), "{lines:?}");
        if exit == Exit::OutOfMemory {
            assert_eq!(outcome.usage.max_memory_mib, 128);
        }
    }
}

#[tokio::test]
async fn an_answer_just_before_the_exit_counts() {
    let bench = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        let head = format!("POST /2018-06-01/runtime/invocation/{}/response", event.id());
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n42");
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, request.as_bytes()).await.expect("sent");
        Exit::Status(1)
    })
    .bench();
    for _ in 0..20 {
        let outcome = bench.invoke(event("{}")).await.expect("runs");
        assert_eq!(outcome.answer, Answer::Payload(Bytes::from_static(b"42")));
    }
    assert_eq!(bench.starts(), 20);
}

#[tokio::test]
async fn a_function_without_its_program_has_an_invalid_entrypoint() {
    let mut setup = setup(echo);
    setup.bootstrap = false;
    let bench = setup.bench();
    let outcome = bench.invoke(event("{}")).await.expect("runs");
    let text = error(&outcome);
    assert!(
        text.starts_with(r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: "#),
        "{text}"
    );
    assert!(
        text.contains("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        "{text}"
    );
    assert_eq!((bench.starts(), bench.executor.environments()), (0, 0));
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_an_invalid_entrypoint() {
    let mut failing = setup(echo);
    failing.sandbox.fails = Some(|spec| SandboxError::NotExecutable {
        name: spec.name.clone(),
        program: spec.program.clone(),
        reason: "Exec format error".to_owned(),
    });
    let bench = failing.bench();
    let text = error(&bench.invoke(event("{}")).await.expect("runs"));
    assert!(
        text.starts_with(r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: "#),
        "{text}"
    );
    assert!(text.ends_with(r#" Error: fork/exec /var/task/bootstrap: exec format error"}"#), "{text}");
}

#[tokio::test]
async fn what_is_not_the_functions_fault_is_no_functions_error() {
    let mut failing = setup(echo);
    failing.sandbox.fails = Some(|_| SandboxError::HelperGone);
    let bench = failing.bench();
    let error = bench.invoke(event("{}")).await.expect_err("no environment");
    assert!(matches!(&error, InvokeError::Environment(text) if text.contains("helper")), "{error}");
    let unknown = bench.changed(|version| version.runtime = "cobol85".to_owned());
    let error = bench.executor.invoke(unknown, event("{}")).await.expect_err("no runtime");
    assert!(matches!(error, InvokeError::Runtime(_)), "{error}");
    assert_eq!((bench.executor.environments(), bench.executor.in_flight()), (0, 0));
}

#[tokio::test]
async fn usage_is_in_the_ledger_before_the_answer_is_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open("memory:").await.expect("a store");
    let ledger = Ledger::open(folder.path(), store).await.expect("a ledger");
    let mut setup = setup(|program: Program| async move {
        let mut client = program.connect().await;
        let event = client.next().await;
        client.answer(&event.id(), b"1").await;
        client.next().await;
        Exit::Status(3)
    });
    setup.ledger = Some(ledger.clone());
    let bench = setup.bench();
    let first = bench.invoke(event("{}")).await.expect("runs");
    let second = bench.invoke(event("{}")).await.expect("runs");
    ledger.sync().await.expect("synced");
    ledger.fold().await.expect("folded");
    let totals = ledger.totals(&bench.version.function_arn).await.expect("totals");
    assert_eq!((totals.invocations, totals.errors), (2, 1));
    assert_eq!(totals.billed_ms, first.usage.billed_ms + second.usage.billed_ms);
}

#[tokio::test]
async fn an_event_goes_on_when_its_caller_has_gone() {
    let bench = setup(echo).bench();
    bench.invoke(event("{}")).await.expect("runs");
    let gone = event("{}");
    let id = gone.request_id.clone();
    {
        let invocation = bench.executor.invoke(Arc::clone(&bench.version), gone);
        tokio::pin!(invocation);
        tokio::select! {
            biased;
            _ = &mut invocation => panic!("no answer comes without the runtime running"),
            () = std::future::ready(()) => {}
        }
    }
    let ended = |id: &RequestId| format!("END RequestId: {id}");
    eventually(|| bench.lines.text().contains(&ended(&id))).await;
}
