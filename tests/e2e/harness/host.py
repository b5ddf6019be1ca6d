"""What the host shows of processes, cgroups, mounts and namespaces: the view from outside."""

import os
import re
from pathlib import Path

NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")


def processes():
    """The ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(path):
    """A file's bytes; nothing where it is gone or closed to us (processes end while they are looked at)."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def status_fields(process):
    """The fields of /proc/<pid>/stat after the name: state, parent, …"""
    return read(f"/proc/{process}/stat").rpartition(b")")[2].split()


def identity(process):
    """Process id and start time: not reused, unlike the id alone."""
    fields = status_fields(process)
    return (process, int(fields[19])) if fields else None


def lives(known):
    """Whether the process with this identity still exists, zombies apart."""
    fields = status_fields(known[0])
    return bool(fields) and int(fields[19]) == known[1] and fields[0] != b"Z"


def named(name):
    """Processes by the name that they gave themselves."""
    return [each for each in processes() if read(f"/proc/{each}/comm").strip() == name.encode()]


def with_variable(text):
    """Processes whose environment holds `text`."""
    return [each for each in processes() if text.encode() in read(f"/proc/{each}/environ")]


def descendants(process):
    """All processes below `process`, through pid namespaces."""
    parents = {}
    for each in processes():
        fields = status_fields(each)
        if fields:
            parents.setdefault(int(fields[1]), []).append(each)
    found, waiting = [], [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def cpu_ticks(process):
    """The processor time of a process, in clock ticks."""
    fields = status_fields(process)
    return int(fields[11]) + int(fields[12]) if fields else None


def resident_bytes(process):
    """The memory that a process holds."""
    match = re.search(rb"VmRSS:\s+(\d+) kB", read(f"/proc/{process}/status"))
    return int(match.group(1)) * 1024 if match else 0


def folder_bytes(folder):
    """The size of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def namespaces(process):
    """A process's namespaces by kind, as inode numbers."""
    found = {}
    for kind in NAMESPACES:
        try:
            found[kind] = os.stat(f"/proc/{process}/ns/{kind}").st_ino
        except OSError:
            continue
    return found


def now_ticks():
    """The time as the kernel notes when processes start: in hundredths of a second since it was started itself."""
    return int(read("/proc/uptime").split()[0].replace(b".", b""))


def namespaces_of_older(ticks):
    """Every namespace that some process is in that was started by then: numbers of those that ended are given out again."""
    found = set()
    for each in processes():
        known = identity(each)
        if known and known[1] <= ticks:
            found |= set(namespaces(each).values())
    return found


def cgroup_mounts():
    """Where the cgroup hierarchies are mounted: `{controllers or "": folder}`."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        place = left.split()[4]
        if kind == "cgroup2":
            found[""] = place
        elif kind == "cgroup":
            for option in options.split(","):
                found[option] = place
    return found


def cgroups():
    """Every cgroup folder of every hierarchy."""
    return {parent for place in set(cgroup_mounts().values()) for parent, _, _ in os.walk(place)}


def cgroups_of(process):
    """The cgroup folders that a process is in."""
    mounts, found = cgroup_mounts(), set()
    for line in read(f"/proc/{process}/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                found.add(os.path.normpath(mounts[controller] + path))
    return found


def frozen(process):
    """Whether the kernel keeps a process frozen, by either generation of cgroups."""
    groups = cgroups_of(process)
    return any(b"frozen 1" in read(f"{group}/cgroup.events") or read(f"{group}/freezer.state").strip() == b"FROZEN"
               for group in groups)


def mounts_below(text):
    """Lines of any process's mount table that speak of `text`."""
    return {line for each in processes() for line in read(f"/proc/{each}/mountinfo").decode().splitlines() if text in line}


def interfaces():
    """The host's network interfaces."""
    return set(os.listdir("/sys/class/net"))


def loop_devices(text):
    """Loop devices whose backing file speaks of `text`."""
    return [str(path) for path in Path("/sys/block").glob("loop*/loop/backing_file") if text.encode() in read(path)]


def addresses():
    """The host's own IPv4 addresses but loopback."""
    found, last = set(), ""
    for line in Path("/proc/net/fib_trie").read_text(encoding="ascii").splitlines():
        match = re.search(r"\|-- ([\d.]+)", line)
        last = match.group(1) if match else last
        if "/32 host LOCAL" in line and not last.startswith("127."):
            found.add(last)
    return sorted(found)



def capabilities(process):
    """The effective capabilities of a process, as a number."""
    match = re.search(rb"CapEff:\s+([0-9a-f]+)", read(f"/proc/{process}/status"))
    return int(match.group(1), 16) if match else 0


def namespaces_of_others(processes_apart):
    """Every namespace that some process other than these is in."""
    apart = set(processes_apart)
    return {inode for each in processes() if each not in apart for inode in namespaces(each).values()}
