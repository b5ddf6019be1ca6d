//! Programs run, speak, end, freeze, are stopped.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use freehold_sandbox::spec::{Exit, Mount, Network, Sandbox, SandboxError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Host, PATIENCE, long, python, shell, until};
use crate::orphans::{processes, sleeping};

crate::cases![
    a_program_runs_and_its_output_arrives,
    exit_statuses_and_signals_are_told,
    variables_arguments_and_folder_arrive,
    files_and_mounts_are_seen_in_order,
    listeners_accept_connections_from_inside,
    freezing_stops_compute_and_thawing_resumes,
    stopping_lets_the_program_end_in_time,
    stopping_kills_daemonised_children,
    dropping_the_environment_removes_it,
    a_dropped_start_leaves_nothing,
    failures_leave_nothing_and_say_why,
    the_number_of_environments_is_bounded,
    the_peak_of_memory_is_read,
    many_start_at_once,
];

async fn a_program_runs_and_its_output_arrives() {
    let host = Host::start();
    assert_eq!(host.shell("echo out; echo err >&2").await, (Exit::Status(0), "out\nerr\n".to_owned()));
    let (exit, text) = host.run(python("print(6 * 7)")).await.finish().await;
    assert_eq!((exit, text.as_str()), (Exit::Status(0), "42\n"));
    host.end().await;
}

async fn exit_statuses_and_signals_are_told() {
    let host = Host::start();
    assert_eq!(host.shell("exit 7").await.0, Exit::Status(7));
    assert_eq!(host.shell("kill -9 $$").await.0, Exit::Signal(9));
    // A real-time signal, which not every library knows.
    assert_eq!(host.shell("kill -40 $$").await.0, Exit::Signal(40));
    // The program's end is the end, also while children of it live.
    assert_eq!(host.shell("sleep 100 & exit 3").await.0, Exit::Status(3));
    host.end().await;
}

async fn variables_arguments_and_folder_arrive() {
    let host = Host::start();
    let mut spec = shell("env | sort; pwd; echo \"$0 $1\"");
    spec.arguments.extend(["zero".to_owned(), "one two".to_owned()]);
    spec.variables.push(("GREETING".to_owned(), "hällo = welt".to_owned()));
    spec.working_directory = "/tmp".into();
    let (_, text) = host.run(spec).await.finish().await;
    assert_eq!(text, "GREETING=hällo = welt\nPATH=/usr/bin:/bin:/usr/sbin\nPWD=/tmp\n/tmp\nzero one two\n");
    host.end().await;
}

async fn files_and_mounts_are_seen_in_order() {
    let host = Host::start();
    let code = host.folder.path().join("code");
    let layer = host.folder.path().join("layer");
    std::fs::create_dir_all(code.join("inner")).unwrap();
    std::fs::create_dir(&layer).unwrap();
    std::fs::write(code.join("handler.py"), "code").unwrap();
    std::fs::write(layer.join("library.py"), "layer").unwrap();
    let mut spec = shell(
        "cat /var/task/handler.py /var/task/inner/library.py /single.py; /var/runtime/bootstrap; cat /var/runtime/data",
    );
    spec.mounts = vec![
        Mount { source: code.clone(), target: "/var/task".into() },
        Mount { source: layer.clone(), target: "/var/task/inner".into() },
        Mount { source: code.join("handler.py"), target: "/single.py".into() },
    ];
    spec.files = vec![
        ("/var/runtime/bootstrap".into(), b"#!/bin/sh\necho bootstrap".to_vec(), true),
        ("/var/runtime/data".into(), vec![b'x'; 300_000], false),
    ];
    let (exit, text) = host.run(spec).await.finish().await;
    assert_eq!(exit, Exit::Status(0));
    assert_eq!(text.len(), "codelayercodebootstrap\n".len() + 300_000);
    assert!(text.starts_with("codelayercodebootstrap\nxxx"), "{}", &text[..40]);
    host.end().await;
}

fn listener(descriptor: OwnedFd) -> tokio::net::TcpListener {
    tokio::net::TcpListener::from_std(std::net::TcpListener::from(descriptor)).unwrap()
}

async fn listeners_accept_connections_from_inside() {
    let host = Host::start();
    let mut spec = python(
        "import socket\n\
         for port in (9001, 80):\n  \
           s = socket.create_connection(('127.0.0.1', port)); s.sendall(b'hello %d' % port); print(s.recv(100).decode())",
    );
    spec.listeners = vec!["127.0.0.1:9001".parse().unwrap(), "127.0.0.1:80".parse().unwrap()];
    let mut running = host.run(spec).await;
    for (descriptor, port) in std::mem::take(&mut running.listeners).into_iter().zip(["9001", "80"]) {
        let (mut connection, _) = listener(descriptor).accept().await.unwrap();
        let mut buffer = [0; 100];
        let length = connection.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], format!("hello {port}").as_bytes());
        connection.write_all(b"welcome").await.unwrap();
    }
    assert_eq!(running.finish().await, (Exit::Status(0), "welcome\nwelcome\n".to_owned()));
    host.end().await;
}

