//! Layers: what is published and listed, what functions get of them, what is refused, what is collected.

use std::path::Path;

use super::*;
use crate::layers::id::LayerId;

const LAYER: &str = "arn:aws:lambda:us-east-1:000000000000:layer:l";

/// A layer's zip with these files.
fn layer_zip(files: &[(&str, &str)]) -> String {
    let entries: Vec<_> = files.iter().map(|(path, content)| file(path, content)).collect();
    STANDARD.encode(zip_of(&entries))
}

fn on_layer(operation: &str, name: &str, version: Option<&str>) -> Call {
    let mut call = call(operation, None);
    call.labels.insert("LayerName", name.to_owned());
    if let Some(version) = version {
        call.labels.insert("VersionNumber", version.to_owned());
    }
    call
}

fn publish_with(name: &str, files: &[(&str, &str)], more: Value) -> Call {
    let mut body = json!({"Content": {"ZipFile": layer_zip(files)}});
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    with_body(on_layer("PublishLayerVersion", name, None), &body)
}

fn publish(name: &str, files: &[(&str, &str)]) -> Call {
    publish_with(name, files, json!({}))
}

fn with_layers(arns: &[&str]) -> Call {
    create_with("Layers", json!(arns))
}

fn update_layers(arns: &[&str]) -> Call {
    with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"Layers": arns}))
}

fn by(mut call: Call, account: &str) -> Call {
    call.principal.account = AccountId::new(account);
    call.principal.arn = format!("arn:aws:iam::{account}:root");
    call
}

impl Fixture {
    async fn opt(&self) -> Option<PathBuf> {
        self.send(call("Invoke", Some("f"))).await.unwrap();
        self.invoked().0.layers.clone()
    }

    /// Lets the grace period of retired packages pass, and collects.
    async fn collect(&self) {
        self.clock.advance(Duration::from_secs(24 * 60 * 60));
        self.lambda.code.collect_retired().await;
    }
}

fn content(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap()
}

#[tokio::test]
async fn versions_are_numbered_without_repeats_and_shown_as_aws_does() {
    let fixture = Fixture::new().await;
    let more = json!({
        "Description": "d", "LicenseInfo": "MIT", "CompatibleRuntimes": ["python3.12"],
        "CompatibleArchitectures": ["x86_64", "arm64"],
    });
    let first = fixture.json(publish_with("l", &[("a", "1")], more.clone())).await;
    assert_eq!(first["LayerArn"], LAYER);
    assert_eq!(first["LayerVersionArn"], format!("{LAYER}:1"));
    assert_eq!(
        (&first["Version"], &first["CreatedDate"]),
        (&json!(1), &json!("2026-11-23T11:45:00.123+0000"))
    );
    for member in ["Description", "LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"] {
        assert_eq!(first[member], more[member], "{member}");
    }
    let zip = STANDARD.decode(layer_zip(&[("a", "1")])).unwrap();
    assert_eq!(first["Content"]["CodeSize"], zip.len());
    let second = fixture.json(publish("l", &[("a", "1")])).await;
    assert_eq!((&second["Version"], &second["Description"]), (&json!(2), &json!("")));
    for member in ["LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"] {
        assert!(second.get(member).is_none(), "{member}");
    }
    let mut shown = fixture.json(on_layer("GetLayerVersion", "l", Some("1"))).await;
    shown["Content"].as_object_mut().unwrap().remove("Location");
    let mut published = first;
    published["Content"].as_object_mut().unwrap().remove("Location");
    assert_eq!(shown, published);
    for version in ["1", "2", "2"] {
        let reply = fixture.send(on_layer("DeleteLayerVersion", LAYER, Some(version))).await.unwrap();
        assert_eq!(reply.status, 204);
    }
    assert_eq!(fixture.json(on_layer("ListLayerVersions", "l", None)).await, json!({"LayerVersions": []}));
    assert_eq!(fixture.json(publish("l", &[("a", "1")])).await["Version"], 3);
}

