//! What functions with access to the internet reach, and what they do not.
//!
//! ```text
//! environments --(sandbox)-- a host of its own: up0 198.51.100.2 ---- out0 198.51.100.1, an outside of its own:
//!                                                                     203.0.113.5 the internet, 192.0.2.53 a resolver,
//!                                                                     10.9.0.5 a private neighbour, 169.254.169.254 metadata
//! ```
//!
//! Host and outside are network namespaces made for each test, so the machine's own network is never touched. The outside knows no
//! way to the environments' addresses: only what was translated gets an answer.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use freehold_sandbox::spec::{Network, Spec};
use freehold_sandbox::{NamespaceSandbox, Options};
use nix::sched::{CloneFlags, setns, unshare};

use crate::harness::{Host, PATIENCE, Running, long, python, until};
use crate::orphans::{Server, processes, recorded};

/// How long something that must not come is waited for.
const SHORT: Duration = Duration::from_millis(400);
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

crate::cases![
    the_internet_is_reached_from_the_uplinks_address,
    the_host_and_what_is_private_are_out_of_reach,
    a_private_resolver_answers_names_and_nothing_else,
    private_networks_are_open_where_configured,
    another_source_address_is_dropped,
    nobody_reaches_an_environment,
    the_uplink_passes_on_nothing_else,
    an_isolated_environment_of_a_connected_server_has_no_way_out,
    connections_of_one_environment_are_limited,
    rules_that_were_flushed_come_back,
    a_stop_undoes_the_network,
    a_kill_undoes_the_network,
    a_kill_of_all_is_undone_by_any_next_start,
    two_connected_servers_have_addresses_of_their_own,
    a_host_without_a_way_out_is_refused,
];

type Task = Box<dyn FnOnce() + Send>;

/// A host and an outside. The test's own thread is in the host until this is dropped.
struct Nets {
    before: File,
    outside: mpsc::Sender<Task>,
}

impl Nets {
    /// None, with a word about it, where programs that this needs are missing.
    fn make() -> Option<Nets> {
        for program in ["nft", "ip"] {
            if !["/usr/sbin", "/sbin", "/usr/bin"]
                .iter()
                .any(|folder| Path::new(folder).join(program).exists())
            {
                println!(
                    "SKIPPED the network tests: this host has no {program} (packages nftables, iproute2)"
                );
                return None;
            }
        }
        let before = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let (outside, tasks) = mpsc::channel::<Task>();
        let (tell, thread) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            tasks.into_iter().for_each(|task| task());
        });
        let outside_thread = thread.recv().unwrap();
        let nets = Nets { before, outside };
        commands(&[
            "ip link set lo up",
            &format!("ip link add up0 type veth peer name out0 netns {outside_thread}"),
            &format!("ip addr add {UPLINK}/24 dev up0"),
            "ip link set up0 up",
            "ip route add default via 198.51.100.1",
        ]);
        nets.outside(|| {
            commands(&["ip link set lo up", "ip link set out0 up", "ip addr add 198.51.100.1/24 dev out0"]);
            for address in [INTERNET, NEIGHBOUR, METADATA, RESOLVER] {
                commands(&[&format!("ip addr add {address}/32 dev lo")]);
            }
        });
        nets.serve();
        Some(nets)
    }

    /// Does something in the outside.
    fn outside<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, result) = mpsc::channel();
        self.outside.send(Box::new(move || drop(tell.send(task())))).unwrap();
        result.recv().unwrap()
    }

    /// Servers in the outside that tell everybody who asks which address he has: TCP 80 everywhere, UDP 53 and 9999.
    fn serve(&self) {
        let listener = self.outside(|| TcpListener::bind("0.0.0.0:80").unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let peer = connection.peer_addr().unwrap().ip().to_string();
                let _ = connection.write_all(peer.as_bytes());
            }
        });
        for (address, port) in
            [(INTERNET, 9999), (RESOLVER, 53), (NEIGHBOUR, 53), (NEIGHBOUR, 9999), (METADATA, 53)]
        {
            let socket = self.outside(move || UdpSocket::bind((address, port)).unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
                }
            });
        }
    }
}

