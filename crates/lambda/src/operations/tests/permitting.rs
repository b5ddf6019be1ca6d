//! Policies by single permissions and as documents: how they look, what guards them, whom they keep out.

use serde_json::{Value, json};

use super::publishing::with_versions;
use super::*;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

fn permission(sid: &str) -> Value {
    json!({"StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"})
}

fn permission_with(sid: &str, member: &str, value: Value) -> Value {
    let mut body = permission(sid);
    body[member] = value;
    body
}

fn add(name: &str, body: &Value) -> Call {
    with_body(call("AddPermission", Some(name)), body)
}

fn remove(name: &str, sid: &str) -> Call {
    let mut call = call("RemovePermission", Some(name));
    call.labels.insert("StatementId", sid.to_owned());
    call
}

fn of_resource(operation: &str, arn: &str) -> Call {
    let mut call = call(operation, None);
    call.labels.insert("ResourceArn", arn.to_owned());
    call
}

fn put(arn: &str, policy: &Value) -> Call {
    with_body(of_resource("PutResourcePolicy", arn), &json!({"Policy": policy.to_string()}))
}

fn deny(action: &str, principal: &Value, resource: &str) -> Value {
    json!({"Statement": [{
        "Sid": "no", "Effect": "Deny", "Principal": principal, "Action": action, "Resource": resource,
    }]})
}

async fn policy(fixture: &Fixture, name: &str) -> (Value, Value) {
    let answer = fixture.json(call("GetPolicy", Some(name))).await;
    (serde_json::from_str(answer["Policy"].as_str().unwrap()).unwrap(), answer["RevisionId"].clone())
}

async fn sids(fixture: &Fixture, name: &str) -> Vec<String> {
    let (policy, _) = policy(fixture, name).await;
    let statements = policy["Statement"].as_array().unwrap().iter();
    statements.map(|statement| statement["Sid"].as_str().unwrap().to_owned()).collect()
}

async fn revision(fixture: &Fixture, name: &str) -> Value {
    fixture.json(call("GetFunctionConfiguration", Some(name))).await["RevisionId"].clone()
}

fn expect(error: (String, u16, String), code: &str, status: u16, text: &str) {
    assert_eq!(error, (code.to_owned(), status, text.to_owned()));
}

