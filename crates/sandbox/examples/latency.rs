//! Prints how long environments take: `cargo run --release -p freehold-sandbox --example latency [ROUNDS [internet]]`, as root.
//!
//! "start" is from the call to the program's exec, with a blank at hand; "output" adds the program's own first line; "cycle" adds
//! its end and the removal. "unpooled" asks for an unusual size of `/tmp`, so that nothing is ready. With `internet`, environments
//! have a way out; to leave the host alone, run it in a network namespace that has a default route.

use std::time::{Duration, Instant};

use freehold_sandbox::spec::{Beginning, Network, Sandbox, Spec};
use freehold_sandbox::{HELPER_ARGUMENT, NamespaceSandbox, Options, helper_main};
use tokio::io::AsyncReadExt;

fn spec(network: Network, number: usize, program: &str, arguments: &[&str], tmp_mib: u32) -> Spec {
    Spec {
        beginning: Beginning::Program,
        name: format!("latency-{number}"),
        mounts: vec![],
        files: vec![],
        program: program.into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        variables: vec![],
        working_directory: "/".into(),
        memory_mib: 128,
        tmp_mib,
        cpu_millis: 72,
        network,
        listeners: vec!["127.0.0.1:9001".parse().expect("an address")],
        companions: Default::default(),
    }
}

fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0
}

async fn measure(sandbox: &NamespaceSandbox, name: &str, rounds: usize, make: impl Fn(usize) -> Spec) {
    let [mut starts, mut outputs, mut cycles] = [const { Vec::new() }; 3];
    for number in 0..rounds {
        // The pool refills meanwhile, as it would between requests.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let since = Instant::now();
        let (environment, channels) = sandbox.start(make(number)).await.expect("an environment");
        starts.push(since.elapsed());
        let mut output = tokio::net::unix::pipe::Receiver::from_owned_fd(channels.output).expect("a pipe");
        let mut buffer = [0; 100];
        let length = output.read(&mut buffer).await.expect("output");
        assert!(length > 0, "the program said nothing");
        outputs.push(since.elapsed());
        environment.stop(Duration::ZERO).await;
        cycles.push(since.elapsed());
    }
    for (what, times) in [("start", &mut starts), ("output", &mut outputs), ("cycle", &mut cycles)] {
        let (middle, high) = (percentile(times, 0.5), percentile(times, 0.99));
        println!("{name:>10} {what:>7}: p50 {middle:7.2} ms   p99 {high:7.2} ms");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(HELPER_ARGUMENT) {
        helper_main(arguments);
    }
    let rounds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(100);
    let network = match arguments.get(2).map(String::as_str) {
        Some("internet") => Network::Internet,
        _ => Network::Isolated,
    };
    let folder = std::env::temp_dir().join(format!("freehold-latency-{}", std::process::id()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let since = Instant::now();
        let options = Options { network, ..Options::new(&folder) };
        let sandbox = NamespaceSandbox::start(options).expect("a sandbox");
        println!("{:>10} {:>7}: {:.2} ms", "sandbox", "ready", since.elapsed().as_secs_f64() * 1000.0);
        let shell = |number| spec(network, number, "/bin/sh", &["-c", "echo"], 512);
        measure(&sandbox, "shell", rounds, shell).await;
        let python =
            |number| spec(network, number, "/usr/bin/python3", &["-I", "-S", "-c", "print(flush=True)"], 512);
        measure(&sandbox, "python", rounds, python).await;
        let unpooled = |number| spec(network, number, "/bin/sh", &["-c", "echo"], 600);
        measure(&sandbox, "unpooled", rounds / 4 + 1, unpooled).await;
        let since = Instant::now();
        sandbox.shutdown().await;
        println!("{:>10} {:>7}: {:.2} ms", "sandbox", "end", since.elapsed().as_secs_f64() * 1000.0);
    });
    std::fs::remove_dir_all(&folder).expect("the state folder can be removed");
}
