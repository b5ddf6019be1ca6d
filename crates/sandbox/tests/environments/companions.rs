//! Programs beside the main one, and sockets made inside.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use freehold_sandbox::spec::{Companions, Exit, Network, Sandbox, SandboxError, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::harness::{Host, PATIENCE, long, python, shell, until};
use crate::orphans::sleeping;

crate::cases![
    companions_run_before_the_program_and_outlive_it,
    a_companion_that_cannot_be_executed_is_named,
    a_program_that_cannot_be_executed_is_told_when_it_is_its_turn,
    nothing_of_companions_survives,
    sockets_are_connected_inside,
];

/// A shell script with shell scripts as companions.
fn with_companions(script: &str, companions: &[&str]) -> Spec {
    let mut spec = shell(script);
    let path = |number: usize| PathBuf::from(format!("/opt/extensions/companion-{number}"));
    for (number, companion) in companions.iter().enumerate() {
        spec.files.push((path(number), format!("#!/bin/sh\n{companion}\n").into_bytes(), true));
    }
    spec.companions = Companions {
        programs: (0..companions.len()).map(path).collect(),
        variables: vec![
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("OWN".to_owned(), "companion".to_owned()),
        ],
        working_directory: "/tmp".into(),
    };
    spec
}

async fn companions_run_before_the_program_and_outlive_it() {
    let host = Host::start();
    let spec = with_companions(
        "cat /tmp/note; echo \"program $OWN\"; sleep 1000 & exit 3",
        &["echo first > /tmp/note; echo \"$OWN in $PWD\"; exec sleep 1000", "exit 7"],
    );
    let mut running = host.run(spec).await;
    let mut output = running.companions_output.take().expect("there are companions");
    let mut text = [0; 64];
    let length = tokio::time::timeout(PATIENCE, output.read(&mut text)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&text[..length]), "companion in /tmp\n");
    let ended = tokio::time::timeout(PATIENCE, running.environment.companions_ended(0)).await.unwrap();
    assert_eq!(ended[..2], [None, Some(Exit::Status(7))]);

    running.environment.proceed().await.unwrap();
    running.wait_for("first\nprogram \n").await;
    assert_eq!(running.environment.exited().await, Exit::Status(3));
    // The other companion goes on, and what is inside can still be asked.
    running.environment.socket().await.unwrap();
    assert_eq!(running.environment.companions_ended(0).await[..2], [None, Some(Exit::Status(7))]);
    running.environment.stop(Duration::ZERO).await;
    host.end().await;
}

async fn a_companion_that_cannot_be_executed_is_named() {
    let host = Host::start();
    let mut spec = with_companions("true", &["exec sleep 1000", "true"]);
    spec.files[1] = ("/opt/extensions/companion-1".into(), b"no program".to_vec(), true);
    let error = host.sandbox.start(spec).await.map(drop).unwrap_err();
    let SandboxError::CompanionNotExecutable { program, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (program.to_str().unwrap(), reason.as_str()),
        ("/opt/extensions/companion-1", "Exec format error")
    );
    host.end().await;
}

async fn a_program_that_cannot_be_executed_is_told_when_it_is_its_turn() {
    let host = Host::start();
    let mut spec = with_companions("true", &["exec sleep 1000"]);
    spec.program = "/no/such/program".into();
    let running = host.run(spec).await;
    let error = running.environment.proceed().await.unwrap_err();
    assert!(matches!(error, SandboxError::NotExecutable { .. }), "{error}");
    running.environment.stop(Duration::ZERO).await;
    host.end().await;
}

async fn nothing_of_companions_survives() {
    let host = Host::start();
    let text = long();
    let sleeps = format!("sleep {text} & sleep {text} & wait");
    let mut running = host.run(with_companions(&format!("echo ready; sleep {text}"), &[&sleeps])).await;
    running.environment.proceed().await.unwrap();
    running.wait_for("ready").await;
    until("all run", || sleeping(&text) == 3).await;
    // The program alone hears of it.
    running.environment.terminate();
    assert_eq!(running.environment.exited().await, Exit::Signal(15));
    assert!(sleeping(&text) >= 2);
    drop(running);
    until("all are gone", || sleeping(&text) == 0).await;
    host.end().await;
}

async fn sockets_are_connected_inside() {
    let host = Host::start();
    let script = "import socket\n\
        listener = socket.create_server(('sandbox.localdomain', 8080))\n\
        print('ready', flush=True)\n\
        print(listener.accept()[0].recv(100).decode(), flush=True)\n\
        input()";
    let mut spec = python(script);
    spec.network = Network::Isolated;
    let mut running = host.run(spec).await;
    running.wait_for("ready").await;
    let socket = running.environment.socket().await.unwrap();
    let mut stream = connect(socket, 8080).await.unwrap();
    stream.write_all(b"from outside").await.unwrap();
    running.wait_for("from outside").await;
    // What listens on the host does not listen there.
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = outside.local_addr().unwrap().port();
    assert!(connect(running.environment.socket().await.unwrap(), port).await.is_err());
    running.environment.stop(Duration::ZERO).await;
    assert!(running.environment.socket().await.is_err());
    host.end().await;
}

async fn connect(socket: OwnedFd, port: u16) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(([127, 0, 0, 1], port).into()).await
}
