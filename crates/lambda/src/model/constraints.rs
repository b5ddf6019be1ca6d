//! The constraints that AWS's model puts on requests' members, in the order of `CreateFunctionRequest`.
//!
//! Where the facts page of AWS's quotas and the model differ (the model's larger memory is for managed instances; it has
//! no longest timeout), an ordinary function's limit counts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use freehold_base::limits::{EPHEMERAL_MIB, MEMORY_MIB, TIMEOUT_SECONDS};

use super::layers::check_layers;
use super::requests::{FunctionRequest, LoggingConfig, UpdateCodeRequest};
use super::tags;
use super::validation::Violations;

/// The architectures that Lambda has.
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];
const ROLE_PATTERN: &str = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";
const HANDLER_LENGTH: RangeInclusive<usize> = 0..=128;
/// Length of a description, of whatever has one, in characters.
pub(crate) const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=256;
const LOG_GROUP_LENGTH: RangeInclusive<usize> = 1..=512;
/// The only mode of tenant isolation.
pub(crate) const PER_TENANT: &str = "PER_TENANT";
const VARIABLE_NAME_PATTERN: &str = "[a-zA-Z]([a-zA-Z0-9_])+";

/// Checks what `CreateFunction` and `UpdateFunctionConfiguration` share.
pub(crate) fn check_settings(request: &FunctionRequest, violations: &mut Violations) {
    if let Some(role) = &request.role
        && !is_role(role)
    {
        violations.pattern("role", role, ROLE_PATTERN);
    }
    if let Some(handler) = &request.handler {
        violations.length("handler", handler, HANDLER_LENGTH);
        if handler.is_empty() || handler.contains(char::is_whitespace) {
            violations.pattern("handler", handler, r"[^\s]+");
        }
    }
    if let Some(description) = &request.description {
        violations.length("description", description, DESCRIPTION_LENGTH);
    }
    if let Some(layers) = &request.layers {
        check_layers(layers, violations);
    }
    if let Some(seconds) = request.timeout {
        violations.range("timeout", seconds, &TIMEOUT_SECONDS);
    }
    if let Some(mebibytes) = request.memory_size {
        violations.range("memorySize", mebibytes, &MEMORY_MIB);
    }
    if let Some(variables) =
        request.environment.as_ref().and_then(|environment| environment.variables.as_ref())
    {
        check_variable_names(variables, violations);
    }
    if let Some(mode) = request.tracing_config.as_ref().and_then(|tracing| tracing.mode.as_ref()) {
        violations.one_of("tracingConfig.mode", mode, &["Active", "PassThrough"]);
    }
    if let Some(storage) = &request.ephemeral_storage {
        match storage.size {
            Some(size) => {
                violations.range("ephemeralStorage.size", size, &EPHEMERAL_MIB);
            }
            None => violations.missing("ephemeralStorage.size"),
        }
    }
    if let Some(apply_on) = request.snap_start.as_ref().and_then(|snap_start| snap_start.apply_on.as_ref()) {
        violations.one_of("snapStart.applyOn", apply_on, &["PublishedVersions", "None"]);
    }
    if let Some(logging) = &request.logging_config {
        check_logging(logging, violations);
    }
}

/// Checks what only `CreateFunction` has.
pub(crate) fn check_creation(request: &FunctionRequest, violations: &mut Violations) {
    if request.function_name.is_none() {
        violations.missing("functionName");
    }
    if request.role.is_none() {
        violations.missing("role");
    }
    if request.code.is_none() {
        violations.missing("code");
    }
    if let Some(given) = &request.tags {
        tags::check_texts(given, violations);
    }
    if let Some(package_type) = &request.package_type {
        violations.one_of("packageType", package_type, &["Zip", "Image"]);
    }
    check_architectures(request.architectures.as_deref(), violations);
    if let Some(publish_to) = &request.publish_to {
        violations.one_of("publishTo", publish_to, &["LATEST_PUBLISHED"]);
    }
    if let Some(tenancy) = &request.tenancy_config {
        match &tenancy.tenant_isolation_mode {
            Some(mode) => violations.one_of("tenancyConfig.tenantIsolationMode", mode, &[PER_TENANT]),
            None => violations.missing("tenancyConfig.tenantIsolationMode"),
        }
    }
}

