//! `ListFunctions`: 200 and a page of the caller's functions in order of their names.
//!
//! The marker holds the last name of the page before: functions that come or go meanwhile neither repeat nor hide others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freehold_base::arn::is_function_name;
use freehold_store::{Part, PartValue};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::model::responses::{FunctionConfiguration, ListFunctionsResponse};
use crate::model::validation::Violations;
use crate::names::{FunctionId, LATEST};
use crate::operations::json_reply;
use crate::records::FUNCTIONS;

/// Functions in one page, however many are asked for. Source: `MaxItems` of `ListFunctions` in the API reference.
const PAGE: usize = 50;
/// What a client may ask for.
const MAX_ITEMS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// How the text inside a marker begins; changes with its form.
const MARKER: &str = "functions-1:";

pub(super) async fn list_functions(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let question = Question::of(&call)?;
    let (account, region) = (&call.principal.account, &call.region);
    let place = [Part::Text(account.as_str()), Part::Text(region.as_str())];
    let snapshot = lambda.store.snapshot().await?;
    let mut records = if question.replicas_only {
        Vec::new()
    } else {
        let after = question.after.as_deref().map(|name| [place[0], place[1], Part::Text(name)]);
        FUNCTIONS.scan(&snapshot, &place, after.as_ref().map(|parts| &parts[..]), question.page + 1).await?
    };
    let more = records.len() > question.page;
    records.truncate(question.page);
    let found: Vec<_> = records
        .into_iter()
        .filter_map(|(key, record)| {
            let Some(PartValue::Text(name)) = FUNCTIONS.parts(&key)?.pop() else { return None };
            Some((FunctionId { account: account.clone(), region: region.clone(), name }, record))
        })
        .collect();
    let qualifier = question.all_versions.then_some(LATEST);
    let response = ListFunctionsResponse {
        next_marker: found.last().filter(|_| more).map(|(id, _)| marker_after(&id.name)),
        functions: found
            .iter()
            .map(|(id, record)| FunctionConfiguration::listed(id, record, qualifier))
            .collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// What is asked for.
struct Question {
    page: usize,
    after: Option<String>,
    /// With each function's versions, which are its `$LATEST` alone.
    all_versions: bool,
    /// Only functions that were replicated from another region for Lambda@Edge: there are none.
    replicas_only: bool,
}

impl Question {
    fn of(call: &Call) -> Result<Self, LambdaError> {
        let mut violations = Violations::default();
        let version = call.query_value("FunctionVersion").filter(|version| !version.is_empty());
        if let Some(version) = version {
            violations.one_of("functionVersion", version, &["ALL"]);
        }
        let mut page = PAGE;
        if let Some(asked) = call.query_value("MaxItems").filter(|asked| !asked.is_empty()) {
            let number: i64 = asked.parse().map_err(|_| {
                LambdaError::Serialization(format!("'{asked}' can not be converted to an Integer"))
            })?;
            page = violations
                .range("maxItems", number, &MAX_ITEMS)
                .map_or(PAGE, |number| PAGE.min(number as usize));
        }
        violations.into_result()?;
        let region = call.query_value("MasterRegion").filter(|region| !region.is_empty());
        if region.is_some() && version.is_none() {
            let text = "FunctionVersion must be set to ALL when MasterRegion is given.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
        let marker = call.query_value("Marker").filter(|marker| !marker.is_empty());
        Ok(Self {
            page,
            after: marker.map(name_in).transpose()?,
            all_versions: version.is_some(),
            replicas_only: region.is_some_and(|region| region != "ALL"),
        })
    }
}

fn marker_after(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{MARKER}{name}"))
}

fn name_in(marker: &str) -> Result<String, LambdaError> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name =
        text.as_deref().and_then(|text| text.strip_prefix(MARKER)).filter(|name| is_function_name(name));
    name.map(str::to_owned).ok_or_else(|| {
        LambdaError::InvalidParameter("The Marker is not one that ListFunctions has given.".to_owned())
    })
}
