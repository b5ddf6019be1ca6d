//! `UpdateFunctionCode`, `UpdateFunctionConfiguration`, `DeleteFunction`: what changes, what stays, what is cleaned up.

use super::*;
use crate::names::FunctionId;

fn update_code(body: Value) -> Call {
    with_body(call("UpdateFunctionCode", Some("f")), &body)
}

fn update_configuration(body: Value) -> Call {
    with_body(call("UpdateFunctionConfiguration", Some("f")), &body)
}

async fn invoke(fixture: &Fixture) {
    fixture.send(call("Invoke", Some("f"))).await.unwrap();
}

#[tokio::test]
async fn new_code_is_what_the_next_event_meets() {
    let fixture = Fixture::new().await;
    let created = fixture.create("f").await;
    invoke(&fixture).await;
    let (old, _) = fixture.invoked();
    let updated = fixture.json(update_code(json!({"ZipFile": zip_base64("echo new")}))).await;
    assert_ne!(updated["CodeSha256"], created["CodeSha256"]);
    assert_ne!(updated["RevisionId"], created["RevisionId"]);
    assert_eq!(updated["LastUpdateStatus"], "InProgress");
    assert!(!fixture.retired().is_empty() && fixture.retired().iter().all(|key| *key == old.key));
    invoke(&fixture).await;
    let (new, _) = fixture.invoked();
    assert_ne!(new.key, old.key);
    assert_eq!(std::fs::read_to_string(new.code.join("bootstrap")).unwrap(), "echo new");
    assert!(old.code.is_dir(), "events that are running keep their code");
}

#[tokio::test]
async fn only_what_is_named_changes() {
    let fixture = Fixture::new().await;
    let mut body = creation("f");
    body["Environment"] = json!({"Variables": {"AA": "1"}});
    body["Description"] = json!("before");
    let created = fixture.json(with_body(call("CreateFunction", None), &body)).await;
    let updated = fixture.json(update_configuration(json!({"MemorySize": 256, "Tags": {"no": "tag"}}))).await;
    for member in ["Environment", "Description", "Timeout", "CodeSha256", "Handler", "LoggingConfig"] {
        assert_eq!(updated[member], created[member], "{member}");
    }
    assert_eq!(updated["MemorySize"], 256);
    invoke(&fixture).await;
    assert_eq!(fixture.invoked().0.memory_mib, 256);

    let body = json!({"Environment": {}, "Description": "", "LoggingConfig": {"LogFormat": "JSON"}});
    let updated = fixture.json(update_configuration(body)).await;
    assert_eq!(updated["Environment"], json!({"Variables": {}}));
    assert_eq!(updated["Description"], "");
    assert_eq!(updated["LoggingConfig"]["ApplicationLogLevel"], "INFO");
    let updated = fixture.json(update_configuration(json!({"LoggingConfig": {"LogFormat": "Text"}}))).await;
    assert_eq!(updated["LoggingConfig"], json!({"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}));
    assert!(fixture.json(call("GetFunction", Some("f"))).await.get("Tags").is_none());
}

#[tokio::test]
async fn a_stale_revision_is_refused() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let created = fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    let stale = json!({"RevisionId": "stale", "Description": "x", "ZipFile": zip_base64("x")});
    for request in [update_configuration(stale.clone()), update_code(stale)] {
        let error = fixture.error(request).await;
        assert_eq!((error.0.as_str(), error.1), ("PreconditionFailedException", 412));
        assert!(
            error.2.starts_with("The Revision Id provided does not match the latest Revision Id."),
            "{}",
            error.2
        );
    }
    assert_eq!(fixture.json(call("GetFunctionConfiguration", Some("f"))).await, created);
    assert_eq!(fixture.code_folders().len(), 1);
    let current = json!({"RevisionId": created["RevisionId"], "Description": "x"});
    assert_eq!(fixture.json(update_configuration(current)).await["Description"], "x");
}

#[tokio::test]
async fn a_second_update_meanwhile_is_refused() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let id = FunctionId {
        account: AccountId::new(ACCOUNT),
        region: Region::new("us-east-1"),
        name: "f".to_owned(),
    };
    let in_progress = fixture.lambda.updates.begin(&id).unwrap();
    for request in [update_configuration(json!({})), update_code(json!({"ZipFile": zip_base64("x")}))] {
        let text = "The operation cannot be performed at this time. An update is in progress for resource: \
                    arn:aws:lambda:us-east-1:000000000000:function:f";
        assert_eq!(
            fixture.error(request).await,
            ("ResourceConflictException".to_owned(), 409, text.to_owned())
        );
    }
    drop(in_progress);
    fixture.send(update_configuration(json!({}))).await.unwrap();
    assert_eq!(fixture.code_folders().len(), 1);
}

#[tokio::test]
async fn a_dry_run_checks_and_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let created = fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    let dry = fixture.json(update_code(json!({"ZipFile": zip_base64("new"), "DryRun": true}))).await;
    assert_ne!(dry["CodeSha256"], created["CodeSha256"]);
    assert_eq!(dry["RevisionId"], created["RevisionId"]);
    let error = fixture.error(update_code(json!({"ZipFile": "bm90IGEgemlw", "DryRun": true}))).await;
    assert!(error.2.starts_with("Could not unzip uploaded file."), "{}", error.2);
    assert_eq!(fixture.json(call("GetFunctionConfiguration", Some("f"))).await, created);
    assert_eq!(fixture.code_folders().len(), 1);
    assert!(fixture.retired().is_empty());
}

