//! What an environment needs in order to run a function on a runtime: the mounts, files, program and variables that go
//! into a sandbox's specification.
//!
//! ```text
//! /var/task      the function's code            /var/runtime   the bootstrap
//! /var/lang      an interpreter that has a prefix of its own (one in /usr comes with the base root)
//! /opt           layers
//! ```
//!
//! The layout and the variables are AWS's ("Defined runtime environment variables" in its developer guide), because
//! functions and their libraries read them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use freehold_sandbox::spec::Mount;

use crate::catalog::{Family, Installed};
use crate::java;
use crate::locale;

/// Where the function's code lies inside.
pub const TASK_ROOT: &str = "/var/task";
/// Where the content of the function's layers lies inside.
pub const LAYERS_ROOT: &str = "/opt";
/// Where the external extensions lie inside: each file is one.
pub const EXTENSIONS_ROOT: &str = "/opt/extensions";
/// Where the bootstrap lies inside.
pub const RUNTIME_DIR: &str = "/var/runtime";
/// Where the interpreter lies inside, unless it belongs to the host's system.
pub const INTERPRETER_DIR: &str = "/var/lang";

/// Where `provided` runtimes look for their program, in order.
const BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];

/// The variables that AWS reserves for itself: CreateFunction and UpdateFunctionConfiguration refuse them.
pub const RESERVED_VARIABLES: [&str; 19] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// The variables that are the runtime's own: extensions see all others. So it is with those that begin with `_`. Source:
/// "Extensions API", environment variables.
const RUNTIME_VARIABLES: [&str; 7] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// Of the whole environment of a runtime's program, that of an extension's.
pub fn extension_variables(variables: &[(String, String)]) -> Vec<(String, String)> {
    let is_seen = |name: &str| !name.starts_with('_') && !RUNTIME_VARIABLES.contains(&name);
    variables.iter().filter(|(name, _)| is_seen(name)).cloned().collect()
}

/// What is particular to one environment of one function.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The function's bare name.
    pub function_name: &'a str,
    /// `$LATEST` or a number.
    pub function_version: &'a str,
    /// Such as `lambda_function.lambda_handler`.
    pub handler: &'a str,
    /// The folder on the host with the function's unzipped code.
    pub code: &'a Path,
    /// The folder on the host with its layers' content, merged, where it has layers.
    pub layers: Option<&'a Path>,
    /// The function's own variables. Reserved ones among them have no effect.
    pub variables: &'a BTreeMap<String, String>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Such as `/aws/lambda/hello`.
    pub log_group: &'a str,
    /// Such as `2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef`.
    pub log_stream: &'a str,
    /// For a function whose log is JSON, the least level of its own lines that is kept, such as `INFO`.
    pub json_log_level: Option<&'a str>,
    /// The region that the function believes to be in.
    pub region: &'a str,
    /// The execution role's access key.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret_access_key: &'a str,
    /// The session token that goes with it.
    pub session_token: &'a str,
    /// The Runtime API's address inside, such as `127.0.0.1:9001`.
    pub runtime_api: &'a str,
    /// The platform's own endpoint inside, such as `http://127.0.0.1:4566`.
    pub endpoint: &'a str,
    /// `on-demand`, `provisioned-concurrency` or `snap-start`.
    pub initialization_type: &'a str,
}

/// The part of a sandbox's specification that follows from the runtime and the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Host files beside the base root, in order.
    pub mounts: Vec<Mount>,
    /// Files that the root carries (path inside, content, executable).
    pub files: Vec<(PathBuf, Vec<u8>, bool)>,
    /// The program, a path inside.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// The whole environment of the program.
    pub variables: Vec<(String, String)>,
    /// Where the program starts.
    pub working_directory: PathBuf,
}

/// Why a function cannot be started at all; AWS reports it as a failed init of type `Runtime.InvalidEntrypoint`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntrypointError {
    /// A `provided` function without its program.
    #[error("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")]
    Missing,
    /// The program is there, but the package does not mark it as executable.
    #[error("fork/exec {0}: permission denied")]
    NotExecutable(&'static str),
    /// A Java function without the program that AWS's own runtime has for it.
    #[error(
        "Couldn't find the Java runtime interface client. Freehold does not carry it: add the dependency \
         com.amazonaws:aws-lambda-java-runtime-interface-client to the function's package (unpacked or as a jar in lib/)"
    )]
    NoJavaClient,
}

impl EntrypointError {
    /// AWS's `errorType` for it.
    pub const ERROR_TYPE: &str = "Runtime.InvalidEntrypoint";
}