#[tokio::test]
async fn a_layer_is_found_by_arn_and_its_link_leads_to_its_zip() {
    let fixture = Fixture::new().await;
    let published = fixture.json(publish("l", &[("a", "1")])).await;
    let mut by_arn = with_query(call("GetLayerVersionByArn", None), "Arn", &format!("{LAYER}:1"));
    by_arn.headers.insert("host", "127.0.0.1:4566".parse().unwrap());
    let shown = fixture.json(by_arn.clone()).await;
    assert_eq!(shown["LayerVersionArn"], published["LayerVersionArn"]);
    let location = shown["Content"]["Location"].as_str().unwrap();
    let hash = location.split(['/', '?']).nth(5).unwrap().to_owned();
    let mut download = call("DownloadPackage", None);
    download.labels.insert("Package", hash);
    let zip = fixture.send(download).await.unwrap().body;
    assert_eq!(zip, STANDARD.decode(layer_zip(&[("a", "1")])).unwrap());

    let not_there = (
        "ResourceNotFoundException".to_owned(),
        404,
        "The resource you requested does not exist.".to_owned(),
    );
    by_arn.query[0].1 = format!("{LAYER}:2");
    assert_eq!(fixture.error(by_arn.clone()).await, not_there);
    assert_eq!(fixture.error(on_layer("GetLayerVersion", "none", Some("1"))).await, not_there);
    by_arn.query[0].1 = LAYER.to_owned();
    let error = fixture.error(by_arn.clone()).await;
    assert!(
        error
            .2
            .contains(&format!("Value '{LAYER}' at 'arn' failed to satisfy constraint: Member must satisfy"))
    );
    by_arn.query.clear();
    assert!(fixture.error(by_arn).await.2.contains("Value null at 'arn'"));
    for number in ["0", "-1"] {
        for operation in ["GetLayerVersion", "DeleteLayerVersion"] {
            let error = fixture.error(on_layer(operation, "l", Some(number))).await;
            let text = "Layer Version Cannot be less than 1".to_owned();
            assert_eq!(error, ("InvalidParameterValueException".to_owned(), 400, text));
        }
    }
}