async fn freezing_stops_compute_and_thawing_resumes() {
    let host = Host::start();
    let script = "import time\nn = 0\nwhile True:\n  n += 1\n  if n % 10000 == 0: print(n, flush=True)";
    let mut running = host.run(python(script)).await;
    running.wait_for("20000").await;
    running.environment.freeze().await.unwrap();
    running.environment.freeze().await.unwrap();
    // What was written before is read away; then there is nothing, while another runs from its start to its end. Past
    // the runtime, which may not have heard yet that there is something to read.
    let mut buffer = vec![0; 1 << 20];
    while nix::unistd::read(&running.output, &mut buffer).is_ok_and(|length| length > 0) {}
    assert_eq!(host.shell("echo neighbour").await.1, "neighbour\n");
    assert_eq!(nix::unistd::read(&running.output, &mut buffer), Err(nix::errno::Errno::EAGAIN));
    running.environment.thaw().await.unwrap();
    running.wait_for("\n").await;
    // A frozen one is removed as well as any.
    running.environment.freeze().await.unwrap();
    running.environment.stop(Duration::ZERO).await;
    assert_eq!(running.environment.exited().await, Exit::Killed);
    host.end().await;
}

async fn stopping_lets_the_program_end_in_time() {
    let host = Host::start();
    let mut running =
        host.run(shell("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done")).await;
    running.wait_for("ready").await;
    running.environment.freeze().await.unwrap();
    running.environment.stop(PATIENCE).await;
    running.environment.stop(PATIENCE).await;
    let (exit, text) = running.finish().await;
    assert_eq!((exit, text.as_str()), (Exit::Status(5), "bye\n"));
    // One that does not listen is killed.
    let mut running = host.run(shell("trap '' TERM; echo ready; while :; do sleep 0.01; done")).await;
    running.wait_for("ready").await;
    running.environment.stop(Duration::from_millis(50)).await;
    assert_eq!(running.environment.exited().await, Exit::Killed);
    host.end().await;
}

async fn stopping_kills_daemonised_children() {
    let host = Host::start();
    let text = long();
    let script = format!("(setsid sleep {text} &) ; (setsid sleep {text} &) ; echo ready; sleep {text}");
    let mut running = host.run(shell(&script)).await;
    running.wait_for("ready").await;
    until("the daemons run", || sleeping(&text) == 3).await;
    running.environment.stop(Duration::ZERO).await;
    assert_eq!(sleeping(&text), 0);
    host.end().await;
}

async fn dropping_the_environment_removes_it() {
    let host = Host::start();
    let text = long();
    let mut running = host.run(shell(&format!("echo ready; sleep {text}"))).await;
    running.wait_for("ready").await;
    until("it runs", || sleeping(&text) == 1).await;
    drop(running);
    until("it is gone", || sleeping(&text) == 0).await;
    host.end().await;
}

async fn a_dropped_start_leaves_nothing() {
    let host = Host::with(|options| options.max_environments = 8);
    let text = long();
    for wait_us in (0..3000).step_by(100) {
        let start = host.sandbox.start(shell(&format!("sleep {text}")));
        let _ = tokio::time::timeout(Duration::from_micros(wait_us), start).await;
    }
    // All places are free again.
    let mut running = Vec::new();
    until("everything is gone", || processes(&text).is_empty()).await;
    for _ in 0..8 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match host.sandbox.start(shell("sleep 1000")).await {
                Ok(started) => break running.push(started),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }
    host.end().await;
}

async fn failures_leave_nothing_and_say_why() {
    let host = Host::start();
    let mut spec = shell("true");
    spec.program = "/no/such/program".into();
    let error = host.sandbox.start(spec).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("/no/such/program: No such file"), "{error}");

    let mut spec = shell("true");
    spec.mounts = vec![Mount { source: "/no/such/folder".into(), target: "/var/task".into() }];
    let error = host.sandbox.start(spec).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder: No such file"), "{error}");

    let mut spec = shell("true");
    spec.files = vec![("/usr/bin/new".into(), b"x".to_vec(), false)];
    let error = host.sandbox.start(spec).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("Read-only"), "{error}");

    let mut spec = shell("true");
    spec.network = Network::Internet;
    let error = host.sandbox.start(spec).await.map(drop).unwrap_err();
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
    assert_eq!(host.shell("echo fine").await.1, "fine\n");
    host.end().await;
}

async fn the_number_of_environments_is_bounded() {
    let host = Host::with(|options| options.max_environments = 2);
    let first = host.run(shell("sleep 100")).await;
    let _second = host.run(shell("sleep 100")).await;
    let error = host.sandbox.start(shell("true")).await.map(drop).unwrap_err();
    assert!(error.to_string().contains('2'), "{error}");
    assert_eq!(host.sandbox.most_environments(), 2);
    // A start waits for the place of one that is on its way out.
    let (second, ()) =
        tokio::join!(host.sandbox.start(shell("sleep 100")), first.environment.stop(Duration::ZERO));
    drop(second.unwrap());
    assert_eq!(host.shell("echo again").await.1, "again\n");
    host.end().await;
}

async fn the_peak_of_memory_is_read() {
    let host = Host::start();
    let mut running =
        host.run(python("x = bytearray(40 << 20); del x; print('ready', flush=True); input()")).await;
    running.wait_for("ready").await;
    let peak = running.environment.memory_peak_bytes();
    assert!((40 << 20..100 << 20).contains(&peak), "{peak}");
    running.environment.stop(Duration::ZERO).await;
    assert!(running.environment.memory_peak_bytes() >= peak);
    // The next one does not inherit it.
    let mut running = host.run(shell("echo ready; read x")).await;
    running.wait_for("ready").await;
    let peak = running.environment.memory_peak_bytes();
    assert!((1..30 << 20).contains(&peak), "{peak}");
    host.end().await;
}

async fn many_start_at_once() {
    let host = std::sync::Arc::new(Host::start());
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let host = host.clone();
            tokio::spawn(async move {
                let (exit, text) = host.shell(&format!("echo {number}")).await;
                assert_eq!((exit, text), (Exit::Status(0), format!("{number}\n")));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    host.sandbox.shutdown().await;
}
