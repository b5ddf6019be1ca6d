//! From the text that a client has written to a policy: whole, or refused with what is wrong.

use std::collections::HashSet;

use serde_json::Value;

use super::principal::Principal;
use super::{Document, Effect, PolicyError, Statement, condition};

/// Versions of the policy language.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];
/// Elements of AWS's policies that are not kept here.
const OTHER_ELEMENTS: [&str; 3] = ["NotPrincipal", "NotAction", "NotResource"];

/// Reads the policy of the resource with this ARN.
pub(crate) fn read(text: &str, arn: &str) -> Result<Document, PolicyError> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let Some(statements) = value.get_mut("Statement") else {
        return Err(invalid("it must be an object with a Statement".to_owned()));
    };
    // A single statement may stand without a list around it.
    if statements.is_object() {
        *statements = Value::Array(vec![statements.take()]);
    }
    for statement in statements.as_array().into_iter().flatten() {
        refuse_other_elements(statement)?;
    }
    let mut document: Document = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    if !VERSIONS.contains(&document.version.as_str()) {
        return Err(invalid(format!("its Version must be one of {}", VERSIONS.join(", "))));
    }
    if document.statement.is_empty() {
        return Err(invalid("it must have a statement".to_owned()));
    }
    let mut names = HashSet::new();
    for (index, statement) in document.statement.iter_mut().enumerate() {
        settle(statement, arn).map_err(|error| match error {
            PolicyError::Invalid(reason) => invalid(format!("statement {}: {reason}", index + 1)),
            error => error,
        })?;
        if let Some(sid) = &statement.sid
            && !names.insert(sid.clone())
        {
            return Err(invalid(format!("two statements have the Sid {sid}")));
        }
    }
    document.check_size()?;
    Ok(document)
}

/// Refuses what could be read as something else, and what serde would name in its own words alone.
fn refuse_other_elements(statement: &Value) -> Result<(), PolicyError> {
    for element in OTHER_ELEMENTS {
        if statement.get(element).is_some() {
            let advice = "say what is meant with Principal, Action and Resource.";
            return Err(PolicyError::Unsupported { element: element.to_owned(), advice });
        }
    }
    match statement.get("Principal") {
        Some(principal) if serde_json::from_value::<Principal>(principal.clone()).is_err() => {
            Err(PolicyError::InvalidPrincipal)
        }
        _ => Ok(()),
    }
}

/// Checks one statement of the policy of the resource with this ARN, and writes it as it is kept.
fn settle(statement: &mut Statement, arn: &str) -> Result<(), PolicyError> {
    if let Some(sid) = &statement.sid
        && !is_sid(sid)
    {
        return Err(invalid(format!("the Sid '{sid}' must be of letters, digits, - and _")));
    }
    statement.principal.settle()?;
    let actions = statement.action.as_slice();
    if let Some(wrong) = actions.iter().find(|action| !is_action(action)) {
        return Err(invalid(format!("'{wrong}' is not an action of Lambda's")));
    }
    let resources = statement.resource.as_slice();
    if let Some(wrong) = resources.iter().find(|resource| !names(resource, arn)) {
        return Err(invalid(format!("the Resource '{wrong}' is not {arn}")));
    }
    if actions.is_empty() || resources.is_empty() {
        return Err(invalid("it must have an Action and a Resource".to_owned()));
    }
    condition::settle(&mut statement.condition).map_err(invalid)?;
    if statement.effect == Effect::Deny
        && let Some(element) = condition::untold(&statement.condition)
    {
        let advice = "whether it holds is not known when a request is decided. Deny by principal, source or function URL.";
        return Err(PolicyError::Unsupported { element, advice });
    }
    Ok(())
}

fn is_sid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether a text is `*` or an action of Lambda's, whole or as a pattern.
fn is_action(text: &str) -> bool {
    let name = text.to_ascii_lowercase();
    let of_lambda = name.strip_prefix("lambda:").is_some_and(|action| {
        !action.is_empty() && action.bytes().all(|byte| byte.is_ascii_alphabetic() || b"*?".contains(&byte))
    });
    text == "*" || of_lambda
}

/// Whether a statement's resource is the one that the policy belongs to, or versions and aliases of it.
fn names(resource: &str, arn: &str) -> bool {
    resource == "*"
        || resource
            .strip_prefix(arn)
            .is_some_and(|rest| rest.is_empty() || rest == "*" || rest.starts_with(':'))
}

fn invalid(reason: String) -> PolicyError {
    PolicyError::Invalid(reason)
}
