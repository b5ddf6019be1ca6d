//! `CreateFunction`: what it gives back, and everything that it refuses.

use super::*;
use crate::package::tests::Raw;

#[tokio::test]
async fn a_function_is_created_with_awss_defaults() {
    let fixture = Fixture::new().await;
    let reply = fixture.send(create("hello-world")).await.unwrap();
    assert_eq!(reply.status.as_u16(), 201);
    let mut body: Value = serde_json::from_slice(&reply.body).unwrap();
    let zip = zip("#!/bin/sh");
    let digest = STANDARD.encode(<sha2::Sha256 as sha2::Digest>::digest(&zip));
    let members = body.as_object_mut().unwrap();
    let revision = members.remove("RevisionId").unwrap();
    assert_eq!(revision.as_str().unwrap().len(), 36);
    let runtime = members.remove("RuntimeVersionConfig").unwrap();
    let arn = runtime["RuntimeVersionArn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:lambda:us-east-1::runtime:"), "{arn}");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    assert_eq!(
        body,
        json!({
            "FunctionName": "hello-world",
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:hello-world",
            "Runtime": "provided.al2023", "Role": ROLE, "Handler": "bootstrap", "CodeSize": zip.len(),
            "Description": "", "Timeout": 3, "MemorySize": 128, "LastModified": "2026-11-23T11:45:00.123+0000",
            "CodeSha256": digest, "Version": "$LATEST", "TracingConfig": {"Mode": "PassThrough"}, "State": "Pending",
            "StateReason": "The function is being created.", "StateReasonCode": "Creating", "PackageType": "Zip", "Architectures": [architecture],
            "EphemeralStorage": {"Size": 512}, "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/hello-world"},
        })
    );
}

#[tokio::test]
async fn what_the_client_sets_is_given_back() {
    let fixture = Fixture::new().await;
    let mut body = creation("f");
    let members = json!({
        "Description": "d", "Timeout": 900, "MemorySize": 10240, "EphemeralStorage": {"Size": 10240},
        "Environment": {"Variables": {"KEY": "välue"}}, "TracingConfig": {"Mode": "Active"}, "Tags": {"team": "a"},
        "LoggingConfig": {"LogFormat": "JSON", "LogGroup": "/my/group", "SystemLogLevel": "WARN"},
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}, "Layers": [], "FileSystemConfigs": [],
        "DeadLetterConfig": {"TargetArn": ""}, "KMSKeyArn": "", "SnapStart": {"ApplyOn": "None"}, "Publish": false,
        "PackageType": "Zip", "Unknown": [[[1]]],
    });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    let created = fixture.json(with_body(call("CreateFunction", None), &body)).await;
    for member in ["Description", "Timeout", "MemorySize", "EphemeralStorage", "Environment", "TracingConfig"]
    {
        assert_eq!(created[member], members[member], "{member}");
    }
    let logging = json!({
        "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN", "LogGroup": "/my/group",
    });
    assert_eq!(created["LoggingConfig"], logging);
    assert_eq!(created["VpcConfig"]["SubnetIds"], json!([]));
    let found = fixture.json(call("GetFunction", Some("f"))).await;
    assert_eq!(found["Tags"], json!({"team": "a"}));
    assert_eq!(
        (&found["Configuration"]["State"], &found["Configuration"]["LastUpdateStatus"]),
        (&json!("Active"), &json!("Successful"))
    );
    assert_eq!(found["Configuration"]["RevisionId"], created["RevisionId"]);
    assert_eq!(found["Code"]["RepositoryType"], "S3");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_and_nothing_is_left() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let first = fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    let folders = fixture.code_folders();
    let other = create_with("Code", json!({"ZipFile": zip_base64("other")}));
    let conflict = ("ResourceConflictException".to_owned(), 409, "Function already exist: f".to_owned());
    assert_eq!(fixture.error(other).await, conflict);
    assert_eq!(fixture.code_folders(), folders);
    assert_eq!(fixture.json(call("GetFunctionConfiguration", Some("f"))).await, first);
}

