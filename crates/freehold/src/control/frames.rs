//! The parts of an answer on the control socket.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest content of a frame, in bytes: a report with all the findings that it can hold.
const CONTENT_BYTES: usize = 4 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of what was asked for.
    Data,
    /// How far it has come.
    Progress,
    /// All is done; the last frame.
    Done,
    /// It failed; the last frame.
    Failed,
    /// The server's store is not the one that was asked for; the last frame.
    OtherStore,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Data, Self::Progress, Self::Done, Self::Failed, Self::OtherStore];

    fn letter(self) -> u8 {
        match self {
            Self::Data => b'D',
            Self::Progress => b'P',
            Self::Done => b'O',
            Self::Failed => b'E',
            Self::OtherStore => b'S',
        }
    }
}

/// Writes one frame.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    content: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    writer.write_u8(kind.letter()).await?;
    writer.write_u32(length).await?;
    writer.write_all(content).await
}

/// Reads one frame.
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Bytes)> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    let letter = reader.read_u8().await?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter);
    let kind = kind.ok_or_else(|| invalid("what answers is not a server of this version"))?;
    let length = reader.read_u32().await? as usize;
    if length > CONTENT_BYTES {
        return Err(invalid("a part of the answer is too long"));
    }
    let mut content = vec![0; length];
    reader.read_exact(&mut content).await?;
    Ok((kind, content.into()))
}
