//! SnapStart: what a published version is while its snapshot is made, and what becomes of it.

use serde_json::{Value, json};

use super::*;
use crate::names::FunctionId;
use crate::records::FUNCTIONS;

const CONFLICT: &str = "ResourceConflictException";
const PENDING: &str = "The operation cannot be performed at this time. The function is currently in the following state: Pending";

fn id() -> FunctionId {
    FunctionId { account: AccountId::new(ACCOUNT), region: Region::new("us-east-1"), name: "f".to_owned() }
}

/// A function `f` that is to start from snapshots, and an executor that takes them. The runtimes of this fixture cannot on AWS,
/// so what no request may say is written as it is.
pub(super) async fn with_snap_start() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    fixture.executor.takes_snapshots.store(true, Ordering::SeqCst);
    fixture
        .store
        .transact(|transaction| async move {
            let mut record = FUNCTIONS.get(&transaction, &id().parts()).await?.unwrap();
            record.latest.configuration.snap_start = true;
            FUNCTIONS.put(&transaction, &id().parts(), &record)
        })
        .await
        .unwrap();
    fixture
}

fn configuration(qualifier: &str) -> Call {
    with_query(call("GetFunctionConfiguration", Some("f")), "Qualifier", qualifier)
}

fn invoke(qualifier: &str) -> Call {
    with_query(call("Invoke", Some("f")), "Qualifier", qualifier)
}

fn members(shown: &Value) -> (Option<&str>, Option<&str>, Option<&str>, Option<&str>) {
    (
        shown["State"].as_str(),
        shown["StateReason"].as_str(),
        shown["StateReasonCode"].as_str(),
        shown["SnapStart"]["OptimizationStatus"].as_str(),
    )
}

async fn change_code(fixture: &Fixture, content: &str) {
    let update = json!({"ZipFile": zip_base64(content)});
    fixture.send(with_body(call("UpdateFunctionCode", Some("f")), &update)).await.unwrap();
}

impl Fixture {
    async fn publish(&self) -> Value {
        self.json(call("PublishVersion", Some("f"))).await
    }

