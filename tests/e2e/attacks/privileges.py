"""Attacks on privilege: capabilities, namespaces, mounts, cgroups, and the parts of the kernel that only root may use."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import socket
import struct
import subprocess
import sys
import time

from attacks.kernel import outcome, past_permission, syscall, tried

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP = 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0200_0000
NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts")
MS_REMOUNT, MS_BIND, MS_REC, MNT_DETACH = 32, 4096, 16384, 2
TIOCSTI = 0x5412


def capabilities():
    """The capability sets that are not empty, and whether gaining more is still possible."""
    held = {}
    for line in open("/proc/self/status", encoding="ascii"):
        key, _, value = line.partition(":")
        if key in ("CapInh", "CapPrm", "CapEff", "CapAmb") and int(value, 16):
            held[key] = value.strip()
        if (key, value.strip()) in (("NoNewPrivs", "0"), ("Seccomp", "0")):
            held[key] = value.strip()
    return held


def hold_capabilities(target):
    """Holds capabilities, could gain some by running a program, or has no system call filter."""
    held = capabilities()
    return outcome(held, held)


def become_root(target):
    """Becomes user 0 by system call and by running a program as it, and looks for capabilities."""
    def attempt(change):
        change()
        script = "print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm'))])"
        sets = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False).stdout.split()
        return sets if any(int(each, 16) for each in sets) else None

    return tried({"setuid": lambda: attempt(lambda: os.setuid(0)), "setresuid": lambda: attempt(lambda: os.setresuid(0, 0, 0)),
                  "setgroups": lambda: attempt(lambda: os.setgroups([0])), "exec": lambda: attempt(lambda: None)})


def share_host_namespaces(target):
    """Is in one of the host's namespaces."""
    shared = [kind for kind in NAMESPACES if os.stat(f"/proc/self/ns/{kind}").st_ino == target["namespaces"][kind]]
    return outcome(shared, shared)


def make_namespaces(target):
    """Makes namespaces of its own, where it would be root and could reach far more of the kernel."""
    kinds = {"user": CLONE_NEWUSER, "user and mount": CLONE_NEWUSER | CLONE_NEWNS, "mount": CLONE_NEWNS, "net": CLONE_NEWNET,
             "user and net": CLONE_NEWUSER | CLONE_NEWNET, "pid": CLONE_NEWPID, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS}
    return tried({kind: lambda flags=flags: syscall("unshare", flags) == 0 for kind, flags in kinds.items()})


def make_namespaces_by_clone(target):
    """Makes a user namespace by clone3, whose flags a system call filter cannot see."""
    def attempt():
        arguments = ctypes.create_string_buffer(struct.pack("11Q", CLONE_NEWUSER, *[0] * 3, 17, *[0] * 6))
        child = syscall("clone3", arguments, 88)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return child

    return tried({"clone3": attempt})


def join_host_namespaces(target):
    """Enters the namespaces of process 1, of its parent and of a process of the host, where they are not its own."""
    own = {os.stat(f"/proc/self/ns/{kind}").st_ino for kind in NAMESPACES}

    def attempt(process, kind):
        namespace = os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY)
        if not target.get("outside") and os.fstat(namespace).st_ino in own:
            return None
        return syscall("setns", namespace, 0) == 0

    return tried({f"{process} {kind}": lambda process=process, kind=kind: attempt(process, kind)
                  for process in (1, os.getppid(), target["victim"]) for kind in NAMESPACES if kind != "user"})


