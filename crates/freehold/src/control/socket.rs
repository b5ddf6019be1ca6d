//! The socket's name. A socket's address has room for 107 bytes, and data folders may lie deeper than that: so the folder
//! is opened, and the socket addressed through the descriptor.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket in the data folder.
const NAME: &str = "control";
/// Its name until it is ready.
const UNFINISHED: &str = "control.new";
/// Only the server's own user: what is asked here is everything that the store holds.
const MODE: u32 = 0o600;

/// A folder, and short paths into it while this lives.
struct Folder(File);

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

/// Listens on the data folder's socket, in place of one that nobody serves any more. It has its mode before it has its
/// name.
pub(super) async fn listen(data: &Path) -> io::Result<UnixListener> {
    let folder = Folder::open(data)?;
    if UnixStream::connect(folder.path(NAME)).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server uses this data folder"));
    }
    match fs::remove_file(folder.path(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(folder.path(UNFINISHED))?;
    fs::set_permissions(folder.path(UNFINISHED), Permissions::from_mode(MODE))?;
    fs::rename(folder.path(UNFINISHED), folder.path(NAME))?;
    Ok(listener)
}

/// Connects to the server of a data folder; `None` if none runs.
pub(super) async fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    let nobody = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    };
    let folder = match Folder::open(data) {
        Err(error) if nobody(&error) => return Ok(None),
        result => result?,
    };
    match UnixStream::connect(folder.path(NAME)).await {
        Err(error) if nobody(&error) => Ok(None),
        result => result.map(Some),
    }
}

/// Removes the socket.
pub(super) fn remove(data: &Path) {
    if let Err(error) = fs::remove_file(data.join(NAME)) {
        tracing::warn!(%error, "cannot remove the control socket; the next start does it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deep_folder_has_a_socket_for_its_owner_and_a_dead_one_is_replaced() {
        let home = tempfile::tempdir().expect("a folder");
        let data = home.path().join("deep/".repeat(40));
        fs::create_dir_all(&data).expect("folders");
        assert!(data.as_os_str().len() > 108);
        assert!(connect(&data).await.expect("nobody there").is_none());

        let first = listen(&data).await.expect("listens");
        let mode = fs::metadata(data.join(NAME)).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(connect(&data).await.expect("connects").is_some());
        assert_eq!(listen(&data).await.expect_err("in use").kind(), io::ErrorKind::AddrInUse);

        drop(first);
        assert!(data.join(NAME).exists(), "a server that was killed leaves its socket");
        assert!(connect(&data).await.expect("nobody there").is_none());
        let second = listen(&data).await.expect("listens again");
        assert!(connect(&data).await.expect("connects").is_some());
        drop(second);
        remove(&data);
        assert!(!data.join(NAME).exists());
    }
}
