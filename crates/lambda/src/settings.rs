//! From what a client asks for to what is stored: defaults at creation, partial changes later, and the rules that no
//! single member shows (the size of all variables together, reserved names, log levels that need JSON, the runtime that
//! the host must have).

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_base::id::Region;
use freehold_base::limits::{
    ENVIRONMENT_BYTES, EPHEMERAL_DEFAULT_MIB, MEMORY_DEFAULT_MIB, TIMEOUT_DEFAULT_SECONDS,
};
use freehold_runtimes::catalog::{Catalog, Installed, RuntimeError, known};
use sha2::{Digest, Sha256};

use crate::code::blocking;
use crate::error::LambdaError;
use crate::model::constraints::is_reserved;
use crate::model::requests::{FunctionRequest, LoggingConfig};
use crate::model::tags;
use crate::names::FunctionId;
use crate::records::{Configuration, Logging};

/// The level that AWS sets where a client asks for JSON logs and names none.
const DEFAULT_LOG_LEVEL: &str = "INFO";

/// The runtimes whose published versions can start from a snapshot.
const SNAP_START_RUNTIMES: [&str; 12] = [
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "java11",
    "java11.al2023",
    "java17",
    "java17.al2023",
    "java21",
    "java25",
    "dotnet8",
    "dotnet10",
];

/// Every runtime in AWS's model: naming one that Freehold lacks is another error than naming none at all.
pub(crate) const RUNTIMES_OF_AWS: [&str; 50] = [
    "nodejs",
    "nodejs4.3",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs16.x",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "nodejs26.x",
    "nodejs4.3-edge",
    "java8",
    "java8.al2",
    "java8.al2023",
    "java11",
    "java11.al2023",
    "java17",
    "java17.al2023",
    "java21",
    "java25",
    "python2.7",
    "python3.6",
    "python3.7",
    "python3.8",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "dotnet6",
    "dotnet8",
    "dotnet10",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "ruby4.0",
    "provided",
    "custom",
];

/// Checks what no constraint of the model says.
pub(crate) fn check(request: &FunctionRequest) -> Result<(), LambdaError> {
    if let Some(variables) =
        request.environment.as_ref().and_then(|environment| environment.variables.as_ref())
    {
        check_variables(variables)?;
    }
    match &request.tags {
        Some(tags) => tags::check(tags),
        None => Ok(()),
    }
}

fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), LambdaError> {
    let reserved: Vec<&str> = variables.keys().map(String::as_str).filter(|name| is_reserved(name)).collect();
    if !reserved.is_empty() {
        return Err(LambdaError::InvalidParameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided contains reserved keys that are currently not supported for modification. Reserved keys used in \
             this request: {}",
            reserved.join(", ")
        )));
    }
    if variables.values().any(|value| value.contains('\0')) {
        let text = "An environment variable's value contains a NUL, which no process can be given.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    let measured = serde_json::to_string(variables).unwrap_or_default();
    if measured.len() > ENVIRONMENT_BYTES {
        return Err(LambdaError::InvalidParameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    Ok(())
}

/// The host's runtime of this identifier, or AWS's refusal of it.
pub(crate) async fn find_runtime(catalog: &Arc<Catalog>, id: &str) -> Result<Arc<Installed>, LambdaError> {
    let (catalog, asked) = (Arc::clone(catalog), id.to_owned());
    let found = blocking("look for a runtime", move || catalog.resolve(&asked)).await?;
    found.map_err(|error| {
        let names_none = matches!(error, RuntimeError::Unknown { .. }) && !RUNTIMES_OF_AWS.contains(&id);
        LambdaError::InvalidParameter(if names_none {
            let supported: Vec<&str> = known().iter().map(|runtime| runtime.id).collect();
            format!(
                "Value {id} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a \
                 valid ARN",
                supported.join(", ")
            )
        } else {
            error.to_string()
        })
    })
}

/// The ARN that names a runtime's exact version: AWS's form, made of what was found on this host.
fn runtime_version_arn(region: &Region, runtime: &Installed) -> String {
    let exact = format!("{}/{}", runtime.runtime.id, runtime.version);
    format!("arn:aws:lambda:{region}::runtime:{}", hex::encode(Sha256::digest(exact)))
}

/// A new function's configuration; what the request does not say is AWS's default. The request has been checked.
pub(crate) fn create(
    id: &FunctionId,
    request: FunctionRequest,
    runtime: &Installed,
) -> Result<Configuration, LambdaError> {
    let fresh = Configuration {
        runtime: String::new(),
        runtime_version_arn: String::new(),
        handler: String::new(),
        role: String::new(),
        description: String::new(),
        timeout_seconds: TIMEOUT_DEFAULT_SECONDS,
        memory_mib: MEMORY_DEFAULT_MIB,
        ephemeral_mib: EPHEMERAL_DEFAULT_MIB,
        variables: None,
        tracing_mode: "PassThrough".to_owned(),
        logging: Logging {
            format: "Text".to_owned(),
            application_level: None,
            system_level: None,
            group: format!("/aws/lambda/{}", id.name),
        },
        vpc_given: false,
        snap_start: false,
        per_tenant: request.tenancy_config.is_some(),
        layers: Vec::new(),
    };
    update(fresh, &id.region, request, Some(runtime))
}

/// A configuration with what the request says changed, and all else as it was. The request has been checked; `runtime`
/// is the one that it names.
pub(crate) fn update(
    old: Configuration,
    region: &Region,
    request: FunctionRequest,
    runtime: Option<&Installed>,
) -> Result<Configuration, LambdaError> {
    let mut new = old;
    if let Some(runtime) = runtime {
        new.runtime = runtime.runtime.id.to_owned();
        new.runtime_version_arn = runtime_version_arn(region, runtime);
    }
    set(&mut new.handler, request.handler);
    set(&mut new.role, request.role);
    set(&mut new.description, request.description);
    set(&mut new.timeout_seconds, checked(request.timeout));
    set(&mut new.memory_mib, checked(request.memory_size));
    set(&mut new.ephemeral_mib, checked(request.ephemeral_storage.and_then(|storage| storage.size)));
    set(&mut new.tracing_mode, request.tracing_config.and_then(|tracing| tracing.mode));
    if let Some(environment) = request.environment {
        new.variables = Some(environment.variables.unwrap_or_default());
    }
    if let Some(logging) = request.logging_config {
        update_logging(&mut new.logging, logging)?;
    }
    new.vpc_given |= request.vpc_config.is_some();
    set(
        &mut new.snap_start,
        request.snap_start.and_then(|snap_start| snap_start.apply_on).map(|on| on == "PublishedVersions"),
    );
    check_snapshots(&new)?;
    Ok(new)
}

/// Refuses what cannot start from a snapshot. Source: "Improving startup performance with Lambda SnapStart".
fn check_snapshots(configuration: &Configuration) -> Result<(), LambdaError> {
    if !configuration.snap_start {
        return Ok(());
    }
    let refused = |what: &str| {
        let text = format!("{what} is not supported for SnapStart enabled functions.");
        Err(LambdaError::InvalidParameter(text))
    };
    if !SNAP_START_RUNTIMES.contains(&configuration.runtime.as_str()) {
        return refused(&configuration.runtime);
    }
    if configuration.ephemeral_mib > EPHEMERAL_DEFAULT_MIB {
        return refused(&format!("Ephemeral storage of more than {EPHEMERAL_DEFAULT_MIB} MB"));
    }
    if configuration.per_tenant {
        return refused("Tenant isolation");
    }
    Ok(())
}

fn update_logging(logging: &mut Logging, request: LoggingConfig) -> Result<(), LambdaError> {
    set(&mut logging.format, request.log_format);
    set(&mut logging.group, request.log_group);
    if logging.format == "JSON" {
        let default = || Some(DEFAULT_LOG_LEVEL.to_owned());
        logging.application_level =
            request.application_log_level.or(logging.application_level.take()).or_else(default);
        logging.system_level = request.system_log_level.or(logging.system_level.take()).or_else(default);
        return Ok(());
    }
    if request.application_log_level.is_some() || request.system_log_level.is_some() {
        let text = "ApplicationLogLevel and SystemLogLevel can only be set when LogFormat is JSON.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    (logging.application_level, logging.system_level) = (None, None);
    Ok(())
}

fn set<T>(member: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *member = value;
    }
}

/// A number whose range the constraints have checked.
fn checked(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}
