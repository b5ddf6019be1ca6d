//! Drives a bootstrap as an ordinary local process, without a sandbox: a small Runtime API server, the launch's program
//! and variables with the paths inside replaced by temporary folders, and what came of it.
#![allow(dead_code, unreachable_pub)]

pub mod api;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use freehold_runtimes::catalog::{Catalog, Family, Installed, Options};
use freehold_runtimes::launch::{Settings, launch};
use serde_json::Value;

use api::{Api, Request};

/// How long a bootstrap may take for any one thing, on a very busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with more interpreters to test, such as one of another release than the system's.
const EXTRA_FOLDERS: &str = "FREEHOLD_TEST_RUNTIMES";

/// How many families there may be.
const FAMILIES: usize = 8;

/// A function's files: name and content.
pub type Files = &'static [(&'static str, &'static str)];

/// The interpreters of a family that this host has; says once which are skipped.
pub fn installed(family: Family) -> &'static [Arc<Installed>] {
    static OF_FAMILY: [OnceLock<Vec<Arc<Installed>>>; FAMILIES] = [const { OnceLock::new() }; FAMILIES];
    OF_FAMILY[family as usize].get_or_init(|| {
        let folders =
            std::env::var_os(EXTRA_FOLDERS).map(|folders| std::env::split_paths(&folders).collect());
        let catalog = Catalog::new(Options { folders: folders.unwrap_or_default(), ..Options::default() });
        let (found, missing): (Vec<_>, Vec<_>) =
            catalog.all().into_iter().partition(|(_, found)| found.is_ok());
        for (runtime, error) in missing.into_iter().filter(|(runtime, _)| runtime.family == family) {
            // Past the capture of what passing tests print: what was not tested must be seen.
            let line = format!("SKIPPED {}: {}\n", runtime.id, error.unwrap_err());
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
        let found = found.into_iter().filter(|(runtime, _)| runtime.family == family);
        found.map(|(_, found)| found.unwrap()).collect()
    })
}

/// One environment: a process that runs one function.
pub struct Session {
    folder: tempfile::TempDir,
    api: Api,
    child: Child,
    next: Option<Request>,
    number: u32,
    pub started: Instant,
}

/// What the bootstrap posted.
#[derive(Debug)]
pub struct Posted {
    /// `response`, `error` or `init/error`.
    pub what: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Posted {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Session {
    pub fn start(installed: &Installed, files: &[(&str, &str)], handler: &str) -> Self {
        Self::start_with(installed, files, handler, &[])
    }

    pub fn start_with(
        installed: &Installed,
        files: &[(&str, &str)],
        handler: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let task_root = folder.path().join("task");
        write_files(&task_root, files);
        let api = Api::start();
        let own = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let address = api.address();
        let launch = launch(installed, &settings(&task_root, handler, &own, &address));
        let runtime_dir = folder.path().join("runtime");
        for (path, content, _) in &launch.files {
            let file = runtime_dir.join(path.strip_prefix("/var/runtime").unwrap());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let outside = |text: &str| {
            text.replace("/var/task", task_root.to_str().unwrap())
                .replace("/var/runtime", runtime_dir.to_str().unwrap())
        };
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let started = Instant::now();
        let child = Command::new(&installed.executable)
            .args(launch.arguments.iter().map(|argument| outside(argument)))
            .env_clear()
            .envs(launch.variables.iter().map(|(name, value)| (name, outside(value))))
            .env_remove("LD_LIBRARY_PATH")
            .current_dir(&task_root)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, api, child, next: None, number: 0, started }
    }

    /// Waits until the bootstrap asks for an event.
    pub fn ready(&mut self) -> &mut Self {
        if self.next.is_none() {
            let request = self.request();
            assert_eq!(request.path, "/2018-06-01/runtime/invocation/next", "{}", self.log());
            self.next = Some(request);
        }
        self
    }

    /// Gives an event and waits for what the bootstrap posts.
    pub fn event(&mut self, event: &str) -> Posted {
        self.event_with(event.as_bytes(), &[])
    }

    pub fn event_with(&mut self, event: &[u8], headers: &[(&str, &str)]) -> Posted {
        self.give(event, headers);
        let id = format!("request-{}", self.number);
        let posted = self.posted();
        assert!(posted.what.starts_with(&id), "{posted:?}");
        Posted { what: posted.what[id.len() + 1..].to_owned(), ..posted }
    }

    /// Gives an event that may never be answered.
    pub fn give(&mut self, event: &[u8], headers: &[(&str, &str)]) {
        self.ready();
        self.number += 1;
        let next = self.next.take().unwrap();
        next.give_event(&format!("request-{}", self.number), event, headers);
    }

    /// Waits for what the bootstrap posts instead of asking for its first event.
    pub fn init_error(&mut self) -> Posted {
        let posted = self.posted();
        assert_eq!(posted.what, "init/error", "{posted:?}");
        posted
    }

    fn posted(&mut self) -> Posted {
        let request = self.request();
        assert_eq!(request.method, "POST", "{} {}", request.path, self.log());
        let path = request.path.strip_prefix("/2018-06-01/runtime/").unwrap();
        let what = path.strip_prefix("invocation/").unwrap_or(path).to_owned();
        let posted = Posted { what, headers: request.headers.clone(), body: request.body.clone() };
        request.accept();
        posted
    }

    fn request(&mut self) -> Request {
        self.api
            .request(PATIENCE)
            .unwrap_or_else(|| panic!("the bootstrap asked for nothing: {}", self.log()))
    }

    /// Waits until the process has ended.
    pub fn exit(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// What was printed so far, with the paths as they are inside.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap();
        self.inside(&String::from_utf8_lossy(&log))
    }

    pub fn inside(&self, text: &str) -> String {
        let outside = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        text.replace(&outside("task"), "/var/task").replace(&outside("runtime"), "/var/runtime")
    }

    /// The API's server closes its connections after each answer from now on.
    pub fn close_connections(&self) {
        self.api.close_connections();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_files(folder: &Path, files: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        let file: PathBuf = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

/// Settings with a value of its own for everything that a function can see.
pub fn settings<'a>(
    code: &'a Path,
    handler: &'a str,
    variables: &'a BTreeMap<String, String>,
    runtime_api: &'a str,
) -> Settings<'a> {
    Settings {
        function_name: "hello",
        function_version: "$LATEST",
        handler,
        code,
        layers: None,
        variables,
        memory_mib: 256,
        log_group: "/aws/lambda/hello",
        json_log_level: None,
        log_stream: "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef",
        region: "eu-central-1",
        access_key_id: "ASIAEXAMPLE",
        secret_access_key: "secret",
        session_token: "token",
        runtime_api,
        endpoint: "http://127.0.0.1:4566",
        initialization_type: "on-demand",
    }
}
