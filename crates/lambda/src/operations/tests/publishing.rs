//! Published versions: numbered without gaps, never changed, deleted only when no alias leads to them.

use serde_json::{Value, json};

use super::*;

pub(super) fn publish(body: &Value) -> Call {
    with_body(call("PublishVersion", Some("f")), body)
}

pub(super) async fn change_memory(fixture: &Fixture, mebibytes: u32) {
    let update = with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"MemorySize": mebibytes}));
    fixture.send(update).await.unwrap();
}

/// A function `f` with as many versions; version `n` has `128 + n` MiB.
pub(super) async fn with_versions(count: u32) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    for number in 1..=count {
        change_memory(&fixture, 128 + number).await;
        assert_eq!(fixture.json(publish(&json!({}))).await["Version"], number.to_string());
    }
    fixture
}

fn versions(list: &Value) -> Vec<String> {
    let versions = list["Versions"].as_array().unwrap().iter();
    versions.map(|version| version["Version"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_version_is_what_latest_was_and_stays_so() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let reply = fixture.send(publish(&json!({"Description": "the first"}))).await.unwrap();
    assert_eq!(reply.status.as_u16(), 201);
    let published: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(published["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f:1");
    assert_eq!((&published["Version"], &published["Description"]), (&json!("1"), &json!("the first")));
    assert_eq!(
        (&published["State"], &published["LastUpdateStatus"]),
        (&json!("Active"), &json!("Successful"))
    );

    let update = with_body(call("UpdateFunctionCode", Some("f")), &json!({"ZipFile": zip_base64("other")}));
    fixture.send(update).await.unwrap();
    change_memory(&fixture, 512).await;
    for request in [
        call("GetFunctionConfiguration", Some("f:1")),
        with_query(call("GetFunctionConfiguration", Some("f")), "Qualifier", "1"),
    ] {
        assert_eq!(fixture.json(request).await, published);
    }
    let latest = fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    assert_eq!((&latest["MemorySize"], &latest["Description"]), (&json!(512), &json!("")));
    assert_ne!(latest["CodeSha256"], published["CodeSha256"]);
}

#[tokio::test]
async fn publishing_without_a_change_gives_the_last_version() {
    let fixture = with_versions(2).await;
    let again = fixture.json(publish(&json!({"Description": "ignored"}))).await;
    assert_eq!((&again["Version"], &again["Description"]), (&json!("2"), &json!("")));
    // There and back again is no change either; a new description is one.
    change_memory(&fixture, 512).await;
    change_memory(&fixture, 130).await;
    assert_eq!(fixture.json(publish(&json!({}))).await["Version"], "2");
    let describe = with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"Description": "new"}));
    fixture.send(describe).await.unwrap();
    assert_eq!(fixture.json(publish(&json!({}))).await["Version"], "3");
}

#[tokio::test]
async fn a_version_runs_with_its_own_definition() {
    let fixture = with_versions(2).await;
    change_memory(&fixture, 512).await;
    for (qualifier, memory, executed) in [("1", 129, "1"), ("2", 130, "2"), ("$LATEST", 512, "$LATEST")] {
        let reply =
            fixture.send(with_query(call("Invoke", Some("f")), "Qualifier", qualifier)).await.unwrap();
        assert_eq!(reply.headers["x-amz-executed-version"], executed);
        let (version, event) = fixture.invoked();
        assert_eq!((version.memory_mib, version.version.as_str()), (memory, executed));
        assert!(event.invoked_arn.ends_with(&format!(":function:f:{qualifier}")), "{}", event.invoked_arn);
    }
    for qualifier in ["3", "01", "0", "99999999999999999999"] {
        let missing = fixture.error(with_query(call("Invoke", Some("f")), "Qualifier", qualifier)).await;
        assert_eq!(missing.0, "ResourceNotFoundException", "{qualifier}");
    }
}

