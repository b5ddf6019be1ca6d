//! The shapes of the operations on layers, and what AWS's model demands of them.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::json::Blob;
use super::responses::{hash_text, time_text};
use super::validation::Violations;
use crate::layers::id::{LayerVersionId, VERSION_PATTERN, is_version_arn};
use crate::layers::policy::{self, ACTION};
use crate::layers::records::LayerRecord;
use crate::policy::principal::{ORGANIZATION_PATTERN, is_organization};
use crate::settings::RUNTIMES_OF_AWS;

/// The architectures that Lambda has.
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=256;
const LICENSE_LENGTH: RangeInclusive<usize> = 0..=512;
const STATEMENT_ID_LENGTH: RangeInclusive<usize> = 1..=100;
/// Runtimes that a layer names.
const RUNTIMES: usize = 15;
const PRINCIPAL_PATTERN: &str = r"\d{12}|\*|arn:(aws[a-zA-Z-]*):iam::\d{12}:root";
const STATEMENT_ID_PATTERN: &str = "([a-zA-Z0-9-_]+)";

/// `PublishLayerVersionRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PublishLayerRequest {
    pub(crate) description: Option<String>,
    pub(crate) content: Option<LayerContent>,
    pub(crate) compatible_runtimes: Option<Vec<String>>,
    pub(crate) compatible_architectures: Option<Vec<String>>,
    pub(crate) license_info: Option<String>,
}

/// `LayerVersionContentInput`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LayerContent {
    pub(crate) zip_file: Option<Blob>,
    pub(crate) s3_bucket: Option<String>,
    pub(crate) s3_key: Option<String>,
    pub(crate) s3_object_version: Option<String>,
}

/// `AddLayerVersionPermissionRequest`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LayerPermissionRequest {
    pub(crate) statement_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) organization_id: Option<String>,
}

impl PublishLayerRequest {
    /// Notes what the model forbids.
    pub(crate) fn check(&self, violations: &mut Violations) {
        if let Some(description) = &self.description {
            violations.length("description", description, DESCRIPTION_LENGTH);
        }
        if self.content.is_none() {
            violations.missing("content");
        }
        if let Some(runtimes) = &self.compatible_runtimes {
            let shown = || format!("[{}]", runtimes.join(", "));
            if runtimes.len() > RUNTIMES {
                let constraint = format_args!("Member must have length less than or equal to {RUNTIMES}");
                violations.add("compatibleRuntimes", shown(), constraint);
            } else if !runtimes.iter().all(|runtime| RUNTIMES_OF_AWS.contains(&runtime.as_str())) {
                violations.one_of("compatibleRuntimes", &shown(), &RUNTIMES_OF_AWS);
            }
        }
        if let Some(architectures) = &self.compatible_architectures {
            let shown = || format!("[{}]", architectures.join(", "));
            if architectures.len() > ARCHITECTURES.len() {
                let constraint = "Member must have length less than or equal to 2";
                violations.add("compatibleArchitectures", shown(), constraint);
            } else if !architectures.iter().all(|one| ARCHITECTURES.contains(&one.as_str())) {
                let constraint =
                    "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]";
                violations.add("compatibleArchitectures", shown(), constraint);
            }
        }
        if let Some(license) = &self.license_info {
            violations.length("licenseInfo", license, LICENSE_LENGTH);
        }
    }
}

impl LayerPermissionRequest {
    /// Notes what the model forbids.
    pub(crate) fn check(&self, violations: &mut Violations) {
        match &self.statement_id {
            Some(id) => check_statement_id(id, violations),
            None => violations.missing("statementId"),
        }
        match &self.action {
            Some(action) if action != ACTION => violations.pattern("action", action, ACTION),
            Some(_) => {}
            None => violations.missing("action"),
        }
        match &self.principal {
            Some(principal) if policy::principal(principal).is_none() => {
                violations.pattern("principal", principal, PRINCIPAL_PATTERN);
            }
            Some(_) => {}
            None => violations.missing("principal"),
        }
        if let Some(organization) = &self.organization_id
            && !is_organization(organization)
        {
            violations.pattern("organizationId", organization, ORGANIZATION_PATTERN);
        }
    }
}

/// Notes what is wrong with a statement's id.
pub(crate) fn check_statement_id(id: &str, violations: &mut Violations) {
    violations.length("statementId", id, STATEMENT_ID_LENGTH);
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        violations.pattern("statementId", id, STATEMENT_ID_PATTERN);
    }
}