#[tokio::test]
async fn a_permission_becomes_a_statement_of_awss_form() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let head = |sid: &str, principal: &str, action: &str| {
        format!(
            r#"{{"Sid":"{sid}","Effect":"Allow","Principal":{principal},"Action":"{action}","Resource":"{ARN}""#
        )
    };
    let invoke = "lambda:InvokeFunction";
    let cases = [
        (permission("s3"), head("s3", r#"{"Service":"s3.amazonaws.com"}"#, invoke) + "}"),
        (
            permission_with("account", "Principal", json!("111111111111")),
            head("account", r#"{"AWS":"arn:aws:iam::111111111111:root"}"#, invoke) + "}",
        ),
        (
            permission_with("user", "Principal", json!("arn:aws:iam::111111111111:user/ann")),
            head("user", r#"{"AWS":"arn:aws:iam::111111111111:user/ann"}"#, invoke) + "}",
        ),
        (
            permission_with("source", "SourceArn", json!("arn:aws:s3:::bucket")),
            head("source", r#"{"Service":"s3.amazonaws.com"}"#, invoke)
                + r#","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}"#,
        ),
        (
            json!({
                "StatementId": "url", "Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE",
                "SourceAccount": "000000000000", "SourceArn": "arn:aws:s3:::bucket", "PrincipalOrgID": "o-1234567890",
            }),
            head("url", r#""*""#, "lambda:InvokeFunctionUrl")
                + r#","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE","aws:PrincipalOrgID":"o-1234567890","AWS:SourceAccount":"000000000000"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}"#,
        ),
        (
            json!({
                "StatementId": "alexa", "Action": invoke, "Principal": "alexa-appkit.amazon.com",
                "EventSourceToken": "amzn1.ask.skill.x", "InvokedViaFunctionUrl": true,
            }),
            head("alexa", r#"{"Service":"alexa-appkit.amazon.com"}"#, invoke)
                + r#","Condition":{"StringEquals":{"lambda:EventSourceToken":"amzn1.ask.skill.x"},"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}"#,
        ),
    ];
    let mut statements = Vec::new();
    for (body, text) in cases {
        let reply = fixture.send(add("f", &body)).await.unwrap();
        assert_eq!(reply.status.as_u16(), 201);
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer, json!({"Statement": text}));
        statements.push(text);
    }
    let answer = fixture.json(call("GetPolicy", Some("f"))).await;
    let whole =
        format!(r#"{{"Version":"2012-10-17","Id":"default","Statement":[{}]}}"#, statements.join(","));
    assert_eq!(answer["Policy"], whole);
    assert_eq!(answer, fixture.json(of_resource("GetResourcePolicy", ARN)).await);
}

#[tokio::test]
async fn each_of_a_functions_names_has_a_policy_of_its_own() {
    let fixture = with_versions(1).await;
    let alias = with_body(call("CreateAlias", Some("f")), &json!({"Name": "live", "FunctionVersion": "1"}));
    fixture.send(alias).await.unwrap();
    for (name, arn) in [("f", ARN.to_owned()), ("f:1", format!("{ARN}:1")), ("f:live", format!("{ARN}:live"))]
    {
        fixture.send(add(name, &permission("same"))).await.unwrap();
        let (policy, _) = policy(&fixture, name).await;
        assert_eq!(policy["Statement"][0]["Resource"], arn);
    }
    // Every name, every change: the revision moves, and is the policy's too.
    for name in ["f", "f:1"] {
        let before = revision(&fixture, name).await;
        assert_eq!(policy(&fixture, name).await.1, before);
        fixture.send(add(name, &permission_with("guarded", "RevisionId", before.clone()))).await.unwrap();
        let after = revision(&fixture, name).await;
        assert_ne!(after, before);
        assert_eq!(policy(&fixture, name).await.1, after);
    }
    let mut live = call("GetAlias", Some("f"));
    live.labels.insert("Name", "live".to_owned());
    assert_eq!(fixture.json(live).await["RevisionId"], policy(&fixture, "f:live").await.1);

    let delete_alias = || {
        let mut delete = call("DeleteAlias", Some("f"));
        delete.labels.insert("Name", "live".to_owned());
        delete
    };
    fixture.send(delete_alias()).await.unwrap();
    let again = with_body(call("CreateAlias", Some("f")), &json!({"Name": "live", "FunctionVersion": "1"}));
    fixture.send(again).await.unwrap();
    let gone = "The resource you requested does not exist.";
    expect(fixture.error(call("GetPolicy", Some("f:live"))).await, "ResourceNotFoundException", 404, gone);
    fixture.send(delete_alias()).await.unwrap();
    fixture.send(with_query(call("DeleteFunction", Some("f")), "Qualifier", "1")).await.unwrap();
    expect(fixture.error(call("GetPolicy", Some("f:1"))).await, "ResourceNotFoundException", 404, gone);
    assert_eq!(sids(&fixture, "f").await, ["same", "guarded"]);
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    fixture.create("f").await;
    expect(fixture.error(call("GetPolicy", Some("f"))).await, "ResourceNotFoundException", 404, gone);
}

#[tokio::test]
async fn a_policy_on_a_version_leaves_what_runs_as_it_was() {
    let fixture = with_versions(1).await;
    fixture.send(call("Invoke", Some("f:1"))).await.unwrap();
    let before = fixture.invoked().0;
    fixture.send(add("f:1", &permission("s"))).await.unwrap();
    fixture.send(call("Invoke", Some("f:1"))).await.unwrap();
    assert_eq!(fixture.invoked().0, before);
    assert!(!fixture.retired().contains(&before.key));
    // Nothing has changed that a new version would be made of.
    fixture.send(add("f", &permission("s"))).await.unwrap();
    assert_eq!(fixture.json(call("PublishVersion", Some("f"))).await["Version"], "1");
}

#[tokio::test]
async fn permissions_are_removed_one_by_one_until_there_is_no_policy() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let none = "No policy is associated with the given resource.";
    expect(fixture.error(remove("f", "a")).await, "ResourceNotFoundException", 404, none);
    fixture.send(add("f", &permission("a"))).await.unwrap();
    fixture.send(add("f", &permission("b"))).await.unwrap();
    let unknown = "Statement c is not found in resource policy.";
    expect(fixture.error(remove("f", "c")).await, "ResourceNotFoundException", 404, unknown);
    let stale = with_query(remove("f", "a"), "RevisionId", "wrong");
    assert_eq!(fixture.error(stale).await.1, 412);
    let current = revision(&fixture, "f").await;
    let guarded = with_query(remove("f", "a"), "RevisionId", current.as_str().unwrap());
    assert_eq!(fixture.send(guarded).await.unwrap().status.as_u16(), 204);
    assert_eq!(sids(&fixture, "f").await, ["b"]);
    fixture.send(remove("f", "b")).await.unwrap();
    let gone = "The resource you requested does not exist.";
    expect(fixture.error(call("GetPolicy", Some("f"))).await, "ResourceNotFoundException", 404, gone);
}

#[tokio::test]
async fn what_cannot_be_permitted_is_told_in_awss_words() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(add("f", &permission("there"))).await.unwrap();
    let missing = "ResourceNotFoundException";
    let wrong = "InvalidParameterValueException";
    let function = "arn:aws:lambda:us-east-1:000000000000:function";
    for (name, code, status, text) in [
        ("x", missing, 404, format!("Function not found: {function}:x")),
        ("f:42", missing, 404, format!("Function not found: {function}:f:42")),
        ("f:none", missing, 404, format!("Cannot find alias arn: {function}:f:none")),
        ("f:$LATEST", wrong, 400, "We currently do not support adding policies for $LATEST.".to_owned()),
    ] {
        expect(fixture.error(add(name, &permission("new"))).await, code, status, &text);
    }
    let odd = with_query(add("f", &permission("new")), "Qualifier", "valid-with-$-but");
    let text = format!("Function not found: {function}:f:valid-with-$-but");
    expect(fixture.error(odd).await, missing, 404, &text);
    let invalid = with_query(add("f", &permission("new")), "Qualifier", "with-?");
    let text = "1 validation error detected: Value 'with-?' at 'qualifier' failed to satisfy constraint: Member must satisfy \
                regular expression pattern: (|[a-zA-Z0-9$_-]+)";
    expect(fixture.error(invalid).await, "ValidationException", 400, text);
    let text = "The statement id (there) provided already exists. Please provide a new statement id, or remove the existing \
                statement.";
    expect(fixture.error(add("f", &permission("there"))).await, "ResourceConflictException", 409, text);
    let text = format!("No policy found for: {function}:x");
    expect(fixture.error(remove("x", "there")).await, missing, 404, &text);
    let text = format!("Cannot find alias arn: {function}:f:none");
    expect(fixture.error(remove("f:none", "there")).await, missing, 404, &text);
    for (name, text) in [
        ("x", format!("Function not found: {function}:x")),
        ("f:42", "The resource you requested does not exist.".to_owned()),
        ("f:none", "The resource you requested does not exist.".to_owned()),
    ] {
        expect(fixture.error(call("GetPolicy", Some(name))).await, missing, 404, &text);
    }
    let stale = fixture.error(add("f", &permission_with("new", "RevisionId", json!("wrong")))).await;
    assert_eq!((stale.0.as_str(), stale.1), ("PreconditionFailedException", 412));
    assert_eq!(sids(&fixture, "f").await, ["there"]);
}

#[tokio::test]
async fn members_of_a_permission_are_checked() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let text = "1 validation error detected: Value 'example.com' at 'statementId' failed to satisfy constraint: Member must \
                satisfy regular expression pattern: ([a-zA-Z0-9-_]+)";
    expect(fixture.error(add("f", &permission("example.com"))).await, "ValidationException", 400, text);
    for (member, value, path) in [
        ("StatementId", json!("x".repeat(101)), "statementId"),
        ("Action", json!("s3:GetObject"), "action"),
        ("Action", json!("lambda:Get*"), "action"),
        ("Principal", json!("two words"), "principal"),
        ("SourceArn", json!("bucket"), "sourceArn"),
        ("SourceAccount", json!("12"), "sourceAccount"),
        ("EventSourceToken", json!("a b"), "eventSourceToken"),
        ("PrincipalOrgID", json!("o-1"), "principalOrgID"),
        ("FunctionUrlAuthType", json!("SOME"), "functionUrlAuthType"),
    ] {
        let (code, _, message) = fixture.error(add("f", &permission_with("s", member, value))).await;
        assert_eq!(code, "ValidationException", "{message}");
        assert!(message.contains(&format!("at '{path}'")), "{message}");
    }
    let nothing = fixture.error(add("f", &json!({}))).await.2;
    assert!(nothing.starts_with("3 validation errors detected: "), "{nothing}");
    for principal in ["someone", "invalid.nonaws.com", "arn:aws:s3:::bucket", "12", "arn:aws:iam::12:root"] {
        let text = "The provided principal was invalid. Please check the principal and try again.";
        let refused = fixture.error(add("f", &permission_with("s", "Principal", json!(principal)))).await;
        expect(refused, "InvalidParameterValueException", 400, text);
    }
    let url = permission_with("s", "FunctionUrlAuthType", json!("NONE"));
    let text = "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action";
    expect(fixture.error(add("f", &url)).await, "InvalidParameterValueException", 400, text);
    assert_eq!(fixture.error(call("GetPolicy", Some("f"))).await.1, 404);
}

#[tokio::test]
async fn a_policy_that_is_full_says_so() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let source = format!("arn:aws:s3:::{}", "b".repeat(6_500));
    for sid in ["a", "b", "c"] {
        fixture.send(add("f", &permission_with(sid, "SourceArn", json!(source)))).await.unwrap();
    }
    let (code, status, text) =
        fixture.error(add("f", &permission_with("d", "SourceArn", json!(source)))).await;
    assert_eq!((code.as_str(), status), ("PolicyLengthExceededException", 400));
    assert!(
        text.starts_with("The final policy size (2") && text.ends_with(") is bigger than the limit (20480).")
    );
    assert_eq!(sids(&fixture, "f").await, ["a", "b", "c"]);
}

#[tokio::test]
async fn documents_and_permissions_edit_one_policy() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(add("f", &permission("old"))).await.unwrap();
    let document = json!({
        "Version": "2012-10-17", "Id": "mine",
        "Statement": [{
            "Sid": "new", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
            "Action": "lambda:InvokeFunction", "Resource": ARN,
        }],
    });
    let reply = fixture.send(put(ARN, &document)).await.unwrap();
    assert_eq!(reply.status.as_u16(), 200);
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["Policy"], document.to_string());
    assert_eq!(answer["RevisionId"], revision(&fixture, "f").await);
    assert_eq!(fixture.json(of_resource("GetResourcePolicy", ARN)).await, answer);
    fixture.send(add("f", &permission("more"))).await.unwrap();
    assert_eq!(policy(&fixture, "f").await.0["Id"], "mine");
    assert_eq!(sids(&fixture, "f").await, ["new", "more"]);

    let stale = |mut call: Call| {
        let body = json!({"Policy": document.to_string(), "RevisionId": answer["RevisionId"]});
        call.query.push(("RevisionId".to_owned(), answer["RevisionId"].as_str().unwrap().to_owned()));
        with_body(call, &body)
    };
    for operation in ["PutResourcePolicy", "DeleteResourcePolicy"] {
        assert_eq!(fixture.error(stale(of_resource(operation, ARN))).await.1, 412, "{operation}");
    }
    let current = revision(&fixture, "f").await;
    let delete =
        with_query(of_resource("DeleteResourcePolicy", ARN), "RevisionId", current.as_str().unwrap());
    assert_eq!(fixture.send(delete).await.unwrap().status.as_u16(), 204);
    assert_eq!(fixture.error(of_resource("DeleteResourcePolicy", ARN)).await.1, 404);
    assert_eq!(fixture.error(of_resource("GetResourcePolicy", ARN)).await.1, 404);
}

