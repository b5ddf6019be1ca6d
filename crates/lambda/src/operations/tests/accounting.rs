//! What an account has, and its quota of code storage.

use serde_json::{Value, json};

use super::*;
use crate::records::USAGE;

impl Fixture {
    /// `FunctionCount` and `TotalCodeSize`.
    async fn usage(&self) -> (u64, u64) {
        let settings = self.json(call("GetAccountSettings", None)).await;
        let number = |name: &str| settings["AccountUsage"][name].as_u64().unwrap();
        (number("FunctionCount"), number("TotalCodeSize"))
    }

    /// The same, counted in what is stored.
    async fn counted(&self) -> (u64, u64) {
        let mut counted = (0, 0);
        let mut request = call("ListFunctions", None);
        loop {
            let page = self.json(with_query(request, "FunctionVersion", "ALL")).await;
            for version in page["Functions"].as_array().unwrap() {
                counted.0 += u64::from(version["Version"] == "$LATEST");
                counted.1 += version["CodeSize"].as_u64().unwrap();
            }
            let Some(marker) = page["NextMarker"].as_str() else { return counted };
            request = with_query(call("ListFunctions", None), "Marker", marker);
        }
    }
}

fn create_of(name: &str, content: &str, publish: bool) -> Call {
    let mut body = creation(name);
    body["Code"] = json!({"ZipFile": zip_base64(content)});
    body["Publish"] = json!(publish);
    with_body(call("CreateFunction", None), &body)
}

#[tokio::test]
async fn the_account_is_shown_with_its_limits_and_what_it_has() {
    let fixture = Fixture::new().await;
    let settings = fixture.json(call("GetAccountSettings", None)).await;
    assert_eq!(
        settings,
        json!({
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800_u64, "CodeSizeUnzipped": 262_144_000, "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000,
            },
            "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": 0},
        })
    );
    let size = fixture.create("f").await["CodeSize"].as_u64().unwrap();
    assert_eq!(fixture.usage().await, (1, size));
    let reserve =
        with_body(call("PutFunctionConcurrency", Some("f")), &json!({"ReservedConcurrentExecutions": 50}));
    fixture.send(reserve).await.unwrap();
    let settings = fixture.json(call("GetAccountSettings", None)).await;
    assert_eq!(settings["AccountLimit"]["UnreservedConcurrentExecutions"], 950);
}

