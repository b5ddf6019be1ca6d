//! Aliases: where they lead, how two versions share, and what AWS says of wrong ones.

use serde_json::{Value, json};

use super::publishing::with_versions;
use super::*;

pub(super) fn create_alias(name: &str, version: &str) -> Call {
    alias_with(&json!({"Name": name, "FunctionVersion": version}))
}

pub(super) fn alias_with(body: &Value) -> Call {
    with_body(call("CreateAlias", Some("f")), body)
}

pub(super) fn of_alias(operation: &str, name: &str) -> Call {
    let mut call = call(operation, Some("f"));
    call.labels.insert("Name", name.to_owned());
    call
}

pub(super) fn update_alias(name: &str, body: &Value) -> Call {
    with_body(of_alias("UpdateAlias", name), body)
}

fn names(list: &Value) -> Vec<&str> {
    list["Aliases"].as_array().unwrap().iter().map(|alias| alias["Name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_alias_lives_as_on_aws() {
    let fixture = with_versions(2).await;
    let reply = fixture.send(create_alias("live", "1")).await.unwrap();
    assert_eq!(reply.status.as_u16(), 201);
    let created: Value = serde_json::from_slice(&reply.body).unwrap();
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f:live";
    assert_eq!((&created["AliasArn"], &created["Description"]), (&json!(arn), &json!("")));
    assert!(created.get("RoutingConfig").is_none());
    assert_eq!(fixture.json(of_alias("GetAlias", "live")).await, created);

    let change = json!({"FunctionVersion": "2", "Description": "d", "RevisionId": created["RevisionId"]});
    let updated = fixture.json(update_alias("live", &change)).await;
    assert_eq!((&updated["FunctionVersion"], &updated["Description"]), (&json!("2"), &json!("d")));
    let stale = fixture.error(update_alias("live", &change)).await;
    assert_eq!((stale.0.as_str(), stale.1), ("PreconditionFailedException", 412));

    let found = fixture.json(call("GetFunctionConfiguration", Some("f:live"))).await;
    assert_eq!((&found["Version"], &found["FunctionArn"]), (&json!("2"), &json!(arn)));
    assert_eq!(fixture.send(of_alias("DeleteAlias", "live")).await.unwrap().status.as_u16(), 204);
    assert_eq!(fixture.send(of_alias("DeleteAlias", "live")).await.unwrap().status.as_u16(), 204);
    let gone = fixture.error(of_alias("GetAlias", "live")).await;
    assert_eq!(gone, ("ResourceNotFoundException".to_owned(), 404, format!("Cannot find alias arn: {arn}")));
}

#[tokio::test]
async fn an_alias_runs_its_version_and_follows_its_changes() {
    let fixture = with_versions(2).await;
    fixture.send(create_alias("live", "1")).await.unwrap();
    for version in ["1", "2", "$LATEST"] {
        fixture.send(update_alias("live", &json!({"FunctionVersion": version}))).await.unwrap();
        let reply = fixture.send(call("Invoke", Some("f:live"))).await.unwrap();
        assert_eq!(reply.headers["x-amz-executed-version"], version);
        let (function, event) = fixture.invoked();
        assert_eq!(function.version, version);
        assert!(event.invoked_arn.ends_with(":function:f:live"));
    }
    fixture.send(of_alias("DeleteAlias", "live")).await.unwrap();
    let (code, status, message) = fixture.error(call("Invoke", Some("f:live"))).await;
    assert_eq!((code.as_str(), status), ("ResourceNotFoundException", 404));
    assert_eq!(message, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:live");
}

#[tokio::test]
async fn another_process_change_of_an_alias_is_seen() {
    let fixture = with_versions(2).await;
    fixture.send(create_alias("live", "1")).await.unwrap();
    fixture.send(call("Invoke", Some("f:live"))).await.unwrap();
    let Fixture { store, folder, .. } = &fixture;
    let other = Fixture::over(store.clone(), tempfile::tempdir_in(folder.path()).unwrap()).await;
    other.send(update_alias("live", &json!({"FunctionVersion": "2"}))).await.unwrap();
    // The watch tells of it in a moment.
    let seen = async {
        loop {
            let reply = fixture.send(call("Invoke", Some("f:live"))).await.unwrap();
            if reply.headers["x-amz-executed-version"] == "2" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the change is seen");
    let retired = fixture.retired();
    assert!(!retired.contains(&fixture.invoked().0.key), "no version has gone: {retired:?}");
}

#[tokio::test]
async fn two_versions_share_by_weight() {
    let fixture = with_versions(2).await;
    let shared = |weight: f64| json!({"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": weight}}});
    let mut body = shared(0.25);
    body["Name"] = json!("live");
    let created = fixture.json(alias_with(&body)).await;
    assert_eq!(created["RoutingConfig"], json!({"AdditionalVersionWeights": {"2": 0.25}}));
    let seconds = async |count: u32| {
        let mut seconds = 0;
        for _ in 0..count {
            let reply = fixture.send(call("Invoke", Some("f:live"))).await.unwrap();
            seconds += u32::from(reply.headers["x-amz-executed-version"] == "2");
        }
        seconds
    };
    // Of 2,000 events 500 are expected, with a standard deviation of 19: 8 of them are never seen.
    let share = seconds(2_000).await;
    assert!((350..650).contains(&share), "{share}");
    fixture.send(update_alias("live", &shared(0.0))).await.unwrap();
    assert_eq!(seconds(50).await, 0);
    fixture.send(update_alias("live", &shared(1.0))).await.unwrap();
    assert_eq!(seconds(50).await, 50);
    // An empty routing ends the sharing.
    let alone = json!({"RoutingConfig": {"AdditionalVersionWeights": {}}});
    assert!(fixture.json(update_alias("live", &alone)).await.get("RoutingConfig").is_none());
    assert_eq!(seconds(50).await, 0);
}

#[tokio::test]
async fn wrong_aliases_get_awss_errors_and_leave_no_trace() {
    let fixture = with_versions(2).await;
    let routing = |version: &str, weights: Value| {
        let routing = json!({"AdditionalVersionWeights": weights});
        json!({"Name": "x", "FunctionVersion": version, "RoutingConfig": routing})
    };
    let cases = [
        (json!({"Name": "x"}), "ValidationException", "at 'functionVersion'"),
        (json!({"FunctionVersion": "1"}), "ValidationException", "at 'name'"),
        (json!({"Name": "17", "FunctionVersion": "1"}), "ValidationException", "(?!^[0-9]+$)"),
        (json!({"Name": "a b", "FunctionVersion": "1"}), "ValidationException", "at 'name'"),
        (json!({"Name": "x".repeat(129), "FunctionVersion": "1"}), "ValidationException", "128"),
        (json!({"Name": "x", "FunctionVersion": "live"}), "ValidationException", r"(\$LATEST|[0-9]+)"),
        (json!({"Name": "x", "FunctionVersion": "10"}), "ResourceNotFoundException", ":function:f:10"),
        (routing("1", json!({"2": 0.1, "3": 0.1})), "InvalidParameterValueException", "greater than 1"),
        (routing("1", json!({"2": 2.0})), "ValidationException", "Value '{2=2.0}' at 'routingConfig."),
        (routing("1", json!({"2": -1.0})), "ValidationException", "Value '{2=-1.0}' at 'routingConfig."),
        (routing("1", json!({"$LATEST": 0.5})), "ValidationException", "Map keys must satisfy"),
        (routing("1", json!({"1": 0.5})), "InvalidParameterValueException", "already included"),
        (routing("1", json!({"10": 0.5})), "ResourceNotFoundException", ":function:f:10"),
        (routing("$LATEST", json!({"1": 0.5})), "InvalidParameterValueException", "$LATEST is not supported"),
    ];
    for (body, expected, part) in cases {
        let (code, _, message) = fixture.error(alias_with(&body)).await;
        assert_eq!(code, expected, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    assert!(names(&fixture.json(call("ListAliases", Some("f"))).await).is_empty());
    let unknown = with_body(call("CreateAlias", Some("g")), &json!({"Name": "x", "FunctionVersion": "1"}));
    assert!(fixture.error(unknown).await.2.ends_with(":function:g:1"));
    fixture.send(create_alias("x", "1")).await.unwrap();
    let (code, status, message) = fixture.error(create_alias("x", "2")).await;
    assert_eq!((code.as_str(), status), ("ResourceConflictException", 409));
    assert_eq!(message, "Alias already exists: arn:aws:lambda:us-east-1:000000000000:function:f:x");
    let missing = fixture.error(update_alias("y", &json!({"FunctionVersion": "1"}))).await;
    assert!(missing.2.starts_with("Cannot find alias arn: "), "{}", missing.2);
}

#[tokio::test]
async fn aliases_are_listed_by_pages_and_by_version() {
    let fixture = with_versions(2).await;
    for (name, version) in [("a", "1"), ("b", "2"), ("c", "1"), ("d", "2"), ("e", "1")] {
        fixture.send(create_alias(name, version)).await.unwrap();
    }
    let list = |version: Option<&str>, marker: Option<&str>| {
        let mut request = with_query(call("ListAliases", Some("f")), "MaxItems", "2");
        if let Some(version) = version {
            request = with_query(request, "FunctionVersion", version);
        }
        if let Some(marker) = marker {
            request = with_query(request, "Marker", marker);
        }
        request
    };
    for (version, pages) in [
        (None, vec![vec!["a", "b"], vec!["c", "d"], vec!["e"]]),
        (Some("1"), vec![vec!["a", "c"], vec!["e"]]),
        (Some("2"), vec![vec!["b", "d"]]),
        (Some("7"), vec![vec![]]),
    ] {
        let mut marker: Option<String> = None;
        for expected in pages {
            let page = fixture.json(list(version, marker.as_deref())).await;
            assert_eq!(names(&page), expected);
            marker = page["NextMarker"].as_str().map(str::to_owned);
        }
        assert_eq!(marker, None);
    }
}

#[tokio::test]
async fn a_version_to_which_aliases_lead_is_not_deleted() {
    let fixture = with_versions(2).await;
    fixture.send(create_alias("live", "1")).await.unwrap();
    let shared = json!({
        "Name": "next", "FunctionVersion": "2", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}},
    });
    fixture.send(alias_with(&shared)).await.unwrap();
    let delete = || with_query(call("DeleteFunction", Some("f")), "Qualifier", "1");
    let (code, status, message) = fixture.error(delete()).await;
    assert_eq!((code.as_str(), status), ("ResourceConflictException", 409));
    assert_eq!(message, "Unable to delete version because the following aliases reference it: [live, next]");
    fixture.send(of_alias("DeleteAlias", "live")).await.unwrap();
    fixture.send(of_alias("DeleteAlias", "next")).await.unwrap();
    fixture.send(delete()).await.unwrap();
}
