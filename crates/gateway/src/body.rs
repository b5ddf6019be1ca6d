//! A request's body: read within its limits and hashed as it arrives.
//!
//! A body that says that it is too large is refused before any of it is read (and before `100 Continue` is sent, which
//! hyper does on the first read). Memory is counted as it fills, over all requests together; when there is none left
//! the request is refused rather than kept waiting, since waiting for each other is how servers stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use freehold_wire::sigv4::BodyHash;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::limits::Limits;

/// How much is reserved at once for a body of known size, in bytes; larger ones grow.
const CAPACITY_BYTES: usize = 8 * 1024 * 1024;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TimedOut,
    #[error("all memory for request bodies is in use")]
    NoMemory,
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// Memory for the bodies of all requests.
#[derive(Clone)]
pub(crate) struct Memory(Arc<AtomicUsize>);

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn reserve(&self) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }
}

/// Some of that memory, given back on drop.
pub(crate) struct Reservation {
    memory: Memory,
    bytes: usize,
}

impl Reservation {
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let left = |left: usize| left.checked_sub(bytes);
        let taken = self.memory.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        taken.map_err(|_| BodyError::NoMemory)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body that has arrived.
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    /// Empty where nobody asked for it.
    pub(crate) hash: String,
    /// To be held for as long as the bytes are.
    pub(crate) reservation: Reservation,
}

/// A body on its way.
pub(crate) struct Upload {
    body: Incoming,
    ended: bool,
}

impl Upload {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { ended: body.is_end_stream(), body }
    }

    /// Whether nothing of it is left on the connection.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The size that the client gave, in bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Reads it to its end, `limit` bytes at most.
    pub(crate) async fn read(
        &mut self,
        limit: usize,
        hashed: bool,
        limits: &Limits,
        memory: &Memory,
    ) -> Result<Arrived, BodyError> {
        if self.body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge(limit));
        }
        let expected = self.size().map_or(0, |size| usize::try_from(size).unwrap_or(limit));
        let mut hash = BodyHash::default();
        let mut reservation = memory.reserve();
        let mut gathered = Gathered::new(expected);
        let end = Instant::now() + limits.body_timeout;
        while !self.ended {
            let Some(piece) = self.piece(end, limits.body_idle_timeout).await? else { continue };
            if gathered.len() + piece.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            reservation.grow(piece.len())?;
            if hashed {
                hash.update(&piece);
            }
            gathered.push(piece);
        }
        let hash = if hashed { hash.finish() } else { String::new() };
        Ok(Arrived { bytes: gathered.finish(), hash, reservation })
    }

    /// The next piece, or nothing at the end and for trailers, which are thrown away.
    async fn piece(&mut self, end: Instant, idle: Duration) -> Result<Option<Bytes>, BodyError> {
        let deadline = end.min(Instant::now() + idle);
        match timeout_at(deadline, self.body.frame()).await {
            Err(_) => Err(BodyError::TimedOut),
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Ok(Some(frame)) => {
                let frame = frame?;
                self.ended = self.body.is_end_stream();
                Ok(frame.into_data().ok())
            }
        }
    }
}

/// Pieces of a body. A body of one piece, as most are, is not copied.
struct Gathered {
    expected: usize,
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn new(expected: usize) -> Self {
        Self { expected, first: Bytes::new(), all: BytesMut::new() }
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(self.expected.min(CAPACITY_BYTES).max(self.first.len() + piece.len()));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&piece);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back() {
        let memory = Memory::new(10);
        let mut first = memory.reserve();
        first.grow(6).expect("there is memory");
        let mut second = memory.reserve();
        assert!(matches!(second.grow(5), Err(BodyError::NoMemory)));
        second.grow(4).expect("there is memory");
        drop(first);
        second.grow(6).expect("there is memory again");
    }

    #[test]
    fn pieces_are_put_together() {
        let put = |expected, pieces: &[&'static str]| {
            let mut gathered = Gathered::new(expected);
            for piece in pieces {
                gathered.push(Bytes::from_static(piece.as_bytes()));
            }
            gathered.finish()
        };
        assert_eq!(put(0, &[]), "");
        assert_eq!(put(2, &["ab"]), "ab");
        assert_eq!(put(0, &["ab", "", "c"]), "abc");
        assert_eq!(put(usize::MAX, &["ab", "c", "d"]), "abcd");
    }
}
