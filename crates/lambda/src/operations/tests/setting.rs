//! Runtime management, recursion, SnapStart and tenants: recorded, shown, handed on, and refused where they cannot be kept to.

use serde_json::{Value, json};

use super::*;

fn manage(name: &str, body: &Value) -> Call {
    with_body(call("PutRuntimeManagementConfig", Some(name)), body)
}

fn managed(name: &str) -> Call {
    call("GetRuntimeManagementConfig", Some(name))
}

fn arn(name: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
}

#[tokio::test]
async fn each_version_has_its_own_runtime_management() {
    let fixture = Fixture::new().await;
    let created = fixture.create("f").await;
    let auto =
        |name: &str| json!({"UpdateRuntimeOn": "Auto", "FunctionArn": arn(name), "RuntimeVersionArn": null});
    assert_eq!(fixture.json(managed("f")).await, auto("f"));
    let function_update = |name: &str| json!({"UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": arn(name), "RuntimeVersionArn": null});
    let put = fixture.json(manage("f", &json!({"UpdateRuntimeOn": "FunctionUpdate"}))).await;
    assert_eq!(put, function_update("f"));
    fixture.send(call("PublishVersion", Some("f"))).await.unwrap();
    assert_eq!(fixture.json(managed("f:1")).await, function_update("f:1"), "as the code, it is copied");

    let own = created["RuntimeVersionConfig"]["RuntimeVersionArn"].as_str().unwrap();
    let manual = json!({"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": own});
    let put = fixture.json(with_query(manage("f", &manual), "Qualifier", "1")).await;
    assert_eq!(
        put,
        json!({"UpdateRuntimeOn": "Manual", "FunctionArn": arn("f:1"), "RuntimeVersionArn": own})
    );
    assert_eq!(fixture.json(managed("f:1")).await, put);
    assert_eq!(fixture.json(managed("f:$LATEST")).await, function_update("f:$LATEST"));
    fixture.send(manage("f", &json!({"UpdateRuntimeOn": "Auto"}))).await.unwrap();
    assert_eq!(fixture.json(managed("f")).await, auto("f"));
    assert_eq!(fixture.json(managed("f:1")).await, put);
    assert!(fixture.retired().is_empty(), "environments stay");
    let again = fixture.json(call("PublishVersion", Some("f"))).await;
    assert_eq!(again["Version"], "1", "it is no change that is published");
}

#[tokio::test]
async fn runtime_management_that_cannot_be_is_refused() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.error(managed("f")).await.0, "ResourceNotFoundException");
    fixture.create("f").await;
    let foreign = format!("arn:aws:lambda:us-east-1::runtime:{}", "0".repeat(64));
    let cases = [
        (json!({}), "ValidationException"),
        (json!({"UpdateRuntimeOn": "Never"}), "ValidationException"),
        (json!({"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": "arn"}), "ValidationException"),
        (json!({"UpdateRuntimeOn": "Manual"}), "InvalidParameterValueException"),
        (json!({"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": foreign}), "InvalidParameterValueException"),
        (
            json!({"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": foreign}),
            "InvalidParameterValueException",
        ),
    ];
    for (body, code) in cases {
        assert_eq!(fixture.error(manage("f", &body)).await.0, code, "{body}");
    }
    for (name, code) in [("f:7", "ResourceNotFoundException"), ("f:live", "InvalidParameterValueException")] {
        assert_eq!(fixture.error(managed(name)).await.0, code, "{name}");
        assert_eq!(fixture.error(manage(name, &json!({"UpdateRuntimeOn": "Auto"}))).await.0, code, "{name}");
    }
}

