//! Tags of functions: what they may be, where they are seen, what moves with them.

use serde_json::{Value, json};

use super::*;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

fn of(operation: &str, arn: &str) -> Call {
    let mut call = call(operation, None);
    call.labels.insert("Resource", arn.to_owned());
    call
}

fn tag(arn: &str, tags: &Value) -> Call {
    with_body(of("TagResource", arn), &json!({"Tags": tags}))
}

fn untag(keys: &[&str]) -> Call {
    keys.iter().fold(of("UntagResource", ARN), |call, key| with_query(call, "tagKeys", key))
}

async fn tags(fixture: &Fixture) -> Value {
    let listed = fixture.json(of("ListTags", ARN)).await;
    let found = fixture.json(call("GetFunction", Some("f"))).await;
    assert_eq!(found.get("Tags").unwrap_or(&json!({})), &listed["Tags"]);
    listed["Tags"].clone()
}

#[tokio::test]
async fn tags_live_as_on_aws() {
    let fixture = Fixture::new().await;
    fixture.send(create_with("Tags", json!({"a": "1"}))).await.unwrap();
    assert_eq!(tags(&fixture).await, json!({"a": "1"}));
    let read = async || fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    let mut before = read().await;
    for (request, expected) in [
        (tag(ARN, &json!({"b": "2", "c d": "3/é+-@=:._"})), json!({"a": "1", "b": "2", "c d": "3/é+-@=:._"})),
        (tag(ARN, &json!({"b": ""})), json!({"a": "1", "b": "", "c d": "3/é+-@=:._"})),
        (untag(&["b", "c d", "none"]), json!({"a": "1"})),
        (untag(&["a"]), json!({})),
    ] {
        let reply = fixture.send(request).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
        assert_eq!(tags(&fixture).await, expected);
        // The revision moves, and nothing else.
        let mut after = read().await;
        assert_ne!(after["RevisionId"], before["RevisionId"]);
        before["RevisionId"] = after["RevisionId"].clone();
        assert_eq!(after, before);
        before = after.take();
    }
    fixture.send(untag(&["a"])).await.unwrap();
    assert_eq!(read().await, before);
}

#[tokio::test]
async fn an_update_keeps_tags_that_came_meanwhile() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let update = with_body(call("UpdateFunctionCode", Some("f")), &json!({"ZipFile": zip_base64("other")}));
    let (updated, tagged) =
        tokio::join!(fixture.send(update), fixture.send(tag(ARN, &json!({"during": "it"}))));
    updated.unwrap();
    tagged.unwrap();
    assert_eq!(tags(&fixture).await, json!({"during": "it"}));
}

#[tokio::test]
async fn fifty_tags_are_the_most() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let many = |range: std::ops::Range<u32>| -> Value {
        range.map(|index| (format!("k{index}"), json!("v"))).collect()
    };
    let refused = || {
        let text = "Number of tags exceeds resource tag limit.".to_owned();
        ("InvalidParameterValueException".to_owned(), 400, text)
    };
    assert_eq!(fixture.error(tag(ARN, &many(0..51))).await, refused());
    fixture.send(tag(ARN, &many(0..50))).await.unwrap();
    assert_eq!(fixture.error(tag(ARN, &many(50..51))).await, refused());
    // Those that are there may change.
    fixture.send(tag(ARN, &json!({"k0": "other"}))).await.unwrap();
    assert_eq!(tags(&fixture).await["k0"], "other");
}

