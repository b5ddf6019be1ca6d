//! `ListFunctions`: 200 and a page of the caller's functions in order of their names; with `FunctionVersion=ALL`, each with its
//! versions.

use freehold_base::arn::is_function_name;
use freehold_store::{Part, PartValue, Read, StoreError};
use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::model::responses::{FunctionConfiguration, ListFunctionsResponse};
use crate::model::validation::Violations;
use crate::names::{FunctionId, LATEST, Qualified};
use crate::operations::json_reply;
use crate::operations::page::{Page, marker};
use crate::records::{self, FUNCTIONS, VERSIONS, VersionRecord};

/// How this list's markers are told from others'.
const MARKERS: &str = "functions";

pub(super) async fn list_functions(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let question = Question::of(&call)?;
    let snapshot = lambda.store.snapshot().await?;
    let mut found = match question.replicas_only {
        true => Vec::new(),
        false => listed(&snapshot, &call, &question).await?,
    };
    let more = found.len() > question.page.limit;
    found.truncate(question.page.limit);
    let qualifier = |number: u64| match (question.all_versions, number) {
        (false, _) => None,
        (true, 0) => Some(LATEST.to_owned()),
        (true, number) => Some(number.to_string()),
    };
    let response = ListFunctionsResponse {
        next_marker: found.last().filter(|_| more).map(|last| marker(MARKERS, &question.place_of(last))),
        functions: found
            .iter()
            .map(|(id, number, record)| {
                let qualifier = qualifier(*number);
                let name = qualifier.as_deref().unwrap_or(LATEST);
                FunctionConfiguration::of(id, name, record, qualifier.as_deref()).listed()
            })
            .collect(),
    };
    json_reply(StatusCode::OK, &response)
}

/// A version in the list; `$LATEST` has the number 0.
type Listed = (FunctionId, u64, VersionRecord);

/// One more than the page holds, if there are as many.
async fn listed(read: &impl Read, call: &Call, question: &Question) -> Result<Vec<Listed>, StoreError> {
    let (account, region) = (&call.principal.account, &call.region);
    let wanted = question.page.limit + 1;
    let mut found: Vec<Listed> = Vec::new();
    let id_of =
        |name: &str| FunctionId { account: account.clone(), region: region.clone(), name: name.to_owned() };
    let after = question.page.after.as_deref().and_then(Place::of);
    if let Some(Place { name, number: Some(number) }) = after {
        push_versions(read, &id_of(name), Some(number), wanted, &mut found).await?;
    }
    let place = [Part::Text(account.as_str()), Part::Text(region.as_str())];
    let after = after.map(|after| [place[0], place[1], Part::Text(after.name)]);
    let functions = FUNCTIONS.scan(read, &place, after.as_ref().map(|parts| &parts[..]), wanted).await?;
    for (key, record) in functions {
        if found.len() >= wanted {
            break;
        }
        let Some(PartValue::Text(name)) = FUNCTIONS.parts(&key).and_then(|mut parts| parts.pop()) else {
            continue;
        };
        let id = id_of(&name);
        found.push((id.clone(), 0, record.latest));
        if question.all_versions && found.len() < wanted {
            push_versions(read, &id, None, wanted, &mut found).await?;
        }
    }
    Ok(found)
}

/// Adds a function's published versions after the number `after` until there are as many as are wanted.
async fn push_versions(
    read: &impl Read,
    id: &FunctionId,
    after: Option<u64>,
    wanted: usize,
    found: &mut Vec<Listed>,
) -> Result<(), StoreError> {
    let place = id.version_parts(after.unwrap_or_default());
    let room = wanted - found.len();
    let versions = VERSIONS.scan(read, &place[..3], after.map(|_| &place[..]), room).await?;
    found.extend(
        versions
            .into_iter()
            .filter_map(|(key, record)| Some((id.clone(), records::number_in(&key)?, record.version))),
    );
    Ok(())
}

/// What is asked for.
struct Question {
    page: Page,
    /// With each function's versions.
    all_versions: bool,
    /// Only functions that were replicated from another region for Lambda@Edge: there are none.
    replicas_only: bool,
}

/// Where a page ended: after a function, or after one of its versions.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    number: Option<u64>,
}

impl<'a> Place<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (name, number) = match text.split_once(':') {
            None => (text, None),
            Some((name, "0")) => (name, Some(0)),
            Some((name, number)) => match Qualified::of(number) {
                Qualified::Number(number) => (name, Some(number)),
                _ => return None,
            },
        };
        is_function_name(name).then_some(Self { name, number })
    }
}

impl Question {
    fn of(call: &Call) -> Result<Self, LambdaError> {
        let mut violations = Violations::default();
        let version = call.query_value("FunctionVersion").filter(|version| !version.is_empty());
        if let Some(version) = version {
            violations.one_of("functionVersion", version, &["ALL"]);
        }
        let page = Page::of(call, MARKERS, &mut violations, |place| Place::of(place).is_some())?;
        violations.into_result()?;
        let region = call.query_value("MasterRegion").filter(|region| !region.is_empty());
        if region.is_some() && version.is_none() {
            let text = "FunctionVersion must be set to ALL when MasterRegion is given.";
            return Err(LambdaError::InvalidParameter(text.to_owned()));
        }
        Ok(Self {
            page,
            all_versions: version.is_some(),
            replicas_only: region.is_some_and(|region| region != "ALL"),
        })
    }

    /// The place after what was listed last.
    fn place_of(&self, (id, number, _): &Listed) -> String {
        if self.all_versions { format!("{}:{number}", id.name) } else { id.name.clone() }
    }
}
