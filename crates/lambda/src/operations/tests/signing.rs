//! Code-signing configurations: kept, and held to where a package is deployed.

use serde_json::{Value, json};

use super::*;

const PUBLISHER: &str = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/profile/abcdefghij";
/// One that is not there.
const MISSING: &str = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdefg";

fn config(body: &Value) -> Call {
    with_body(call("CreateCodeSigningConfig", None), body)
}

fn on(operation: &str, arn: &str) -> Call {
    let mut call = call(operation, None);
    call.labels.insert("CodeSigningConfigArn", arn.to_owned());
    call
}

fn put(name: &str, arn: &str) -> Call {
    with_body(call("PutFunctionCodeSigningConfig", Some(name)), &json!({"CodeSigningConfigArn": arn}))
}

fn allowed() -> Value {
    json!({"SigningProfileVersionArns": [PUBLISHER]})
}

impl Fixture {
    /// A configuration with this policy: its ARN.
    async fn config(&self, policy: &str) -> String {
        let body = json!({
            "AllowedPublishers": allowed(), "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy},
        });
        let made = self.json(config(&body)).await;
        made["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_configuration_is_made_read_changed_and_deleted() {
    let fixture = Fixture::new().await;
    let reply =
        fixture.send(config(&json!({"AllowedPublishers": allowed(), "Description": "one"}))).await.unwrap();
    assert_eq!(reply.status, 201);
    let made: Value = serde_json::from_slice(&reply.body).unwrap();
    let arn = made["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap().to_owned();
    let id = arn.rsplit(':').next().unwrap();
    assert_eq!(arn, format!("arn:aws:lambda:us-east-1:000000000000:code-signing-config:{id}"));
    assert_eq!((id.len(), &id[..4]), (21, "csc-"));
    assert_eq!(
        made,
        json!({"CodeSigningConfig": {
            "CodeSigningConfigId": id, "CodeSigningConfigArn": arn, "Description": "one",
            "AllowedPublishers": allowed(), "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            "LastModified": "2026-11-23T11:45:00.123+0000",
        }})
    );
    assert_eq!(fixture.json(on("GetCodeSigningConfig", &arn)).await, made);

    let change = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}});
    let changed = fixture.json(with_body(on("UpdateCodeSigningConfig", &arn), &change)).await;
    let mut expected = made.clone();
    expected["CodeSigningConfig"]["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"] = json!("Enforce");
    assert_eq!(changed, expected);
    assert_eq!(fixture.json(on("GetCodeSigningConfig", &arn)).await, expected);

    assert_eq!(fixture.send(on("DeleteCodeSigningConfig", &arn)).await.unwrap().status, 204);
    for name in [
        "GetCodeSigningConfig",
        "DeleteCodeSigningConfig",
        "UpdateCodeSigningConfig",
        "ListFunctionsByCodeSigningConfig",
    ] {
        let (code, status, text) = fixture.error(on(name, &arn)).await;
        assert_eq!((code.as_str(), status), ("ResourceNotFoundException", 404), "{name}");
        assert_eq!(text, format!("The Lambda code signing configuration {arn} can not be found."));
    }
}

#[tokio::test]
async fn a_function_is_bound_to_a_configuration_and_released() {
    let fixture = Fixture::new().await;
    let arns = [fixture.config("Warn").await, fixture.config("Warn").await];
    fixture.create("a").await;
    fixture.send(create_with("CodeSigningConfigArn", json!(arns[0]))).await.unwrap();
    let get = |name| call("GetFunctionCodeSigningConfig", Some(name));
    assert_eq!(fixture.json(get("a")).await, json!({}));
    assert_eq!(fixture.json(get("f")).await, json!({"CodeSigningConfigArn": arns[0], "FunctionName": "f"}));
    let bound = json!({"CodeSigningConfigArn": arns[0], "FunctionName": "a"});
    assert_eq!(fixture.json(put("a", &arns[0])).await, bound);
    assert_eq!(fixture.json(get("a")).await, bound);

    let list = |arn: &str| on("ListFunctionsByCodeSigningConfig", arn);
    let function = |name: &str| format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
    assert_eq!(fixture.json(list(&arns[0])).await, json!({"FunctionArns": [function("a"), function("f")]}));
    let first = fixture.json(with_query(list(&arns[0]), "MaxItems", "1")).await;
    assert_eq!(first["FunctionArns"], json!([function("a")]));
    let rest = with_query(list(&arns[0]), "Marker", first["NextMarker"].as_str().unwrap());
    assert_eq!(fixture.json(rest).await, json!({"FunctionArns": [function("f")]}));

    let (code, status, _) = fixture.error(on("DeleteCodeSigningConfig", &arns[0])).await;
    assert_eq!((code.as_str(), status), ("ResourceConflictException", 409));
    fixture.send(put("a", &arns[1])).await.expect("another takes its place");
    assert_eq!(fixture.json(list(&arns[0])).await, json!({"FunctionArns": [function("f")]}));
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    fixture.send(on("DeleteCodeSigningConfig", &arns[0])).await.expect("a deleted function uses nothing");
    for _ in 0..2 {
        let reply = fixture.send(call("DeleteFunctionCodeSigningConfig", Some("a"))).await.unwrap();
        assert_eq!(reply.status, 204);
    }
    assert_eq!(fixture.json(get("a")).await, json!({}));
    fixture.send(on("DeleteCodeSigningConfig", &arns[1])).await.expect("nothing uses it");
}