#[tokio::test]
async fn bad_updates_change_nothing() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let created = fixture.json(call("GetFunctionConfiguration", Some("f"))).await;
    let cases = [
        (update_configuration(json!({"MemorySize": 10_241})), "ValidationException"),
        (update_configuration(json!({"Runtime": "dotnet8"})), "InvalidParameterValueException"),
        (update_configuration(json!({"Layers": ["x"]})), "ValidationException"),
        (
            update_configuration(json!({"Environment": {"Variables": {"AWS_REGION": ""}}})),
            "InvalidParameterValueException",
        ),
        (update_code(json!({})), "InvalidParameterValueException"),
        (
            update_code(json!({"ZipFile": zip_base64("x"), "PublishTo": "LATEST_PUBLISHED"})),
            "InvalidParameterValueException",
        ),
        (update_code(json!({"S3Bucket": "bucket", "S3Key": "key"})), "InvalidParameterValueException"),
        (with_body(call("UpdateFunctionCode", Some("f:7")), &json!({})), "ResourceNotFoundException"),
        (call("UpdateFunctionConfiguration", Some("missing")), "ResourceNotFoundException"),
    ];
    for (request, code) in cases {
        let name = request.operation.name;
        assert_eq!(fixture.error(request).await.0, code, "{name}");
    }
    assert_eq!(fixture.json(call("GetFunctionConfiguration", Some("f"))).await, created);
    assert_eq!(fixture.code_folders().len(), 1);
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_its_code_is_collected_after_the_longest_event() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.create("g").await;
    fixture.send(update_code(json!({"ZipFile": zip_base64("only f's")}))).await.unwrap();
    invoke(&fixture).await;
    let (version, _) = fixture.invoked();
    let reply = fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    assert!(fixture.retired().contains(&version.key));
    assert_eq!(fixture.error(call("DeleteFunction", Some("f"))).await.0, "ResourceNotFoundException");
    assert_eq!(fixture.error(call("Invoke", Some("f"))).await.0, "ResourceNotFoundException");

    fixture.lambda.code.collect_retired().await;
    assert_eq!(fixture.code_folders().len(), 2, "an event may still run");
    fixture.clock.advance(Duration::from_secs(961));
    fixture.lambda.code.collect_retired().await;
    assert_eq!(fixture.code_folders().len(), 1, "g still uses the first zip");
    assert!(!version.code.exists());
    fixture.send(call("Invoke", Some("g"))).await.unwrap();
}

