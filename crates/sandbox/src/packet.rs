//! One packet with descriptors over a SOCK_SEQPACKET socket: the only way in which server, helper and inits speak.
//!
//! A packet is a JSON value; its size and the number of its descriptors are bounded by the receiver's buffer. A peer that is
//! gone reads as [`Received::Closed`]. Knows nothing of what the packets mean.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recv, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::{MOUNTS_MAX, REQUEST_BYTES_MAX};

/// Descriptors in one packet: the mounts and the files' content.
const DESCRIPTORS_MAX: usize = MOUNTS_MAX + 16;

/// What arrived.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A packet and its descriptors.
    Packet(T, Vec<OwnedFd>),
    /// Nothing yet (on a non-blocking read).
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Sends one packet. Waits for space only where the socket blocks and `flags` does not say otherwise.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(value).map_err(|_| Errno::EINVAL)?;
    send_bytes(socket, &bytes, descriptors, flags)
}

/// Sends one packet that is already encoded.
pub(crate) fn send_bytes(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> Result<(), Errno> {
    if bytes.len() > REQUEST_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
        return Err(Errno::EMSGSIZE);
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        match sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// Receives one packet.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: MsgFlags,
) -> Result<Received<T>, Errno> {
    Ok(match receive_bytes(socket, flags)? {
        Received::Packet(bytes, descriptors) => {
            let value = serde_json::from_slice(&bytes).map_err(|_| Errno::EBADMSG)?;
            Received::Packet(value, descriptors)
        }
        Received::Nothing => Received::Nothing,
        Received::Closed => Received::Closed,
    })
}

/// Receives one packet without decoding it.
pub(crate) fn receive_bytes(socket: BorrowedFd<'_>, flags: MsgFlags) -> Result<Received<Vec<u8>>, Errno> {
    // Its length first: a buffer for the largest one would leave every init, of which there are thousands, with its pages.
    let peek = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    let length = match recv(socket.as_raw_fd(), &mut [], peek) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
        Err(Errno::ECONNRESET) | Ok(0) => return Ok(Received::Closed),
        other => other?,
    };
    if length > REQUEST_BYTES_MAX {
        return Err(Errno::EMSGSIZE);
    }
    let mut buffer = vec![0_u8; length];
    let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let (length, descriptors, truncated) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            flags | MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
            Err(Errno::ECONNRESET) => return Ok(Received::Closed),
            other => other?,
        };
        let mut descriptors = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just installed these descriptors for this process; nothing else owns them.
                descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
            }
        }
        (message.bytes, descriptors, message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC))
    };
    if truncated {
        return Err(Errno::EMSGSIZE);
    }
    if length == 0 {
        return Ok(Received::Closed);
    }
    buffer.truncate(length);
    Ok(Received::Packet(buffer, descriptors))
}