/// Whether the function has something to start. Scripts always have; what they lack shows in their init.
pub fn check_entrypoint(
    installed: &Installed,
    code: &Path,
    layers: Option<&Path>,
) -> Result<(), EntrypointError> {
    match installed.runtime.family {
        Family::Provided => {}
        Family::Java if !java::has_client(code, layers) => return Err(EntrypointError::NoJavaClient),
        Family::Python | Family::Node | Family::Ruby | Family::Java => return Ok(()),
    }
    for (path, folder) in BOOTSTRAPS.into_iter().zip([Some(code), layers]) {
        let found = folder.and_then(|folder| std::fs::metadata(folder.join("bootstrap")).ok());
        match found {
            Some(found) if !found.is_file() => return Err(EntrypointError::Missing),
            Some(found) if found.permissions().mode() & 0o111 == 0 => {
                return Err(EntrypointError::NotExecutable(path));
            }
            Some(_) => return Ok(()),
            None => {}
        }
    }
    Err(EntrypointError::Missing)
}

/// What a sandbox needs in order to run this function on this runtime. Does no slow work: it stands in the way of every
/// cold start.
pub fn launch(installed: &Installed, settings: &Settings<'_>) -> Launch {
    let mut mounts = installed.mounts.clone();
    mounts.push(Mount { source: settings.code.to_owned(), target: TASK_ROOT.into() });
    mounts.extend(
        settings.layers.map(|layers| Mount { source: layers.to_owned(), target: LAYERS_ROOT.into() }),
    );
    let mut program = installed.program.clone();
    let mut arguments = arguments(installed, settings);
    if installed.runtime.family == Family::Provided {
        let own = settings.code.join("bootstrap").exists();
        program = BOOTSTRAPS[usize::from(!own)].into();
    } else if let Some(wrapper) =
        settings.variables.get("AWS_LAMBDA_EXEC_WRAPPER").filter(|path| !path.is_empty())
    {
        arguments.insert(0, program.to_string_lossy().into_owned());
        program = wrapper.into();
    }
    Launch {
        mounts,
        files: installed.files.iter().map(|(path, content)| (path.clone(), content.clone(), false)).collect(),
        program,
        arguments,
        variables: variables(installed, settings).into_iter().collect(),
        working_directory: TASK_ROOT.into(),
    }
}

fn arguments(installed: &Installed, settings: &Settings<'_>) -> Vec<String> {
    let main = installed.files.first().map(|(path, _)| path.to_string_lossy().into_owned());
    let mut arguments: Vec<String> = match installed.runtime.family {
        // Without `site`: the host's own packages are no part of a function's world, and it costs a tenth of the start.
        // Without bytecode: the folders that could hold it are read-only.
        Family::Python => vec!["-S".into(), "-B".into()],
        // AWS's own shares of the function's memory: the heap must end before the environment does.
        Family::Node => node_options(installed, settings),
        Family::Ruby => installed.options.clone(),
        Family::Java => java::arguments(settings.memory_mib, settings.handler),
        Family::Provided => Vec::new(),
    };
    arguments.extend(main);
    arguments
}

/// Features that Node.js has by default and AWS's runtimes have not, by the first version that knows the option, the
/// releases that AWS turns them off in, and the option that the function can turn them on with.
const NODE_EXPERIMENTS: [(&str, [u32; 2], &str); 3] = [
    ("20", [20, 17], "--experimental-require-module"),
    ("22", [22, 0], "--experimental-require-module"),
    ("22", [22, 0], "--experimental-detect-module"),
];

fn node_options(installed: &Installed, settings: &Settings<'_>) -> Vec<String> {
    // AWS's own shares of the function's memory: the heap must end before the environment does.
    let mut options = vec![
        "--expose-gc".into(),
        format!("--max-semi-space-size={}", (settings.memory_mib / 20).max(1)),
        format!("--max-old-space-size={}", settings.memory_mib / 10 * 9),
    ];
    let mut numbers = installed.version.split('.').map(|number| number.parse().unwrap_or(0));
    let version = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    let chosen = settings.variables.get("NODE_OPTIONS").map_or("", String::as_str);
    for (release, since, option) in NODE_EXPERIMENTS {
        let wanted = chosen.split_whitespace().any(|word| word == option);
        if installed.runtime.release() == release && version >= since && !wanted {
            options.push(option.replacen("--", "--no-", 1));
        }
    }
    options
}

/// The whole environment. A later entry wins: what the function may choose, the function's choice, what it may not.
fn variables(installed: &Installed, settings: &Settings<'_>) -> BTreeMap<String, String> {
    let mut variables = unreserved(installed, settings);
    for (name, value) in settings.variables {
        variables.insert(name.clone(), value.clone());
    }
    keep_interpreter_loadable(installed, settings, &mut variables);
    for name in RESERVED_VARIABLES {
        variables.remove(name);
    }
    variables.extend(reserved(installed, settings));
    variables
}