#[tokio::test]
async fn code_that_is_used_again_meanwhile_is_kept() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    fixture.create("f").await;
    fixture.clock.advance(Duration::from_secs(961));
    fixture.lambda.code.collect_retired().await;
    invoke(&fixture).await;
}

#[tokio::test]
async fn qualifiers_are_not_deleted_as_functions() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let latest = with_query(call("DeleteFunction", Some("f")), "Qualifier", "$LATEST");
    let text = "$LATEST version cannot be deleted without deleting the function.".to_owned();
    assert_eq!(fixture.error(latest).await, ("InvalidParameterValueException".to_owned(), 400, text));
    let text = "Deletion of aliases is not currently supported.".to_owned();
    let alias = fixture.error(call("DeleteFunction", Some("f:live"))).await;
    assert_eq!(alias, ("InvalidParameterValueException".to_owned(), 400, text));
    // A version that is not there is deleted already.
    fixture.send(call("DeleteFunction", Some("f:7"))).await.unwrap();
    fixture.send(call("GetFunction", Some("f"))).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_folders_come_back_and_leftovers_go() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    invoke(&fixture).await;
    let used = fixture.folder_of_last();
    // What a crash may leave: code that was put and never referred to, and half an unpacking.
    let added = fixture.lambda.code.add(zip("never referred to").into()).await.unwrap();
    let (leftover, claim) = (added.zip, added.claim);
    drop(claim);
    let Fixture { store, folder, .. } = fixture;
    std::fs::create_dir(folder.path().join("code/.partial-x")).unwrap();
    crate::package::remove(&used);
    let fixture = Fixture::over(store, folder).await;
    assert_eq!(fixture.code_folders(), [leftover.to_string()]);
    invoke(&fixture).await;
    assert_eq!(std::fs::read_to_string(used.join("bootstrap")).unwrap(), "#!/bin/sh");
    fixture.lambda.code.collect_leftovers().await;
    assert_eq!(fixture.code_folders().len(), 1);
    assert!(fixture.store.blobs().get(&leftover).await.is_err_and(|error| error.is_not_found()));
}

#[tokio::test]
async fn anothers_update_reaches_the_memory() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    invoke(&fixture).await;
    let (old, _) = fixture.invoked();
    // A second service over the same store: what a fleet would be.
    let other = Fixture::over(fixture.store.clone(), tempfile::tempdir().unwrap()).await;
    other.send(update_code(json!({"ZipFile": zip_base64("echo theirs")}))).await.unwrap();
    while !fixture.retired().contains(&old.key) {
        tokio::task::yield_now().await;
    }
    invoke(&fixture).await;
    let (new, _) = fixture.invoked();
    assert_eq!(std::fs::read_to_string(new.code.join("bootstrap")).unwrap(), "echo theirs");
    // Its own updates do not cost it the new environments.
    invoke(&other).await;
    let (theirs, _) = other.invoked();
    assert!(!other.retired().contains(&theirs.key));
}

#[tokio::test]
async fn an_update_ends_although_the_client_goes_away() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let update = fixture.send(update_code(json!({"ZipFile": zip_base64("echo new")})));
    let mut update = Box::pin(update);
    // Polled once: begun, and dropped while it runs.
    assert!(
        std::future::poll_fn(|context| std::task::Poll::Ready(update.as_mut().poll(context).is_pending()))
            .await
    );
    drop(update);
    while fixture.retired().is_empty() {
        tokio::task::yield_now().await;
    }
    invoke(&fixture).await;
    assert_eq!(std::fs::read_to_string(fixture.folder_of_last().join("bootstrap")).unwrap(), "echo new");
}
