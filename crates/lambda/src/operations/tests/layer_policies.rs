//! Policies of layer versions: whom they let in, how changes are guarded, how long they may be.

use super::layering::*;
use super::*;

#[tokio::test]
async fn a_policy_opens_a_layer_version_to_others() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let arn = format!("{LAYER}:1");
    let add = |body: Value| with_body(on_layer("AddLayerVersionPermission", "l", Some("1")), &body);
    let get = || by(with_query(call("GetLayerVersionByArn", None), "Arn", &arn), "111122223333");
    let create = || by(with_layers(&[&arn]), "111122223333");
    for call in [get(), create()] {
        assert_eq!(fixture.error(call).await.0, "AccessDeniedException");
    }
    let statement =
        json!({"StatementId": "s1", "Action": "lambda:GetLayerVersion", "Principal": "111122223333"});
    let added = fixture.json(add(statement)).await;
    let text: Value = serde_json::from_str(added["Statement"].as_str().unwrap()).unwrap();
    assert_eq!(
        text,
        json!({
            "Sid": "s1", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": "lambda:GetLayerVersion", "Resource": arn,
        })
    );
    let policy = fixture.json(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await;
    assert_eq!(policy["RevisionId"], added["RevisionId"]);
    let written = format!(
        r#"{{"Version":"2012-10-17","Id":"default","Statement":[{}]}}"#,
        added["Statement"].as_str().unwrap()
    );
    assert_eq!(policy["Policy"], written);
    let document: Value = serde_json::from_str(policy["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(document, json!({"Version": "2012-10-17", "Id": "default", "Statement": [text]}));
    assert_eq!(fixture.json(get()).await["LayerVersionArn"], arn);
    assert_eq!(fixture.json(create()).await["Layers"][0]["Arn"], arn);
    let third = by(with_layers(&[&arn]), "444455556666");
    assert_eq!(fixture.error(third).await.0, "AccessDeniedException");
    for operation in ["DeleteLayerVersion", "GetLayerVersionPolicy"] {
        let error = fixture.error(by(on_layer(operation, LAYER, Some("1")), "111122223333")).await;
        assert_eq!(error.0, "AccessDeniedException", "{operation}");
    }
    // The owner may take it back and delete: who has the layer keeps it.
    let mut remove = on_layer("RemoveLayerVersionPermission", "l", Some("1"));
    remove.labels.insert("StatementId", "s1".to_owned());
    assert_eq!(fixture.send(remove).await.unwrap().status, 204);
    assert_eq!(fixture.error(get()).await.0, "AccessDeniedException");
    fixture.send(on_layer("DeleteLayerVersion", "l", Some("1"))).await.unwrap();
    fixture.collect().await;
    fixture.send(by(call("Invoke", Some("f")), "111122223333")).await.unwrap();
    assert_eq!(content(fixture.invoked().0.layers.as_ref().unwrap(), "a"), "1");
}

#[tokio::test]
async fn changes_of_a_policy_are_guarded() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let body = |id: &str| json!({"StatementId": id, "Action": "lambda:GetLayerVersion", "Principal": "*"});
    let add_to = |name: &str, version: &str, body: Value| {
        with_body(on_layer("AddLayerVersionPermission", name, Some(version)), &body)
    };
    let add = |body: Value| add_to("l", "1", body);
    let remove = |name: &str, version: &str, id: &str| {
        let mut call = on_layer("RemoveLayerVersionPermission", name, Some(version));
        call.labels.insert("StatementId", id.to_owned());
        call
    };
    let not_found = |text: &str| ("ResourceNotFoundException".to_owned(), 404, text.to_owned());
    let no_policy = not_found("No policy is associated with the given resource.");
    assert_eq!(fixture.error(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await, no_policy);
    assert_eq!(fixture.error(remove("l", "1", "s1")).await, no_policy);
    let first = fixture.json(add(body("s1"))).await;
    let taken = "The statement id (s1) provided already exists. Please provide a new statement id, or remove the existing statement.";
    assert_eq!(fixture.error(add(body("s1"))).await, ("ResourceConflictException".into(), 409, taken.into()));
    let stale = (
        "PreconditionFailedException".to_owned(),
        412,
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest \
         Revision Id"
            .to_owned(),
    );
    assert_eq!(fixture.error(with_query(add(body("s2")), "RevisionId", "wrong")).await, stale);
    assert_eq!(fixture.error(with_query(remove("l", "1", "s1"), "RevisionId", "wrong")).await, stale);
    // A name that is taken is told before the revision, one that is not there after it.
    assert_eq!(fixture.error(with_query(add(body("s1")), "RevisionId", "wrong")).await.2, taken);
    assert_eq!(fixture.error(with_query(remove("l", "1", "none"), "RevisionId", "wrong")).await, stale);
    let revision = first["RevisionId"].as_str().unwrap();
    let second = fixture.json(with_query(add(body("s2")), "RevisionId", revision)).await;
    assert_ne!(second["RevisionId"], first["RevisionId"]);
    for (name, version) in [("l-missing", "1"), ("l", "2")] {
        let text = format!("Layer version {}{name}:{version} does not exist.", &LAYER[..LAYER.len() - 1]);
        let calls = [
            add_to(name, version, body("x")),
            remove(name, version, "x"),
            on_layer("GetLayerVersionPolicy", name, Some(version)),
        ];
        for call in calls {
            assert_eq!(fixture.error(call).await, not_found(&text));
        }
    }
    let unknown = not_found("Statement none is not found in resource policy.");
    assert_eq!(fixture.error(remove("l", "1", "none")).await, unknown);
    for id in ["s1", "s2"] {
        fixture.send(remove("l", "1", id)).await.unwrap();
    }
    assert_eq!(fixture.error(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await, no_policy);
}

#[tokio::test]
async fn who_must_be_of_an_organization_is_not_let_in() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let arn = format!("{LAYER}:1");
    let get = || by(with_query(call("GetLayerVersionByArn", None), "Arn", &arn), "111122223333");
    let add = |id: &str, principal: &str, organization: Option<&str>| {
        let mut body = json!({"StatementId": id, "Action": "lambda:GetLayerVersion", "Principal": principal});
        if let Some(organization) = organization {
            body["OrganizationId"] = json!(organization);
        }
        with_body(on_layer("AddLayerVersionPermission", "l", Some("1")), &body)
    };
    let shown = fixture.json(add("s1", "*", Some("o-a1b2c3d4e5"))).await;
    let statement = format!(
        r#"{{"Sid":"s1","Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion","Resource":"{arn}","Condition":{{"StringEquals":{{"aws:PrincipalOrgID":"o-a1b2c3d4e5"}}}}}}"#
    );
    assert_eq!(shown["Statement"], statement);
    assert_eq!(fixture.error(get()).await.0, "AccessDeniedException");
    let other = fixture.json(add("s2", "arn:aws-cn:iam::111122223333:root", None)).await;
    let other: Value = serde_json::from_str(other["Statement"].as_str().unwrap()).unwrap();
    assert_eq!(other["Principal"], json!({"AWS": "arn:aws:iam::111122223333:root"}));
    assert_eq!(fixture.json(get()).await["LayerVersionArn"], arn);
}

#[tokio::test]
async fn statements_that_are_none_are_refused() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let add = |body: Value| with_body(on_layer("AddLayerVersionPermission", "l", Some("1")), &body);
    let invalid = [
        (
            json!({"StatementId": "x", "Action": "*", "Principal": "*"}),
            "Value '*' at 'action' failed to satisfy constraint: Member must satisfy regular expression pattern: lambda:GetLayerVersion",
        ),
        (
            json!({"StatementId": "a.b", "Action": "lambda:GetLayerVersion", "Principal": "*"}),
            "Value 'a.b' at 'statementId' failed",
        ),
        (
            json!({"StatementId": "x", "Action": "lambda:GetLayerVersion", "Principal": "s3.amazonaws.com"}),
            "Value 's3.amazonaws.com' at 'principal' failed",
        ),
        (
            json!({"StatementId": "x", "Action": "lambda:GetLayerVersion", "Principal": "*", "OrganizationId": "o-SHORT"}),
            "Value 'o-SHORT' at 'organizationId' failed",
        ),
        (json!({}), "3 validation errors detected: Value null at 'statementId'"),
    ];
    for (body, says) in invalid {
        let error = fixture.error(add(body)).await;
        assert!(error.0 == "ValidationException" && error.2.contains(says), "{}", error.2);
    }
    let policy = fixture.error(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await;
    assert_eq!(policy.2, "No policy is associated with the given resource.");
}

#[tokio::test]
async fn a_policy_is_at_most_20_kb_long() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let add = |number: usize| {
        let id = format!("{number:0>100}");
        let body = json!({"StatementId": id, "Action": "lambda:GetLayerVersion", "Principal": "*"});
        with_body(on_layer("AddLayerVersionPermission", "l", Some("1")), &body)
    };
    let mut number = 0;
    let error = loop {
        match fixture.send(add(number)).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 200, "a policy of {number} statements of more than 200 bytes each");
    };
    assert_eq!((error.code, error.status.as_u16()), ("PolicyLengthExceededException", 400));
    let size: usize = error
        .message
        .trim_start_matches("The final policy size (")
        .split(')')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        size > 20_480 && error.message.ends_with("is bigger than the limit (20480)."),
        "{}",
        error.message
    );
    let stale = with_query(add(number), "RevisionId", "wrong");
    assert_eq!(fixture.error(stale).await.0, "PreconditionFailedException", "the revision comes first");
    let policy = fixture.json(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await;
    assert!(policy["Policy"].as_str().unwrap().len() <= 20_480);
}