impl Drop for Nets {
    fn drop(&mut self) {
        setns(&self.before, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn commands(lines: &[&str]) {
    for line in lines {
        output(line);
    }
}

/// Runs a program in this thread's network namespace.
fn output(line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Our interfaces and tables, and whether the uplink forwards.
fn traces() -> (usize, usize, String) {
    let links = output("ip -o link").lines().filter(|line| line.contains(": fhd")).count();
    let tables = output("nft list tables").lines().filter(|line| line.contains("freehold")).count();
    (links, tables, forwarding())
}

fn forwarding() -> String {
    // The settings that a thread sees are those of its own network namespace.
    std::fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding").unwrap().trim().to_owned()
}

fn connected(change: impl FnOnce(&mut Options)) -> Host {
    Host::with(|options| {
        options.network = Network::Internet;
        options.internet.resolvers = vec![RESOLVER];
        change(options);
    })
}

/// What the scripts use: each prints one line. What is to come is waited for, `no_` is for what must not come.
const ATTEMPTS: &str = "import socket\n\
    def tcp(name, address, port=80, seconds=100):\n  \
      try:\n    \
        c = socket.create_connection((address, port), seconds); print(name, c.recv(100).decode() or 'CONNECTED', flush=True)\n  \
      except OSError as e: print(name, 'no', flush=True)\n\
    def udp(name, address, port, seconds=100):\n  \
      s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(seconds)\n  \
      try: s.sendto(b'x', (address, port)); print(name, s.recv(100).decode(), flush=True)\n  \
      except OSError as e: print(name, 'no', flush=True)\n\
    def no_tcp(name, address, port=80): tcp(name, address, port, 0.4)\n\
    def no_udp(name, address, port): udp(name, address, port, 0.4)\n\
    def own():\n  \
      s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('203.0.113.5', 9)); return s.getsockname()[0]\n";

fn script(text: &str) -> Spec {
    Spec { network: Network::Internet, ..python(&format!("{ATTEMPTS}{text}")) }
}

async fn seen(host: &Host, text: &str) -> String {
    host.run(script(text)).await.finish().await.1
}

/// An environment that has said its address and stays.
async fn neighbour(host: &Host, text: &str) -> (Running, Ipv4Addr) {
    let mut running = host
        .run(script(&format!("{text}\nprint('I am', own(), '.', flush=True)\nimport time\ntime.sleep(1000)")))
        .await;
    let said = running.wait_for(" .").await;
    let address = said.split(' ').nth(2).unwrap().parse().unwrap();
    (running, address)
}

/// The control of the tests: what the host itself gets from an address.
fn from_host(address: Ipv4Addr, port: u16) -> Option<String> {
    let address = SocketAddrV4::new(address, port).into();
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    Some(text)
}

async fn the_internet_is_reached_from_the_uplinks_address() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|_| {});
    let text = seen(
        &host,
        "tcp('tcp', '203.0.113.5')\nudp('udp', '203.0.113.5', 9999)\nudp('resolver', '192.0.2.53', 53)\n\
         print(open('/etc/resolv.conf').read(), end='')\n\
         print([n for _, n in socket.if_nameindex()], own().startswith('198.1'))\n\
         print([l.split()[-1] for l in open('/proc/net/if_inet6')])\n\
         s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('own loopback')\n",
    )
    .await;
    let expected = format!(
        "tcp {UPLINK}\nudp {UPLINK}\nresolver {UPLINK}\nnameserver {RESOLVER}\n['lo', 'eth0'] True\n['lo']\nown loopback\n"
    );
    assert_eq!(text, expected);
    host.end().await;
}

async fn the_host_and_what_is_private_are_out_of_reach() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|_| {});
    let listeners = [TcpListener::bind("127.0.0.1:80").unwrap(), TcpListener::bind((UPLINK, 80)).unwrap()];
    let everywhere = TcpListener::bind("0.0.0.0:81").unwrap();
    // Everybody else gets there.
    assert!(TcpStream::connect((UPLINK, 80)).is_ok() && TcpStream::connect((UPLINK, 81)).is_ok());
    for address in [METADATA, NEIGHBOUR, INTERNET] {
        assert_eq!(from_host(address, 80), Some(UPLINK.to_string()));
    }
    let (other, address) =
        neighbour(&host, "server = socket.create_server(('0.0.0.0', 8080)); other = socket.socket(type=socket.SOCK_DGRAM); other.bind(('', 9999))")
            .await;
    let text = seen(
        &host,
        &format!(
            "gateway = [l.split()[2] for l in open('/proc/net/route') if l.split()[1] == '00000000'][0]\n\
             gateway = socket.inet_ntoa(bytes.fromhex(gateway)[::-1])\n\
             no_tcp('loopback', '127.0.0.1')\nno_tcp('uplink', '{UPLINK}')\nno_tcp('gateway', gateway, 81)\nno_tcp('everywhere', '{UPLINK}', 81)\n\
             no_tcp('metadata', '{METADATA}')\nno_udp('metadata names', '{METADATA}', 53)\nno_tcp('private', '{NEIGHBOUR}')\n\
             no_udp('private names', '{NEIGHBOUR}', 53)\nno_tcp('other', '{address}', 8080)\nno_udp('other', '{address}', 9999)\n\
             no_udp('multicast', '224.0.0.1', 9999)\nno_udp('broadcast', '198.51.100.255', 9999)\nno_udp('nowhere', '0.0.0.0', 53)\n\
             tcp('internet', '{INTERNET}')\n"
        ),
    )
    .await;
    let (refused, last) = text.trim().rsplit_once('\n').unwrap();
    assert!(refused.lines().count() == 13 && refused.lines().all(|line| line.ends_with(" no")), "{text}");
    assert_eq!(last, format!("internet {UPLINK}"));
    for listener in listeners.iter().chain([&everywhere]) {
        listener.set_nonblocking(true).unwrap();
    }
    // Only the controls' own connections ever came.
    assert!(listeners[0].accept().is_err());
    assert!(listeners[1].accept().is_ok() && listeners[1].accept().is_err());
    assert!(everywhere.accept().is_ok() && everywhere.accept().is_err());
    drop(other);
    host.end().await;
}