#[tokio::test]
async fn loops_end_unless_they_are_allowed() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let get = || call("GetFunctionRecursionConfig", Some("f"));
    let put = |body: &Value| with_body(call("PutFunctionRecursionConfig", Some("f")), body);
    assert_eq!(fixture.json(get()).await, json!({"RecursiveLoop": "Terminate"}));
    for setting in ["Allow", "Terminate", "Allow"] {
        let body = json!({"RecursiveLoop": setting});
        assert_eq!(fixture.json(put(&body)).await, body);
        assert_eq!(fixture.json(get()).await, body);
    }
    let update = with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"MemorySize": 256}));
    fixture.send(update).await.unwrap();
    assert_eq!(fixture.json(get()).await, json!({"RecursiveLoop": "Allow"}), "an update leaves it");
    let (code, _, text) = fixture.error(put(&json!({"RecursiveLoop": "allow"}))).await;
    assert_eq!(code, "ValidationException");
    assert_eq!(
        text,
        "1 validation error detected: Value 'allow' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy \
         enum value set: [Terminate, Allow]"
    );
    assert_eq!(fixture.error(put(&json!({}))).await.0, "ValidationException");
    assert_eq!(
        fixture.error(call("GetFunctionRecursionConfig", Some("g"))).await.0,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn snapshots_are_for_some_runtimes_and_small_storage() {
    let fixture = Fixture::new().await;
    let apply_on = |on: &str| json!({"ApplyOn": on});
    let (code, _, text) = fixture.error(create_with("SnapStart", apply_on("PublishedVersions"))).await;
    assert_eq!(code, "InvalidParameterValueException");
    assert_eq!(text, "provided.al2023 is not supported for SnapStart enabled functions.");
    let created = fixture.json(create_with("SnapStart", apply_on("None"))).await;
    assert_eq!(created["SnapStart"], json!({"ApplyOn": "None", "OptimizationStatus": "Off"}));
    let update = with_body(
        call("UpdateFunctionConfiguration", Some("f")),
        &json!({"SnapStart": apply_on("PublishedVersions")}),
    );
    assert_eq!(
        fixture.error(update).await.2,
        "provided.al2023 is not supported for SnapStart enabled functions."
    );
    assert_eq!(fixture.error(create_with("SnapStart", apply_on("Always"))).await.0, "ValidationException");
}

#[tokio::test]
async fn a_tenant_is_named_where_the_function_keeps_them_apart_and_only_there() {
    let fixture = Fixture::new().await;
    fixture.create("plain").await;
    let tenancy = json!({"TenantIsolationMode": "PER_TENANT"});
    let created = fixture.json(create_with("TenancyConfig", tenancy.clone())).await;
    assert_eq!(created["TenancyConfig"], tenancy);
    let plain = fixture.json(call("GetFunctionConfiguration", Some("plain"))).await;
    assert_eq!(plain.get("TenancyConfig"), None);
    let update = with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"MemorySize": 256}));
    assert_eq!(fixture.json(update).await["TenancyConfig"], tenancy);
    let version = fixture.json(call("PublishVersion", Some("f"))).await;
    assert_eq!(version["TenancyConfig"], tenancy);

    let invoke = |name: &str| call("Invoke", Some(name));
    let of_tenant = |name: &str, tenant: &str| with_header(invoke(name), "x-amz-tenant-id", tenant);
    for name in ["f", "f:1"] {
        let (code, _, text) = fixture.error(invoke(name)).await;
        assert_eq!(code, "InvalidParameterValueException");
        assert!(text.starts_with("The invoked function is enabled with tenancy configuration."), "{text}");
        assert_eq!(fixture.error(with_header(invoke(name), "x-amz-invocation-type", "DryRun")).await.0, code);
    }
    assert!(fixture.executor.events.lock().unwrap().is_empty(), "nothing ran without its tenant");
    for (name, tenant) in [("f", "blue"), ("f:1", "b 1_:/=+-@.")] {
        fixture.send(of_tenant(name, tenant)).await.unwrap();
        assert_eq!(fixture.invoked().1.tenant_id.as_deref(), Some(tenant));
    }
    let (_, _, text) = fixture.error(of_tenant("plain", "blue")).await;
    assert!(text.starts_with("The invoked function is not enabled with tenancy configuration."), "{text}");
    for tenant in ["", "a,b", &"t".repeat(257)] {
        assert_eq!(fixture.error(of_tenant("f", tenant)).await.0, "ValidationException", "{tenant}");
    }
    assert_eq!(fixture.executor.events.lock().unwrap().len(), 2, "nothing else ran");
    fixture.send(invoke("plain")).await.unwrap();
    assert_eq!(fixture.invoked().1.tenant_id, None);
}

#[tokio::test]
async fn tenancy_is_set_at_creation_alone() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let update = json!({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}, "MemorySize": 256});
    let updated = fixture.json(with_body(call("UpdateFunctionConfiguration", Some("f")), &update)).await;
    assert_eq!(updated.get("TenancyConfig"), None, "an unknown member there");
    for wrong in [json!({}), json!({"TenantIsolationMode": "SHARED"})] {
        assert_eq!(fixture.error(create_with("TenancyConfig", wrong)).await.0, "ValidationException");
    }
}
