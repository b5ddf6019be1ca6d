//! Layers of functions: what is at `/opt`, what is refused, how long a layer stays, what is collected.

use std::path::Path;

use super::*;
use crate::layers::id::LayerId;

pub(super) const LAYER: &str = "arn:aws:lambda:us-east-1:000000000000:layer:l";

/// A layer's zip with these files.
pub(super) fn layer_zip(files: &[(&str, &str)]) -> String {
    let entries: Vec<_> = files.iter().map(|(path, content)| file(path, content)).collect();
    STANDARD.encode(zip_of(&entries))
}

pub(super) fn on_layer(operation: &str, name: &str, version: Option<&str>) -> Call {
    let mut call = call(operation, None);
    call.labels.insert("LayerName", name.to_owned());
    if let Some(version) = version {
        call.labels.insert("VersionNumber", version.to_owned());
    }
    call
}

pub(super) fn publish_with(name: &str, files: &[(&str, &str)], more: Value) -> Call {
    let mut body = json!({"Content": {"ZipFile": layer_zip(files)}});
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    with_body(on_layer("PublishLayerVersion", name, None), &body)
}

pub(super) fn publish(name: &str, files: &[(&str, &str)]) -> Call {
    publish_with(name, files, json!({}))
}

pub(super) fn with_layers(arns: &[&str]) -> Call {
    create_with("Layers", json!(arns))
}

fn update_layers(arns: &[&str]) -> Call {
    with_body(call("UpdateFunctionConfiguration", Some("f")), &json!({"Layers": arns}))
}

pub(super) fn by(mut call: Call, account: &str) -> Call {
    call.principal.account = AccountId::new(account);
    call.principal.arn = format!("arn:aws:iam::{account}:root");
    call
}

impl Fixture {
    pub(super) async fn opt(&self) -> Option<PathBuf> {
        self.send(call("Invoke", Some("f"))).await.unwrap();
        self.invoked().0.layers.clone()
    }

    /// Lets the grace period of retired packages pass, and collects.
    pub(super) async fn collect(&self) {
        self.clock.advance(Duration::from_secs(24 * 60 * 60));
        self.lambda.code.collect_retired().await;
    }
}

pub(super) fn content(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap()
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
    let (one, two, three) = (format!("{LAYER}:1"), format!("{LAYER}:2"), format!("{LAYER}:3"));
    let versions = |first: &str, second: &str| {
        format!(
            "Two different versions of the same layer are not allowed to be referenced in the same function. {first} and \
             {second} are versions of the same layer."
        )
    };
    let missing = |arn: &str| format!("Layer version {arn} does not exist.");
    let (ninth, none) = (format!("{LAYER}:9"), format!("{LAYER}-none:1"));
    let (awss, elsewhere) =
        ("arn:aws:lambda:::awslayer:AmazonLinux1803", one.replace("us-east-1", "eu-west-1"));
    let region =
        "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.";
    let cases: [(&[&str], String); 8] = [
        (&[one.as_str(); 6], "Cannot reference more than 5 layers.".to_owned()),
        (&[&one, &two], versions(&one, &two)),
        (&[&one, &two, &three], versions(&one, &two)),
        (&[&one, &one], versions(&one, &one)),
        (&[&ninth], missing(&ninth)),
        (&[&none], missing(&none)),
        (&[awss], missing(awss)),
        (&[&elsewhere], region.to_owned()),
    ];
    for (layers, text) in cases {
        let expected = ("InvalidParameterValueException".to_owned(), 400, text);
        assert_eq!(fixture.error(with_layers(layers)).await, expected, "{layers:?}");
    }
    let others = one.replace("000000000000", "111122223333");
    let denied = format!(
        "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetLayerVersion on resource: {others} \
         because no resource-based policy allows the lambda:GetLayerVersion action"
    );
    let expected = ("AccessDeniedException".to_owned(), 403, denied);
    assert_eq!(fixture.error(with_layers(&[&others])).await, expected);
    let error = fixture.error(with_layers(&[LAYER])).await;
    assert_eq!((error.0.as_str(), error.1), ("ValidationException", 400));
    let begins = format!(
        "1 validation error detected: Value '[{LAYER}]' at 'layers' failed to satisfy constraint: Member must satisfy \
         constraint: [Member must have length less than or equal to 2048, "
    );
    assert!(error.2.starts_with(&begins), "{}", error.2);
    assert_eq!(fixture.code_folders().len(), 1, "nothing is left of what was refused");
}

#[tokio::test]
async fn what_a_layer_says_it_is_for_keeps_nobody_from_using_it() {
    let fixture = Fixture::new().await;
    let more = json!({"CompatibleRuntimes": ["java21"], "CompatibleArchitectures": ["arm64", "x86_64"]});
    for (name, more) in [("l", more), ("m", json!({"CompatibleArchitectures": ["arm64"]}))] {
        fixture.send(publish_with(name, &[("x", "1")], more)).await.unwrap();
    }
    let (l, m) = (format!("{LAYER}:1"), format!("{}m:1", &LAYER[..LAYER.len() - 1]));
    let created = fixture.json(with_layers(&[&l, &m])).await;
    assert_eq!((&created["Layers"][0]["Arn"], &created["Layers"][1]["Arn"]), (&json!(l), &json!(m)));
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