async fn a_private_resolver_answers_names_and_nothing_else() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|options| options.internet.resolvers = vec![NEIGHBOUR]);
    let text = format!(
        "udp('names', '{NEIGHBOUR}', 53)\nno_udp('other', '{NEIGHBOUR}', 9999)\nno_tcp('web', '{NEIGHBOUR}')\n"
    );
    assert_eq!(seen(&host, &text).await, format!("names {UPLINK}\nother no\nweb no\n"));
    host.end().await;
}

async fn private_networks_are_open_where_configured() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|options| options.internet.allow_private = true);
    let text = format!(
        "tcp('private', '{NEIGHBOUR}')\nno_tcp('metadata', '{METADATA}')\nno_tcp('host', '{UPLINK}')\n"
    );
    let _listener = TcpListener::bind((UPLINK, 80)).unwrap();
    assert_eq!(seen(&host, &text).await, format!("private {UPLINK}\nmetadata no\nhost no\n"));
    host.end().await;
}

/// A function cannot choose its source address, having no right over its network; the rules hold even for one that can.
async fn another_source_address_is_dropped() {
    let Some(nets) = Nets::make() else { return };
    let host = connected(|_| {});
    let (_other, others) = neighbour(&host, "").await;
    let text = long();
    let mut running =
        host.run(script(&format!("print('ready', flush=True)\nimport time\ntime.sleep({text})"))).await;
    running.wait_for("ready").await;
    let function = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&text))
    });
    let namespace = File::open(function.unwrap().path().join("ns/net")).unwrap();
    let receiver = nets.outside(|| UdpSocket::bind((INTERNET, 7777)).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let spoofer = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        for address in [UPLINK, others, Ipv4Addr::new(203, 0, 113, 99), Ipv4Addr::new(198, 18, 0, 1)] {
            commands(&[&format!("ip addr add {address}/32 dev eth0")]);
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.send_to(b"spoofed", (INTERNET, 7777)).unwrap();
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"honest", (INTERNET, 7777)).unwrap();
    });
    spoofer.join().unwrap();
    // Packets of one sender stay in order: what was sent before and has not come does not come.
    let mut buffer = [0; 100];
    let (length, peer) = receiver.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], peer.ip()), (&b"honest"[..], UPLINK.into()));
    host.end().await;
}