def mount_filesystems(target):
    """Mounts: a memory file system, /proc, a bind of the root, a remount of the code for writing."""
    place = target.get("folder", "/tmp").encode()
    code = target.get("task", "/var/task").encode()
    calls = {
        "tmpfs": (b"none", place, b"tmpfs", 0), "proc": (b"none", place, b"proc", 0), "sysfs": (b"none", place, b"sysfs", 0),
        "bind": (b"/", place, None, MS_BIND), "recursive bind": (b"/", place, None, MS_BIND | MS_REC),
        "remount": (b"none", code, None, MS_REMOUNT | MS_BIND), "cgroup2": (b"none", place, b"cgroup2", 0),
        "overlay": (b"none", place, b"overlay", 0),
    }
    attempts = {label: lambda call=call: syscall("mount", *call, None) == 0 for label, call in calls.items()}
    attempts["fsopen"] = lambda: syscall("fsopen", b"tmpfs", 0)
    attempts["open_tree"] = lambda: syscall("open_tree", -100, b"/", 1)  # OPEN_TREE_CLONE
    return tried(attempts)


def unmount_filesystems(target):
    """Takes away mounts that hide or protect something."""
    paths = target.get("mounts") or ["/proc", "/var/task", "/tmp", "/dev", "/", "/etc"]
    return tried({path: lambda path=path: syscall("umount2", path.encode(), MNT_DETACH) == 0 for path in paths})


def pivot_root(target):
    """Changes the root of its mount namespace."""
    place = target.get("folder", "/tmp").encode()
    return tried({"pivot": lambda: past_permission(lambda: syscall("pivot_root", place, place), errno.EBUSY, errno.EINVAL)})


def write_kernel_switches(target):
    """Opens for writing what changes the whole host: core_pattern, modprobe, sysrq, binfmt, memory policy."""
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/kernel/panic",
             "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/fs/file-max",
             "/proc/sys/kernel/randomize_va_space", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper",
             "/sys/power/state", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/ns_last_pid", "/proc/irq/0/smp_affinity")
    return tried({path: lambda path=path: os.open(path, os.O_WRONLY) for path in paths})


def write_cgroups(target):
    """Leaves its cgroup, lifts its limits, or sets the release agent that the host would run as root."""
    found = []
    for line in open("/proc/self/mountinfo", encoding="utf-8"):
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup"):
            found.append(left.split()[4])
    names = ("cgroup.procs", "tasks", "release_agent", "notify_on_release", "memory.max", "memory.limit_in_bytes", "pids.max",
             "cgroup.freeze", "freezer.state", "cgroup.subtree_control")
    attempts = {f"{mount}/{name}": lambda path=f"{mount}/{name}": os.open(path, os.O_WRONLY)
                for mount in found + ["/sys/fs/cgroup"] for name in names}

    def mount_one(kind, options):
        folder = f"{target.get('folder', '/tmp')}/cgroup-{os.getpid()}"
        os.mkdir(folder)
        syscall("mount", b"none", folder.encode(), kind, 0, options)
        return os.listdir(folder)[:3]

    attempts["mount v1"] = lambda: mount_one(b"cgroup", b"memory")
    attempts["mount v2"] = lambda: mount_one(b"cgroup2", None)
    return tried(attempts)


def load_kernel_module(target):
    """Loads a (broken) kernel module: any complaint but a lack of permission means that a good one would be loaded."""
    image = ctypes.create_string_buffer(b"\x7fELF" + bytes(200))
    return tried({"init_module": lambda: past_permission(lambda: syscall("init_module", image, 204, b""), errno.ENOEXEC)})


def replace_kernel(target):
    """Prepares to boot another kernel."""
    return tried({"kexec_load": lambda: past_permission(lambda: syscall("kexec_load", 0, 99, 0, 0), errno.EINVAL)})


def reboot_host(target):
    """Reboots (with wrong magic numbers, which the kernel looks at only after the permission)."""
    return tried({"reboot": lambda: past_permission(lambda: syscall("reboot", 1, 2, 3, 0), errno.EINVAL)})


def swap_and_account(target):
    """Turns on a swap file and process accounting (on files that do not exist: the permission is looked at first)."""
    return tried({"swapon": lambda: past_permission(lambda: syscall("swapon", b"/nonexistent", 0), errno.ENOENT),
                  "acct": lambda: past_permission(lambda: syscall("acct", b"/nonexistent"), errno.ENOENT)})