/// Checks what `UpdateFunctionCode` has.
pub(crate) fn check_code_update(request: &UpdateCodeRequest, violations: &mut Violations) {
    check_architectures(request.architectures.as_deref(), violations);
    if let Some(publish_to) = &request.publish_to {
        violations.one_of("publishTo", publish_to, &["LATEST_PUBLISHED"]);
    }
}

fn check_architectures(architectures: Option<&[String]>, violations: &mut Violations) {
    let Some(architectures) = architectures else { return };
    let shown = format!("[{}]", architectures.join(", "));
    if architectures.len() > 1 {
        violations.add("architectures", shown, "Member must have length less than or equal to 1");
    } else if architectures.is_empty() {
        violations.add("architectures", shown, "Member must have length greater than or equal to 1");
    } else if !ARCHITECTURES.contains(&architectures[0].as_str()) {
        let constraint = "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member \
                          must not be null]";
        violations.add("architectures", shown, constraint);
    }
}

fn check_variable_names(variables: &BTreeMap<String, String>, violations: &mut Violations) {
    let fits = |name: &String| {
        name.len() >= 2
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    // A reserved name such as `_HANDLER` is refused as reserved, which helps more.
    if !variables.keys().filter(|name| !is_reserved(name)).all(fits) {
        let constraint = format!(
            "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: \
             {VARIABLE_NAME_PATTERN}, Member must not be null]"
        );
        violations.add_secret("environment.variables", constraint);
    }
}

/// Whether only the platform may set this variable.
pub(crate) fn is_reserved(name: &str) -> bool {
    freehold_runtimes::launch::RESERVED_VARIABLES.contains(&name)
}

fn check_logging(logging: &LoggingConfig, violations: &mut Violations) {
    if let Some(format) = &logging.log_format {
        violations.one_of("loggingConfig.logFormat", format, &["JSON", "Text"]);
    }
    if let Some(level) = &logging.application_log_level {
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
        violations.one_of("loggingConfig.applicationLogLevel", level, &levels);
    }
    if let Some(level) = &logging.system_log_level {
        violations.one_of("loggingConfig.systemLogLevel", level, &["DEBUG", "INFO", "WARN"]);
    }
    if let Some(group) = &logging.log_group {
        violations.length("loggingConfig.logGroup", group, LOG_GROUP_LENGTH);
        if !group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte)) {
            violations.pattern("loggingConfig.logGroup", group, r"[\.\-_/#A-Za-z0-9]+");
        }
    }
}

/// Whether `text` matches [`ROLE_PATTERN`] as a whole.
fn is_role(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("arn:") else { return false };
    let Some((partition, rest)) = rest.split_once(":iam::") else { return false };
    let Some((account, rest)) = rest.split_once(":role") else { return false };
    let partition_fits = partition.is_empty()
        || partition
            .strip_prefix("aws")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'));
    let account_fits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let name = rest.strip_prefix('/').filter(|name| !name.is_empty()).unwrap_or(rest);
    let name_fits = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&byte));
    partition_fits && account_fits && name_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_iam_arns() {
        for good in [
            "arn:aws:iam::123456789012:role/lambda-exec-role",
            "arn:aws-us-gov:iam::123456789012:role/path/to/name",
            "arn:aws:iam::123456789012:rolename",
        ] {
            assert!(is_role(good), "{good}");
        }
        for bad in [
            "r1",
            "",
            "arn:aws:iam::12345678901:role/x",
            "arn:aws:iam::123456789012:role",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam:us-east-1:123456789012:role/x",
            "arn:aws:iam::123456789012:role/x y",
            "arn:gcp:iam::123456789012:role/x",
        ] {
            assert!(!is_role(bad), "{bad}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut violations = Violations::default();
        let request = FunctionRequest {
            role: Some("r1".to_owned()),
            memory_size: Some(127),
            timeout: Some(901),
            ..FunctionRequest::default()
        };
        check_settings(&request, &mut violations);
        let text = violations.into_result().expect_err("wrong").to_string();
        assert!(text.starts_with("3 validation errors detected: Value 'r1' at 'role' failed"), "{text}");
        assert!(text.contains(
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"
        ));
        assert!(text.ends_with(
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to \
             128"
        ));
    }
}