#[tokio::test]
async fn what_is_no_tag_is_refused_and_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    for (tags, code, text) in [
        (
            json!({}),
            "InvalidParameterValueException",
            "An error occurred and the request cannot be processed.",
        ),
        (json!({"aws:x": "1"}), "InvalidParameterValueException", "System tags"),
        (json!({"AWS:x": "1"}), "InvalidParameterValueException", "System tags"),
        (json!({"": "1"}), "ValidationException", "Map keys must satisfy"),
        (json!({"x".repeat(129): "1"}), "ValidationException", "Map keys must satisfy"),
        (json!({"a\n": "1"}), "ValidationException", "Map keys must satisfy"),
        (json!({"a": "x".repeat(257)}), "ValidationException", "Map value must satisfy"),
        (json!({"a": "#"}), "ValidationException", "Map value must satisfy"),
    ] {
        let (found, status, message) = fixture.error(tag(ARN, &tags)).await;
        assert_eq!((found.as_str(), status), (code, 400), "{message}");
        assert!(message.contains(text), "{message}");
        if !tags.as_object().unwrap().is_empty() {
            assert_eq!(fixture.error(create_with("Tags", tags)).await.0, code);
        }
    }
    fixture.send(tag(ARN, &json!({"k".repeat(128): "v".repeat(256)}))).await.unwrap();
    let null = "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null";
    assert_eq!(fixture.error(untag(&[])).await.2, null);
    assert!(fixture.error(of("TagResource", ARN)).await.2.contains("Value null at 'tags'"));
}

#[tokio::test]
async fn code_signing_configurations_have_tags_too() {
    let fixture = Fixture::new().await;
    let profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/0123456789";
    let body = json!({"AllowedPublishers": {"SigningProfileVersionArns": [profile]}, "Tags": {"a": "1"}});
    let made = fixture.json(with_body(call("CreateCodeSigningConfig", None), &body)).await;
    let arn = made["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap();
    fixture.send(tag(arn, &json!({"b": "2"}))).await.unwrap();
    assert_eq!(fixture.json(of("ListTags", arn)).await, json!({"Tags": {"a": "1", "b": "2"}}));
    let mut request = of("UntagResource", arn);
    request.query.push(("tagKeys".to_owned(), "a".to_owned()));
    fixture.send(request).await.unwrap();
    assert_eq!(fixture.json(of("ListTags", arn)).await, json!({"Tags": {"b": "2"}}));
}

#[tokio::test]
async fn other_things_have_no_tags_here() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let arn = |resource: &str| format!("arn:aws:lambda:us-east-1:000000000000:{resource}");
    let unsupported =
        "Tags on function aliases and versions are not supported. Please specify a function ARN.";
    let csc = arn("code-signing-config:csc-0123456789abcdefg");
    let no_csc = format!("The Lambda code signing configuration {csc} can not be found.");
    let mapping = arn("event-source-mapping:01234567-89ab-cdef-0123-456789abcdef");
    for (resource, code, text) in [
        (
            arn("function:x"),
            "ResourceNotFoundException",
            format!("Function not found: {}", arn("function:x")),
        ),
        (arn("function:f:1"), "InvalidParameterValueException", unsupported.to_owned()),
        (arn("function:f:$LATEST"), "InvalidParameterValueException", unsupported.to_owned()),
        (csc.clone(), "ResourceNotFoundException", no_csc),
        (mapping, "ResourceNotFoundException", "The resource you requested does not exist.".to_owned()),
    ] {
        for request in [tag(&resource, &json!({"a": "1"})), of("ListTags", &resource)] {
            let (found, _, message) = fixture.error(request).await;
            assert_eq!((found.as_str(), message.as_str()), (code, text.as_str()));
        }
    }
    for wrong in
        ["arn:aws:something", "f", "", "arn:aws:lambda:us-east-1:000000000000:layer:x", "arn:aws:s3:::b"]
    {
        let (found, status, message) = fixture.error(tag(wrong, &json!({"a": "1"}))).await;
        assert_eq!((found.as_str(), status), ("ValidationException", 400), "{message}");
        assert!(message.contains(&format!("Value '{wrong}' at 'resource'")), "{message}");
    }
    let other = fixture.error(of("ListTags", "arn:aws:lambda:us-east-1:111111111111:function:f")).await;
    assert_eq!((other.0.as_str(), other.1), ("AccessDeniedException", 403));
}