#[tokio::test]
async fn a_wrong_document_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let good = deny("lambda:InvokeFunction", &json!({"AWS": "111111111111"}), ARN);
    let latest = format!("{ARN}:$LATEST");
    let body = |policy: &str| with_body(of_resource("PutResourcePolicy", ARN), &json!({"Policy": policy}));
    for (request, code, text) in [
        (put(&latest, &good), "InvalidParameterValueException", "adding policies for $LATEST"),
        (
            put(&format!("{ARN}:7"), &deny("*", &json!("*"), &format!("{ARN}:7"))),
            "ResourceNotFoundException",
            ":f:7",
        ),
        (
            put("arn:aws:lambda:us-east-1:000000000000:runtime/x", &good),
            "ResourceNotFoundException",
            "does not exist",
        ),
        (
            put("arn:aws:lambda:us-east-1:111111111111:function:f", &good),
            "AccessDeniedException",
            "not authorized",
        ),
        (put("f", &good), "ValidationException", "at 'resourceArn'"),
        (put(ARN, &deny("s3:x", &json!("*"), ARN)), "InvalidParameterValueException", "not an action"),
        (body(""), "ValidationException", "at 'policy'"),
        (body(&"x".repeat(20_481)), "ValidationException", "less than or equal to 20480"),
        (body("{}"), "InvalidParameterValueException", "The policy is not valid"),
        (of_resource("PutResourcePolicy", ARN), "ValidationException", "null at 'policy'"),
        (
            with_body(of_resource("PutResourcePolicy", ARN), &json!({"Policy": "{}", "RevisionId": "x"})),
            "ValidationException",
            "at 'revisionId'",
        ),
    ] {
        let (found, _, message) = fixture.error(request).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(fixture.error(of_resource("GetResourcePolicy", ARN)).await.1, 404);
}

