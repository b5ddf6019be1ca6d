//! A socket between a store and the server. The committer's connections can be cut so that what they sent arrives and
//! the answer doesn't; or all connections can be refused.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const SOCKET: &str = ".s.PGSQL.5432";

/// What becomes of what passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It passes.
    Pass,
    /// What the server says to a committer is swallowed, and the connection cut; new connections pass.
    LoseAnswer,
    /// The same, and every new connection is cut at once.
    LoseAnswerAndRefuse,
    /// All connections are cut.
    Cut,
}

/// A running proxy.
pub(crate) struct Proxy {
    folder: TempDir,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Starts one to the server whose socket is in `server`.
    pub(crate) fn start(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let server = Arc::new(server.join(SOCKET));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, modes) = (server.clone(), modes.clone());
                if matches!(*modes.borrow(), Mode::Pass | Mode::LoseAnswer) {
                    tokio::spawn(async move { carry(client, &server, modes).await });
                }
            }
        });
        Self { folder, mode }
    }

    /// Where its socket is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes what becomes of what passes from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Carries one connection's bytes. A connection made after answers began to be lost keeps its answers.
async fn carry(mut client: UnixStream, server: &Path, mut modes: watch::Receiver<Mode>) {
    let Ok(mut server) = UnixStream::connect(server).await else { return };
    let began_in = *modes.borrow_and_update();
    let (mut sent, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_committer = None;
    loop {
        let mode = *modes.borrow();
        if mode == Mode::Cut {
            return;
        }
        tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(length @ 1..) = read else { return };
                // The first message names the application.
                is_committer.get_or_insert_with(|| sent[..length].windows(9).any(|bytes| bytes == b"committer"));
                if server.write_all(&sent[..length]).await.is_err() { return }
            }
            read = server.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                let loses = matches!(mode, Mode::LoseAnswer | Mode::LoseAnswerAndRefuse);
                if loses && began_in == Mode::Pass && is_committer == Some(true) { return }
                if client.write_all(&said[..length]).await.is_err() { return }
            }
            changed = modes.changed() => if changed.is_err() { return },
        }
    }
}
