//! Runs a candidate and asks it what it is.
//!
//! The candidate gets a nearly empty environment, a process group of its own and a time limit. Python's probe also turns
//! the bootstrap into this interpreter's bytecode, so that no function waits for that.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::bootstrap;
use crate::catalog::{Family, Installed, Runtime};
use crate::find::{Options, layout};

/// The most that a candidate may say: the bootstrap's bytecode in hexadecimal is a tenth of it.
const ANSWER_BYTES: u64 = 1024 * 1024;

/// Answers what this interpreter is, and the bytecode of the modules that it reads from its standard input.
const PYTHON_SCRIPT: &str = include_str!("probe.py");

/// Answers what this interpreter is.
const NODE_SCRIPT: &str = "console.log(JSON.stringify({implementation: 'node', version: process.versions.node, \
     executable: process.execPath, prefix: require('path').resolve(process.execPath, '..', '..')}))";

/// Answers what this interpreter is. Without gems, which cost time and may be broken.
const RUBY_SCRIPT: &str = "require 'json'; require 'rbconfig'; c = RbConfig::CONFIG; puts JSON.generate(\
     implementation: RUBY_ENGINE, version: RUBY_VERSION, executable: File.realpath(RbConfig.ruby), \
     prefix: File.realpath(c['prefix']), libraries: [c['rubylibdir'], c['rubyarchdir']])";

/// What a candidate says of itself.
#[derive(Debug, Deserialize)]
struct Answer {
    /// `cpython`, `node`, `ruby` or `java`.
    implementation: String,
    /// Such as `3.12.1`.
    version: String,
    /// The program, links resolved.
    executable: PathBuf,
    /// Where its files lie.
    prefix: PathBuf,
    /// The bootstrap's modules as bytecode files, in hexadecimal, in the order in which they were given.
    #[serde(default)]
    bytecode: Vec<String>,
    /// The folders of Ruby's standard library.
    #[serde(default)]
    libraries: Vec<PathBuf>,
}

/// What `candidate` is, if it is what `runtime` needs; else why not.
pub(crate) fn probe(runtime: &Runtime, candidate: &Path, options: &Options) -> Result<Installed, String> {
    let (arguments, input): (&[&str], Vec<u8>) = match runtime.family {
        Family::Python => {
            let sources =
                bootstrap::PYTHON.map(|(name, source)| (bootstrap::inside(&format!("{name}.py")), source));
            let input = serde_json::to_vec(&sources).map_err(|error| error.to_string())?;
            (&["-I", "-S", "-B", "-c", PYTHON_SCRIPT], input)
        }
        Family::Ruby => (&["--disable=gems", "-e", RUBY_SCRIPT], Vec::new()),
        // All releases know these two, and print to the wrong stream.
        Family::Java => (&["-XshowSettings:properties", "-version"], Vec::new()),
        Family::Node | Family::Provided => (&["-e", NODE_SCRIPT], Vec::new()),
    };
    let stream = if runtime.family == Family::Java { Stream::Stderr } else { Stream::Stdout };
    let output = run(candidate, arguments, input, stream, options)?;
    let answer = if runtime.family == Family::Java {
        java_answer(&output).ok_or("answered nonsense")?
    } else {
        serde_json::from_slice(&output).map_err(|error| format!("answered nonsense: {error}"))?
    };
    check(runtime, &answer)?;
    let release = runtime.release();
    let (layout, files) = match runtime.family {
        Family::Python => {
            (layout::python(&answer.executable, &answer.prefix, release), python_files(&answer)?)
        }
        Family::Ruby => {
            (layout::ruby(&answer.executable, &answer.prefix, &answer.libraries), bootstrap::ruby_files())
        }
        Family::Java => (layout::java(&answer.prefix), Vec::new()),
        Family::Node | Family::Provided => {
            (layout::node(&answer.executable, &answer.prefix), bootstrap::node_files())
        }
    };
    Ok(Installed {
        runtime: runtime.clone(),
        version: answer.version,
        executable: answer.executable,
        prefix: answer.prefix,
        program: layout.program,
        mounts: layout.mounts,
        options: layout.options,
        files,
    })
}

fn check(runtime: &Runtime, answer: &Answer) -> Result<(), String> {
    let wanted = match runtime.family {
        Family::Python => "cpython",
        Family::Ruby => "ruby",
        Family::Java => "java",
        Family::Node | Family::Provided => "node",
    };
    if answer.implementation != wanted {
        return Err(format!("is {}, not {wanted}", answer.implementation));
    }
    let rest = answer.version.strip_prefix(runtime.release());
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return Err(format!("is version {}", answer.version));
    }
    Ok(())
}

/// Reads Java's list of its properties, a `name = value` in each line.
fn java_answer(output: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(output);
    let property = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(" = "));
        lines.find_map(|(found, value)| (found == name).then(|| value.trim().to_owned()))
    };
    let home = PathBuf::from(property("java.home")?).canonicalize().ok()?;
    Some(Answer {
        implementation: "java".to_owned(),
        version: property("java.version")?,
        executable: home.join("bin/java"),
        prefix: home,
        bytecode: Vec::new(),
        libraries: Vec::new(),
    })
}

fn python_files(answer: &Answer) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    if answer.bytecode.len() != bootstrap::PYTHON.len() {
        return Err("did not compile the bootstrap".into());
    }
    let names = bootstrap::PYTHON.map(|(name, _)| bootstrap::inside(&format!("{name}.pyc")));
    let contents =
        answer.bytecode.iter().map(|text| from_hex(text).ok_or_else(|| "answered odd bytecode".to_owned()));
    names.into_iter().zip(contents).map(|(name, content)| Ok((name, content?))).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

/// Where a candidate answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs the candidate to its end, or to the end of its time.
fn run(
    candidate: &Path,
    arguments: &[&str],
    input: Vec<u8>,
    stream: Stream,
    options: &Options,
) -> Result<Vec<u8>, String> {
    let mut command = Command::new(candidate);
    command
        .args(arguments)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("PATH", search_path(candidate))
        .process_group(0);
    if let Some(home) = &options.home {
        // Some version managers' shims need it.
        command.env("HOME", home);
    }
    command.current_dir("/").stdin(Stdio::piped());
    if stream == Stream::Stdout {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
    } else {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    }
    let child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let group = i32::try_from(child.id()).map_err(|_| "has an odd process id".to_owned())?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(converse(child, &input)));
    let answer = receiver.recv_timeout(options.probe_timeout);
    if answer.is_err() {
        // The thread awaits its end, so the id still is this group's. It is left alone: somebody who left the group may
        // hold the pipe that it reads.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        return Err(format!("said nothing within {} ms", options.probe_timeout.as_millis()));
    }
    answer.map_err(|error| error.to_string())?
}

fn converse(mut child: Child, input: &[u8]) -> Result<Vec<u8>, String> {
    if let Some(mut stdin) = child.stdin.take() {
        // A candidate that does not read is no error by itself.
        let _ = stdin.write_all(input);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(ANSWER_BYTES).read_to_end(&mut output);
    }
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(ANSWER_BYTES).read_to_end(&mut output);
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}

fn search_path(candidate: &Path) -> String {
    let own = candidate.parent().map(Path::to_string_lossy).unwrap_or_default();
    format!("{own}:/usr/local/bin:/usr/bin:/bin")
}