#[tokio::test]
async fn whom_a_policy_denies_is_kept_out() {
    let fixture = with_versions(1).await;
    fixture.send(call("Invoke", Some("f"))).await.unwrap();
    let everyone = json!("*");
    fixture.send(put(ARN, &deny("lambda:InvokeFunction", &everyone, ARN))).await.unwrap();
    let text = format!(
        "User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:InvokeFunction on resource: {ARN} with an \
         explicit deny in a resource-based policy"
    );
    expect(fixture.error(call("Invoke", Some("f"))).await, "AccessDeniedException", 403, &text);
    assert_eq!(fixture.error(call("Invoke", Some("f:$LATEST"))).await.1, 403);
    // The statement names neither the versions nor other actions.
    fixture.send(call("Invoke", Some("f:1"))).await.unwrap();
    fixture.send(call("GetFunction", Some("f"))).await.unwrap();

    fixture.send(put(ARN, &deny("lambda:*", &everyone, &format!("{ARN}:*")))).await.unwrap();
    for operation in ["Invoke", "GetFunctionConfiguration", "GetFunction"] {
        assert_eq!(fixture.error(call(operation, Some("f:1"))).await.1, 403, "{operation}");
    }
    fixture.send(call("Invoke", Some("f"))).await.unwrap_err();
    // Nobody can be kept from changing the policy.
    fixture.send(of_resource("DeleteResourcePolicy", ARN)).await.unwrap();
    fixture.send(call("Invoke", Some("f:1"))).await.unwrap();
    fixture.send(call("Invoke", Some("f"))).await.unwrap();
}

