//! What an environment gets: mounts, program, arguments, variables; and what the catalog answers for what is not there.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use freehold_runtimes::catalog::{Catalog, Family, Installed, Options, RuntimeError, known};
use freehold_runtimes::launch::{
    EntrypointError, Launch, RESERVED_VARIABLES, Settings, check_entrypoint, launch,
};
use freehold_sandbox::spec::Mount;
use support::settings;

/// An interpreter with a prefix of its own, without looking for one.
fn interpreter(id: &str, executable: &str) -> Installed {
    Installed {
        runtime: known().iter().find(|runtime| runtime.id == id).unwrap().clone(),
        version: "1.2.3".into(),
        executable: Path::new("/home/me/own").join(executable),
        prefix: "/home/me/own".into(),
        program: Path::new("/var/lang").join(executable),
        mounts: vec![Mount { source: "/home/me/own".into(), target: "/var/lang".into() }],
        options: Vec::new(),
        files: vec![("/var/runtime/bootstrap.xyz".into(), b"code".to_vec())],
    }
}

fn launched(installed: &Installed, code: &Path, own: &[(&str, &str)]) -> (Launch, BTreeMap<String, String>) {
    let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let launch = launch(installed, &settings(code, "m.h", &own, "127.0.0.1:9001"));
    let variables = launch.variables.iter().cloned().collect();
    (launch, variables)
}