#[tokio::test]
async fn configurations_are_listed_by_pages() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.json(call("ListCodeSigningConfigs", None)).await, json!({"CodeSigningConfigs": []}));
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(fixture.config("Warn").await);
    }
    made.sort();
    let (mut seen, mut request) = (Vec::new(), call("ListCodeSigningConfigs", None));
    loop {
        let page = fixture.json(with_query(request, "MaxItems", "2")).await;
        for config in page["CodeSigningConfigs"].as_array().unwrap() {
            seen.push(config["CodeSigningConfigArn"].as_str().unwrap().to_owned());
        }
        let Some(marker) = page["NextMarker"].as_str() else { break };
        request = with_query(call("ListCodeSigningConfigs", None), "Marker", marker);
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn unsigned_code_is_deployed_only_where_that_is_allowed() {
    let fixture = Fixture::new().await;
    let (warn, enforce) = (fixture.config("Warn").await, fixture.config("Enforce").await);
    let (code, status, text) = fixture.error(create_with("CodeSigningConfigArn", json!(enforce))).await;
    assert_eq!((code.as_str(), status), ("CodeVerificationFailedException", 400));
    assert!(text.ends_with("Check the provided signature for unsigned."), "{text}");
    assert_eq!(fixture.error(call("GetFunction", Some("f"))).await.1, 404, "nothing is left of it");
    assert!(fixture.code_folders().is_empty());

    fixture.send(create_with("CodeSigningConfigArn", json!(warn))).await.unwrap();
    let update = |content: &str| {
        with_body(call("UpdateFunctionCode", Some("f")), &json!({"ZipFile": zip_base64(content)}))
    };
    fixture.send(update("second")).await.unwrap();
    fixture.send(put("f", &enforce)).await.unwrap();
    for refused in [update("third"), update("second")] {
        assert_eq!(fixture.error(refused).await.0, "CodeVerificationFailedException");
    }
    let memory = json!({"MemorySize": 256});
    let update_memory = with_body(call("UpdateFunctionConfiguration", Some("f")), &memory);
    fixture.send(update_memory).await.expect("the code stays as it was");
    let relax = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"}});
    fixture.send(with_body(on("UpdateCodeSigningConfig", &enforce), &relax)).await.unwrap();
    fixture.send(update("third")).await.expect("it only warns now");
}

#[tokio::test]
async fn what_is_not_there_or_not_whole_is_refused() {
    let fixture = Fixture::new().await;
    fixture.create("there").await;
    for refused in [
        put("there", MISSING),
        put("missing", MISSING),
        create_with("CodeSigningConfigArn", json!(MISSING)),
        put("there", &MISSING.replace("us-east-1", "eu-west-1")),
    ] {
        let (code, status, text) = fixture.error(refused).await;
        assert_eq!((code.as_str(), status), ("CodeSigningConfigNotFoundException", 404));
        assert!(text.starts_with("The code signing configuration cannot be found. Check that the provided configuration is not deleted: arn:"), "{text}");
    }
    let arn = fixture.config("Warn").await;
    for refused in [put("missing", &arn), call("GetFunctionCodeSigningConfig", Some("missing"))] {
        assert_eq!(fixture.error(refused).await.0, "ResourceNotFoundException");
    }
    let wrong = [
        json!({}),
        json!({"AllowedPublishers": {}}),
        json!({"AllowedPublishers": {"SigningProfileVersionArns": []}}),
        json!({"AllowedPublishers": {"SigningProfileVersionArns": vec![PUBLISHER; 21]}}),
        json!({"AllowedPublishers": {"SigningProfileVersionArns": ["profile"]}}),
        json!({"AllowedPublishers": allowed(), "Description": "d".repeat(257)}),
        json!({"AllowedPublishers": allowed(), "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "warn"}}),
    ];
    for body in wrong {
        assert_eq!(fixture.error(config(&body)).await.0, "ValidationException", "{body}");
    }
    for arn in [
        "csc-1",
        "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-1",
        "arn:aws:lambda:us-east-1:0:code-signing-config:csc-0123456789abcdefg",
    ] {
        assert_eq!(fixture.error(on("GetCodeSigningConfig", arn)).await.0, "ValidationException", "{arn}");
    }
}
