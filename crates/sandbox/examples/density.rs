//! Prints how cheap environments are: `cargo run --release -p freehold-sandbox --example density [ENVIRONMENTS [internet]]`, as root.
//!
//! - *rate*: environments made, run and removed, eight beside each other, and the processor time of each, with what the
//!   kernel's workers take; the floor is a bare fork and exec of the same program
//! - *burst*: that many starts at once from an idle sandbox, until the last program runs
//! - *memory*: what the machine's available memory loses for a blank, and for one whose program sleeps
//!
//! Only on an otherwise idle machine do the processor times and the memory mean anything.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freehold_sandbox::spec::{Beginning, Network, Sandbox, Spec};
use freehold_sandbox::{HELPER_ARGUMENT, NamespaceSandbox, Options, helper_main};

/// Environments beside each other in the measurement of the rate.
const PARALLEL: usize = 8;
/// How long the kernel's workers may go on removing what is gone, and still be counted.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// The kernel's unit of processor time in `/proc/stat`, in milliseconds.
const TICK_MS: f64 = 10.0;

fn spec(network: Network, number: usize, program: &str, arguments: &[&str]) -> Spec {
    Spec {
        beginning: Beginning::Program,
        name: format!("density-{number}"),
        mounts: vec![],
        files: vec![],
        program: program.into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        variables: vec![],
        working_directory: "/".into(),
        memory_mib: 128,
        tmp_mib: 512,
        cpu_millis: 72,
        network,
        listeners: vec!["127.0.0.1:9001".parse().expect("an address")],
        companions: Default::default(),
    }
}

/// Processor time so far, in milliseconds.
#[derive(Clone, Copy)]
struct Times {
    /// This process, its helper, and all that ended below them.
    ours: f64,
    /// The kernel's own threads, whatever they do.
    kernel: f64,
}

/// The fields of `/proc/<process>/stat` from the third on.
fn status(process: &str) -> Option<Vec<f64>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = text.rsplit_once(')')?.1.split_whitespace().skip(1);
    Some(fields.map(|field| field.parse().unwrap_or(0.0)).collect())
}

fn times() -> Times {
    let own = f64::from(std::process::id());
    let mut times = Times { ours: 0.0, kernel: 0.0 };
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        let Some(fields) = name.to_str().filter(|name| name.starts_with(|c: char| c.is_ascii_digit())) else {
            continue;
        };
        let Some(fields) = status(fields) else { continue };
        let spent: f64 = fields[10..12].iter().sum();
        let waited_for: f64 = fields[12..14].iter().sum();
        if fields[0] == 2.0 {
            times.kernel += spent * TICK_MS;
        } else if fields[0] == own || name.to_str() == Some(&std::process::id().to_string()) {
            times.ours += (spent + waited_for) * TICK_MS;
        }
    }
    times
}