#[tokio::test]
async fn a_role_is_denied_and_its_account_is_not() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let role = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:role/work")});
    fixture.send(put(ARN, &deny("lambda:*", &role, ARN))).await.unwrap();
    let as_session = |mut call: Call, role: &str| {
        call.principal.arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/session");
        call
    };
    for operation in ["Invoke", "GetFunction", "PublishVersion", "DeleteFunction"] {
        let denied = fixture.error(as_session(call(operation, Some("f")), "work")).await;
        assert_eq!((denied.0.as_str(), denied.1), ("AccessDeniedException", 403), "{operation}");
    }
    let mut tags = call("ListTags", None);
    tags.labels.insert("Resource", ARN.to_owned());
    assert_eq!(fixture.error(as_session(tags.clone(), "work")).await.1, 403);
    for request in [call("Invoke", Some("f")), call("GetFunction", Some("f")), tags] {
        fixture.send(as_session(request.clone(), "rest")).await.unwrap();
        fixture.send(request).await.unwrap();
    }
}

#[tokio::test]
async fn another_process_change_of_a_policy_is_seen() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(call("Invoke", Some("f"))).await.unwrap();
    let Fixture { store, folder, .. } = &fixture;
    let other = Fixture::over(store.clone(), tempfile::tempdir_in(folder.path()).unwrap()).await;
    other.send(put(ARN, &deny("lambda:InvokeFunction", &json!("*"), ARN))).await.unwrap();
    // The watch tells of it in a moment.
    let seen = async {
        while fixture.send(call("Invoke", Some("f"))).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the change is seen");
}