#[tokio::test]
async fn every_version_counts_until_it_is_deleted() {
    let fixture = Fixture::new().await;
    let (small, large) = (zip("small").len() as u64, zip(&"large".repeat(9_000)).len() as u64);
    fixture.send(create_of("f", "small", true)).await.unwrap();
    assert_eq!(fixture.usage().await, (1, 2 * small));
    let code = json!({"ZipFile": zip_base64(&"large".repeat(9_000)), "Publish": true});
    fixture.send(with_body(call("UpdateFunctionCode", Some("f")), &code)).await.unwrap();
    assert_eq!(fixture.usage().await, (1, small + 2 * large));
    fixture.send(call("PublishVersion", Some("f"))).await.expect("nothing new to publish");
    assert_eq!(fixture.usage().await, (1, small + 2 * large));
    for _ in 0..2 {
        fixture.send(with_query(call("DeleteFunction", Some("f")), "Qualifier", "1")).await.unwrap();
        assert_eq!(fixture.usage().await, (1, 2 * large));
    }
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert_eq!(fixture.usage().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_clients_create_and_delete_at_once_is_counted_exactly() {
    let fixture = Arc::new(Fixture::new().await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8_u32 {
        let fixture = Arc::clone(&fixture);
        clients.spawn(async move {
            for round in 0..12_u32 {
                // Names are shared, so that clients also create and delete the same function.
                let name = format!("f{}", (client + round) % 5);
                let content = "x".repeat((client * 100 + round) as usize);
                let _ = fixture.send(create_of(&name, &content, round % 2 == 0)).await;
                let _ = fixture.send(call("PublishVersion", Some(&name))).await;
                if round % 3 == client % 3 {
                    let _ = fixture.send(call("DeleteFunction", Some(&name))).await;
                }
            }
        });
    }
    clients.join_all().await;
    assert_eq!(fixture.usage().await, fixture.counted().await);
    assert!(fixture.counted().await.0 > 0);
    for number in 0..5 {
        let _ = fixture.send(call("DeleteFunction", Some(&format!("f{number}")))).await;
    }
    assert_eq!(fixture.usage().await, (0, 0));
}

#[tokio::test]
async fn code_storage_has_a_quota() {
    let mut fixture = Fixture::new().await;
    let size = zip("12345678").len() as u64;
    fixture.lambda.code_storage_bytes = 3 * size;
    fixture.send(create_of("a", "12345678", true)).await.unwrap();
    let (code, status, text) = fixture.error(create_of("b", "87654321", true)).await;
    assert_eq!((code.as_str(), status), ("CodeStorageExceededException", 400));
    assert_eq!(text, "Code storage limit exceeded.");
    assert_eq!(
        (fixture.usage().await, fixture.code_folders().len()),
        ((1, 2 * size), 1),
        "nothing is left of it"
    );
    fixture.send(create_of("b", "87654321", false)).await.expect("exactly as much as there may be");
    for refused in [call("PublishVersion", Some("b")), create_of("c", "", false)] {
        assert_eq!(fixture.error(refused).await.0, "CodeStorageExceededException");
    }
    let update = |content: &str| {
        with_body(call("UpdateFunctionCode", Some("b")), &json!({"ZipFile": zip_base64(content)}))
    };
    assert_eq!(fixture.error(update("longer than before")).await.0, "CodeStorageExceededException");
    fixture.send(update("as long!")).await.expect("no more than before");
    fixture.send(with_query(call("DeleteFunction", Some("a")), "Qualifier", "1")).await.unwrap();
    fixture.send(call("PublishVersion", Some("b"))).await.expect("there is room again");
}

#[tokio::test]
async fn of_many_at_once_only_what_fits_is_stored() {
    let mut fixture = Fixture::new().await;
    fixture.lambda.code_storage_bytes = 5 * zip("12").len() as u64;
    let mut clients = tokio::task::JoinSet::new();
    for number in 10..22 {
        let (lambda, call) =
            (fixture.lambda.clone(), create_of(&format!("f{number}"), &number.to_string(), false));
        clients.spawn(async move { lambda.call(call).await.is_ok() });
    }
    let granted = clients.join_all().await.into_iter().filter(|granted| *granted).count();
    assert_eq!((granted, fixture.usage().await.0), (5, 5));
}

/// Functions that an earlier release made were not counted then.
#[tokio::test]
async fn what_was_there_before_is_counted_once() {
    let fixture = Fixture::new().await;
    fixture.send(create_of("a", "one", true)).await.unwrap();
    fixture.send(create_of("b", "two", false)).await.unwrap();
    let usage = fixture.usage().await;
    let forget = |transaction: freehold_store::Transaction| async move {
        for (key, _) in USAGE.all(&transaction, &[]).await? {
            transaction.delete(key);
        }
        Ok::<_, freehold_store::StoreError>(())
    };
    fixture.store.transact(forget).await.unwrap();
    assert_eq!(fixture.usage().await, (0, 0));
    for _ in 0..2 {
        let next = Fixture::over(fixture.store.clone(), tempfile::tempdir().unwrap()).await;
        assert_eq!(next.usage().await, usage);
    }
}

#[tokio::test]
async fn regions_are_counted_apart() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let mut elsewhere = call("GetAccountSettings", None);
    elsewhere.region = Region::new("eu-west-1");
    let settings: Value = fixture.json(elsewhere).await;
    assert_eq!(settings["AccountUsage"], json!({"TotalCodeSize": 0, "FunctionCount": 0}));
}
