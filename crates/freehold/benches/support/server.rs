//! The real binary as a server: started on a data folder, stopped politely, and looked at through `/proc`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use freehold::cli::Target;
use freehold::client::Client;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_wire::sigv4::Credentials;

/// The binary that is measured.
const BINARY: &str = env!("CARGO_BIN_EXE_freehold");

/// What the kernel counts processors' time in: hundredths of a second on every Linux that this runs on.
#[allow(dead_code, reason = "not every benchmark looks at it")]
const TICK: Duration = Duration::from_millis(10);

/// The real binary, serving on a port of its own choice. Killed if it is dropped without being stopped.
pub(crate) struct Server {
    child: Child,
    endpoint: String,
    /// From the start to the line that says where it listens.
    pub(crate) ready: Duration,
}

#[allow(dead_code, reason = "not every benchmark asks for everything")]
impl Server {
    /// Starts it on a data folder.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &[])
    }

    /// Starts it with more settings.
    pub(crate) fn start_with(data: &Path, settings: &[&str]) -> Result<Self> {
        let start = Instant::now();
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(data)
            .args(settings)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let ready = start.elapsed();
        let endpoint =
            line.split_whitespace().find(|word| word.starts_with("http")).context("no address")?.to_owned();
        Ok(Self { child, endpoint, ready })
    }

    /// Whether `serve` knows a setting, such as one that raises a limit.
    pub(crate) fn knows(setting: &str) -> Result<bool> {
        let help = Command::new(BINARY).args(["serve", "--help"]).output()?;
        Ok(String::from_utf8_lossy(&help.stdout).contains(setting))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.endpoint.trim_start_matches("http://").parse()?)
    }

    /// A connection with the development key.
    pub(crate) async fn client(&self) -> Result<Client> {
        let target = Target { endpoint: self.endpoint.clone(), region: "us-east-1".to_owned() };
        Client::connect_as(&target, Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY)).await
    }

    /// The server's process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The sandbox's helper: the server's only child.
    pub(crate) fn helper(&self) -> Result<u32> {
        children(self.id())?.into_iter().next().context("the server has no helper")
    }

    /// The processors' time that everything below the helper has used: the functions' environments.
    pub(crate) fn functions_time(&self) -> Result<Duration> {
        // One may have ended meanwhile.
        let times =
            descendants(self.helper()?).into_iter().map(|each| processor_time(each).unwrap_or_default());
        Ok(times.sum())
    }

    /// The server, its helper, and everything below.
    pub(crate) fn all_processes(&self) -> Result<Vec<u32>> {
        let mut all = vec![self.id(), self.helper()?];
        all.extend(descendants(self.helper()?));
        Ok(all)
    }

    /// Stops it politely.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its helper notices, and removes everything.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The processes that a process has started.
#[allow(dead_code, reason = "not every benchmark looks")]
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(found)
}

/// All processes below a process.
#[allow(dead_code, reason = "not every benchmark looks")]
fn descendants(parent: u32) -> Vec<u32> {
    let mut all = children(parent).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = all.get(next).copied() {
        all.extend(children(process).unwrap_or_default());
        next += 1;
    }
    all
}

/// The processors' time that a process's threads have used, exactly.
#[allow(dead_code, reason = "not every benchmark looks")]
pub(crate) fn run_time(process: u32) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds = text.split_whitespace().next().context("an unreadable schedstat")?;
        time += Duration::from_nanos(nanoseconds.parse()?);
    }
    Ok(time)
}

/// What a process holds in memory, in KiB.
#[allow(dead_code, reason = "not every benchmark looks")]
pub(crate) fn resident_kib(process: u32) -> Result<u64> {
    field(&format!("/proc/{process}/status"), "VmRSS:")
}

/// How many descriptors a process has open.
#[allow(dead_code, reason = "not every benchmark looks")]
pub(crate) fn descriptors(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// The processors' time that a process has used.
#[allow(dead_code, reason = "not every benchmark looks")]
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = text.rsplit_once(')').context("an unreadable /proc/PID/stat")?;
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// The memory that the machine could still give, in KiB.
#[allow(dead_code, reason = "not every benchmark looks")]
pub(crate) fn available_kib() -> Result<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// A number that follows its name in one of the kernel's files.
fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in {path}"))
}