    async fn until_state(&self, qualifier: &str, state: &str) -> Value {
        loop {
            let shown = self.json(configuration(qualifier)).await;
            if shown["State"] == state {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn until_prepared(&self, count: usize) {
        while self.executor.prepared.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_version_is_pending_until_its_snapshot_is_made() {
    let fixture = with_snap_start().await;
    let latest = fixture.json(configuration("$LATEST")).await;
    assert_eq!(members(&latest), (Some("Active"), None, None, Some("Off")), "only versions have snapshots");
    fixture.send(invoke("$LATEST")).await.unwrap();

    let published = fixture.publish().await;
    let pending = (Some("Pending"), Some("The function is being created."), Some("Creating"), Some("On"));
    assert_eq!(members(&published), pending);
    assert_eq!(members(&fixture.json(configuration("1")).await), pending);
    let error = fixture.error(invoke("1")).await;
    assert_eq!((error.0.as_str(), error.1, error.2.as_str()), (CONFLICT, 409, PENDING));
    fixture.until_prepared(1).await;
    assert_eq!(fixture.publish().await["Version"], "1", "nothing has changed");

    fixture.executor.snapshots_done.add_permits(1);
    let made = fixture.until_state("1", "Active").await;
    assert_eq!(members(&made), (Some("Active"), None, None, Some("On")));
    assert_ne!(made["RevisionId"], published["RevisionId"]);
    fixture.send(invoke("1")).await.unwrap();
    let (version, _) = fixture.invoked();
    assert_eq!(version, fixture.executor.prepared.lock().unwrap()[0]);
    assert_eq!(fixture.executor.prepared.lock().unwrap().len(), 1, "made once");
    assert!(fixture.retired().is_empty());
}

#[tokio::test]
async fn a_snapshot_that_fails_says_why_and_takes_no_events() {
    let fixture = with_snap_start().await;
    let failure = SnapshotFailure {
        reason: "Runtime exited with error: exit status 1".to_owned(),
        code: "FunctionError.RuntimeInitError".to_owned(),
    };
    *fixture.executor.snapshots_fail.lock().unwrap() = Some(failure.clone());
    fixture.executor.snapshots_done.add_permits(1);
    fixture.publish().await;
    let failed = fixture.until_state("1", "Failed").await;
    assert_eq!(members(&failed), (Some("Failed"), Some(&*failure.reason), Some(&*failure.code), Some("Off")));
    let (code, status, text) = fixture.error(invoke("1")).await;
    assert_eq!((code.as_str(), status), (CONFLICT, 409));
    assert!(text.ends_with("The function is currently in the following state: Failed"), "{text}");
    fixture.send(invoke("$LATEST")).await.expect("that starts as ever");
}

#[tokio::test]
async fn every_way_of_publishing_makes_one() {
    let fixture = with_snap_start().await;
    fixture.executor.snapshots_done.add_permits(2);
    let update = json!({"ZipFile": zip_base64("other"), "Publish": true});
    let shown = fixture.json(with_body(call("UpdateFunctionCode", Some("f")), &update)).await;
    assert_eq!((&shown["Version"], &shown["State"]), (&json!("1"), &json!("Pending")));
    fixture.until_state("1", "Active").await;
    change_code(&fixture, "another").await;
    fixture.publish().await;
    fixture.until_state("2", "Active").await;
    let prepared: Vec<String> =
        fixture.executor.prepared.lock().unwrap().iter().map(|version| version.version.clone()).collect();
    assert_eq!(prepared, ["1", "2"]);
}

#[tokio::test]
async fn what_an_executor_cannot_take_starts_as_ever_and_says_so() {
    let fixture = with_snap_start().await;
    fixture.executor.takes_snapshots.store(false, Ordering::SeqCst);
    assert_eq!(members(&fixture.publish().await), (Some("Active"), None, None, Some("Off")));
    fixture.send(invoke("1")).await.unwrap();
    assert!(fixture.executor.prepared.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_version_that_is_deleted_meanwhile_leaves_no_snapshot() {
    let fixture = with_snap_start().await;
    fixture.publish().await;
    fixture.until_prepared(1).await;
    let deployment = fixture.executor.prepared.lock().unwrap()[0].key.clone();
    fixture.send(with_query(call("DeleteFunction", Some("f")), "Qualifier", "1")).await.unwrap();
    assert_eq!(fixture.retired(), std::slice::from_ref(&deployment));
    fixture.executor.snapshots_done.add_permits(1);
    while fixture.retired().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.retired(), [deployment.clone(), deployment], "again, after the snapshot was made");
}

#[tokio::test]
async fn a_restart_goes_on_with_what_is_pending_and_makes_again_what_was_made() {
    let first = with_snap_start().await;
    first.executor.snapshots_done.add_permits(1);
    first.publish().await;
    first.until_state("1", "Active").await;
    change_code(&first, "another").await;
    first.publish().await;
    first.until_prepared(2).await;

    let executor = FakeExecutor::default();
    executor.takes_snapshots.store(true, Ordering::SeqCst);
    let second = Fixture::with_executor(first.store.clone(), tempfile::tempdir().unwrap(), executor).await;
    second.until_prepared(1).await;
    assert_eq!(second.json(configuration("1")).await["State"], "Active");
    second.send(invoke("1")).await.expect("it takes events meanwhile");
    assert_eq!(second.error(invoke("2")).await.2, PENDING);
    second.executor.snapshots_done.add_permits(2);
    second.until_state("2", "Active").await;
    let prepared: Vec<String> =
        second.executor.prepared.lock().unwrap().iter().map(|version| version.version.clone()).collect();
    assert_eq!(prepared, ["1", "2"]);
}