async fn nobody_reaches_an_environment() {
    let Some(nets) = Nets::make() else { return };
    let host = connected(|_| {});
    let (_running, address) =
        neighbour(&host, "server = socket.create_server(('0.0.0.0', 8080)); server.listen()").await;
    let to = SocketAddrV4::new(address, 8080).into();
    assert!(TcpStream::connect_timeout(&to, SHORT).is_err(), "the host reached it");
    nets.outside(|| commands(&["ip route add 198.18.0.0/15 via 198.51.100.2"]));
    let result = nets.outside(move || TcpStream::connect_timeout(&to, SHORT).is_err());
    assert!(result, "the outside reached it");
    host.end().await;
}

async fn the_uplink_passes_on_nothing_else() {
    let Some(nets) = Nets::make() else { return };
    nets.outside(|| {
        commands(&[
            "ip route add 203.0.113.200/32 via 198.51.100.2",
            "nft add table ip count",
            "nft add chain ip count in { type filter hook prerouting priority 0; }",
            "nft add rule ip count in ip daddr 203.0.113.200 counter drop",
        ]);
    });
    let listener = TcpListener::bind((UPLINK, 80)).unwrap();
    let count = || {
        let text = nets.outside(|| output("nft list table ip count"));
        let count = text.split("packets ").nth(1).unwrap().split(' ').next().unwrap();
        count.parse::<u32>().unwrap()
    };
    // Sends one packet through the host, then something whose arrival shows that the first was dealt with. Gives how many
    // have come back out of it so far.
    let pass = || {
        nets.outside(|| {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "203.0.113.200:7").unwrap();
            TcpStream::connect((UPLINK, 80)).unwrap();
        });
        listener.accept().unwrap();
        count()
    };
    assert_eq!(pass(), 0);
    let host = connected(|_| {});
    assert_eq!((forwarding().as_str(), pass()), ("1", 0));
    assert_eq!(seen(&host, "tcp('tcp', '203.0.113.5')\n").await, format!("tcp {UPLINK}\n"));
    host.end().await;
    assert_eq!((forwarding().as_str(), pass()), ("0", 0));
    // The control: without our rules it would have passed.
    std::fs::write("/proc/sys/net/ipv4/conf/up0/forwarding", "1").unwrap();
    pass();
    // On a busy machine the kernel may deal with the two on different processors.
    until("it has passed", || count() == 1).await;
}

async fn an_isolated_environment_of_a_connected_server_has_no_way_out() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|_| {});
    let spec = Spec {
        network: Network::Isolated,
        ..script("no_tcp('tcp', '203.0.113.5')\nprint(socket.if_nameindex())\n")
    };
    assert_eq!(host.run(spec).await.finish().await.1, "tcp no\n[(1, 'lo')]\n");
    host.end().await;
}

async fn connections_of_one_environment_are_limited() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|_| {});
    // Each port is one connection to be kept track of; more than fit are tried.
    let text = "s = socket.socket(type=socket.SOCK_DGRAM)\n\
        for port in range(20000, 22000): s.sendto(b'x', ('203.0.113.5', port))\n\
        no_tcp('greedy', '203.0.113.5')\n";
    assert_eq!(seen(&host, text).await, "greedy no\n");
    assert_eq!(seen(&host, "tcp('another', '203.0.113.5')\n").await, format!("another {UPLINK}\n"));
    host.end().await;
}

async fn rules_that_were_flushed_come_back() {
    let Some(_nets) = Nets::make() else { return };
    let host = connected(|_| {});
    for _ in 0..3 {
        commands(&["nft flush ruleset"]);
        until("the rules are back", || traces().1 == 1).await;
    }
    assert_eq!(seen(&host, "tcp('tcp', '203.0.113.5')\n").await, format!("tcp {UPLINK}\n"));
    let _listener = TcpListener::bind((UPLINK, 80)).unwrap();
    assert_eq!(seen(&host, &format!("no_tcp('host', '{UPLINK}')\n")).await, "host no\n");
    host.end().await;
}