/// What a function may replace.
fn unreserved(installed: &Installed, settings: &Settings<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    set("LANG", locale::language().to_owned());
    set("TZ", ":UTC".into());
    set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".into());
    set("AWS_ENDPOINT_URL", settings.endpoint.to_owned());
    let libraries = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
    let programs = "/usr/local/bin:/usr/bin/:/bin:/opt/bin";
    if installed.runtime.family != Family::Provided {
        // AWS's images start their runtimes by a shell.
        set("PWD", TASK_ROOT.into());
        set("SHLVL", "0".into());
    }
    match installed.runtime.family {
        Family::Provided => {
            set("PATH", programs.into());
            set("LD_LIBRARY_PATH", libraries.into());
        }
        Family::Python => {
            set("PATH", format!("{INTERPRETER_DIR}/bin:{programs}"));
            set("LD_LIBRARY_PATH", format!("{INTERPRETER_DIR}/lib:{libraries}"));
            set("PYTHONPATH", RUNTIME_DIR.into());
        }
        Family::Java => {
            set("PATH", format!("{INTERPRETER_DIR}/bin:{programs}"));
            set("LD_LIBRARY_PATH", format!("{INTERPRETER_DIR}/lib:{libraries}"));
        }
        Family::Ruby => {
            set("PATH", format!("{INTERPRETER_DIR}/bin:{programs}"));
            set("LD_LIBRARY_PATH", format!("{INTERPRETER_DIR}/lib:{libraries}"));
            let gems = format!("ruby/{}.0", installed.runtime.release());
            set(
                "GEM_PATH",
                format!("{TASK_ROOT}/vendor/bundle/{gems}:/opt/ruby/gems/{}.0", installed.runtime.release()),
            );
            set("RUBYLIB", format!("{TASK_ROOT}:{RUNTIME_DIR}/lib:/opt/ruby/lib"));
        }
        Family::Node => {
            set("PATH", format!("{INTERPRETER_DIR}/bin:{programs}"));
            set("LD_LIBRARY_PATH", format!("{INTERPRETER_DIR}/lib:{libraries}"));
            let release = installed.runtime.release();
            set(
                "NODE_PATH",
                format!(
                    "/opt/nodejs/node{release}/node_modules:/opt/nodejs/node_modules:\
                     {RUNTIME_DIR}/node_modules:{RUNTIME_DIR}:{TASK_ROOT}"
                ),
            );
        }
    }
    variables
}

/// An interpreter built with a shared library needs its own folder searched, even where the function sets a search path.
fn keep_interpreter_loadable(
    installed: &Installed,
    settings: &Settings<'_>,
    variables: &mut BTreeMap<String, String>,
) {
    let own_folder = installed.program.starts_with(INTERPRETER_DIR);
    if let (true, Some(chosen)) = (own_folder, settings.variables.get("LD_LIBRARY_PATH")) {
        let library_dir = format!("{INTERPRETER_DIR}/lib");
        if !chosen.split(':').any(|folder| folder == library_dir) {
            variables.insert("LD_LIBRARY_PATH".into(), format!("{chosen}:{library_dir}"));
        }
    }
}

/// What a function cannot replace: [`RESERVED_VARIABLES`], apart from those that only AWS uses.
fn reserved(installed: &Installed, settings: &Settings<'_>) -> Vec<(String, String)> {
    let mut reserved = vec![
        ("_HANDLER", settings.handler.to_owned()),
        ("AWS_REGION", settings.region.to_owned()),
        ("AWS_DEFAULT_REGION", settings.region.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", settings.function_name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", settings.memory_mib.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", settings.function_version.to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", settings.initialization_type.to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", settings.log_group.to_owned()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", settings.log_stream.to_owned()),
        ("AWS_ACCESS_KEY_ID", settings.access_key_id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", settings.secret_access_key.to_owned()),
        ("AWS_SESSION_TOKEN", settings.session_token.to_owned()),
        ("AWS_LAMBDA_RUNTIME_API", settings.runtime_api.to_owned()),
        ("LAMBDA_TASK_ROOT", TASK_ROOT.to_owned()),
        ("LAMBDA_RUNTIME_DIR", RUNTIME_DIR.to_owned()),
    ];
    // As on AWS, which sets neither for text.
    if let Some(level) = settings.json_log_level {
        reserved.push(("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()));
        reserved.push(("AWS_LAMBDA_LOG_LEVEL", level.to_owned()));
    }
    // As on AWS, which leaves it out for runtimes that are only an operating system.
    if installed.runtime.family != Family::Provided {
        reserved.push(("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", installed.runtime.id)));
    }
    reserved.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
