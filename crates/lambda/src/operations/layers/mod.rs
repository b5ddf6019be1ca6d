//! Layers: published, read, listed, deleted, opened to others. What they are for functions is in `crate::layers`.

mod delete;
mod get;
mod list;
mod permissions;
mod publish;

use freehold_wire::service::Verb::{Delete, Get, Post};

use super::entry::{Entry, PACKAGE_BODY_BYTES, change, read};

/// The resource of an operation on the layer in its path.
const LAYER: &str = "layer:{LayerName}";
/// The resource of an operation on the layer version in its path.
const LAYER_VERSION: &str = "layer:{LayerName}:{VersionNumber}";
const LAYERS: &str = "/2018-10-31/layers";
const VERSIONS: &str = "/2018-10-31/layers/{LayerName}/versions";
const VERSION: &str = "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}";
const POLICY: &str = "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy";
const STATEMENT: &str = "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId}";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change("PublishLayerVersion", "lambda:PublishLayerVersion", Post, VERSIONS, LAYER, |lambda, call| {
        Box::pin(publish::publish_layer_version(lambda, call))
    })
    .with_body_limit(PACKAGE_BODY_BYTES),
    read("GetLayerVersion", "lambda:GetLayerVersion", Get, VERSION, LAYER_VERSION, |lambda, call| {
        Box::pin(get::get_layer_version(lambda, call))
    }),
    // The ARN is a parameter; AWS has no action of its own for it.
    read(
        "GetLayerVersionByArn",
        "lambda:GetLayerVersion",
        Get,
        "/2018-10-31/layers?find=LayerVersion",
        "*",
        |lambda, call| Box::pin(get::get_layer_version_by_arn(lambda, call)),
    ),
    read("ListLayers", "lambda:ListLayers", Get, LAYERS, "*", |lambda, call| {
        Box::pin(list::list_layers(lambda, call))
    }),
    read("ListLayerVersions", "lambda:ListLayerVersions", Get, VERSIONS, "*", |lambda, call| {
        Box::pin(list::list_layer_versions(lambda, call))
    }),
    change(
        "DeleteLayerVersion",
        "lambda:DeleteLayerVersion",
        Delete,
        VERSION,
        LAYER_VERSION,
        |lambda, call| Box::pin(delete::delete_layer_version(lambda, call)),
    ),
    change(
        "AddLayerVersionPermission",
        "lambda:AddLayerVersionPermission",
        Post,
        POLICY,
        LAYER_VERSION,
        |lambda, call| Box::pin(permissions::add_layer_version_permission(lambda, call)),
    ),
    read(
        "GetLayerVersionPolicy",
        "lambda:GetLayerVersionPolicy",
        Get,
        POLICY,
        LAYER_VERSION,
        |lambda, call| Box::pin(permissions::get_layer_version_policy(lambda, call)),
    ),
    change(
        "RemoveLayerVersionPermission",
        "lambda:RemoveLayerVersionPermission",
        Delete,
        STATEMENT,
        LAYER_VERSION,
        |lambda, call| Box::pin(permissions::remove_layer_version_permission(lambda, call)),
    ),
];
