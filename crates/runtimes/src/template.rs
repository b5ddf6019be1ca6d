//! Runtimes that are captured: a process that has everything loaded but a function, from which environments begin.
//!
//! Python's bootstrap has two ways to its gate (its module `freehold_gate`): before it knows any function, and with the function's
//! code loaded, for SnapStart. What an interpreter reads from its variables as it boots, it cannot read again: functions that
//! set such variables boot it themselves.

use std::collections::BTreeMap;
use std::path::Path;

use crate::catalog::{Family, Installed, known};
use crate::launch::{Launch, Settings, launch};

/// Beginnings of the names of variables that interpreters and the system's libraries read as they start.
const READ_AT_START: [&str; 8] = ["PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LOC", "GCONV_", "OPENSSL_"];
/// Whole names of such.
const NAMES_READ_AT_START: [&str; 4] = ["AWS_LAMBDA_EXEC_WRAPPER", "LANG", "LANGUAGE", "TZ"];

/// Whether processes of this runtime can be captured before they know a function.
pub fn has_template(installed: &Installed) -> bool {
    installed.runtime.family == Family::Python
}

/// Whether a function with these variables can begin from its runtime's template.
pub fn can_begin_from_template(installed: &Installed, variables: &BTreeMap<String, String>) -> bool {
    let read_at_start = |name: &String| {
        READ_AT_START.iter().any(|beginning| name.starts_with(beginning))
            || NAMES_READ_AT_START.contains(&name.as_str())
    };
    has_template(installed) && !variables.keys().any(read_at_start)
}

/// What a runtime's template is started with: as any function's program, but for what is the function's own.
pub fn template(installed: &Installed) -> Launch {
    let nowhere = Path::new("/nonexistent");
    let variables = BTreeMap::new();
    let mut launch = launch(
        installed,
        &Settings {
            function_name: "",
            function_version: "",
            handler: "",
            code: nowhere,
            layers: None,
            variables: &variables,
            memory_mib: TEMPLATE_MEMORY_MIB,
            log_group: "",
            log_stream: "",
            json_log_level: None,
            region: "",
            access_key_id: "",
            secret_access_key: "",
            session_token: "",
            runtime_api: "",
            endpoint: "",
            initialization_type: "",
        },
    );
    launch.mounts.retain(|mount| mount.source != nowhere);
    launch.arguments.push("--template".to_owned());
    launch
}

/// The memory of a template while it comes to its gate, in MiB: far more than what it loads.
pub const TEMPLATE_MEMORY_MIB: u32 = 512;

/// The argument with which a function's runtime waits at its gate once its code is loaded. None: it has no snapshots here.
pub fn snapshot_argument(installed: &Installed) -> Option<&'static str> {
    (installed.runtime.family == Family::Python).then_some("--snapshot")
}

/// Whether functions of the runtime with this identifier can have snapshots.
pub fn has_snapshots(runtime: &str) -> bool {
    known().iter().any(|known| known.id == runtime && known.family == Family::Python)
}
