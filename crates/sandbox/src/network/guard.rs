//! Notices when somebody else takes the rules away: `nft flush ruleset`, which distributions run on every restart of their own
//! firewall, takes all tables. Without ours, environments would reach the host, so it is loaded again at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use super::netlink::{attribute, messages, text};
use super::rules;

/// A table was deleted.
const TABLE_DELETED: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_DELTABLE) as u16;
/// The attribute that holds a table's name.
const TABLE_NAME: u16 = 1;
/// Length of the record before the attributes.
const RECORD: usize = 4;

/// Hears of changes of the host's nftables.
pub(crate) struct Guard {
    socket: OwnedFd,
    table: String,
}

impl Guard {
    /// Hears of changes from now on.
    pub(crate) fn new(mark: u64) -> io::Result<Guard> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        let groups = 1 << (libc::NFNLGRP_NFTABLES - 1);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Guard { socket, table: rules::table(mark) })
    }

    /// What becomes readable when something has changed.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether our table was, or may have been, taken away since the last question.
    pub(crate) fn is_violated(&self) -> bool {
        let mut violated = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => violated |= self.deletes(&buffer[..length]),
                Err(Errno::EINTR) => {}
                // More was told than fits: anything may have happened.
                Err(Errno::ENOBUFS) => violated = true,
                Err(_) => return violated,
            }
        }
    }

    fn deletes(&self, packet: &[u8]) -> bool {
        messages(packet).into_iter().any(|(kind, _, body)| {
            kind == TABLE_DELETED
                && body
                    .get(RECORD..)
                    .and_then(|attributes| attribute(attributes, TABLE_NAME))
                    .is_none_or(|name| text(name) == self.table)
        })
    }
}
