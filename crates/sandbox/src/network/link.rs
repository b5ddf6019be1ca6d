//! One environment's pair of interfaces: `eth0` inside, one with our prefix on the host.
//!
//! Each end has one address and knows one other: no segment, no neighbours, no broadcast address, no IPv6. The pair is gone when
//! either end is, so it goes with the environment's network namespace. That takes the kernel a moment, so environments that
//! follow each other have different names and addresses.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::Internet;
use super::netlink::{Message, RouteSocket, attribute, number, text};

/// The name inside.
const INSIDE: &str = "eth0";

// What `libc` lacks of <linux/if_link.h>, <linux/veth.h> and <linux/ip.h>.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_FORWARDING: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;

/// Connects the network namespace that this process is in to the host's, which `host` was opened in.
pub(crate) fn connect(host: &RouteSocket, internet: &Internet, link: u32) -> io::Result<()> {
    let name = format!("{}{link:04x}", internet.prefix());
    let (outer, inner) = (internet.gateway(), internet.inside(link));
    let mtu = internet.uplinks.iter().map(|uplink| uplink.mtu).min().unwrap_or(1500);
    // Before the interface is there: it takes over what is set for new ones.
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    if has_ipv6 {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    let here = fs::File::open("/proc/self/ns/net")?;
    remove(host, &name)?;
    create(host, &name, mtu, &here)?;

    let (index, _) = interface(host, &name)?;
    let prepared = Message::new(libc::RTM_NEWLINK, 0, &link_record(index, false)).nest(
        libc::IFLA_AF_SPEC,
        &[],
        |families| {
            let families = families.nest(libc::AF_INET as u16, &[], |family| {
                family.nest(IFLA_INET_CONF, &[], |family| family.number(IPV4_DEVCONF_FORWARDING, 1))
            });
            if !has_ipv6 {
                return families;
            }
            families.nest(libc::AF_INET6 as u16, &[], |family| {
                family.with(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
            })
        },
    );
    host.request(prepared)?;
    host.request(address(index, outer, inner))?;
    host.request(Message::new(libc::RTM_NEWLINK, 0, &link_record(index, true)))?;

    let inside = RouteSocket::open()?;
    let (index, _) = interface(&inside, INSIDE)?;
    inside.request(address(index, inner, outer))?;
    inside.request(Message::new(libc::RTM_NEWLINK, 0, &link_record(index, true)))?;
    inside.request(default_route(index, outer))?;
    Ok(())
}

fn create(host: &RouteSocket, name: &str, mtu: u32, namespace: &fs::File) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let message = Message::new(libc::RTM_NEWLINK, flags, &link_record(0, false))
        .text(libc::IFLA_IFNAME, name)
        .number(libc::IFLA_MTU, mtu)
        .nest(libc::IFLA_LINKINFO, &[], |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, &[], |data| {
                data.nest(VETH_INFO_PEER, &link_record(0, false), |peer| {
                    peer.text(libc::IFLA_IFNAME, INSIDE)
                        .number(libc::IFLA_MTU, mtu)
                        .number(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32)
                })
            })
        });
    host.request(message).map(drop).map_err(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            io::Error::other("this kernel has no veth interfaces: `modprobe veth`, or another kernel")
        }
        _ => error,
    })
}

/// `struct ifinfomsg`
fn link_record(index: u32, up: bool) -> [u8; 16] {
    let up = if up { libc::IFF_UP as u32 } else { 0 };
    let mut record = [0; 16];
    record[4..8].copy_from_slice(&index.to_ne_bytes());
    record[8..12].copy_from_slice(&up.to_ne_bytes());
    record[12..16].copy_from_slice(&up.to_ne_bytes());
    record
}

/// The one address of an interface, and the one at its other end.
fn address(index: u32, own: Ipv4Addr, other: Ipv4Addr) -> Message {
    let [a, b, c, d] = index.to_ne_bytes();
    // `struct ifaddrmsg`: family, length of the network, flags, scope, interface.
    let record = [libc::AF_INET as u8, 32, 0, 0, a, b, c, d];
    Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &record)
        .with(libc::IFA_LOCAL, &own.octets())
        .with(libc::IFA_ADDRESS, &other.octets())
}

fn default_route(index: u32, gateway: Ipv4Addr) -> Message {
    // `struct rtmsg`: family, lengths, service, table, protocol, scope, type, flags.
    let (family, table) = (libc::AF_INET as u8, libc::RT_TABLE_MAIN);
    let record = [family, 0, 0, 0, table, libc::RTPROT_STATIC, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
    Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &record)
        .with(libc::RTA_GATEWAY, &gateway.octets())
        .number(libc::RTA_OIF, index)
}

/// The number and the largest packet of an interface.
pub(crate) fn interface(socket: &RouteSocket, name: &str) -> io::Result<(u32, u32)> {
    let question = Message::new(libc::RTM_GETLINK, 0, &link_record(0, false)).text(libc::IFLA_IFNAME, name);
    let told = socket.request(question)?;
    let body = told.first().filter(|body| body.len() >= 16).ok_or(io::ErrorKind::InvalidData)?;
    let mtu = attribute(&body[16..], libc::IFLA_MTU).map_or(1500, number);
    Ok((number(&body[4..]), mtu))
}

fn remove(socket: &RouteSocket, name: &str) -> io::Result<()> {
    let message = Message::new(libc::RTM_DELLINK, 0, &link_record(0, false)).text(libc::IFLA_IFNAME, name);
    match socket.request(message) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

/// Removes every interface of this network namespace whose name begins so.
pub(crate) fn remove_all(prefix: &str) -> io::Result<()> {
    let socket = RouteSocket::open()?;
    for name in names(&socket)?.into_iter().filter(|name| name.starts_with(prefix)) {
        remove(&socket, &name)?;
    }
    Ok(())
}

fn names(socket: &RouteSocket) -> io::Result<Vec<String>> {
    let told = socket.request(Message::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &link_record(0, false)))?;
    let attributes = told.iter().filter_map(|body| body.get(16..));
    Ok(attributes.filter_map(|attributes| attribute(attributes, libc::IFLA_IFNAME)).map(text).collect())
}
