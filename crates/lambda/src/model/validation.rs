//! Constraints of AWS's model, and the text in which AWS tells of all that a request breaks, at once.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::LambdaError;

/// How much of a wrong value an error repeats, in characters.
const SHOWN_LENGTH: usize = 300;

/// What a request breaks, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<String>);

impl Violations {
    /// The end of the checks: fine, or everything that was found.
    pub(crate) fn into_result(self) -> Result<(), LambdaError> {
        if self.0.is_empty() { Ok(()) } else { Err(LambdaError::Validation(self.0)) }
    }

    /// How many were found.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes that `value` at `path` breaks `constraint`.
    pub(crate) fn add(&mut self, path: &str, value: impl Display, constraint: impl Display) {
        let value: String = value.to_string().chars().take(SHOWN_LENGTH).collect();
        self.0.push(format!("Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"));
    }

    /// Notes a member whose value must not be repeated.
    pub(crate) fn add_secret(&mut self, path: &str, constraint: impl Display) {
        self.0.push(format!("Value at '{path}' failed to satisfy constraint: {constraint}"));
    }

    /// Notes that the member at `path` is missing.
    pub(crate) fn missing(&mut self, path: &str) {
        self.0.push(format!("Value null at '{path}' failed to satisfy constraint: Member must not be null"));
    }

    /// Notes that `value` does not match `pattern`.
    pub(crate) fn pattern(&mut self, path: &str, value: &str, pattern: &str) {
        self.add(path, value, format_args!("Member must satisfy regular expression pattern: {pattern}"));
    }

    /// Checks a text's length in characters.
    pub(crate) fn length(&mut self, path: &str, value: &str, range: RangeInclusive<usize>) {
        let length = value.chars().count();
        if length > *range.end() {
            self.add(
                path,
                value,
                format_args!("Member must have length less than or equal to {}", range.end()),
            );
        } else if length < *range.start() {
            self.add(
                path,
                value,
                format_args!("Member must have length greater than or equal to {}", range.start()),
            );
        }
    }

    /// Checks a number, and gives it back where it fits.
    pub(crate) fn range(&mut self, path: &str, value: i64, range: &RangeInclusive<u32>) -> Option<u32> {
        if value > i64::from(*range.end()) {
            self.add(
                path,
                value,
                format_args!("Member must have value less than or equal to {}", range.end()),
            );
        } else if value < i64::from(*range.start()) {
            self.add(
                path,
                value,
                format_args!("Member must have value greater than or equal to {}", range.start()),
            );
        }
        u32::try_from(value).ok().filter(|value| range.contains(value))
    }

    /// Checks a member of an enumeration.
    pub(crate) fn one_of(&mut self, path: &str, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            let set = allowed.join(", ");
            self.add(path, value, format_args!("Member must satisfy enum value set: [{set}]"));
        }
    }
}
