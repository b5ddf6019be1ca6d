//! `ListLayers`: a page of the caller's layers in order of their names, each with its last version that matches.
//! `ListLayerVersions`: a page of one layer's versions that match, the newest first.

use std::ops::RangeInclusive;

use freehold_store::{Part, Read, StoreError};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::layers::denied;
use crate::layers::id::{LayerId, LayerVersionId};
use crate::layers::records::{self, LAYERS, LayerRecord};
use crate::model::layers::{
    Compatible, LayerItem, LayerVersionItem, ListLayerVersionsResponse, ListLayersResponse,
};
use crate::model::validation::Violations;
use crate::operations::json_reply;
use crate::operations::page::{Page, marker};

/// What a client may ask for. Source: `MaxLayerListItems` of AWS's model.
const MAX_ITEMS: RangeInclusive<u32> = 1..=50;
/// Versions that are read at once.
const READ_AT_ONCE: usize = 64;
/// How the lists' markers are told from others'.
const LAYER_MARKERS: &str = "layers";
const VERSION_MARKERS: &str = "layer-versions";

pub(super) async fn list_layers(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let compatible = compatible(&call, &mut violations);
    let page = Page::within(&call, LAYER_MARKERS, &MAX_ITEMS, &mut violations, |_| true)?;
    violations.into_result()?;
    let snapshot = lambda.store.snapshot().await?;
    let mut found: Vec<(LayerVersionId, LayerRecord)> = Vec::new();
    let mut name = page.after;
    while found.len() <= page.limit {
        let Some(layer) = next_layer(&snapshot, &call, name.as_deref()).await? else { break };
        found.extend(versions(&snapshot, &layer, None, &compatible, 1).await?);
        name = Some(layer.name);
    }
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let response = ListLayersResponse {
        next_marker: found.last().filter(|_| more).map(|(id, _)| marker(LAYER_MARKERS, &id.layer.name)),
        layers: found.iter().map(|(id, record)| LayerItem::of(id, record)).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

pub(super) async fn list_layer_versions(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let mut violations = Violations::default();
    let layer = LayerId::of(&call, &mut violations);
    let compatible = compatible(&call, &mut violations);
    let page = Page::within(&call, VERSION_MARKERS, &MAX_ITEMS, &mut violations, |place| {
        place.parse::<u64>().is_ok()
    })?;
    violations.into_result()?;
    if layer.account != call.principal.account {
        return Err(denied(&call.principal, call.operation.action, layer.arn()));
    }
    let before = page.after.and_then(|place| place.parse().ok());
    let snapshot = lambda.store.snapshot().await?;
    let mut found = match layer.region == call.region {
        true => versions(&snapshot, &layer, before, &compatible, page.limit + 1).await?,
        false => Vec::new(),
    };
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let response = ListLayerVersionsResponse {
        next_marker: found
            .last()
            .filter(|_| more)
            .map(|(id, _)| marker(VERSION_MARKERS, &id.number.to_string())),
        layer_versions: found.iter().map(|(id, record)| LayerVersionItem::of(id, record)).collect(),
    };
    json_reply(StatusCode::OK, &response)
}

fn compatible<'a>(call: &'a Call, violations: &mut Violations) -> Compatible<'a> {
    let given = |name: &str| call.query_value(name).filter(|value| !value.is_empty());
    let compatible =
        Compatible { runtime: given("CompatibleRuntime"), architecture: given("CompatibleArchitecture") };
    compatible.check(violations);
    compatible
}

/// The caller's first layer whose name comes after `name`.
async fn next_layer(
    read: &impl Read,
    call: &Call,
    name: Option<&str>,
) -> Result<Option<LayerId>, StoreError> {
    let (account, region) = (&call.principal.account, &call.region);
    let place = [Part::Text(account.as_str()), Part::Text(region.as_str())];
    // Past all versions of the layer before.
    let after = name.map(|name| [place[0], place[1], Part::Text(name), Part::Number(u64::MAX)]);
    let next = LAYERS.scan(read, &place, after.as_ref().map(|parts| &parts[..]), 1).await?;
    Ok(next.first().and_then(|(key, _)| records::place_in(key)).map(|(name, _)| LayerId {
        account: account.clone(),
        region: region.clone(),
        name,
    }))
}

/// Up to `wanted` versions of a layer that match, newest first, beginning below the number `before`.
async fn versions(
    read: &impl Read,
    layer: &LayerId,
    mut before: Option<u64>,
    compatible: &Compatible<'_>,
    wanted: usize,
) -> Result<Vec<(LayerVersionId, LayerRecord)>, StoreError> {
    let mut found = Vec::new();
    loop {
        let place = layer.version(before.unwrap_or_default());
        let end = place.parts();
        let read_now = LAYERS.scan_back(read, &layer.parts(), before.map(|_| &end[..]), READ_AT_ONCE).await?;
        let ended = read_now.len() < READ_AT_ONCE;
        for (key, record) in read_now {
            let Some((_, number)) = records::place_in(&key) else { continue };
            before = Some(number);
            if compatible.admits(&record) {
                found.push((layer.version(number), record));
            }
            if found.len() == wanted {
                return Ok(found);
            }
        }
        if ended {
            return Ok(found);
        }
    }
}