async fn a_stop_undoes_the_network() {
    let Some(_nets) = Nets::make() else { return };
    assert_eq!(traces(), (0, 0, "0".to_owned()));
    let host = connected(|_| {});
    let (_running, _) = neighbour(&host, "").await;
    let (links, tables, forwarding) = traces();
    assert!(links >= 1 && tables == 1 && forwarding == "1");
    host.sandbox.shutdown().await;
    assert_eq!(traces(), (0, 0, "0".to_owned()));
}

async fn a_kill_undoes_the_network() {
    let Some(_nets) = Nets::make() else { return };
    let mut server = Server::with_network("internet");
    let (links, tables, _) = traces();
    assert!(links >= 3 && tables == 1);
    server.kill();
    until("the processes are gone", || processes(&server.text).is_empty()).await;
    until("the network is gone", || traces() == (0, 0, "0".to_owned())).await;
}

async fn a_kill_of_all_is_undone_by_any_next_start() {
    let Some(_nets) = Nets::make() else { return };
    let mut server = Server::with_network("internet");
    let cgroups = recorded(&server.state());
    let undisturbed = server.kill_both();
    until("the processes are gone", || processes(&server.text).is_empty()).await;
    until("the links are gone", || traces().0 == 0).await;
    assert_eq!(traces(), (0, 1, "1".to_owned()));
    drop((server, undisturbed));
    // Another folder, and not even with access to the internet.
    let host = Host::start();
    assert_eq!(traces(), (0, 0, "0".to_owned()));
    assert!(!cgroups.iter().any(|folder| folder.exists()));
    host.end().await;
}

async fn two_connected_servers_have_addresses_of_their_own() {
    let Some(_nets) = Nets::make() else { return };
    let (first, second) = (connected(|_| {}), connected(|_| {}));
    let (_one, address) = neighbour(&first, "server = socket.create_server(('0.0.0.0', 8080))").await;
    let (_two, other) = neighbour(&second, "").await;
    assert_ne!(u32::from(address) >> 14, u32::from(other) >> 14, "{address} {other}");
    let text = format!("no_tcp('other', '{address}', 8080)\ntcp('internet', '{INTERNET}')\n");
    assert_eq!(seen(&second, &text).await, format!("other no\ninternet {UPLINK}\n"));
    first.end().await;
    // The way out stays open for the one that is left.
    assert_eq!((traces().1, forwarding().as_str()), (1, "1"));
    assert_eq!(seen(&second, "tcp('tcp', '203.0.113.5')\n").await, format!("tcp {UPLINK}\n"));
    second.end().await;
    assert_eq!(traces(), (0, 0, "0".to_owned()));
}

async fn a_host_without_a_way_out_is_refused() {
    let Some(_nets) = Nets::make() else { return };
    let start = |change: fn(&mut Options)| {
        let folder = crate::harness::folder();
        let mut options =
            Options { network: Network::Internet, ..Options::new(folder.path().join("sandbox")) };
        options.internet.resolvers = vec![RESOLVER];
        change(&mut options);
        NamespaceSandbox::start(options).map(drop).unwrap_err().to_string()
    };
    let reason = start(|options| options.internet.resolvers = vec![UPLINK]);
    assert!(reason.contains("is this host itself"), "{reason}");
    let reason = start(|options| options.internet.range = Some("198.51.100.0/24".parse().unwrap()));
    assert!(reason.contains("overlaps"), "{reason}");
    let reason = start(|options| options.internet.range = Some("10.77.0.0/28".parse().unwrap()));
    assert!(reason.contains("no room"), "{reason}");
    commands(&["ip route del default"]);
    let reason = start(|_| {});
    assert!(reason.contains("no default route"), "{reason}");
    assert_eq!(traces(), (0, 0, "0".to_owned()));
}
