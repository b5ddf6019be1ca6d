//! What a warm invocation costs. `cargo test --release -p freehold-executor -- --ignored --nocapture` prints it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{echo, event, setup};

const ROUNDS: usize = 20_000;

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{name}: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
}

/// Two round trips over loopback between two tasks, as an invocation has: the floor below it.
async fn floor() -> Vec<Duration> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let mut buffer = [0; 256];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            stream.write_all(&buffer).await.expect("read");
        }
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("listening");
    stream.set_nodelay(true).expect("a socket");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..2 {
            stream.write_all(&[0; 256]).await.expect("read");
            stream.read_exact(&mut [0; 256]).await.expect("echoed");
        }
        times.push(start.elapsed());
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; asserts nothing"]
async fn warm_invocations() {
    let limits = freehold_executor::Limits { requests_per_concurrency: 1_000_000, ..Default::default() };
    let mut setup = setup(echo);
    setup.limits = limits;
    let bench = setup.bench();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let event = event("{\"name\":\"Alice\"}");
        let start = Instant::now();
        bench.executor.invoke(Arc::clone(&bench.version), event).await.expect("runs");
        times.push(start.elapsed());
    }
    print("floor, two loopback round trips", floor().await);
    print("warm invoke, fake runtime in the same process", times);
    assert_eq!(bench.starts(), 1);
}
