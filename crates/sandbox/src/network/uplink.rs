//! The host's own way out: through which interfaces, which resolvers, and whether packets are passed on between interfaces.
//!
//! An answer from the internet arrives at the uplink and is to leave by another interface, which the kernel does only if the
//! uplink forwards. Where it does not, we let it, for IPv4 and this interface only, and the rules drop whatever else would be
//! forwarded by that; [`crate::helper`] records it and undoes it at the end.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use super::link::interface;
use super::netlink::RouteSocket;
use super::range::Range;

/// Where the host's resolvers are written, best first: the second is what systemd's own resolver asks.
const RESOLVER_FILES: &[&str] = &["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// As many as the C library reads.
const RESOLVERS_MAX: usize = 3;

/// One interface that leads to the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Whether it forwards only because of us, so that the rules must drop what is not ours.
    pub(crate) ours_only: bool,
}

/// The interfaces of the default routes.
pub(crate) fn find() -> Result<Vec<Uplink>, String> {
    let named = |error: io::Error| format!("cannot ask for the host's interfaces: {error}");
    let socket = RouteSocket::open().map_err(named)?;
    let mut found: Vec<Uplink> = Vec::new();
    for (name, range) in routes()? {
        if range != Range::around(Ipv4Addr::UNSPECIFIED, 0) || found.iter().any(|uplink| uplink.name == name)
        {
            continue;
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
        if !name.bytes().all(plain) {
            return Err(format!("the interface {name:?} has a name that rules cannot hold"));
        }
        let (_, mtu) = interface(&socket, &name).map_err(named)?;
        found.push(Uplink { name, mtu, ours_only: false });
    }
    if found.is_empty() {
        return Err("this host has no default route, so functions would reach nothing: connect it first, or choose the \
                    isolated network"
            .to_owned());
    }
    Ok(found)
}

/// All networks that the host has routes to, but for everything.
pub(crate) fn routed() -> Result<Vec<Range>, String> {
    let everything = Range::around(Ipv4Addr::UNSPECIFIED, 0);
    Ok(routes()?.into_iter().map(|(_, range)| range).filter(|range| *range != everything).collect())
}

fn routes() -> Result<Vec<(String, Range)>, String> {
    let path = "/proc/self/net/route";
    fs::read_to_string(path).map(|text| parse_routes(&text)).map_err(|error| format!("{path}: {error}"))
}

/// Interface and destination of each route that is up and does not reject.
fn parse_routes(text: &str) -> Vec<(String, Range)> {
    const UP: u32 = 1;
    const REJECT: u32 = 0x200;
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok();
        let (destination, flags, mask) = (number(1)?, number(3)?, number(7)?);
        // Addresses are written as numbers of the processor's byte order.
        let destination = Ipv4Addr::from(destination.to_ne_bytes());
        let wanted = flags & (UP | REJECT) == UP;
        wanted.then(|| (fields[0].to_owned(), Range::around(destination, mask.count_ones() as u8)))
    };
    text.lines().skip(1).filter_map(parse).collect()
}

/// The host's resolvers that functions can reach.
pub(crate) fn resolvers() -> Result<Vec<Ipv4Addr>, String> {
    for path in RESOLVER_FILES {
        let mut found = parse_resolvers(&fs::read_to_string(path).unwrap_or_default());
        found.retain(|resolver| !is_own(*resolver));
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err("no resolver for functions was found: this host names none by IPv4, or only itself; configure one"
        .to_owned())
}

fn parse_resolvers(text: &str) -> Vec<Ipv4Addr> {
    let addresses =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    addresses.take(RESOLVERS_MAX).collect()
}

/// Whether an address is this host's own: only then can it be bound to.
pub(crate) fn is_own(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn forwarding_file(name: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{name}/forwarding")
}

/// Whether an interface forwards.
pub(crate) fn forwards(name: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(forwarding_file(name))?.trim() != "0")
}

/// Lets an interface forward.
pub(crate) fn forward(name: &str) -> io::Result<()> {
    fs::write(forwarding_file(name), "1")
}

/// Undoes [`forward`], unless somebody has meanwhile let the whole host forward, or the interface is gone.
pub(crate) fn forward_no_more(name: &str) -> io::Result<()> {
    if fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() != "0" {
        return Ok(());
    }
    match fs::write(forwarding_file(name), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_resolvers_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            *\t0012C6C6\t00000000\t0201\t0\t0\t0\t00C0FFFF\t0\t0\t0\n";
        let [default, local] = parse_routes(text).try_into().unwrap();
        assert_eq!(default, ("eth0".to_owned(), Range::around(Ipv4Addr::UNSPECIFIED, 0)));
        assert_eq!(local, ("eth0".to_owned(), "10.0.0.0/24".parse().unwrap()));
        let text = "# x\nsearch a\nnameserver 127.0.0.53\nnameserver\t192.0.2.1\nnameserver fe80::1\n";
        let expected: [Ipv4Addr; 2] = [[127, 0, 0, 53].into(), [192, 0, 2, 1].into()];
        assert_eq!(parse_resolvers(text), expected);
        assert!(is_own(Ipv4Addr::LOCALHOST) && !is_own([192, 0, 2, 1].into()));
    }
}
