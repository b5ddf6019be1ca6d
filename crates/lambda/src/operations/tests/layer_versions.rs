//! Layer versions: published, shown, listed, refused.

use super::layering::*;
use super::*;

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
