//! Reserved concurrency: what is answered, what is stored, what the executor is told.

use serde_json::{Value, json};

use super::{Fixture, call, create, with_body, with_query};
use freehold_wire::service::Call;

pub(super) fn put(name: &str, executions: Value) -> Call {
    with_body(
        call("PutFunctionConcurrency", Some(name)),
        &json!({"ReservedConcurrentExecutions": executions}),
    )
}

fn arn(name: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
}

impl Fixture {
    /// What the executor was told of a function last.
    fn reserved(&self, name: &str) -> Option<u32> {
        self.executor.reserved.lock().unwrap().get(&arn(name)).copied()
    }
}

#[tokio::test]
async fn a_reservation_is_shown_told_and_taken_back() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let get = || call("GetFunctionConcurrency", Some("f"));
    assert_eq!(fixture.json(get()).await, json!({}));
    let shown = fixture.json(call("GetFunction", Some("f"))).await;
    assert_eq!(shown.get("Concurrency"), None);

    let given = json!({"ReservedConcurrentExecutions": 123});
    assert_eq!(fixture.json(put("f", json!(123))).await, given);
    assert_eq!(fixture.reserved("f"), Some(123), "before the client is answered");
    assert_eq!(fixture.json(get()).await, given);
    assert_eq!(fixture.json(call("GetFunction", Some("f"))).await["Concurrency"], given);
    assert_eq!(fixture.json(put("f", json!(0))).await, json!({"ReservedConcurrentExecutions": 0}));
    assert_eq!(fixture.reserved("f"), Some(0));

    for _ in 0..2 {
        let reply = fixture.send(call("DeleteFunctionConcurrency", Some("f"))).await.unwrap();
        assert_eq!(reply.status, 204);
    }
    assert_eq!((fixture.reserved("f"), fixture.json(get()).await), (None, json!({})));
    assert!(fixture.retired().is_empty(), "environments stay");
}

#[tokio::test]
async fn a_hundred_stay_unreserved() {
    let fixture = Fixture::new().await;
    fixture.create("a").await;
    fixture.create("b").await;
    fixture.send(put("a", json!(600))).await.unwrap();
    let (code, status, text) = fixture.error(put("b", json!(301))).await;
    assert_eq!((code.as_str(), status), ("InvalidParameterValueException", 400));
    assert_eq!(
        text,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
         minimum value of [100]."
    );
    assert_eq!(
        fixture.json(call("GetFunctionConcurrency", Some("b"))).await,
        json!({}),
        "nothing is left of it"
    );
    assert_eq!(fixture.reserved("b"), None);
    fixture.send(put("b", json!(300))).await.unwrap();
    fixture.send(put("a", json!(600))).await.expect("its own does not count against it");
    fixture.send(call("DeleteFunction", Some("a"))).await.unwrap();
    assert_eq!(fixture.reserved("a"), None, "a deleted function keeps nothing");
    fixture.send(put("b", json!(900))).await.expect("what was given back can be given again");
    fixture.create("a").await;
    assert_eq!(fixture.json(call("GetFunctionConcurrency", Some("a"))).await, json!({}));
}

#[tokio::test]
async fn of_many_at_once_only_as_many_get_theirs_as_there_is() {
    let fixture = Fixture::new().await;
    for number in 0..8 {
        fixture.create(&format!("f{number}")).await;
    }
    let puts = (0..8).map(|number| {
        let (lambda, call) = (fixture.lambda.clone(), put(&format!("f{number}"), json!(300)));
        tokio::spawn(async move { freehold_wire::service::Service::call(&lambda, call).await.is_ok() })
    });
    let mut granted = 0;
    for done in puts.collect::<Vec<_>>() {
        granted += usize::from(done.await.unwrap());
    }
    assert_eq!(granted, 3);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let fixture = Fixture::new().await;
    let (code, status, text) = fixture.error(put("f", json!(1))).await;
    assert_eq!((code.as_str(), status), ("ResourceNotFoundException", 404));
    assert_eq!(text, format!("Function not found: {}", arn("f")));
    fixture.create("f").await;
    let cases = [
        (
            json!(-1),
            "Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must have value \
                     greater than or equal to 0",
        ),
        (
            json!(null),
            "Value null at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must not be null",
        ),
    ];
    for (executions, expected) in cases {
        let (code, _, text) = fixture.error(put("f", executions)).await;
        assert_eq!(
            (code.as_str(), text.as_str()),
            ("ValidationException", format!("1 validation error detected: {expected}").as_str())
        );
    }
    for name in ["GetFunctionConcurrency", "PutFunctionConcurrency", "DeleteFunctionConcurrency"] {
        let body = json!({"ReservedConcurrentExecutions": 1});
        let (code, _, text) = fixture.error(with_body(call(name, Some("f:1")), &body)).await;
        assert_eq!(code, "InvalidParameterValueException");
        assert!(text.starts_with("This operation is permitted on Lambda functions only."), "{text}");
    }
}

#[tokio::test]
async fn a_new_process_tells_its_executor_and_follows_others() {
    let first = Fixture::new().await;
    for name in ["a", "b"] {
        first.create(name).await;
    }
    first.send(put("a", json!(7))).await.unwrap();
    let second = Fixture::over(first.store.clone(), tempfile::tempdir().unwrap()).await;
    assert_eq!((second.reserved("a"), second.reserved("b")), (Some(7), None));
    first.send(put("b", json!(9))).await.unwrap();
    first.send(call("DeleteFunctionConcurrency", Some("a"))).await.unwrap();
    while (second.reserved("a"), second.reserved("b")) != (None, Some(9)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_qualified_get_function_shows_it_too() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(call("PublishVersion", Some("f"))).await.unwrap();
    fixture.send(put("f", json!(5))).await.unwrap();
    let shown = fixture.json(with_query(call("GetFunction", Some("f")), "Qualifier", "1")).await;
    assert_eq!(shown["Concurrency"], json!({"ReservedConcurrentExecutions": 5}));
}

#[tokio::test]
async fn creating_anew_needs_no_reservation() {
    let fixture = Fixture::new().await;
    fixture.send(create("f")).await.unwrap();
    fixture.send(put("f", json!(0))).await.unwrap();
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert_eq!(fixture.reserved("f"), None);
}