#[tokio::test]
async fn lists_have_pages_and_show_what_matches() {
    let fixture = Fixture::new().await;
    for (name, runtime) in
        [("a", "python3.12"), ("a", "nodejs22.x"), ("b", "nodejs22.x"), ("c", "python3.12")]
    {
        let more = json!({"CompatibleRuntimes": [runtime], "CompatibleArchitectures": ["arm64"]});
        fixture.send(publish_with(name, &[("x", "1")], more)).await.unwrap();
    }
    let layers = |query: &[(&str, &str)]| {
        query.iter().fold(call("ListLayers", None), |call, (name, value)| with_query(call, name, value))
    };
    let shown = |list: &Value| -> Vec<(String, u64)> {
        let entry = |layer: &Value| {
            let number = layer["LatestMatchingVersion"]["Version"].as_u64().unwrap();
            (layer["LayerName"].as_str().unwrap().to_owned(), number)
        };
        list["Layers"].as_array().unwrap().iter().map(entry).collect()
    };
    let expect = |list: &[(&str, u64)]| -> Vec<(String, u64)> {
        list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    let all = fixture.json(layers(&[])).await;
    assert_eq!(shown(&all), expect(&[("a", 2), ("b", 1), ("c", 1)]));
    assert!(all.get("NextMarker").is_none());
    let python = fixture.json(layers(&[("CompatibleRuntime", "python3.12")])).await;
    assert_eq!(shown(&python), expect(&[("a", 1), ("c", 1)]));
    let x86 = fixture.json(layers(&[("CompatibleArchitecture", "x86_64")])).await;
    assert_eq!(x86, json!({"Layers": []}));
    let first = fixture.json(layers(&[("MaxItems", "2")])).await;
    assert_eq!(shown(&first), expect(&[("a", 2), ("b", 1)]));
    let marker = first["NextMarker"].as_str().unwrap();
    let second = fixture.json(layers(&[("MaxItems", "2"), ("Marker", marker)])).await;
    assert_eq!((shown(&second), second.get("NextMarker")), (expect(&[("c", 1)]), None));
    for (name, value) in
        [("MaxItems", "51"), ("CompatibleRuntime", "cobol"), ("CompatibleArchitecture", "z80")]
    {
        assert_eq!(fixture.error(layers(&[(name, value)])).await.0, "ValidationException", "{name}");
    }
    let other_region = Call { region: Region::new("eu-west-1"), ..layers(&[]) };
    assert_eq!(fixture.json(other_region).await, json!({"Layers": []}));
}

#[tokio::test]
async fn a_layers_versions_are_listed_newest_first_page_by_page() {
    let fixture = Fixture::new().await;
    for number in 1..=130 {
        let runtime = if number % 2 == 0 { "python3.12" } else { "nodejs22.x" };
        fixture
            .send(publish_with("l", &[("x", "1")], json!({"CompatibleRuntimes": [runtime]})))
            .await
            .unwrap();
    }
    let (mut seen, mut marker): (Vec<u64>, Option<String>) = (Vec::new(), None);
    loop {
        let mut ask = with_query(on_layer("ListLayerVersions", "l", None), "CompatibleRuntime", "python3.12");
        if let Some(marker) = &marker {
            ask = with_query(ask, "Marker", marker);
        }
        let page = fixture.json(ask).await;
        let versions = page["LayerVersions"].as_array().unwrap();
        assert!(!versions.is_empty() && versions.len() <= 50);
        seen.extend(versions.iter().map(|version| version["Version"].as_u64().unwrap()));
        marker = page["NextMarker"].as_str().map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=65).rev().map(|half| half * 2).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_function_gets_its_layers_merged_in_order() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("python/a.py", "l1"), ("python/b.py", "l1")])).await.unwrap();
    fixture.send(publish("m", &[("python/b.py", "m1"), ("lib/c", "m1")])).await.unwrap();
    let (l, m) = (format!("{LAYER}:1"), format!("{}m:1", &LAYER[..LAYER.len() - 1]));
    let created = fixture.json(with_layers(&[&l, &m])).await;
    let size = |shown: &Value| shown["CodeSize"].as_u64().is_some_and(|size| size > 0);
    assert_eq!((&created["Layers"][0]["Arn"], &created["Layers"][1]["Arn"]), (&json!(l), &json!(m)));
    assert!(size(&created["Layers"][0]) && size(&created["Layers"][1]));
    let opt = fixture.opt().await.unwrap();
    assert_eq!(["python/a.py", "python/b.py", "lib/c"].map(|file| content(&opt, file)), ["l1", "m1", "m1"]);

    fixture.send(update_layers(&[&m, &l])).await.unwrap();
    let turned = fixture.opt().await.unwrap();
    assert_eq!(
        ["python/a.py", "python/b.py", "lib/c"].map(|file| content(&turned, file)),
        ["l1", "l1", "m1"]
    );
    // A single layer is its own folder; what an update does not name stays.
    fixture.send(update_layers(&[&m])).await.unwrap();
    let described = with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"Description": "x"}));
    assert_eq!(fixture.json(described).await["Layers"][0]["Arn"], m);
    let only = fixture.opt().await.unwrap();
    assert!(!only.join("python/a.py").exists() && content(&only, "lib/c") == "m1");
    let cleared = fixture.json(update_layers(&[])).await;
    assert!(cleared.get("Layers").is_none());
    assert_eq!(fixture.opt().await, None);
    // Both merged folders are given up once nothing can run in them.
    assert_eq!(fixture.code_folders().len(), 5);
    fixture.collect().await;
    assert_eq!(fixture.code_folders().len(), 3, "two layers and the function's own code stay");
    assert!(!opt.exists() && !turned.exists());
}

