//! The file of a backup, as bytes. `docs/store.md` describes it too.
//!
//! ```text
//! "freehold-backup 1\n"
//! frame*           tag, 1 byte; length of the payload, 4 bytes; payload; CRC-32 of all that, 4 bytes
//!   B  a blob begins: its SHA-256, 32 bytes; its length, 8 bytes
//!   P  a piece of it
//!   M  a blob that was deleted before it could be read: its SHA-256
//!   K  an entry: the key's length, 4 bytes; the key; the value
//!   E  the end (see Trailer), and nothing after it
//! ```
//!
//! Numbers have the most significant byte first. Blobs come first, in order of their names, then entries, in order of
//! their keys; so there is one file for one content, and a frame that is lost, doubled or moved is found. The trailer has
//! the SHA-256 of everything before it.

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::TransferError;
use crate::blobs::PIECE_BYTES;
use crate::limits::{KEY_BYTES, VALUE_BYTES};

/// What every version's file begins with.
pub(super) const MAGIC: &str = "freehold-backup ";
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u64 = 1;
/// Digits of a version that are read at most.
const VERSION_DIGITS: usize = 9;
/// The largest payload: an entry of the largest key and value. What claims to be larger is damaged.
const PAYLOAD_BYTES: usize = 4 + KEY_BYTES + VALUE_BYTES;
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// Tag and length.
const HEAD_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Blob,
    Piece,
    MissingBlob,
    Entry,
    End,
}

impl Tag {
    fn byte(self) -> u8 {
        match self {
            Self::Blob => b'B',
            Self::Piece => b'P',
            Self::MissingBlob => b'M',
            Self::Entry => b'K',
            Self::End => b'E',
        }
    }

    fn parse(byte: u8) -> Option<Self> {
        [Self::Blob, Self::Piece, Self::MissingBlob, Self::Entry, Self::End]
            .into_iter()
            .find(|tag| tag.byte() == byte)
    }

    fn longest(self) -> usize {
        match self {
            Self::Blob => 40,
            Self::Piece => PIECE_BYTES,
            Self::MissingBlob => 32,
            Self::Entry => PAYLOAD_BYTES,
            Self::End => Trailer::BYTES,
        }
    }
}

/// The last frame: what the file holds in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) keys: u64,
    /// Length of keys and values, in bytes.
    pub(super) bytes: u64,
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
    pub(super) missing_blobs: u64,
    /// As in [`super::Fingerprint`].
    pub(super) entries_sha256: [u8; 32],
    /// Of every byte of the file before this frame.
    pub(super) file_sha256: [u8; 32],
}

impl Trailer {
    const BYTES: usize = 5 * 8 + 2 * 32;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        for number in [self.keys, self.bytes, self.blobs, self.blob_bytes, self.missing_blobs] {
            bytes.put_u64(number);
        }
        bytes.extend_from_slice(&self.entries_sha256);
        bytes.extend_from_slice(&self.file_sha256);
        bytes
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (numbers, hashes) = payload.split_at_checked(5 * 8)?;
        let (entries, file) = hashes.split_first_chunk::<32>()?;
        let mut numbers = numbers.chunks_exact(8).map(|bytes| {
            u64::from_be_bytes(bytes.try_into().expect("chunks of eight bytes have eight bytes"))
        });
        Some(Self {
            keys: numbers.next()?,
            bytes: numbers.next()?,
            blobs: numbers.next()?,
            blob_bytes: numbers.next()?,
            missing_blobs: numbers.next()?,
            entries_sha256: *entries,
            file_sha256: file.try_into().ok()?,
        })
    }
}

/// An entry's payload in its parts: what is before the value, and the value.
pub(super) fn entry_parts<'a>(key: &'a [u8], value: &'a [u8], length: &'a mut [u8; 4]) -> [&'a [u8]; 3] {
    *length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes();
    [length, key, value]
}

/// The key and the value of an entry's payload.
pub(super) fn split_entry(payload: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let value_start = length.checked_add(4).filter(|_| length <= rest.len() && length <= KEY_BYTES)?;
    if payload.len() - value_start > VALUE_BYTES {
        return None;
    }
    Some((payload.slice(4..value_start), payload.slice(value_start..)))
}

