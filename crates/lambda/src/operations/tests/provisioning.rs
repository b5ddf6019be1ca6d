//! Provisioned concurrency: what is answered, what is stored, what the executor is told.

use serde_json::{Value, json};

use super::aliasing::{alias_with, create_alias, of_alias, update_alias};
use super::publishing::with_versions;
use super::reserving::put as reserve;
use super::*;

fn config(operation: &str, name: &str, qualifier: &str) -> Call {
    with_query(call(operation, Some(name)), "Qualifier", qualifier)
}

fn put(qualifier: &str, executions: impl Into<Value>) -> Call {
    let body = json!({"ProvisionedConcurrentExecutions": executions.into()});
    with_body(config("PutProvisionedConcurrencyConfig", "f", qualifier), &body)
}

fn get(qualifier: &str) -> Call {
    config("GetProvisionedConcurrencyConfig", "f", qualifier)
}

fn delete(qualifier: &str) -> Call {
    config("DeleteProvisionedConcurrencyConfig", "f", qualifier)
}

fn list() -> Call {
    call("ListProvisionedConcurrencyConfigs", Some("f"))
}

fn arn(qualifier: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:f:{qualifier}")
}

const NOT_FOUND: &str = "No Provisioned Concurrency Config found for this function";
const NO_CONFIG: &str = "ProvisionedConcurrencyConfigNotFoundException";
const INVALID: &str = "InvalidParameterValueException";

impl Fixture {
    /// The version and the number of environments that the executor was told to keep ready.
    fn provisions(&self, qualifier: &str) -> Option<(String, u32)> {
        let provisions = self.executor.provisions.lock().unwrap();
        provisions.get(&arn(qualifier)).map(|(version, count)| (version.version.clone(), *count))
    }

    /// Says what the executor has come to.
    fn has(&self, qualifier: &str, allocated: u32, available: u32, failure: Option<&str>) {
        let requested = self.provisions(qualifier).map_or(0, |(_, count)| count);
        let failure = failure.map(str::to_owned);
        let state = Provisioned { requested, allocated, available, failure };
        self.executor.provisioned.lock().unwrap().insert(arn(qualifier), state);
    }

    async fn refused(&self, call: Call, code: &str, status: u16, text: &str) {
        let error = self.error(call).await;
        assert_eq!((error.0.as_str(), error.1, error.2.as_str()), (code, status, text));
    }
}

fn shown(requested: u32, allocated: u32, available: u32, status: &str) -> Value {
    json!({
        "RequestedProvisionedConcurrentExecutions": requested, "AllocatedProvisionedConcurrentExecutions": allocated,
        "AvailableProvisionedConcurrentExecutions": available, "Status": status, "LastModified": "2026-11-23T11:45:00+0000",
    })
}

#[tokio::test]
async fn a_configuration_lives_as_on_aws() {
    let fixture = with_versions(1).await;
    fixture.refused(get("1"), NO_CONFIG, 404, NOT_FOUND).await;
    assert_eq!(fixture.json(list()).await, json!({"ProvisionedConcurrencyConfigs": []}));

    let reply = fixture.send(put("1", 3)).await.unwrap();
    assert_eq!(reply.status.as_u16(), 202);
    let begun: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(begun, shown(3, 0, 0, "IN_PROGRESS"));
    assert_eq!(fixture.provisions("1"), Some(("1".to_owned(), 3)), "before the client is answered");
    assert_eq!(fixture.json(get("1")).await, begun);
    fixture.has("1", 2, 2, None);
    assert_eq!(fixture.json(get("1")).await, shown(3, 2, 2, "IN_PROGRESS"));
    fixture.has("1", 3, 1, None);
    assert_eq!(fixture.json(get("1")).await, shown(3, 3, 1, "READY"));
    fixture.has("1", 1, 1, Some("it exits"));
    let failed = fixture.json(get("1")).await;
    assert_eq!((&failed["Status"], &failed["StatusReason"]), (&json!("FAILED"), &json!("it exits")));
    let mut item = failed.clone();
    item["FunctionArn"] = json!(arn("1"));
    assert_eq!(fixture.json(list()).await, json!({"ProvisionedConcurrencyConfigs": [item]}));

    fixture.clock.advance(Duration::from_secs(60));
    let changed = fixture.json(put("1", 5)).await;
    assert_eq!((&changed["Status"], changed.get("StatusReason")), (&json!("IN_PROGRESS"), None));
    assert_eq!(changed["LastModified"], "2026-11-23T11:46:00+0000");
    assert_eq!(fixture.provisions("1"), Some(("1".to_owned(), 5)));

    for _ in 0..2 {
        assert_eq!(fixture.send(delete("1")).await.unwrap().status, 204);
    }
    assert_eq!(fixture.provisions("1"), None);
    fixture.refused(get("1"), NO_CONFIG, 404, NOT_FOUND).await;
    assert!(fixture.retired().iter().all(|key| !key.is_empty()), "nothing else was dropped");
}

