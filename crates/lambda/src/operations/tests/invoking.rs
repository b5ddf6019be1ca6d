//! `Invoke`: what the executor is given, and what the client is.

use freehold_executor::event::ThrottleReason;
use freehold_executor::logging::{LogFormat, LogLevel, Logging};

use super::*;

fn invoke(payload: &str) -> Call {
    let mut call = call("Invoke", Some("f"));
    call.body = payload.to_owned().into();
    call
}

#[tokio::test]
async fn an_event_goes_through_and_its_answer_comes_back() {
    let fixture = Fixture::new().await;
    let mut body = creation("f");
    body["Environment"] = json!({"Variables": {"KEY": "value"}});
    body["LoggingConfig"] = json!({"LogGroup": "/my/group"});
    fixture.json(with_body(call("CreateFunction", None), &body)).await;
    fixture.executor.answers.lock().unwrap().push(Ok(outcome(Answer::Payload("\"hello\"".into()))));
    let mut request = with_header(invoke("{\"name\": \"Alice\"}"), "x-amz-client-context", "eyJhIjoxfQ==");
    request = with_header(request, "x-amzn-trace-id", "Root=1-2-3");
    let request_id = request.request_id.clone();
    let reply = fixture.send(request).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"\"hello\""[..]));
    assert_eq!(reply.headers["x-amz-executed-version"], "$LATEST");
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(
        reply.headers.get("x-amz-function-error").is_none()
            && reply.headers.get("x-amz-log-result").is_none()
    );
    let (version, event) = fixture.invoked();
    assert_eq!(event.request_id, request_id);
    assert_eq!(event.payload, "{\"name\": \"Alice\"}");
    assert_eq!(event.invoked_arn, "arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_eq!(event.client_context.as_deref(), Some("{\"a\":1}"));
    assert_eq!(event.trace_header.as_deref(), Some("Root=1-2-3"));
    assert_eq!(version.variables["KEY"], "value");
    assert_eq!(version.log_group, "/my/group");
    assert_eq!(version.logging, Logging::default());
    assert_eq!((version.name.as_str(), version.version.as_str()), ("f", "$LATEST"));
    assert_eq!(version.role_arn, ROLE);
}

#[tokio::test]
async fn the_logging_configuration_goes_through() {
    let fixture = Fixture::new().await;
    let mut body = creation("f");
    body["LoggingConfig"] = json!({"LogFormat": "JSON", "ApplicationLogLevel": "FATAL"});
    fixture.json(with_body(call("CreateFunction", None), &body)).await;
    fixture.executor.answers.lock().unwrap().push(Ok(outcome(Answer::Payload("1".into()))));
    fixture.send(invoke("{}")).await.unwrap();
    let (version, _) = fixture.invoked();
    let (application_level, system_level) = (LogLevel::Fatal, LogLevel::Info);
    assert_eq!(version.logging, Logging { format: LogFormat::Json, application_level, system_level });
}

#[tokio::test]
async fn nothing_is_an_empty_object_and_a_qualifier_is_in_the_arn() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(with_query(invoke(""), "Qualifier", "$LATEST")).await.unwrap();
    let (_, event) = fixture.invoked();
    assert_eq!(event.payload, "{}");
    assert_eq!(event.invoked_arn, "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST");
}

#[tokio::test]
async fn a_functions_failure_is_an_answer_too() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let error = "{\"errorMessage\": \"boom\"}";
    fixture.executor.answers.lock().unwrap().push(Ok(outcome(Answer::Error(error.into()))));
    let reply = fixture.send(with_header(invoke("1"), "x-amz-log-type", "Tail")).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, error.as_bytes()));
    assert_eq!(reply.headers["x-amz-function-error"], "Unhandled");
    assert_eq!(reply.headers["x-amz-log-result"], STANDARD.encode("START\nEND\n"));
}

#[tokio::test]
async fn a_dry_run_asks_and_runs_nothing() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let dry = |payload| with_header(invoke(payload), "x-amz-invocation-type", "DryRun");
    let reply = fixture.send(dry("{}")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    assert_eq!(fixture.error(dry("{")).await.0, "InvalidRequestContentException");
    assert!(fixture.executor.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_invocations_never_reach_the_executor() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let latest_of_missing = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:x:$LATEST";
    let missing_version = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:7";
    let tenant = "The invoked function is not enabled with tenancy configuration.";
    let too_large = "Request must be smaller than 6291456 bytes for the InvokeFunction operation";
    let cases = [
        (call("Invoke", Some("x")), "ResourceNotFoundException", 404, latest_of_missing),
        (call("Invoke", Some("f:7")), "ResourceNotFoundException", 404, missing_version),
        (invoke("{"), "InvalidRequestContentException", 400, "Could not parse request body into json: "),
        (invoke(&"1".repeat(6_291_457)), "RequestTooLargeException", 413, too_large),
        (
            with_header(invoke("1"), "x-amz-invocation-type", "Event"),
            "InvalidParameterValueException",
            400,
            "Freehold does not support InvocationType Event (yet): asynchronous invocation",
        ),
        (
            with_header(invoke("1"), "x-amz-invocation-type", "Later"),
            "ValidationException",
            400,
            "1 validation error detected: Value 'Later' at 'invocationType'",
        ),
        (
            with_header(invoke("1"), "x-amz-log-type", "Head"),
            "ValidationException",
            400,
            "1 validation error",
        ),
        (
            with_header(invoke("1"), "x-amz-client-context", "e30"),
            "InvalidRequestContentException",
            400,
            "Client",
        ),
        (with_header(invoke("1"), "x-amz-tenant-id", "blue"), "InvalidParameterValueException", 400, tenant),
    ];
    for (request, code, status, text) in cases {
        let error = fixture.error(request).await;
        assert_eq!((error.0.as_str(), error.1), (code, status), "{}", error.2);
        assert!(error.2.starts_with(text), "{}", error.2);
    }
    assert!(fixture.executor.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_executors_refusals_become_awss() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let refuse = |error| fixture.executor.answers.lock().unwrap().push(Err(error));
    for (reason, text) in [
        (ThrottleReason::Concurrency, "ConcurrentInvocationLimitExceeded"),
        (ThrottleReason::ReservedConcurrency, "ReservedFunctionConcurrentInvocationLimitExceeded"),
        (ThrottleReason::FunctionRate, "FunctionInvocationRateLimitExceeded"),
        (ThrottleReason::ReservedFunctionRate, "ReservedFunctionInvocationRateLimitExceeded"),
    ] {
        refuse(InvokeError::Throttled(reason));
        let error = fixture.send(invoke("1")).await.unwrap_err();
        assert_eq!((error.code, error.status.as_u16()), ("TooManyRequestsException", 429));
        assert_eq!(error.message, "Rate Exceeded.");
        assert_eq!(member(&error, "Reason"), text);
        assert!(error.headers.contains(&("Retry-After", "1".to_owned())));
    }
    refuse(InvokeError::Environment("no memory".to_owned()));
    let error = fixture.send(invoke("1")).await.unwrap_err();
    assert_eq!((error.code, error.status.as_u16()), ("ServiceException", 500));
    assert_eq!(member(&error, "Type"), "Service");
    refuse(InvokeError::Stopping);
    assert_eq!(fixture.error(invoke("1")).await.0, "ServiceException");
}

#[tokio::test]
async fn a_large_and_deep_event_is_handed_on_as_it_is() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let half = 6_291_456 / 2;
    let deep = ["[".repeat(half), "]".repeat(half)].concat();
    fixture.send(invoke(&deep)).await.unwrap();
    assert_eq!(fixture.invoked().1.payload, deep);
}