def load_bpf(target):
    """Makes a BPF map and loads a BPF program."""
    def make_map():
        return syscall("bpf", 0, ctypes.create_string_buffer(struct.pack("5I", 2, 4, 4, 1, 0) + bytes(100)), 48)

    def load_program():
        code = ctypes.create_string_buffer(struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0))
        licence = ctypes.create_string_buffer(b"GPL")
        attributes = struct.pack("<IIQQIIQII", 1, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0)
        return syscall("bpf", 5, ctypes.create_string_buffer(attributes + bytes(64)), len(attributes))

    return tried({"map": make_map, "program": load_program})


def open_perf_events(target):
    """Counts the events of a whole processor: a window into all that runs there."""
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", 1, 112, 0) + bytes(112))
    return tried({"processor 0": lambda: syscall("perf_event_open", attributes, -1, 0, -1, 0),
                  "itself": lambda: syscall("perf_event_open", attributes, 0, -1, -1, 0)})


def open_io_uring(target):
    """Opens an io_uring, which carries out system calls that a filter does not see."""
    return tried({"io_uring": lambda: syscall("io_uring_setup", 8, ctypes.create_string_buffer(120))})


def open_userfaultfd(target):
    """Opens a userfaultfd, with which races in the kernel are won."""
    return tried({"userfaultfd": lambda: syscall("userfaultfd", 0)})


def use_keyrings(target):
    """Stores and finds keys in the kernel's keyrings, which no namespace divides."""
    return tried({"add_key": lambda: syscall("add_key", b"user", b"freehold-attack", b"x", 1, -2),
                  "keyctl": lambda: syscall("keyctl", 0, -4, 1)})


def set_clock(target):
    """Sets the host's clock (to what it is)."""
    return tried({"clock_settime": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()) or "set",
                  "settimeofday": lambda: past_permission(lambda: syscall("settimeofday", 0, 0))})


def set_host_name(target):
    """Changes the host's name."""
    return tried({"sethostname": lambda: socket.sethostname("freehold-attack") or "set"})


def use_ports(target):
    """Speaks to hardware by I/O ports."""
    return tried({"ioperm": lambda: syscall("ioperm", 0x80, 1, 1) == 0, "iopl": lambda: syscall("iopl", 3) == 0})


def inject_into_terminal(target):
    """Types into the server's terminal."""
    def attempt(path):
        with open(path, "rb+", buffering=0) as terminal:
            fcntl.ioctl(terminal, TIOCSTI, b"x")
            return "typed"

    return tried({path: lambda path=path: attempt(path) for path in ("/dev/tty", "/dev/console", "/dev/tty1", "/dev/pts/0")})


def use_compat_system_calls(target):
    """Calls the kernel by its 32-bit door, whose numbers a careless filter takes for others."""
    def attempt():
        if platform.machine() != "x86_64":
            raise OSError(errno.ENOSYS, "no 32-bit door here")
        # push rbx; mov eax, edi; mov ebx, esi; xor ecx, ecx; xor edx, edx; int 0x80; pop rbx; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("53 89f8 89f3 31c9 31d2 cd80 5b c3"))
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(
            ctypes.addressof(ctypes.c_char.from_buffer(code)))
        answer = call(310, CLONE_NEWUSER | CLONE_NEWNS)  # unshare, by its 32-bit number
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return "made namespaces"

    return tried({"int 0x80": attempt})


def raise_priority(target):
    """Takes the processor from the others: real time, and a better nice value."""
    return tried({"real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or "set",
                  "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -10) or "set"})


def escape_out_of_memory(target):
    """Makes the kernel kill others first when memory runs out."""
    def attempt():
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
        return open("/proc/self/oom_score_adj", encoding="ascii").read().strip() == "-1000"

    return tried({"oom_score_adj": attempt})


def raise_limits(target):
    """Raises its hard limit on open files beyond AWS's 1,024 (that on processes is a cgroup's: see the bombs)."""
    def attempt():
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        except ValueError as problem:  # Python's word for EPERM here
            raise PermissionError(errno.EPERM, str(problem)) from None
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    return tried({"files": attempt})
