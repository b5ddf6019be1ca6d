//! A private PostgreSQL for this test process: started when a test first wants it, on a Unix socket in a temporary
//! folder, with its durable settings on; gone with the process, however that ends.
//!
//! ```text
//! test process ──pipe──> sh: starts and stops postgres as it is told; at the pipe's end stops it and deletes the folder
//! ```
//!
//! The pipe ends with the test process, also when that is killed. PostgreSQL refuses to run as root, so root runs it as
//! Debian's user `postgres`.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a server that cannot be had ends the run")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who runs the server where we are root.
const USER: &str = "postgres";
/// Settings of the test's server; all that concerns durability is as PostgreSQL has it.
const SETTINGS: &str = "
listen_addresses = ''
max_connections = 500
shared_buffers = 64MB
max_wal_size = 256MB
logging_collector = off
log_min_messages = fatal
cluster_name = 'freehold-test'
";
/// `"$@"` from the second argument on is `pg_ctl` for the cluster in the folder that the first names. Each line on stdin
/// starts the server or stops it as a crash would; the end of stdin ends everything. An interrupt from the terminal is
/// for the tests: their end is then this one's. Nor must an answer that nobody reads end it.
const KEEPER: &str = r#"
trap '' INT HUP TERM PIPE
folder=$1; shift
while read -r word; do
    case $word in
        start) "$@" -s -w -l "$folder/log" start >&2 && echo started ;;
        stop) "$@" -s -w -m immediate stop >&2 && echo stopped ;;
    esac
done
"$@" -s -w -m immediate stop >/dev/null 2>&1
rm -rf "$folder"
"#;

/// A running server.
pub(crate) struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    keeper: Mutex<Keeper>,
    databases: Mutex<Vec<String>>,
    made: AtomicU32,
}

struct Keeper {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

/// A database of a test's own; another test may have it afterwards.
pub(crate) struct Database {
    cluster: &'static Cluster,
    name: String,
}

/// The one cluster that tests share.
pub(crate) fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("freehold-pg-").tempdir().unwrap().keep();
        if is_root() {
            check(Command::new("chown").arg(USER).arg(&folder));
        }
        let data = folder.join("data");
        let server = as_user(&programs.join("pg_ctl"));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(server.get_program()).args(server.get_args());
        keeper.arg("-D").arg(&data).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = keeper.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let initdb = programs.join("initdb");
        let options = ["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres"];
        check(as_user(&initdb).args(options).arg("-D").arg(&data).current_dir("/"));
        let mut settings = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        settings.push_str(SETTINGS);
        settings.push_str(&format!("unix_socket_directories = '{}'\n", folder.display()));
        fs::write(data.join("postgresql.conf"), settings).unwrap();
        let cluster = Self {
            folder,
            programs,
            keeper: Mutex::new(Keeper { child, answers }),
            databases: Mutex::default(),
            made: AtomicU32::new(0),
        };
        cluster.restart();
        cluster
    }

    /// A database that nobody else has.
    pub(crate) fn database(&'static self) -> Database {
        let free = self.databases.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let name = match free {
            Some(name) => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                self.sql(&name, &format!("{end}; DROP SCHEMA IF EXISTS freehold CASCADE"));
                name
            }
            None => {
                let name = format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed));
                self.sql("postgres", &format!("CREATE DATABASE {name}"));
                name
            }
        };
        Database { cluster: self, name }
    }

    /// Kills the server as a crash would.
    pub(crate) fn stop(&self) {
        self.tell("stop", "stopped");
    }

    /// Starts the server, and waits until it takes connections.
    pub(crate) fn restart(&self) {
        self.tell("start", "started");
    }

    /// Ends it before the process does.
    pub(crate) fn end(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.child.stdin.take());
        keeper.child.wait().unwrap();
    }

    /// Runs SQL through Debian's own client; gives what it prints, unaligned.
    pub(crate) fn sql(&self, database: &str, text: &str) -> String {
        let output = self.psql(database, text);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, database: &str, text: &str) -> Output {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.arg("-h").arg(&self.folder).args(["-c", text]).env("PGOPTIONS", "-c client_min_messages=error");
        psql.output().unwrap()
    }

    fn tell(&self, word: &str, expected: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(keeper.child.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).unwrap();
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert_eq!(answer.trim(), expected, "{log}");
    }
}

impl Database {
    /// The store's URL.
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.cluster.folder)
    }

    /// The store's URL, by way of a socket in another folder.
    pub(crate) fn url_at(&self, folder: &Path) -> String {
        format!("postgres://postgres@/{}?host={}", self.name, folder.display())
    }

    /// The folder of the server's socket.
    pub(crate) fn sockets(&self) -> &Path {
        &self.cluster.folder
    }

    /// Transactions per second that PostgreSQL's own benchmark reaches in it.
    pub(crate) fn pgbench(&self, script: &str, arguments: &[&str]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script).unwrap();
        let mut pgbench = Command::new(self.cluster.programs.join("pgbench"));
        pgbench.args(["-n", "-U", "postgres", "-h"]).arg(&self.cluster.folder).args(arguments);
        let output = pgbench.arg("-f").arg(file.path()).arg(&self.name).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).expect(&text);
        rate.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Runs SQL in it.
    pub(crate) fn sql(&self, text: &str) -> String {
        self.cluster.sql(&self.name, text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut databases = self.cluster.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.push(std::mem::take(&mut self.name));
    }
}

/// The newest version's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let numbered = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let newest = numbered.filter(|(_, programs)| programs.join("initdb").exists()).max();
    let (_, programs) = newest.expect("PostgreSQL is not installed: run `cargo xtask test packages` as root");
    programs
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program, run as an ordinary user.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
    command
}

fn check(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
