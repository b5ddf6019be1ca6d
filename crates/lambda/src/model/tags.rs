//! What may be a tag, of whatever resource.

use std::collections::BTreeMap;

use super::validation::Violations;
use crate::error::LambdaError;

/// Tags of a resource.
const TAGS: usize = 50;
/// Length of a tag's key, in characters.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 1..=128;
/// Length of a tag's value, in characters.
const VALUE_LENGTH: std::ops::RangeInclusive<usize> = 0..=256;
/// What the constraints on keys are, in AWS's words.
const KEY_CONSTRAINT: &str = "Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member \
                              must have length greater than or equal to 1, Member must satisfy regular expression pattern: \
                              ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*), Member must not be null]";
/// What the constraints on values are, in AWS's words.
const VALUE_CONSTRAINT: &str = "Map value must satisfy constraint: [Member must have length less than or equal to 256, Member \
                                must have length greater than or equal to 0, Member must satisfy regular expression pattern: \
                                ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*), Member must not be null]";
/// How the keys of AWS's own tags begin, in any case.
const RESERVED: &str = "aws:";

/// Notes keys and values that break the model's constraints.
pub(crate) fn check_texts(tags: &BTreeMap<String, String>, violations: &mut Violations) {
    let shown = || {
        let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let fits = |text: &str, length: &std::ops::RangeInclusive<usize>| {
        length.contains(&text.chars().count()) && text.chars().all(may_be)
    };
    if !tags.keys().all(|key| fits(key, &KEY_LENGTH)) {
        violations.add("tags", shown(), KEY_CONSTRAINT);
    }
    if !tags.values().all(|value| fits(value, &VALUE_LENGTH)) {
        violations.add("tags", shown(), VALUE_CONSTRAINT);
    }
}

/// Refuses what no constraint of the model says: too many tags, or AWS's own.
pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), LambdaError> {
    let refused = |text: &str| Err(LambdaError::InvalidParameter(text.to_owned()));
    if tags.len() > TAGS {
        return refused("Number of tags exceeds resource tag limit.");
    }
    if tags.keys().any(|key| key.to_lowercase().starts_with(RESERVED)) {
        return refused("System tags cannot be added: a tag's key must not begin with aws:.");
    }
    Ok(())
}

/// Letters, numbers and spaces of all languages, and a few signs.
fn may_be(character: char) -> bool {
    let space = character.is_whitespace() && !character.is_control();
    character.is_alphanumeric() || space || "_.:/=+-@".contains(character)
}
