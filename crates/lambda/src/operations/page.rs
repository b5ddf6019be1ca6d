//! What lists have in common: how many a page holds, and the marker where the next one begins.
//!
//! A marker holds the last thing of the page before: what comes or goes meanwhile neither repeats nor hides anything else.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freehold_wire::service::Call;

use crate::error::LambdaError;
use crate::model::validation::Violations;

/// Things in one page, however many are asked for. Source: `MaxItems` of `ListFunctions` in the API reference.
pub(super) const PAGE: usize = 50;
/// What a client may ask for.
pub(super) const MAX_ITEMS: RangeInclusive<u32> = 1..=10_000;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Page {
    /// How many.
    pub(super) limit: usize,
    /// After what, as [`marker`] was given it.
    pub(super) after: Option<String>,
}

impl Page {
    /// Reads `MaxItems` and `Marker` of a list of this `kind`. What is wrong with them is noted; a marker of another list, or
    /// one that does not satisfy `fits`, is refused.
    pub(super) fn of(
        call: &Call,
        kind: &str,
        violations: &mut Violations,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Self, LambdaError> {
        Self::within(call, kind, &MAX_ITEMS, violations, fits)
    }

    /// As [`of`](Self::of), where clients may ask for another number of things.
    pub(super) fn within(
        call: &Call,
        kind: &str,
        items: &RangeInclusive<u32>,
        violations: &mut Violations,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Self, LambdaError> {
        Ok(Self { limit: limit(call, items, violations)?, after: after(call, kind, fits)? })
    }
}

fn limit(
    call: &Call,
    items: &RangeInclusive<u32>,
    violations: &mut Violations,
) -> Result<usize, LambdaError> {
    let Some(asked) = call.query_value("MaxItems").filter(|asked| !asked.is_empty()) else { return Ok(PAGE) };
    let number: i64 = asked.parse().map_err(|_| {
        LambdaError::Serialization(format!("'{}' can not be converted to an Integer", shortened(asked)))
    })?;
    let number = violations.range("maxItems", number, items);
    Ok(number.map_or(PAGE, |number| PAGE.min(number as usize)))
}

fn after(call: &Call, kind: &str, fits: impl Fn(&str) -> bool) -> Result<Option<String>, LambdaError> {
    let Some(marker) = call.query_value("Marker").filter(|marker| !marker.is_empty()) else {
        return Ok(None);
    };
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let place =
        text.as_deref().and_then(|text| text.strip_prefix(&beginning(kind))).filter(|place| fits(place));
    match place {
        Some(place) => Ok(Some(place.to_owned())),
        None => {
            let text = format!("The Marker is not one that {} has given.", call.operation.name);
            Err(LambdaError::InvalidParameter(text))
        }
    }
}

/// The marker of the page that follows what lies at `place`.
pub(super) fn marker(kind: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{place}", beginning(kind)))
}

/// How the text inside a marker begins; the number changes with its form.
fn beginning(kind: &str) -> String {
    format!("{kind}-1:")
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