/// One line of `/proc/meminfo`, in KiB.
fn memory_kib(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the line");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

/// What memory goes into.
const MEMORY: &[&str] =
    &["MemAvailable", "AnonPages", "Shmem", "Slab", "SUnreclaim", "KernelStack", "PageTables", "Percpu"];

fn memory() -> Vec<f64> {
    MEMORY.iter().map(|name| memory_kib(name)).collect()
}

fn tell_memory(what: &str, before: &[f64], after: &[f64], count: usize) {
    let each: Vec<String> = MEMORY
        .iter()
        .zip(before.iter().zip(after))
        .map(|(name, (before, after))| format!("{name} {:+.0}", (after - before) / count as f64))
        .collect();
    println!("{what:>8}: KiB each of {count}: {}", each.join(", "));
}

fn tell_rate(what: &str, count: usize, took: Duration, before: Times, after: Times) {
    println!(
        "{what:>8}: {:6.0}/s   processor {:.2} ms each, and {:.2} in the kernel's threads",
        count as f64 / took.as_secs_f64(),
        (after.ours - before.ours) / count as f64,
        (after.kernel - before.kernel) / count as f64,
    );
}

/// A bare fork and exec.
fn floor(count: usize) {
    let (before, since) = (times(), Instant::now());
    for _ in 0..count {
        Command::new("/bin/true").status().expect("a program");
    }
    tell_rate("floor", count, since.elapsed(), before, times());
}

async fn rate(sandbox: &Arc<NamespaceSandbox>, network: Network, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let (before, since) = (times(), Instant::now());
    let workers: Vec<_> = (0..PARALLEL)
        .map(|_| {
            let (sandbox, next) = (sandbox.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let spec = spec(network, number, "/bin/true", &[]);
                    let (environment, _channels) = sandbox.start(spec).await.expect("an environment");
                    environment.exited().await;
                    environment.stop(Duration::ZERO).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    let took = since.elapsed();
    tokio::time::sleep(AFTERWARDS).await;
    tell_rate("rate", count, took, before, times());
}

async fn burst(sandbox: &Arc<NamespaceSandbox>, network: Network, count: usize) {
    tokio::time::sleep(AFTERWARDS).await;
    let (memory_before, before, since) = (memory(), times(), Instant::now());
    let starts: Vec<_> = (0..count)
        .map(|number| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                let spec = spec(network, number, "/bin/sleep", &["1000"]);
                sandbox.start(spec).await.expect("an environment")
            })
        })
        .collect();
    let mut running = Vec::new();
    for start in starts {
        running.push(start.await.expect("a start"));
    }
    tell_rate("burst", count, since.elapsed(), before, times());
    println!("{:>8}: {count} running after {:.2} s", "", since.elapsed().as_secs_f64());
    tokio::time::sleep(AFTERWARDS).await;
    tell_memory("running", &memory_before, &memory(), count);
    let (before, since) = (times(), Instant::now());
    let ends: Vec<_> = running
        .into_iter()
        .map(|(environment, _)| tokio::spawn(async move { environment.stop(Duration::ZERO).await }))
        .collect();
    for end in ends {
        end.await.expect("an end");
    }
    let took = since.elapsed();
    tokio::time::sleep(AFTERWARDS).await;
    tell_rate("removal", count, took, before, times());
}

/// Processes of this one's helper.
fn blanks() -> usize {
    let children = |process: &str| {
        fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default()
    };
    let own = std::process::id().to_string();
    let helpers: Vec<String> = fs::read_dir(format!("/proc/{own}/task"))
        .expect("threads")
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    helpers.iter().map(|helper| children(helper).split_whitespace().count()).sum()
}

async fn idle(options: Options, count: usize) {
    let before = memory();
    let sandbox = NamespaceSandbox::start(Options { pool: count, ..options }).expect("a sandbox");
    while blanks() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(AFTERWARDS).await;
    tell_memory("blank", &before, &memory(), count);
    if std::env::var("HOLD").is_ok() {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    sandbox.shutdown().await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(HELPER_ARGUMENT) {
        helper_main(arguments);
    }
    let only_idle = arguments.get(1).map(String::as_str) == Some("idle");
    let count = arguments.get(1 + usize::from(only_idle)).and_then(|text| text.parse().ok()).unwrap_or(500);
    let network = match arguments.get(2).map(String::as_str) {
        Some("internet") => Network::Internet,
        _ => Network::Isolated,
    };
    let folder = std::env::temp_dir().join(format!("freehold-density-{}", std::process::id()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let options = Options { network, max_environments: 3000, ..Options::new(&folder) };
        if only_idle {
            idle(options, count).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            return;
        }
        floor(count);
        let sandbox = NamespaceSandbox::start(options.clone()).expect("a sandbox");
        rate(&sandbox, network, count).await;
        burst(&sandbox, network, count).await;
        sandbox.shutdown().await;
        drop(sandbox);
        idle(options, count.min(500)).await;
    });
    fs::remove_dir_all(&folder).expect("the state folder can be removed");
}