#[tokio::test]
async fn guards_are_checked_before_anything_is_published() {
    let fixture = Fixture::new().await;
    let created = fixture.create("f").await;
    let stale = fixture.error(publish(&json!({"RevisionId": "x"}))).await;
    assert_eq!((stale.0.as_str(), stale.1), ("PreconditionFailedException", 412));
    let own = created["CodeSha256"].as_str().unwrap();
    let (code, status, message) = fixture.error(publish(&json!({"CodeSha256": "other"}))).await;
    assert_eq!((code.as_str(), status), ("InvalidParameterValueException", 400));
    assert_eq!(
        message,
        format!(
            "CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({own}). Please try again with the \
             CodeSHA256 in $LATEST."
        )
    );
    let long = fixture.error(publish(&json!({"Description": "x".repeat(257)}))).await;
    assert_eq!(long.0, "ValidationException");
    assert_eq!(fixture.error(call("PublishVersion", Some("missing"))).await.0, "ResourceNotFoundException");
    let revision = fixture.json(call("GetFunctionConfiguration", Some("f"))).await["RevisionId"].clone();
    let published = fixture.json(publish(&json!({"RevisionId": revision, "CodeSha256": own}))).await;
    assert_eq!(published["Version"], "1", "nothing was published before");
}

#[tokio::test]
async fn creations_and_updates_of_code_can_publish_at_once() {
    let fixture = Fixture::new().await;
    let created = fixture.json(create_with("Publish", json!(true))).await;
    assert_eq!((&created["Version"], &created["State"]), (&json!("1"), &json!("Pending")));
    assert!(created["FunctionArn"].as_str().unwrap().ends_with(":function:f:1"));
    let body = json!({"ZipFile": zip_base64("other"), "Publish": true});
    let updated = fixture.json(with_body(call("UpdateFunctionCode", Some("f")), &body)).await;
    assert_eq!((&updated["Version"], &updated["State"]), (&json!("2"), &json!("Pending")));
    let list = fixture.json(call("ListVersionsByFunction", Some("f"))).await;
    assert_eq!(versions(&list), ["$LATEST", "1", "2"]);
}

#[tokio::test]
async fn many_clients_that_publish_at_once_get_numbers_without_gaps_or_repeats() {
    let fixture = Arc::new(with_versions(0).await);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..16 {
        let fixture = Arc::clone(&fixture);
        clients.spawn(async move {
            let change = || {
                let update = json!({"MemorySize": 200 + number});
                fixture.send(with_body(call("UpdateFunctionConfiguration", Some("f")), &update))
            };
            // AWS refuses an update while another one is under way, and so do we: then it is another client's turn.
            while let Err(error) = change().await {
                assert_eq!(error.code, "ResourceConflictException");
                tokio::task::yield_now().await;
            }
            fixture.json(publish(&json!({}))).await["Version"].as_str().unwrap().parse::<u32>().unwrap()
        });
    }
    clients.join_all().await;
    let list = fixture.json(call("ListVersionsByFunction", Some("f"))).await;
    let listed = versions(&list);
    let expected: Vec<String> = (1..listed.len()).map(|number| number.to_string()).collect();
    assert_eq!(listed[1..], expected);
    // Versions that follow each other differ.
    let memories: Vec<_> =
        list["Versions"].as_array().unwrap()[1..].iter().map(|v| &v["MemorySize"]).collect();
    assert!(memories.windows(2).all(|pair| pair[0] != pair[1]), "{memories:?}");
}

#[tokio::test]
async fn versions_are_listed_by_pages() {
    let fixture = with_versions(5).await;
    let mut seen = Vec::new();
    let mut request = with_query(call("ListVersionsByFunction", Some("f")), "MaxItems", "2");
    loop {
        let page = fixture.json(request).await;
        seen.push(versions(&page));
        let Some(marker) = page["NextMarker"].as_str() else { break };
        request = with_query(call("ListVersionsByFunction", Some("f")), "MaxItems", "2");
        request = with_query(request, "Marker", marker);
    }
    assert_eq!(seen, [vec!["$LATEST", "1"], vec!["2", "3"], vec!["4", "5"]]);
    let one = with_query(call("ListVersionsByFunction", Some("f")), "MaxItems", "1");
    let first = fixture.json(one).await;
    assert_eq!(versions(&first), ["$LATEST"]);
    let marker = first["NextMarker"].as_str().unwrap();
    let rest = fixture.json(with_query(call("ListVersionsByFunction", Some("f")), "Marker", marker)).await;
    assert_eq!(versions(&rest), ["1", "2", "3", "4", "5"]);
    assert!(rest["Versions"][0]["FunctionArn"].as_str().unwrap().ends_with(":function:f:1"));
    assert!(rest["Versions"][0].get("State").is_none());
}