#[tokio::test]
async fn a_deleted_layer_stays_for_the_versions_that_have_it() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    fixture.send(publish("m", &[("b", "1")])).await.unwrap();
    let (l, m) = (format!("{LAYER}:1"), format!("{}m:1", &LAYER[..LAYER.len() - 1]));
    fixture.json(with_layers(&[&l, &m])).await;
    fixture.send(call("PublishVersion", Some("f"))).await.unwrap();
    for name in ["l", "m"] {
        fixture.send(on_layer("DeleteLayerVersion", name, Some("1"))).await.unwrap();
    }
    fixture.send(update_layers(&[])).await.unwrap();
    fixture.collect().await;
    let refused = format!("Layer version {l} does not exist.");
    assert_eq!(
        fixture.error(update_layers(&[&l])).await,
        ("InvalidParameterValueException".into(), 400, refused)
    );

    // Published version 1 still has both, also after a start that finds its folders gone.
    let version = || with_query(call("Invoke", Some("f")), "Qualifier", "1");
    fixture.send(version()).await.unwrap();
    let opt = fixture.invoked().0.layers.clone().unwrap();
    assert_eq!((content(&opt, "a"), content(&opt, "b")), ("1".to_owned(), "1".to_owned()));
    let Fixture { lambda, store, folder, .. } = fixture;
    drop(lambda);
    for name in std::fs::read_dir(folder.path().join("code")).unwrap() {
        crate::package::remove(&name.unwrap().path());
    }
    let fixture = Fixture::over(store, folder).await;
    fixture.lambda.code.collect_leftovers().await;
    fixture.send(version()).await.unwrap();
    let opt = fixture.invoked().0.layers.clone().unwrap();
    assert_eq!((content(&opt, "a"), content(&opt, "b")), ("1".to_owned(), "1".to_owned()));

    // The last version takes everything along.
    fixture.send(call("DeleteFunction", Some("f"))).await.unwrap();
    fixture.collect().await;
    assert_eq!(fixture.code_folders(), Vec::<String>::new());
}

#[tokio::test]
async fn layers_are_part_of_what_is_published() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let l = format!("{LAYER}:1");
    fixture.create("f").await;
    let published = |shown: Value| shown["Version"].as_str().unwrap().to_owned();
    assert_eq!(published(fixture.json(call("PublishVersion", Some("f"))).await), "1");
    fixture.send(update_layers(&[&l])).await.unwrap();
    assert_eq!(published(fixture.json(call("PublishVersion", Some("f"))).await), "2");
    fixture.send(update_layers(&[&l])).await.unwrap();
    assert_eq!(published(fixture.json(call("PublishVersion", Some("f"))).await), "2", "nothing has changed");
    fixture.send(update_layers(&[])).await.unwrap();
    let second = with_query(call("GetFunctionConfiguration", Some("f")), "Qualifier", "2");
    assert_eq!(fixture.json(second).await["Layers"][0]["Arn"], l);
}