/// Notes what is wrong with the `Layers` of a function.
pub(crate) fn check_layers(layers: &[String], violations: &mut Violations) {
    if !layers.iter().all(|arn| is_version_arn(arn)) {
        let constraint = format!(
            "Member must satisfy constraint: [Member must have length less than or equal to 2048, Member must have \
             length greater than or equal to 1, Member must satisfy regular expression pattern: {VERSION_PATTERN}, \
             Member must not be null]"
        );
        violations.add("layers", format_args!("[{}]", layers.join(", ")), constraint);
    }
}

/// What a list of layers or of their versions is narrowed to.
#[derive(Debug, Default)]
pub(crate) struct Compatible<'a> {
    pub(crate) runtime: Option<&'a str>,
    pub(crate) architecture: Option<&'a str>,
}

impl Compatible<'_> {
    /// Notes what the model forbids.
    pub(crate) fn check(&self, violations: &mut Violations) {
        if let Some(architecture) = self.architecture {
            violations.one_of("compatibleArchitecture", architecture, &ARCHITECTURES);
        }
        if let Some(runtime) = self.runtime {
            violations.one_of("compatibleRuntime", runtime, &RUNTIMES_OF_AWS);
        }
    }

    /// Whether a layer version says of itself that it is compatible.
    pub(crate) fn admits(&self, record: &LayerRecord) -> bool {
        let says = |wanted: Option<&str>, list: &Option<Vec<String>>| {
            wanted.is_none_or(|wanted| list.iter().flatten().any(|one| one == wanted))
        };
        says(self.runtime, &record.runtimes) && says(self.architecture, &record.architectures)
    }
}

/// `PublishLayerVersionResponse` and `GetLayerVersionResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerVersionResponse<'a> {
    content: LayerContentResponse,
    layer_arn: String,
    #[serde(flatten)]
    version: LayerVersionItem<'a>,
}

/// `LayerVersionContentOutput`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LayerContentResponse {
    /// A URL from which anyone may fetch the zip for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    code_sha256: String,
    code_size: u64,
}

/// `LayerVersionsListItem`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerVersionItem<'a> {
    layer_version_arn: String,
    version: u64,
    description: &'a str,
    created_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    compatible_architectures: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compatible_runtimes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_info: Option<&'a str>,
}

/// `LayersListItem`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerItem<'a> {
    layer_name: &'a str,
    layer_arn: String,
    latest_matching_version: LayerVersionItem<'a>,
}

/// `ListLayersResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListLayersResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) layers: Vec<LayerItem<'a>>,
}

/// `ListLayerVersionsResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListLayerVersionsResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_marker: Option<String>,
    pub(crate) layer_versions: Vec<LayerVersionItem<'a>>,
}

/// `AddLayerVersionPermissionResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AddLayerPermissionResponse<'a> {
    pub(crate) statement: String,
    pub(crate) revision_id: &'a str,
}

/// `GetLayerVersionPolicyResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerPolicyResponse<'a> {
    pub(crate) policy: String,
    pub(crate) revision_id: &'a str,
}

impl<'a> LayerVersionResponse<'a> {
    /// A layer version as AWS shows it, with a link to its zip.
    pub(crate) fn of(id: &LayerVersionId, record: &'a LayerRecord, location: Option<String>) -> Self {
        Self {
            content: LayerContentResponse {
                location,
                code_sha256: hash_text(&record.zip),
                code_size: record.size_bytes,
            },
            layer_arn: id.layer.arn(),
            version: LayerVersionItem::of(id, record),
        }
    }
}

impl<'a> LayerVersionItem<'a> {
    /// A layer version as lists show it.
    pub(crate) fn of(id: &LayerVersionId, record: &'a LayerRecord) -> Self {
        Self {
            layer_version_arn: id.arn(),
            version: id.number,
            description: &record.description,
            created_date: time_text(record.created_ms),
            compatible_architectures: record.architectures.as_deref(),
            compatible_runtimes: record.runtimes.as_deref(),
            license_info: record.license.as_deref(),
        }
    }
}

impl<'a> LayerItem<'a> {
    /// A layer, by the last of its versions that matches.
    pub(crate) fn of(id: &'a LayerVersionId, record: &'a LayerRecord) -> Self {
        Self {
            layer_name: &id.layer.name,
            layer_arn: id.layer.arn(),
            latest_matching_version: LayerVersionItem::of(id, record),
        }
    }
}
