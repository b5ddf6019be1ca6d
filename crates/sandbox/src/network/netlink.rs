//! A small piece of netlink: enough to ask the kernel for interfaces, addresses and routes.
//!
//! A message is a header, a fixed record that depends on the kind, then attributes, each aligned to four bytes; all in the
//! processor's own byte order. A socket acts on the network namespace in which it was made, whatever its process does later.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Length of a message's header: total length, kind, flags, sequence, port.
const HEADER: usize = 16;
/// The kernel's own size for the pieces of a long answer.
const BUFFER_BYTES: usize = 32 << 10;
/// How long an answer may take, in seconds: the kernel does the work before it answers, one caller at a time on the host.
const ANSWER_TIME_S: i64 = 10;

/// One message.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Begins a message with its fixed record.
    pub(crate) fn new(kind: u16, flags: i32, record: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        bytes.extend_from_slice(record);
        Message(bytes)
    }

    /// Adds an attribute.
    pub(crate) fn with(self, kind: u16, value: &[u8]) -> Message {
        self.nest(kind, value, |inside| inside)
    }

    /// Adds an attribute that holds a number.
    pub(crate) fn number(self, kind: u16, value: u32) -> Message {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds an attribute that holds a text, with the zero at its end.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        self.with(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that holds a record, then attributes.
    pub(crate) fn nest(mut self, kind: u16, record: &[u8], fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(record);
        let exact = self.0.len();
        self.0.resize(exact.next_multiple_of(4), 0);
        let mut filled = fill(self);
        // Without anything nested, the length is the value's own, without what aligns it.
        let end = if filled.0.len() == exact.next_multiple_of(4) { exact } else { filled.0.len() };
        filled.0[start..start + 2].copy_from_slice(&((end - start) as u16).to_ne_bytes());
        filled
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// A socket of the routing protocol.
pub(crate) struct RouteSocket {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl RouteSocket {
    /// One that acts on the network namespace that this process is in now.
    pub(crate) fn open() -> io::Result<RouteSocket> {
        let kind = SockType::Raw;
        let socket =
            socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIME_S, 0))?;
        Ok(RouteSocket { socket, sequence: Cell::new(0) })
    }

    /// Sends a message and waits until it is carried out. Gives what the kernel told beside that, without headers.
    pub(crate) fn request(&self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        send(self.socket.as_raw_fd(), &message.finish(sequence), MsgFlags::empty())?;
        let mut told = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for (kind, of, body) in messages(&buffer[..length]) {
                match i32::from(kind) {
                    // What is left of an earlier question that was given up.
                    _ if of != sequence => {}
                    libc::NLMSG_DONE => return Ok(told),
                    libc::NLMSG_ERROR => match number(body) as i32 {
                        0 => return Ok(told),
                        error => return Err(io::Error::from_raw_os_error(-error)),
                    },
                    _ => told.push(body.to_vec()),
                }
            }
        }
    }
}

/// The messages of one packet: kind, sequence, the rest.
pub(crate) fn messages(mut packet: &[u8]) -> Vec<(u16, u32, &[u8])> {
    let mut found = Vec::new();
    while packet.len() >= HEADER {
        let length = number(packet) as usize;
        if length < HEADER || length > packet.len() {
            break;
        }
        let kind = u16::from_ne_bytes([packet[4], packet[5]]);
        found.push((kind, number(&packet[8..]), &packet[HEADER..length]));
        packet = &packet[length.next_multiple_of(4).min(packet.len())..];
    }
    found
}

/// The value of the first attribute of a kind.
pub(crate) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if length < 4 || length > attributes.len() {
            return None;
        }
        if u16::from_ne_bytes([attributes[2], attributes[3]]) & !FLAGS == wanted {
            return Some(&attributes[4..length]);
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    None
}

/// The number at the beginning of these bytes; 0 where there are too few.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A text that ends with a zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Message::new(20, 0, &[9; 4])
            .text(3, "ab")
            .nest(5, &[], |inside| inside.number(7, 70).nest(8, &[1, 2, 3, 4], |inside| inside.number(9, 90)))
            .number(4, 40)
            .finish(6);
        assert_eq!(bytes.len() % 4, 0);
        let found = messages(&bytes);
        let [(20, 6, body)] = found.as_slice() else { panic!("{found:?}") };
        let attributes = &body[4..];
        assert_eq!(attribute(attributes, 3).map(text).as_deref(), Some("ab"));
        assert_eq!(attribute(attributes, 4).map(number), Some(40));
        let nested = attribute(attributes, 5).unwrap();
        assert_eq!(attribute(nested, 7).map(number), Some(70));
        assert_eq!(attribute(&attribute(nested, 8).unwrap()[4..], 9).map(number), Some(90));
        assert_eq!(attribute(nested, 6), None);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let bytes = Message::new(20, 0, &[]).number(4, 40).finish(1);
        for length in 0..bytes.len() {
            assert!(messages(&bytes[..length]).is_empty());
            assert_eq!(attribute(&bytes[HEADER..length.max(HEADER)], 4), None);
        }
    }
}
