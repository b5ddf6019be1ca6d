//! What an account has, and its quota of code storage.

use freehold_store::BlobId;
use serde_json::{Value, json};

use super::layering::{LAYER, by, layer_zip, on_layer, publish, with_layers};
use super::*;
use crate::layers::records::LAYERS;

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
            let Some(marker) = page["NextMarker"].as_str() else { break };
            request = with_query(call("ListFunctions", None), "Marker", marker);
        }
        let layers = LAYERS.all(&self.store.snapshot().await.unwrap(), &[]).await.unwrap();
        counted.1 += layers.iter().map(|(_, layer)| layer.size_bytes).sum::<u64>();
        counted
    }

    /// Whether the zip of a layer with this content is kept.
    async fn has_blob(&self, content: &str) -> bool {
        let zip = STANDARD.decode(layer_zip(&[("bootstrap", content)])).unwrap();
        self.store.blobs().get(&BlobId::of(&zip)).await.is_ok()
    }
}

/// Publishes a layer whose zip is as large as that of a function with this content.
fn layer_of(name: &str, content: &str) -> Call {
    publish(name, &[("bootstrap", content)])
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
                let _ = fixture.send(layer_of(&name, &content)).await;
                if round % 3 == client % 3 {
                    let _ = fixture.send(call("DeleteFunction", Some(&name))).await;
                    let oldest = (round / 3 + 1).to_string();
                    let _ = fixture.send(on_layer("DeleteLayerVersion", &name, Some(&oldest))).await;
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
    let layers = LAYERS.all(&fixture.store.snapshot().await.unwrap(), &[]).await.unwrap();
    let bytes: u64 = layers.iter().map(|(_, layer)| layer.size_bytes).sum();
    assert!(bytes > 0);
    assert_eq!(fixture.usage().await, (0, bytes), "what is left is layers");
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
        let (name, content) = (format!("f{number}"), number.to_string());
        let call =
            if number % 2 == 0 { create_of(&name, &content, false) } else { layer_of(&name, &content) };
        let lambda = fixture.lambda.clone();
        clients.spawn(async move { lambda.call(call).await.is_ok() });
    }
    let granted = clients.join_all().await.into_iter().filter(|granted| *granted).count();
    assert_eq!((granted, fixture.usage().await.1), (5, fixture.lambda.code_storage_bytes));
    assert_eq!(fixture.usage().await, fixture.counted().await);
}

#[tokio::test]
async fn a_layer_version_counts_until_it_is_deleted() {
    let fixture = Fixture::new().await;
    let size = |content: &str| zip(content).len() as u64;
    let (one, two, three) = (size("one"), size(&"two".repeat(9_000)), size("three"));
    // A function of the same name, which counts apart.
    fixture.send(create_of("l", "one", false)).await.unwrap();
    for (name, content) in [("l", "one"), ("l", &"two".repeat(9_000)), ("m", "three"), ("m", "three")] {
        fixture.send(layer_of(name, content)).await.unwrap();
    }
    assert_eq!(fixture.usage().await, (1, 2 * one + two + 2 * three), "also what is the same as another");
    let used = format!("{LAYER}:2");
    let code = fixture.json(with_layers(&[&used])).await["CodeSize"].as_u64().unwrap();
    assert_eq!(fixture.usage().await, (2, 2 * one + two + 2 * three + code), "to have a layer costs nothing");
    // It stays for the function that has it, and yet counts no more; deleting it again changes nothing.
    for (name, version) in [("l", "2"), ("l", "2"), (LAYER, "1"), ("m", "1"), ("m", "9"), ("none", "1")] {
        fixture.send(on_layer("DeleteLayerVersion", name, Some(version))).await.unwrap();
    }
    assert_eq!(fixture.usage().await, (2, one + three + code));
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    assert_eq!(fixture.usage().await, (1, one + three));
    let settings = fixture.json(by(call("GetAccountSettings", None), "111122223333")).await;
    assert_eq!(settings["AccountUsage"], json!({"TotalCodeSize": 0, "FunctionCount": 0}));
}

#[tokio::test]
async fn layers_and_functions_share_one_quota() {
    let mut fixture = Fixture::new().await;
    let size = zip("12345678").len() as u64;
    fixture.lambda.code_storage_bytes = 3 * size;
    fixture.send(create_of("f", "12345678", false)).await.unwrap();
    fixture.send(layer_of("l", "12345678")).await.unwrap();
    let folders = fixture.code_folders();
    let refused = ("CodeStorageExceededException".to_owned(), 400, "Code storage limit exceeded.".to_owned());
    for name in ["l", "m"] {
        assert_eq!(fixture.error(layer_of(name, "more than there may be")).await, refused);
    }
    // Nothing is left of it: no version, no layer, no package, no blob, no number.
    assert_eq!((fixture.usage().await, fixture.code_folders()), ((1, 2 * size), folders));
    let layers = fixture.json(call("ListLayers", None)).await;
    assert_eq!(layers["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(layers["Layers"][0]["LatestMatchingVersion"]["Version"], 1);
    assert!(!fixture.has_blob("more than there may be").await);
    assert_eq!(fixture.json(layer_of("l", "87654321")).await["Version"], 2, "exactly as much as may be");
    assert!(fixture.has_blob("87654321").await);
    for more in [layer_of("l", "1"), create_of("g", "1", false), call("PublishVersion", Some("f"))] {
        assert_eq!(fixture.error(more).await, refused);
    }
    fixture.send(on_layer("DeleteLayerVersion", "l", Some("1"))).await.unwrap();
    fixture.send(call("PublishVersion", Some("f"))).await.expect("there is room again");
    assert_eq!(fixture.error(layer_of("l", "87654321")).await, refused);
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