#[tokio::test]
async fn of_many_who_create_one_name_one_wins() {
    let fixture = Arc::new(Fixture::new().await);
    let attempts: Vec<_> = (0..8)
        .map(|index| {
            let fixture = Arc::clone(&fixture);
            let code = json!({"ZipFile": zip_base64(&format!("echo {index}"))});
            tokio::spawn(async move { fixture.send(create_with("Code", code)).await })
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.code, "ResourceConflictException"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(fixture.code_folders().len(), 1, "the losers' code is gone");
}

#[tokio::test]
async fn constraints_are_told_in_awss_words() {
    let fixture = Fixture::new().await;
    let cases = [
        (
            "MemorySize",
            json!(127),
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        ),
        (
            "MemorySize",
            json!(10241),
            "Value '10241' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240",
        ),
        (
            "Timeout",
            json!(0),
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "Timeout",
            json!(901),
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        ),
        (
            "EphemeralStorage",
            json!({"Size": 511}),
            "Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512",
        ),
        (
            "Role",
            json!("r1"),
            r"Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
        ),
        ("Role", Value::Null, "Value null at 'role' failed to satisfy constraint: Member must not be null"),
        (
            "Handler",
            json!("a b"),
            r"Value 'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\s]+",
        ),
        (
            "Architectures",
            json!(["mips"]),
            "Value '[mips]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            "Architectures",
            json!(["x86_64", "arm64"]),
            "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
        ),
        (
            "PackageType",
            json!("Tar"),
            "Value 'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Zip, Image]",
        ),
        (
            "TracingConfig",
            json!({"Mode": "On"}),
            "Value 'On' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]",
        ),
        (
            "Environment",
            json!({"Variables": {"1A": ""}}),
            "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]",
        ),
        ("Code", Value::Null, "Value null at 'code' failed to satisfy constraint: Member must not be null"),
    ];
    for (member, value, text) in cases {
        let expected =
            ("ValidationException".to_owned(), 400, format!("1 validation error detected: {text}"));
        assert_eq!(fixture.error(create_with(member, value)).await, expected);
    }
    let long = create_with("Description", json!("x".repeat(257)));
    assert!(fixture.error(long).await.2.ends_with("Member must have length less than or equal to 256"));
    let error = fixture.error(with_body(call("CreateFunction", None), &json!({}))).await;
    assert!(error.2.starts_with("3 validation errors detected: "), "{}", error.2);
    assert!(fixture.code_folders().is_empty());
}

#[tokio::test]
async fn rules_beyond_the_model_are_told_in_awss_words() {
    let fixture = Fixture::new().await;
    let reserved = json!({"Variables": {"AWS_REGION": "x", "_HANDLER": "y", "FINE": "z"}});
    let cases = [
        (
            "Environment",
            reserved,
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION, _HANDLER",
        ),
        (
            "Environment",
            json!({"Variables": {"LONG": "x".repeat(4100)}}),
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {\"LONG\":\"xxx",
        ),
        (
            "Runtime",
            json!("cobol85"),
            "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [",
        ),
        (
            "Runtime",
            json!("dotnet8"),
            "Freehold does not support the runtime dotnet8 yet. Supported: python3.10",
        ),
        (
            "Runtime",
            json!("python3.12"),
            "the runtime python3.12 needs Python 3.12, which was not found on this host.",
        ),
        (
            "Runtime",
            Value::Null,
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ),
        (
            "Handler",
            Value::Null,
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ),
        ("Code", json!({}), "Please provide a source for function code."),
        ("Code", json!({"ZipFile": ""}), "Uploaded file must be a non-empty zip"),
        (
            "Code",
            json!({"ZipFile": "bm90IGEgemlw"}),
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        ("FunctionName", json!("x".repeat(65)), "1 validation error detected: Value 'xxxxx"),
        (
            "LoggingConfig",
            json!({"SystemLogLevel": "WARN"}),
            "ApplicationLogLevel and SystemLogLevel can only be set when LogFormat is JSON.",
        ),
        (
            "Tags",
            (0..51).map(|index| (format!("k{index}"), json!("v"))).collect(),
            "Number of tags exceeds resource tag limit.",
        ),
    ];
    for (member, value, text) in cases {
        let (code, status, message) = fixture.error(create_with(member, value)).await;
        assert_eq!((code.as_str(), status), ("InvalidParameterValueException", 400), "{member}: {message}");
        assert!(message.starts_with(text), "{member}: {message}");
    }
    assert!(fixture.code_folders().is_empty());
}

#[tokio::test]
async fn what_would_be_ignored_is_refused_by_name() {
    let fixture = Fixture::new().await;
    let foreign = if cfg!(target_arch = "aarch64") { "x86_64" } else { "arm64" };
    let cases = [
        ("PackageType", json!("Image")),
        ("Architectures", json!([foreign])),
        ("VpcConfig", json!({"SubnetIds": ["subnet-1"]})),
        ("FileSystemConfigs", json!([{"Arn": "a", "LocalMountPath": "/mnt/x"}])),
        ("ImageConfig", json!({"Command": ["x"]})),
        ("DurableConfig", json!({"ExecutionTimeout": 5})),
        ("CapacityProviderConfig", json!({"LambdaManagedInstancesCapacityProviderConfig": {}})),
        ("KMSKeyArn", json!("arn:aws:kms:us-east-1:123456789012:key/x")),
        ("DeadLetterConfig", json!({"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"})),
        ("PublishTo", json!("LATEST_PUBLISHED")),
    ];
    for (member, value) in cases {
        let (code, status, message) = fixture.error(create_with(member, value)).await;
        assert_eq!((code.as_str(), status), ("InvalidParameterValueException", 400), "{member}");
        assert!(message.starts_with(&format!("Freehold does not support {member}")), "{message}");
    }
    for (member, value) in [("S3Bucket", "bucket"), ("ImageUri", "uri")] {
        let mut code = json!({});
        code[member] = json!(value);
        let message = fixture.error(create_with("Code", code.clone())).await.2;
        assert!(message.contains(member), "{message}");
        code["ZipFile"] = json!(zip_base64("x"));
        let message = fixture.error(create_with("Code", code)).await.2;
        assert_eq!(message, "Please do not provide other FunctionCode parameters when providing a ZipFile.");
    }
    assert!(fixture.code_folders().is_empty());
}

#[tokio::test]
async fn names_arns_and_partial_arns_name_the_new_function() {
    let fixture = Fixture::new().await;
    for (name, bare) in [
        ("000000000000:function:partial", "partial"),
        ("arn:aws:lambda:us-east-1:000000000000:function:full", "full"),
    ] {
        let created = fixture.create(name).await;
        assert_eq!(created["FunctionName"], bare);
        assert_eq!(created["LoggingConfig"]["LogGroup"], format!("/aws/lambda/{bare}"));
    }
    for (name, code, status) in [
        ("a b", "ValidationException", 400),
        ("f:7", "ValidationException", 400),
        ("arn:aws:lambda:eu-west-1:000000000000:function:x", "ResourceNotFoundException", 404),
        ("arn:aws:lambda:us-east-1:123456789012:function:x", "AccessDeniedException", 403),
    ] {
        let error = fixture.error(create(name)).await;
        assert_eq!((error.0.as_str(), error.1), (code, status), "{name}");
    }
}

#[tokio::test]
async fn broken_bodies_are_serialization_errors() {
    let fixture = Fixture::new().await;
    for body in
        ["{", "[]", "{\"FunctionName\": 5}", "{\"Code\": {\"ZipFile\": \"*\"}}", "{\"Timeout\": \"3\"}"]
    {
        let mut request = call("CreateFunction", None);
        request.body = body.into();
        let error = fixture.error(request).await;
        assert_eq!((error.0.as_str(), error.1), ("SerializationException", 400), "{body}");
    }
}

#[tokio::test]
async fn a_zip_that_is_too_large_to_be_sent_is_refused() {
    let fixture = Fixture::new().await;
    let code = json!({"ZipFile": STANDARD.encode(vec![0; 50 * 1024 * 1024])});
    let error = fixture.error(create_with("Code", code)).await;
    let text = "Zipped size must be smaller than 52428800 bytes".to_owned();
    assert_eq!(error, ("RequestEntityTooLargeException".to_owned(), 413, text));
}

#[tokio::test]
async fn a_bad_zip_changes_nothing() {
    let fixture = Fixture::new().await;
    let slip = zip_of(&[file("ok", ""), file("../slip", "")]);
    let error = fixture.error(create_with("Code", json!({"ZipFile": STANDARD.encode(slip)}))).await;
    assert_eq!(error.0, "InvalidParameterValueException");
    assert!(error.2.contains("'../slip' leads out of the package"), "{}", error.2);
    assert!(fixture.code_folders().is_empty());
    assert_eq!(fixture.error(call("GetFunction", Some("f"))).await.0, "ResourceNotFoundException");
    // AWS takes a bootstrap without its execute bit, and fails when it is to be run.
    let plain: Raw = file("bootstrap", "");
    let code = json!({"ZipFile": STANDARD.encode(zip_of(&[plain]))});
    assert_eq!(fixture.send(create_with("Code", code)).await.unwrap().status.as_u16(), 201);
}
