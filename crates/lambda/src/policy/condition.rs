//! Under which circumstances a statement counts: `{operator: {key: value or values}}`, all of which must hold.
//!
//! What cannot be told here (times, numbers, addresses) never holds: a statement that allows lets nobody in by mistake. A
//! statement that denies would keep nobody out, so one with such a condition is refused when it is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::pattern::{fits, fits_arn};

/// What is known of a request beside who asks for what: by key (in lower case: keys have no case) the values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// With one more thing that is known.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
        self
    }

    fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(&key.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// Keys of which it is always known what they are, or that there is nothing: accounts here belong to no organization.
const KNOWN_KEYS: [&str; 11] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "lambda:eventsourcetoken",
    "lambda:functionurlauthtype",
    "lambda:invokedviafunctionurl",
];

/// Operators that AWS has and of which nothing can be told here.
const UNTOLD: [&str; 15] = [
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
];

/// An operator, taken apart.
#[derive(Clone, Copy, Debug)]
struct Operator {
    set: Set,
    compare: Compare,
    /// Whether it holds where the comparison does not.
    negated: bool,
    /// Whether it holds where the key is not there.
    if_exists: bool,
}

/// How several values of the request count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// There is one.
    Single,
    /// One must fit.
    Any,
    /// All must fit.
    All,
}

/// How one value is compared with one of the statement's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    /// Whether the key is there at all.
    Null,
    /// Something that cannot be told here.
    Untold,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (set, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(_) => return None,
            None => (Set::Single, name),
        };
        let (base, if_exists) = match rest.strip_suffix("IfExists") {
            Some(base) => (base, true),
            None => (rest, false),
        };
        let (compare, negated) = match base {
            "StringEquals" => (Compare::Equals, false),
            "StringNotEquals" => (Compare::Equals, true),
            "StringEqualsIgnoreCase" | "Bool" => (Compare::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::EqualsIgnoreCase, true),
            "StringLike" => (Compare::Like, false),
            "StringNotLike" => (Compare::Like, true),
            "ArnEquals" | "ArnLike" => (Compare::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Compare::Arn, true),
            "Null" if !if_exists && set == Set::Single => (Compare::Null, false),
            base if UNTOLD.contains(&base) => (Compare::Untold, false),
            _ => return None,
        };
        Some(Self { set, compare, negated, if_exists })
    }

    fn holds(self, wanted: &[&str], found: Option<&[String]>) -> bool {
        match (self.compare, found) {
            (Compare::Untold, _) => false,
            (Compare::Null, found) => {
                wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case("true") == found.is_none())
            }
            (_, None) => self.if_exists || self.set == Set::All || (self.negated && self.set == Set::Single),
            (_, Some(found)) => {
                let fits =
                    |value: &String| wanted.iter().any(|wanted| self.compares(wanted, value)) != self.negated;
                match self.set {
                    Set::All => found.iter().all(fits),
                    Set::Any | Set::Single => found.iter().any(fits),
                }
            }
        }
    }

    fn compares(self, wanted: &str, value: &str) -> bool {
        match self.compare {
            Compare::Equals => wanted == value,
            Compare::EqualsIgnoreCase => wanted.eq_ignore_ascii_case(value),
            Compare::Like => fits(wanted, value),
            Compare::Arn => fits_arn(wanted, value),
            Compare::Null | Compare::Untold => false,
        }
    }
}

/// Whether all of a statement's conditions hold.
pub(super) fn hold(condition: &Map<String, Value>, context: &Context) -> bool {
    condition.iter().all(|(name, keys)| {
        let (Some(operator), Some(keys)) = (Operator::parse(name), keys.as_object()) else { return false };
        keys.iter().all(|(key, values)| operator.holds(&texts(values), context.get(key)))
    })
}

/// What is wrong with a condition that a client has written; its values become texts.
pub(super) fn settle(condition: &mut Map<String, Value>) -> Result<(), String> {
    for (name, keys) in condition {
        if Operator::parse(name).is_none() {
            return Err(format!("there is no condition operator {name}"));
        }
        let Some(keys) = keys.as_object_mut().filter(|keys| !keys.is_empty()) else {
            return Err(format!("the condition {name} must have keys and values"));
        };
        for (key, values) in keys {
            if !key.contains(':') {
                return Err(format!("{key} is not a condition key"));
            }
            let values: &mut [Value] = match values {
                Value::Array(values) => values,
                value => std::slice::from_mut(value),
            };
            for value in values {
                match value {
                    Value::String(_) => {}
                    Value::Bool(_) | Value::Number(_) => *value = Value::String(value.to_string()),
                    _ => return Err(format!("{key} must be a text or a list of texts")),
                }
            }
        }
    }
    Ok(())
}

/// The part of a condition, if there is one, of which it cannot always be told whether it holds.
pub(super) fn untold(condition: &Map<String, Value>) -> Option<String> {
    condition.iter().find_map(|(name, keys)| {
        let told = Operator::parse(name).is_some_and(|operator| operator.compare != Compare::Untold);
        if !told {
            return Some(format!("the condition operator {name} in a statement that denies"));
        }
        keys.as_object()?.iter().find_map(|(key, values)| {
            let known = KNOWN_KEYS.contains(&key.to_ascii_lowercase().as_str());
            let variable = texts(values).iter().any(|value| value.contains("${"));
            match (known, variable) {
                (false, _) => Some(format!("the condition key {key} in a statement that denies")),
                (true, true) => Some(format!("a variable in {key} in a statement that denies")),
                (true, false) => None,
            }
        })
    })
}

fn texts(values: &Value) -> Vec<&str> {
    match values {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}