#[test]
fn python_gets_aws_s_layout_and_variables() {
    let (launch, variables) = launched(&interpreter("python3.12", "bin/python3.12"), Path::new("/code"), &[]);
    assert_eq!(launch.program, PathBuf::from("/var/lang/bin/python3.12"));
    assert_eq!(launch.arguments, ["-S", "-B", "/var/runtime/bootstrap.xyz"]);
    assert_eq!(launch.working_directory, PathBuf::from("/var/task"));
    assert_eq!(launch.files, [("/var/runtime/bootstrap.xyz".into(), b"code".to_vec(), false)]);
    assert_eq!(launch.mounts.last(), Some(&Mount { source: "/code".into(), target: "/var/task".into() }));
    let expected = [
        ("_HANDLER", "m.h"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.12"),
        ("AWS_LAMBDA_FUNCTION_NAME", "hello"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/hello"),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("TZ", ":UTC"),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("PYTHONPATH", "/var/runtime"),
        ("PWD", "/var/task"),
        ("SHLVL", "0"),
    ];
    for (name, value) in expected {
        assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(variables["LANG"].ends_with(".UTF-8"));
    assert!(variables["LD_LIBRARY_PATH"].starts_with("/var/lang/lib:"));
    // Set by the bootstrap, for each event.
    assert!(!variables.contains_key("_X_AMZN_TRACE_ID"));
}

#[test]
fn node_gets_its_share_of_memory_and_search_path() {
    let (launch, variables) = launched(&interpreter("nodejs22.x", "bin/node"), Path::new("/code"), &[]);
    assert_eq!(
        launch.arguments,
        ["--expose-gc", "--max-semi-space-size=12", "--max-old-space-size=225", "/var/runtime/bootstrap.xyz"]
    );
    let beginning = "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules";
    assert!(variables["NODE_PATH"].starts_with(beginning), "{}", variables["NODE_PATH"]);
}

#[test]
fn node_lacks_the_experiments_that_aws_turns_off() {
    let options = |runtime, version: &str, own: &[(&str, &str)]| {
        let mut installed = interpreter(runtime, "bin/node");
        installed.version = version.into();
        let (launch, _) = launched(&installed, Path::new("/code"), own);
        launch.arguments.into_iter().filter(|option| option.starts_with("--no-")).collect::<Vec<_>>()
    };
    let (require, detect) = ("--no-experimental-require-module", "--no-experimental-detect-module");
    assert_eq!(options("nodejs22.x", "22.20.0", &[]), [require, detect]);
    assert_eq!(options("nodejs20.x", "20.18.0", &[]), [require]);
    assert!(options("nodejs20.x", "20.9.0", &[]).is_empty(), "it does not know the option");
    assert!(options("nodejs24.x", "24.19.0", &[]).is_empty());
    let own = [("NODE_OPTIONS", "--no-warnings --experimental-require-module")];
    assert_eq!(options("nodejs22.x", "22.20.0", &own), [detect]);
}

#[test]
fn the_format_of_the_log_is_told_where_it_is_json() {
    let installed = interpreter("python3.12", "bin/python3.12");
    let own = [("AWS_LAMBDA_LOG_FORMAT", "mine")];
    let (_, variables) = launched(&installed, Path::new("/code"), &own);
    assert_eq!(variables["AWS_LAMBDA_LOG_FORMAT"], "mine", "for text, AWS sets nothing");
    let own = BTreeMap::from(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut settings = settings(Path::new("/code"), "m.h", &own, "127.0.0.1:9001");
    settings.json_log_level = Some("WARN");
    let variables: BTreeMap<_, _> = launch(&installed, &settings).variables.into_iter().collect();
    assert_eq!(variables["AWS_LAMBDA_LOG_FORMAT"], "JSON");
    assert_eq!(variables["AWS_LAMBDA_LOG_LEVEL"], "WARN");
}

#[test]
fn a_function_replaces_what_is_not_reserved() {
    let reserved: Vec<_> = RESERVED_VARIABLES.iter().map(|name| (*name, "mine")).collect();
    let own =
        [("TZ", "Europe/Berlin"), ("LD_LIBRARY_PATH", "/opt/mine"), ("MINE", "1"), ("AWS_ENDPOINT_URL", "x")];
    let own: Vec<_> = reserved.into_iter().chain(own).collect();
    let (_, variables) = launched(&interpreter("python3.12", "bin/python3.12"), Path::new("/code"), &own);
    assert_eq!(variables["TZ"], "Europe/Berlin");
    assert_eq!(variables["MINE"], "1");
    assert_eq!(variables["AWS_ENDPOINT_URL"], "x");
    assert_eq!(
        variables["LD_LIBRARY_PATH"], "/opt/mine:/var/lang/lib",
        "the interpreter must still find its library"
    );
    for name in RESERVED_VARIABLES {
        assert_ne!(variables.get(name).map(String::as_str), Some("mine"), "{name}");
    }
}

#[test]
fn a_wrapper_runs_the_interpreter() {
    let own = [("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrap")];
    let (launch, _) = launched(&interpreter("python3.12", "bin/python3.12"), Path::new("/code"), &own);
    assert_eq!(launch.program, PathBuf::from("/opt/wrap"));
    assert_eq!(launch.arguments[..2], ["/var/lang/bin/python3.12", "-S"]);
}

#[test]
fn a_program_of_its_own_is_checked_and_started() {
    let installed = Catalog::new(Options::default()).resolve("provided.al2023").unwrap();
    assert_eq!(installed.runtime.family, Family::Provided);
    let code = tempfile::tempdir().unwrap();
    assert_eq!(check_entrypoint(&installed, code.path(), None), Err(EntrypointError::Missing));
    let (launch, _) = launched(&installed, code.path(), &[]);
    assert_eq!(launch.program, PathBuf::from("/opt/bootstrap"));
    let bootstrap = code.path().join("bootstrap");
    std::fs::write(&bootstrap, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&bootstrap, PermissionsExt::from_mode(0o644)).unwrap();
    let refused = Err(EntrypointError::NotExecutable("/var/task/bootstrap"));
    assert_eq!(check_entrypoint(&installed, code.path(), None), refused);
    std::fs::set_permissions(&bootstrap, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(check_entrypoint(&installed, code.path(), None), Ok(()));
    let (launch, variables) = launched(&installed, code.path(), &[]);
    assert_eq!(launch.program, PathBuf::from("/var/task/bootstrap"));
    assert_eq!(launch.arguments, Vec::<String>::new());
    assert!(!variables.contains_key("AWS_EXECUTION_ENV"));
}

#[test]
fn layers_are_at_opt_and_may_bring_the_program() {
    let installed = Catalog::new(Options::default()).resolve("provided.al2023").unwrap();
    let (code, layers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let check = || check_entrypoint(&installed, code.path(), Some(layers.path()));
    assert_eq!(check(), Err(EntrypointError::Missing));
    script(layers.path(), "bootstrap", "");
    assert_eq!(check(), Ok(()));
    let variables = BTreeMap::new();
    let settings = Settings {
        layers: Some(layers.path()),
        ..settings(code.path(), "m.h", &variables, "127.0.0.1:9001")
    };
    let opened = launch(&installed, &settings);
    assert_eq!(opened.program, PathBuf::from("/opt/bootstrap"));
    let mount = |source: &Path, target: &str| Mount { source: source.to_owned(), target: target.into() };
    assert!(opened.mounts.ends_with(&[mount(code.path(), "/var/task"), mount(layers.path(), "/opt")]));
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(layers.path().join("bootstrap"), plain).unwrap();
    assert_eq!(check(), Err(EntrypointError::NotExecutable("/opt/bootstrap")));
    // The function's own comes first.
    script(code.path(), "bootstrap", "");
    assert_eq!(check(), Ok(()));
    assert_eq!(launch(&installed, &settings).program, PathBuf::from("/var/task/bootstrap"));
}

#[test]
fn unknown_and_missing_runtimes_say_what_to_do() {
    let catalog = Catalog::new(Options::nowhere());
    let error = catalog.resolve("dotnet8").unwrap_err();
    assert!(matches!(error, RuntimeError::Unknown { .. }));
    assert!(
        error
            .to_string()
            .starts_with("Freehold does not support the runtime dotnet8 yet. Supported: python3.10, ")
    );
    assert!(catalog.resolve("cobol74").unwrap_err().to_string().starts_with("there is no runtime cobol74."));
    let missing: Vec<_> = catalog.all().into_iter().filter_map(|(_, found)| found.err()).collect();
    assert_eq!(missing.len(), known().len() - 2, "all but the provided ones");
    for error in missing {
        let text = error.to_string();
        assert!(text.contains("Install it with `"), "{text}");
    }
}

/// A script that answers a probe.
fn script(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    std::fs::create_dir_all(folder).unwrap();
    // Written by a process of its own: had this one it open, a process that another test starts at that moment would for a
    // moment have it open too, and nobody can run a program that is open for writing.
    let written = Command::new("sh")
        .args(["-c", "printf '%s\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod 755 \"$0\""])
        .arg(&file)
        .arg(text)
        .status();
    assert!(written.unwrap().success());
}

fn only(folder: &Path, probe_timeout: Duration) -> Options {
    Options { folders: vec![folder.to_owned()], probe_timeout, ..Options::nowhere() }
}

#[test]
fn candidates_that_fail_lie_or_hang_are_passed_over() {
    let version = |version: &str| {
        format!(
            r#"echo '{{"implementation":"node","version":"{version}","executable":"/x/bin/node","prefix":"/x"}}'"#
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    script(folder.path(), "node22", "echo 'no such version' >&2; exit 127");
    script(&bin, "node22", "sleep 600 & sleep 600");
    script(folder.path(), "node-22", &version("20.1.0"));
    script(&bin, "node-22", "echo nonsense");
    script(folder.path(), "node", &version("22.4.1"));
    let started = Instant::now();
    // Enough for those that answer.
    let found = Catalog::new(only(folder.path(), Duration::from_secs(5))).resolve("nodejs22.x").unwrap();
    assert_eq!((found.version.as_str(), &found.program), ("22.4.1", &PathBuf::from("/var/lang/bin/node")));
    assert!(started.elapsed() < support::PATIENCE, "the one that hangs was waited for");
}

#[test]
fn a_runtime_is_looked_for_once_however_many_ask() {
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    script(
        folder.path(),
        "node",
        &format!(
            "echo run >> {}\necho '{{\"implementation\":\"node\",\"version\":\"22.4.1\",\"executable\":\"/x/bin/node\",\
             \"prefix\":\"/x\"}}'",
            count.display()
        ),
    );
    let catalog = Catalog::new(only(folder.path(), support::PATIENCE));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(catalog.resolve("nodejs22.x").is_ok()));
        }
    });
    assert_eq!(std::fs::read_to_string(count).unwrap(), "run\n");
}