#[tokio::test]
async fn layers_that_cannot_be_had_are_refused_in_awss_words() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    }
    let (one, two) = (format!("{LAYER}:1"), format!("{LAYER}:2"));
    let invalid = |text: String| ("InvalidParameterValueException".to_owned(), 400, text);
    let versions = |first: &str, second: &str| {
        invalid(format!(
            "Two different versions of the same layer are not allowed to be referenced in the same function. {first} and \
             {second} are versions of the same layer."
        ))
    };
    let missing = |arn: &str| invalid(format!("Layer version {arn} does not exist."));
    let elsewhere = one.replace("us-east-1", "eu-west-1");
    let others = one.replace("000000000000", "111122223333");
    let cases: [(Vec<&str>, (String, u16, String)); 9] = [
        (vec![&one; 6], invalid("Cannot reference more than 5 layers.".to_owned())),
        (vec![&one, &two], versions(&one, &two)),
        (vec![&one, &two, "arn:aws:lambda:us-east-1:000000000000:layer:l:3"], versions(&one, &two)),
        (vec![&one, &one], versions(&one, &one)),
        (vec!["arn:aws:lambda:us-east-1:000000000000:layer:l:9"], missing(&format!("{LAYER}:9"))),
        (vec!["arn:aws:lambda:us-east-1:000000000000:layer:none:1"], missing(&format!("{}none:1", &LAYER[..LAYER.len() - 1]))),
        (vec!["arn:aws:lambda:::awslayer:AmazonLinux1803"], missing("arn:aws:lambda:::awslayer:AmazonLinux1803")),
        (
            vec![&elsewhere],
            invalid(
                "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.".to_owned(),
            ),
        ),
        (
            vec![&others],
            (
                "AccessDeniedException".to_owned(),
                403,
                format!(
                    "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetLayerVersion on resource: \
                     {others} because no resource-based policy allows the lambda:GetLayerVersion action"
                ),
            ),
        ),
    ];
    for (layers, expected) in cases {
        assert_eq!(fixture.error(with_layers(&layers)).await, expected, "{layers:?}");
    }
    let error = fixture.error(with_layers(&[LAYER])).await;
    assert_eq!((error.0.as_str(), error.1), ("ValidationException", 400));
    let begins = format!(
        "1 validation error detected: Value '[{LAYER}]' at 'layers' failed to satisfy constraint: Member must satisfy \
         constraint: [Member must have length less than or equal to 2048, "
    );
    assert!(error.2.starts_with(&begins), "{}", error.2);
    assert_eq!(fixture.code_folders().len(), 1, "nothing is left of what was refused");
    // What a layer says it is for keeps nobody from using it, as on AWS.
    let more = json!({"CompatibleRuntimes": ["java21"], "CompatibleArchitectures": ["arm64"]});
    fixture.send(publish_with("other", &[("x", "1")], more)).await.unwrap();
    let other = format!("{}other:1", &LAYER[..LAYER.len() - 1]);
    assert_eq!(fixture.json(with_layers(&[&other])).await["Layers"][0]["Arn"], other);
}

#[tokio::test]
async fn code_and_layers_share_one_limit() {
    let fixture = Fixture::new().await;
    // Zeros: a small zip that is large unpacked.
    let zeros = "\0".repeat(100 * 1024 * 1024);
    for name in ["l", "m"] {
        fixture.send(publish(name, &[(name, &zeros)])).await.unwrap();
    }
    let (l, m) = (format!("{LAYER}:1"), format!("{}m:1", &LAYER[..LAYER.len() - 1]));
    fixture.json(with_layers(&[&l, &m])).await;
    let too_large = |actual: usize| {
        let text = format!(
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is \
             {actual} bytes."
        );
        ("InvalidParameterValueException".to_owned(), 400, text)
    };
    let code = STANDARD.encode(zip_of(&[file("bootstrap", &zeros)]));
    for dry_run in [false, true] {
        let body = json!({"ZipFile": code, "DryRun": dry_run});
        let update = with_body(call("UpdateFunctionCode", Some("f")), &body);
        assert_eq!(fixture.error(update).await, too_large(3 * zeros.len()), "dry run {dry_run}");
    }
    fixture.send(update_layers(&[&l])).await.unwrap();
    let body = json!({"ZipFile": code});
    fixture.send(with_body(call("UpdateFunctionCode", Some("f")), &body)).await.unwrap();
    assert_eq!(fixture.error(update_layers(&[&l, &m])).await, too_large(3 * zeros.len()));
    let mut creation = creation("g");
    (creation["Code"], creation["Layers"]) = (json!({"ZipFile": code}), json!([m, l]));
    let error = fixture.error(with_body(call("CreateFunction", None), &creation)).await;
    assert_eq!(error, too_large(3 * zeros.len()));
    fixture.collect().await;
    // Two layers, the function's code; nothing of what was refused, not even merged.
    assert_eq!(fixture.code_folders().len(), 3);
    let whole = zip_of(&[file("a", &"\0".repeat(250 * 1024 * 1024))]);
    let body = json!({"Content": {"ZipFile": STANDARD.encode(whole)}});
    let error = fixture.error(with_body(on_layer("PublishLayerVersion", "n", None), &body)).await;
    assert_eq!(error.2, "Unzipped size must be smaller than 262144000 bytes");
}

