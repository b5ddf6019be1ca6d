//! `GetFunction`, `GetFunctionConfiguration`, `ListFunctions`.

use super::*;
use crate::names::FunctionId;
use crate::records::{self, FUNCTIONS};

#[tokio::test]
async fn a_function_is_found_by_every_name() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    for (name, qualifier, shown) in [
        ("f", None, arn.to_owned()),
        ("000000000000:function:f", None, arn.to_owned()),
        (arn, None, arn.to_owned()),
        ("f:$LATEST", None, format!("{arn}:$LATEST")),
        ("f", Some("$LATEST"), format!("{arn}:$LATEST")),
        ("f:$LATEST", Some("$LATEST"), format!("{arn}:$LATEST")),
    ] {
        for operation in ["GetFunction", "GetFunctionConfiguration"] {
            let mut request = call(operation, Some(name));
            if let Some(qualifier) = qualifier {
                request = with_query(request, "Qualifier", qualifier);
            }
            let found = fixture.json(request).await;
            let found = found.get("Configuration").unwrap_or(&found);
            assert_eq!(found["FunctionArn"], shown, "{operation} {name}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_as_aws_does() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function";
    for (name, text) in [
        ("x", format!("Function not found: {arn}:x")),
        ("x:7", format!("Function not found: {arn}:x:7")),
        ("f:7", format!("Function not found: {arn}:f:7")),
        ("f:PROD", format!("Function not found: {arn}:f:PROD")),
        (
            "arn:aws:lambda:eu-west-1:000000000000:function:f",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')".to_owned(),
        ),
    ] {
        for operation in ["GetFunction", "GetFunctionConfiguration"] {
            let expected = ("ResourceNotFoundException".to_owned(), 404, text.clone());
            assert_eq!(fixture.error(call(operation, Some(name))).await, expected);
        }
    }
    let other = call("GetFunction", Some("arn:aws:lambda:us-east-1:123456789012:function:f"));
    let error = fixture.error(other).await;
    assert_eq!((error.0.as_str(), error.1), ("AccessDeniedException", 403));
    assert!(error.2.contains("lambda:GetFunction"), "{}", error.2);
    let mismatch = with_query(call("GetFunction", Some("f:1")), "Qualifier", "2");
    assert_eq!(
        fixture.error(mismatch).await.2,
        "The derived qualifier from the function name does not match the specified qualifier."
    );
    let long = with_query(call("GetFunction", Some("f")), "Qualifier", &"x".repeat(129));
    assert_eq!(fixture.error(long).await.0, "ValidationException");
    for name in ["", "a b", "a:b:c", "../f", &"x".repeat(65)] {
        let error = fixture.error(call("GetFunction", Some(name))).await;
        assert_eq!((error.0.as_str(), error.1), ("ValidationException", 400), "{name}");
        assert!(error.2.starts_with("1 validation error detected: Value '"), "{}", error.2);
    }
}

#[tokio::test]
async fn an_error_says_whose_fault_it_was() {
    let fixture = Fixture::new().await;
    let error = fixture.send(call("GetFunction", Some("x"))).await.unwrap_err();
    assert_eq!(member(&error, "Type"), "User");
}

async fn list_all(fixture: &Fixture, items: &str) -> Vec<Vec<String>> {
    let (mut pages, mut marker) = (Vec::new(), None::<String>);
    loop {
        let mut request = with_query(call("ListFunctions", None), "MaxItems", items);
        if let Some(marker) = &marker {
            request = with_query(request, "Marker", marker);
        }
        let page = fixture.json(request).await;
        let functions = page["Functions"].as_array().unwrap().iter();
        pages.push(functions.map(|function| function["FunctionName"].as_str().unwrap().to_owned()).collect());
        match page.get("NextMarker") {
            Some(next) => marker = Some(next.as_str().unwrap().to_owned()),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn functions_are_listed_by_pages_in_order() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.json(call("ListFunctions", None)).await, json!({"Functions": []}));
    for index in (0..60).rev() {
        fixture.create(&format!("f{index:02}")).await;
    }
    let names: Vec<String> = (0..60).map(|index| format!("f{index:02}")).collect();
    let pages = list_all(&fixture, "7").await;
    assert!(pages[..8].iter().all(|page| page.len() == 7) && pages.len() == 9);
    assert_eq!(pages.concat(), names);
    let pages = list_all(&fixture, "10000").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [50, 10], "AWS gives at most 50 at a time");
    assert_eq!(list_all(&fixture, "60").await.concat(), names);

    let page = fixture.json(with_query(call("ListFunctions", None), "MaxItems", "1")).await;
    let function = &page["Functions"][0];
    for member in ["State", "LastUpdateStatus", "RuntimeVersionConfig"] {
        assert!(function.get(member).is_none(), "{member} is not listed");
    }
    let marker = page["NextMarker"].as_str().unwrap();
    fixture.send(call("DeleteFunction", Some("f00"))).await.unwrap();
    fixture.send(call("DeleteFunction", Some("f01"))).await.unwrap();
    let request = with_query(with_query(call("ListFunctions", None), "MaxItems", "1"), "Marker", marker);
    assert_eq!(fixture.json(request).await["Functions"][0]["FunctionName"], "f02");
}

#[tokio::test]
async fn a_listing_is_asked_for_properly() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    for (name, value, code) in [
        ("MaxItems", "0", "ValidationException"),
        ("MaxItems", "10001", "ValidationException"),
        ("MaxItems", "many", "SerializationException"),
        ("FunctionVersion", "SOME", "ValidationException"),
        ("Marker", "garbage", "InvalidParameterValueException"),
        ("Marker", "ZnVuY3Rpb25zLTE6Li4vLi4", "InvalidParameterValueException"),
        ("MasterRegion", "us-east-1", "InvalidParameterValueException"),
    ] {
        let error = fixture.error(with_query(call("ListFunctions", None), name, value)).await;
        assert_eq!((error.0.as_str(), error.1), (code, 400), "{name}={value}");
    }
    let all = with_query(call("ListFunctions", None), "FunctionVersion", "ALL");
    let listed = fixture.json(all.clone()).await;
    assert_eq!(
        listed["Functions"][0]["FunctionArn"],
        "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"
    );
    let replicas = with_query(all, "MasterRegion", "eu-west-1");
    assert_eq!(fixture.json(replicas).await, json!({"Functions": []}));
}

#[tokio::test]
async fn accounts_and_regions_do_not_see_each_other() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let mut elsewhere = call("GetFunction", Some("f"));
    elsewhere.region = Region::new("eu-west-1");
    assert_eq!(fixture.error(elsewhere).await.0, "ResourceNotFoundException");
    let mut other = call("ListFunctions", None);
    other.principal.account = AccountId::new("111111111111");
    assert_eq!(fixture.json(other).await, json!({"Functions": []}));
}