#[tokio::test]
async fn what_is_not_there_or_not_published_is_refused_as_on_aws() {
    let fixture = with_versions(1).await;
    let latest = "The function resource provided must be an alias or a published version.";
    let unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    fixture.refused(get("$LATEST"), INVALID, 400, latest).await;
    fixture.refused(delete("$LATEST"), INVALID, 400, latest).await;
    fixture.refused(put("$LATEST", 1), INVALID, 400, unpublished).await;
    let not_found = "ResourceNotFoundException";
    for operation in [
        "GetProvisionedConcurrencyConfig",
        "DeleteProvisionedConcurrencyConfig",
        "PutProvisionedConcurrencyConfig",
    ] {
        let body = json!({"ProvisionedConcurrentExecutions": 1});
        let of = |name, qualifier| with_body(config(operation, name, qualifier), &body);
        let alias = format!("Cannot find alias arn: {}", arn("noalias"));
        fixture.refused(of("f", "noalias"), not_found, 404, &alias).await;
        fixture.refused(of("f", "10"), not_found, 404, &format!("Function not found: {}", arn("10"))).await;
        fixture.refused(of("x", "noalias"), not_found, 404, &alias.replace(":f:", ":x:")).await;
        let missing = with_body(call(operation, Some("f")), &body);
        let text = "1 validation error detected: Value null at 'qualifier' failed to satisfy constraint: Member must not be \
                    null";
        fixture.refused(missing, "ValidationException", 400, text).await;
    }
    let other = call("ListProvisionedConcurrencyConfigs", Some("x"));
    let text = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:x";
    fixture.refused(other, not_found, 404, text).await;
    let text = "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: \
                Member must have value greater than or equal to 1";
    fixture.refused(put("1", 0), "ValidationException", 400, text).await;
    assert_eq!(fixture.error(put("1", Value::Null)).await.0, "ValidationException");
    fixture.send(create_alias("next", "$LATEST")).await.unwrap();
    fixture.refused(put("next", 1), INVALID, 400, unpublished).await;
    assert!(fixture.executor.provisions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_version_has_one_configuration() {
    let fixture = with_versions(2).await;
    for (alias, version) in [("blue", "1"), ("green", "1"), ("other", "2")] {
        fixture.send(create_alias(alias, version)).await.unwrap();
    }
    let conflict = "ResourceConflictException";
    let taken =
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    fixture.send(put("1", 1)).await.unwrap();
    fixture.refused(put("blue", 1), conflict, 409, taken).await;
    fixture.send(put("other", 2)).await.expect("of another version");
    fixture.send(delete("1")).await.unwrap();
    fixture.send(put("blue", 1)).await.unwrap();
    fixture.send(put("blue", 2)).await.expect("its own may be changed");
    fixture
        .refused(put("1", 1), conflict, 409, "Version is pointed by a Provisioned Concurrency alias")
        .await;
    fixture.refused(put("green", 1), conflict, 409, taken).await;
    fixture.refused(update_alias("blue", &json!({"FunctionVersion": "2"})), conflict, 409, taken).await;
    let unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    fixture
        .refused(update_alias("blue", &json!({"FunctionVersion": "$LATEST"})), INVALID, 400, unpublished)
        .await;
    assert_eq!(fixture.provisions("blue"), Some(("1".to_owned(), 2)), "all of that changed nothing");
}

#[tokio::test]
async fn an_alias_takes_its_environments_along() {
    let fixture = with_versions(2).await;
    fixture.send(create_alias("live", "1")).await.unwrap();
    fixture.send(put("live", 4)).await.unwrap();
    assert_eq!(fixture.provisions("live"), Some(("1".to_owned(), 4)));
    fixture.send(update_alias("live", &json!({"FunctionVersion": "2"}))).await.unwrap();
    assert_eq!(fixture.provisions("live"), Some(("2".to_owned(), 4)));
    let routing = json!({"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}});
    fixture.send(update_alias("live", &routing)).await.expect("weights may be added");
    assert_eq!(fixture.provisions("live"), Some(("2".to_owned(), 4)));
    let weighted = "Alias with weights can not be used with Provisioned Concurrency";
    fixture.refused(put("live", 5), INVALID, 400, weighted).await;
    let both = json!({"Name": "both", "FunctionVersion": "1",
                      "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}});
    fixture.send(alias_with(&both)).await.unwrap();
    fixture.refused(put("both", 1), INVALID, 400, weighted).await;

    fixture.send(of_alias("DeleteAlias", "live")).await.unwrap();
    assert_eq!(fixture.provisions("live"), None);
    assert_eq!(fixture.json(list()).await, json!({"ProvisionedConcurrencyConfigs": []}));
    let text = format!("Cannot find alias arn: {}", arn("live"));
    fixture.refused(get("live"), "ResourceNotFoundException", 404, &text).await;
    fixture.send(create_alias("live", "1")).await.unwrap();
    fixture.refused(get("live"), NO_CONFIG, 404, NOT_FOUND).await;
}

#[tokio::test]
async fn what_is_deleted_keeps_nothing_ready() {
    let fixture = with_versions(2).await;
    fixture.send(put("1", 1)).await.unwrap();
    fixture.send(put("2", 2)).await.unwrap();
    fixture.send(config("DeleteFunction", "f", "1")).await.unwrap();
    assert_eq!((fixture.provisions("1"), fixture.provisions("2")), (None, Some(("2".to_owned(), 2))));
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert_eq!(fixture.provisions("2"), None);
    fixture.create("f").await;
    assert_eq!(fixture.json(list()).await, json!({"ProvisionedConcurrencyConfigs": []}));
    let settings = fixture.json(call("GetAccountSettings", None)).await;
    assert_eq!(settings["AccountLimit"]["UnreservedConcurrentExecutions"], 1_000);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let fixture = with_versions(3).await;
    for (qualifier, executions) in [("1", 1), ("2", 2), ("3", 3)] {
        fixture.send(put(qualifier, executions)).await.unwrap();
    }
    let first = fixture.json(with_query(list(), "MaxItems", "2")).await;
    let marker = first["NextMarker"].as_str().unwrap();
    let second = fixture.json(with_query(list(), "Marker", marker)).await;
    let arns = |page: &Value| -> Vec<String> {
        let items = page["ProvisionedConcurrencyConfigs"].as_array().unwrap().iter();
        items.map(|item| item["FunctionArn"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((arns(&first), arns(&second)), (vec![arn("1"), arn("2")], vec![arn("3")]));
    assert_eq!(second.get("NextMarker"), None);
    assert_eq!(fixture.error(with_query(list(), "MaxItems", "51")).await.0, "ValidationException");
}

#[tokio::test]
async fn what_is_provisioned_counts_like_what_is_reserved() {
    let fixture = with_versions(2).await;
    fixture.create("g").await;
    let unreserved = async || {
        let settings = fixture.json(call("GetAccountSettings", None)).await;
        settings["AccountLimit"]["UnreservedConcurrentExecutions"].clone()
    };
    let below = "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum \
                 value of [100].";
    fixture.refused(put("1", 901), INVALID, 400, below).await;
    let greater = "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].";
    fixture.refused(put("1", 1_001), INVALID, 400, greater).await;
    fixture.send(put("1", 500)).await.unwrap();
    fixture.refused(put("2", 401), INVALID, 400, below).await;
    fixture.send(put("2", 400)).await.unwrap();
    fixture.send(put("2", 400)).await.expect("its own does not count against it");
    assert_eq!(unreserved().await, 100);
    let text = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
                minimum value of [100].";
    fixture.refused(reserve("g", json!(1)), INVALID, 400, text).await;

    let text = " ReservedConcurrentExecutions  899 should not be lower than function's total provisioned concurrency [900].";
    fixture.refused(reserve("f", json!(899)), INVALID, 400, text).await;
    fixture.send(put("2", 100)).await.unwrap();
    fixture.send(reserve("f", json!(650))).await.unwrap();
    assert_eq!(unreserved().await, 350, "a reservation holds what is provisioned");
    let text = "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function";
    fixture.refused(put("2", 151), INVALID, 400, text).await;
    fixture.send(put("2", 150)).await.unwrap();
    fixture.send(call("DeleteFunctionConcurrency", Some("f"))).await.unwrap();
    assert_eq!(unreserved().await, 350);
}

#[tokio::test]
async fn tenants_and_snapshots_exclude_it() {
    let fixture = Fixture::new().await;
    fixture.send(create_with("TenancyConfig", json!({"TenantIsolationMode": "PER_TENANT"}))).await.unwrap();
    fixture.send(call("PublishVersion", Some("f"))).await.unwrap();
    let text = "Provisioned Concurrency is not supported for functions with tenant isolation mode.";
    fixture.refused(put("1", 1), INVALID, 400, text).await;
    let fixture = super::snapshotting::with_snap_start().await;
    fixture.send(call("PublishVersion", Some("f"))).await.unwrap();
    let text = "Provisioned Concurrency is not supported for SnapStart enabled functions.";
    fixture.refused(put("1", 1), INVALID, 400, text).await;
}

#[tokio::test]
async fn a_new_process_tells_its_executor_and_follows_others() {
    let first = with_versions(2).await;
    first.send(create_alias("live", "1")).await.unwrap();
    first.send(put("live", 2)).await.unwrap();
    let second = Fixture::over(first.store.clone(), tempfile::tempdir().unwrap()).await;
    let eventually = async |qualifier: &str, expected: Option<(&str, u32)>| {
        let expected = expected.map(|(version, count)| (version.to_owned(), count));
        while second.provisions(qualifier) != expected {
            tokio::task::yield_now().await;
        }
    };
    eventually("live", Some(("1", 2))).await;
    first.send(update_alias("live", &json!({"FunctionVersion": "2"}))).await.unwrap();
    eventually("live", Some(("2", 2))).await;
    first.send(put("1", 7)).await.unwrap();
    eventually("1", Some(("1", 7))).await;
    first.send(delete("live")).await.unwrap();
    eventually("live", None).await;
    first.send(call("DeleteFunction", Some("f"))).await.unwrap();
    eventually("1", None).await;
}