#[tokio::test]
async fn all_versions_of_all_functions_are_listed_by_pages() {
    let fixture = with_versions(3).await;
    fixture.create("a").await;
    fixture.create("g").await;
    let mut seen = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut request = with_query(call("ListFunctions", None), "FunctionVersion", "ALL");
        request = with_query(request, "MaxItems", "2");
        if let Some(marker) = &marker {
            request = with_query(request, "Marker", marker);
        }
        let page = fixture.json(request).await;
        for function in page["Functions"].as_array().unwrap() {
            seen.push(
                function["FunctionArn"].as_str().unwrap().rsplit_once("function:").unwrap().1.to_owned(),
            );
        }
        match page["NextMarker"].as_str() {
            Some(next) => marker = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen, ["a:$LATEST", "f:$LATEST", "f:1", "f:2", "f:3", "g:$LATEST"]);
}

#[tokio::test]
async fn a_deleted_version_is_gone_and_its_number_is_not_given_again() {
    let fixture = with_versions(2).await;
    fixture.send(with_query(call("Invoke", Some("f")), "Qualifier", "2")).await.unwrap();
    let deployment = fixture.invoked().0.key.clone();
    let reply = fixture.send(with_query(call("DeleteFunction", Some("f")), "Qualifier", "2")).await.unwrap();
    assert_eq!(reply.status.as_u16(), 204);
    assert!(fixture.retired().contains(&deployment));
    let gone = fixture.error(with_query(call("Invoke", Some("f")), "Qualifier", "2")).await;
    assert_eq!(gone.0, "ResourceNotFoundException");
    assert_eq!(versions(&fixture.json(call("ListVersionsByFunction", Some("f"))).await), ["$LATEST", "1"]);
    // What is now the last one differs from `$LATEST`.
    assert_eq!(fixture.json(publish(&json!({}))).await["Version"], "3");
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    fixture.create("f").await;
    assert_eq!(
        fixture.json(publish(&json!({}))).await["Version"],
        "4",
        "also of a function of the same name"
    );
}

#[tokio::test]
async fn deleting_a_function_deletes_and_retires_all_its_versions() {
    let fixture = with_versions(2).await;
    let mut deployments = Vec::new();
    for qualifier in ["$LATEST", "1", "2"] {
        fixture.send(with_query(call("Invoke", Some("f")), "Qualifier", qualifier)).await.unwrap();
        deployments.push(fixture.invoked().0.key.clone());
    }
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert!(deployments.iter().all(|deployment| fixture.retired().contains(deployment)));
    fixture.create("f").await;
    assert_eq!(versions(&fixture.json(call("ListVersionsByFunction", Some("f"))).await), ["$LATEST"]);
    let gone = fixture.error(with_query(call("Invoke", Some("f")), "Qualifier", "1")).await;
    assert_eq!(gone.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn code_stays_while_any_version_uses_it() {
    let fixture = with_versions(1).await;
    let update = with_body(call("UpdateFunctionCode", Some("f")), &json!({"ZipFile": zip_base64("other")}));
    fixture.send(update).await.unwrap();
    fixture.clock.advance(Duration::from_secs(961));
    fixture.lambda.code.collect_retired().await;
    assert_eq!(fixture.code_folders().len(), 2, "version 1 uses the first zip");
    fixture.send(with_query(call("DeleteFunction", Some("f")), "Qualifier", "1")).await.unwrap();
    fixture.clock.advance(Duration::from_secs(961));
    fixture.lambda.code.collect_retired().await;
    assert_eq!(fixture.code_folders().len(), 1);
}