/// Writes frames.
pub(super) struct FrameWriter<W> {
    writer: W,
    buffer: Vec<u8>,
    /// What was written and what waits to be, in bytes.
    offset: u64,
    hash: Sha256,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) async fn begin(writer: W) -> Result<Self, TransferError> {
        let mut frames = Self { writer, buffer: Vec::new(), offset: 0, hash: Sha256::new() };
        frames.append(format!("{MAGIC}{VERSION}\n").as_bytes());
        Ok(frames)
    }

    fn append(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes one frame, whose payload is the parts one after the other.
    pub(super) async fn frame(&mut self, tag: Tag, parts: &[&[u8]]) -> Result<(), TransferError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= tag.longest());
        let mut head = [tag.byte(), 0, 0, 0, 0];
        head[1..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        self.append(&head);
        for part in parts {
            crc.update(part);
            self.append(part);
        }
        self.append(&crc.finalize().to_be_bytes());
        if self.buffer.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), TransferError> {
        let offset = self.offset - self.buffer.len() as u64;
        let written = self.writer.write_all(&self.buffer).await;
        self.buffer.clear();
        written.map_err(|source| TransferError::Write { offset, source })
    }

    /// Writes the trailer, with the file's hash in it, and all that waits.
    pub(super) async fn end(mut self, mut trailer: Trailer) -> Result<(), TransferError> {
        trailer.file_sha256 = self.hash.clone().finalize().into();
        self.frame(Tag::End, &[&trailer.encode()]).await?;
        self.flush().await?;
        let offset = self.offset;
        self.writer.flush().await.map_err(|source| TransferError::Write { offset, source })
    }
}

/// Reads frames, each checked against its CRC.
pub(super) struct FrameReader<R> {
    reader: R,
    /// Where the next byte is, from the beginning of the file.
    offset: u64,
    hash: Sha256,
}

/// A frame as it was read.
pub(super) struct Frame {
    pub(super) tag: Tag,
    pub(super) payload: Bytes,
    /// Where it begins, in bytes from the beginning of the file.
    pub(super) offset: u64,
    /// The SHA-256 of everything before it, for the last one.
    pub(super) sha256_before: Option<[u8; 32]>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads the first line.
    pub(super) async fn begin(reader: R) -> Result<Self, TransferError> {
        let mut frames = Self { reader, offset: 0, hash: Sha256::new() };
        for expected in MAGIC.bytes() {
            if frames.byte().await? != expected {
                return Err(TransferError::Foreign);
            }
        }
        let offset = frames.offset;
        let mut digits = String::new();
        loop {
            match frames.byte().await? {
                b'\n' => break,
                digit if digit.is_ascii_digit() && digits.len() < VERSION_DIGITS => {
                    digits.push(char::from(digit))
                }
                _ => return Err(TransferError::Foreign),
            }
        }
        match digits.parse() {
            Ok(VERSION) if digits == VERSION.to_string() => Ok(frames),
            Ok(found) if found > VERSION => Err(TransferError::Newer { found, known: VERSION, offset }),
            _ => Err(TransferError::Foreign),
        }
    }

    async fn byte(&mut self) -> Result<u8, TransferError> {
        let mut byte = [0];
        self.fill(&mut byte).await?;
        self.hash.update(byte);
        Ok(byte[0])
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        let mut done = 0;
        while done < bytes.len() {
            match self.reader.read(&mut bytes[done..]).await {
                Ok(0) => return Err(TransferError::Truncated { offset: self.offset }),
                Ok(count) => {
                    done += count;
                    self.offset += count as u64;
                }
                Err(source) => return Err(TransferError::Read { offset: self.offset, source }),
            }
        }
        Ok(())
    }

    /// The next frame. There is always one, until the last ([`Tag::End`]) has come.
    pub(super) async fn next(&mut self) -> Result<Frame, TransferError> {
        let offset = self.offset;
        let corrupt = |reason: &str| TransferError::Corrupt { offset, reason: reason.to_owned() };
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head).await?;
        let tag = Tag::parse(head[0]).ok_or_else(|| corrupt("what begins there is no frame"))?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > tag.longest() {
            return Err(corrupt("a frame is longer than its kind can be"));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload).await?;
        let mut stored = [0; 4];
        self.fill(&mut stored).await?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(&payload);
        if crc.finalize() != u32::from_be_bytes(stored) {
            return Err(corrupt("the frame's checksum is wrong"));
        }
        let sha256_before = (tag == Tag::End).then(|| self.hash.clone().finalize().into());
        self.hash.update(head);
        self.hash.update(&payload);
        self.hash.update(stored);
        Ok(Frame { tag, payload: payload.into(), offset, sha256_before })
    }

    /// An error unless the file ends here.
    pub(super) async fn expect_end(&mut self) -> Result<(), TransferError> {
        let mut byte = [0];
        match self.reader.read(&mut byte).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(TransferError::Corrupt {
                offset: self.offset,
                reason: "something follows the backup's end".to_owned(),
            }),
            Err(source) => Err(TransferError::Read { offset: self.offset, source }),
        }
    }
}