#[tokio::test]
async fn what_cannot_be_published_is_refused() {
    let fixture = Fixture::new().await;
    let with = |more: Value| publish_with("l", &[("a", "1")], more);
    let many: Vec<&str> = vec!["python3.12"; 16];
    let invalid = [
        (
            with(json!({"CompatibleRuntimes": ["cobol74"]})),
            "Value '[cobol74]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy enum value set: [",
        ),
        (
            with(json!({"CompatibleRuntimes": many})),
            "at 'compatibleRuntimes' failed to satisfy constraint: Member must have length less than or equal to 15",
        ),
        (
            with(json!({"CompatibleArchitectures": ["z80"]})),
            "Value '[z80]' at 'compatibleArchitectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]",
        ),
        (with(json!({"Description": "d".repeat(257)})), "at 'description' failed"),
        (with(json!({"LicenseInfo": "d".repeat(513)})), "at 'licenseInfo' failed"),
        (with(json!({"Content": null})), "Value null at 'content' failed"),
        (
            publish("a b", &[("a", "1")]),
            "Value 'a b' at 'layerName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:",
        ),
        (publish(&"n".repeat(141), &[("a", "1")]), "at 'layerName' failed"),
        (publish("", &[("a", "1")]), "at 'layerName' failed"),
    ];
    for (call, says) in invalid {
        let error = fixture.error(call).await;
        assert_eq!((error.0.as_str(), error.1), ("ValidationException", 400), "{says}");
        assert!(error.2.contains(says), "{}", error.2);
    }
    for (content, says) in [
        (json!({}), "Please provide a source for layer content."),
        (
            json!({"ZipFile": "bm90IGEgemlw"}),
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (json!({"ZipFile": ""}), "Uploaded file must be a non-empty zip"),
        (
            json!({"S3Bucket": "b", "S3Key": "k"}),
            "Freehold does not support S3Bucket (yet): there is no S3 here; send the layer as ZipFile.",
        ),
    ] {
        let error = fixture.error(with(json!({"Content": content}))).await;
        assert_eq!((error.0.as_str(), error.2.as_str()), ("InvalidParameterValueException", says));
    }
    let foreign = LAYER.replace("000000000000", "111122223333");
    let error = fixture.error(publish(&foreign, &[("a", "1")])).await;
    assert_eq!((error.0.as_str(), error.1), ("AccessDeniedException", 403));
    assert_eq!(fixture.json(call("ListLayers", None)).await, json!({"Layers": []}));
    assert!(fixture.code_folders().is_empty());
}

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
    for id in ["s1", "s2"] {
        fixture.send(remove("l", "1", id)).await.unwrap();
    }
    assert_eq!(fixture.error(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await, no_policy);
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
    let policy = fixture.json(on_layer("GetLayerVersionPolicy", "l", Some("1"))).await;
    assert!(policy["Policy"].as_str().unwrap().len() <= 20_480);
}

#[tokio::test]
async fn a_layer_deleted_while_it_is_given_is_not_given() {
    let fixture = Fixture::new().await;
    fixture.send(publish("l", &[("a", "1")])).await.unwrap();
    let l = format!("{LAYER}:1");
    let creation = with_layers(&[&l]);
    let wanted = crate::layers::Wanted::of(&creation, vec![l.clone()]).unwrap();
    assert!(wanted.find(&fixture.store.snapshot().await.unwrap()).await.is_ok());
    fixture.send(on_layer("DeleteLayerVersion", "l", Some("1"))).await.unwrap();
    // As in the transaction that would write the function.
    let refused = fixture.store.transact(|transaction| {
        let wanted = &wanted;
        async move { wanted.find(&transaction).await }
    });
    assert_eq!(refused.await.unwrap_err().to_string(), format!("Layer version {l} does not exist."));
    let layer =
        LayerId { account: AccountId::new(ACCOUNT), region: Region::new("us-east-1"), name: "l".to_owned() };
    assert_eq!(layer.version(1).arn(), l);
}