#[tokio::test]
async fn the_link_to_a_package_leads_to_it() {
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let found = fixture.json(with_header(call("GetFunction", Some("f")), "host", "localhost:4566")).await;
    let link = found["Code"]["Location"].as_str().unwrap();
    let rest = link.strip_prefix("http://localhost:4566/freehold/packages/").unwrap();
    let (hash, query) = rest.split_once('?').unwrap();
    assert!(query.contains("X-Amz-Expires=600") && query.contains("X-Amz-Signature="), "{query}");
    let package = |hash: &str| {
        let mut request = call("DownloadPackage", None);
        request.labels.insert("Package", hash.to_owned());
        request
    };
    let reply = fixture.send(package(hash)).await.unwrap();
    assert_eq!(reply.body, zip("#!/bin/sh"));
    assert_eq!(reply.headers["content-type"], "application/zip");
    for wrong in ["", "x", &"0".repeat(64), "../../etc/passwd"] {
        assert_eq!(fixture.error(package(wrong)).await.0, "ResourceNotFoundException", "{wrong}");
    }
    let mut others = package(hash);
    others.principal.account = AccountId::new("111111111111");
    assert_eq!(fixture.error(others).await.0, "ResourceNotFoundException");
}

/// Functions that come or go while a client pages through the list neither repeat nor hide others.
#[tokio::test]
async fn ten_thousand_functions_are_listed_by_pages_while_some_are_deleted() {
    const COUNT: usize = 10_000;
    let fixture = Fixture::new().await;
    fixture.create("f").await;
    let id = |name: &str| FunctionId {
        account: AccountId::new(ACCOUNT),
        region: Region::new("us-east-1"),
        name: name.to_owned(),
    };
    let record =
        FUNCTIONS.get(&fixture.store.snapshot().await.unwrap(), &id("f").parts()).await.unwrap().unwrap();
    let names: Vec<String> = (0..COUNT).map(|number| format!("g{number:05}")).collect();
    for chunk in names.chunks(1_000) {
        let (id, record) = (&id, &record);
        let write = fixture.store.transact(|transaction| async move {
            for name in chunk {
                records::put(&transaction, &id(name), None, record).await?;
            }
            Ok::<_, freehold_store::StoreError>(())
        });
        write.await.unwrap();
    }
    let (mut seen, mut deleted, mut marker) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let mut request = call("ListFunctions", None);
        if let Some(marker) = &marker {
            request = with_query(request, "Marker", marker);
        }
        let page = fixture.json(request).await;
        let found = page["Functions"].as_array().unwrap().iter();
        seen.extend(found.map(|function| function["FunctionName"].as_str().unwrap().to_owned()));
        // The last one that was shown, which the marker names, and one that is still to come.
        let last = seen.last().unwrap().clone();
        if let Ok(number) = last.trim_start_matches('g').parse::<usize>() {
            for name in [last, format!("g{:05}", number + 70)] {
                if fixture.send(call("DeleteFunction", Some(&name))).await.is_ok() {
                    deleted.push(name);
                }
            }
        }
        match page["NextMarker"].as_str() {
            Some(next) => marker = Some(next.to_owned()),
            None => break,
        }
    }
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "nothing repeats");
    let missing: Vec<_> = names.iter().filter(|name| seen.binary_search(name).is_err()).collect();
    assert!(
        !missing.is_empty() && missing.iter().all(|name| deleted.contains(name)),
        "only what was deleted is missing"
    );
}
