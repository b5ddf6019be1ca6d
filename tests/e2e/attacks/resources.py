"""Attacks on what is shared: memory, disk, descriptors, the kernel's per-user quotas, the log."""

import ctypes
import os
import resource
import signal
import socket
import sys
import time

from attacks.kernel import LIBC, in_child, outcome

MIB = 1 << 20


def take_heap(target):
    """Takes more memory than the function has, in the plain way."""
    taken = []
    while len(taken) * 16 < target["mib"]:
        taken.append(b"\xa5" * (16 * MIB))
    return outcome(True, f"took {len(taken) * 16} MiB")


def take_memory_file(target):
    """Takes memory as an anonymous file."""
    try:
        file = os.memfd_create("attack")
        for _ in range(target["mib"] // 16):
            os.write(file, b"\xa5" * (16 * MIB))
    except OSError as problem:
        return outcome(False, str(problem))
    return outcome(True, f"took {os.fstat(file).st_size // MIB} MiB")


def take_shared_memory_file(target):
    """Takes memory as files in /dev/shm."""
    path = f"/dev/shm/attack-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            for _ in range(target["mib"] // 16):
                file.write(b"\xa5" * (16 * MIB))
            return outcome(True, f"took {file.tell() // MIB} MiB")
    except OSError as problem:
        return outcome(False, str(problem))
    finally:
        if os.path.exists(path):
            os.unlink(path)


def take_memory_by_children(target):
    """Takes memory with many processes, each within the limit."""
    each_mib, children = 64, []
    for _ in range(target["mib"] // each_mib):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            held = b"\xa5" * (each_mib * MIB)
            os.write(writing, b".")
            time.sleep(30)
            os._exit(len(held) & 0)
        os.close(writing)
        children.append((child, reading))
    holding = sum(os.read(reading, 1) == b"." for _, reading in children)
    alive = sum(os.waitpid(child, os.WNOHANG)[0] == 0 for child, _ in children)
    for child, _ in children:
        try:
            os.kill(child, 9)
        except ProcessLookupError:
            pass
    return outcome(min(holding, alive) * each_mib >= target["mib"] - each_mib, f"{alive} children held {each_mib} MiB each")


def take_kernel_memory(target):
    """Takes memory in the kernel's own name: full socket buffers of many processes."""
    children, chunk = [], b"\xa5" * 32768
    for _ in range(8):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            total, pairs = 0, []
            try:
                while total < target["mib"] * MIB // 8:
                    left, right = socket.socketpair()
                    left.setblocking(False)
                    pairs.append((left, right))
                    try:
                        while True:
                            total += left.send(chunk)
                    except BlockingIOError:
                        pass
            except OSError:
                pass
            os.write(writing, str(total).encode())
            time.sleep(30)
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    total = sum(int(os.read(reading, 20) or 0) for _, reading in children)
    alive = sum(os.waitpid(child, os.WNOHANG)[0] == 0 for child, _ in children)
    for child, _ in children:
        try:
            os.kill(child, 9)
        except ProcessLookupError:
            pass
    return outcome(alive == 8 and total >= target["mib"] * MIB, f"{total // MIB} MiB in the buffers of {alive} processes")


def fill_tmp(target):
    """Writes more to /tmp than the function has."""
    folder, total = target.get("folder", "/tmp"), 0
    try:
        for number in range(target["mib"] // 32):
            with open(f"{folder}/fill-{number}", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 32 * MIB)
                total += 32
    except OSError as problem:
        return outcome(False, f"{total} MiB, then {problem}")
    finally:
        for number in range(target["mib"] // 32):
            if os.path.exists(f"{folder}/fill-{number}"):
                os.unlink(f"{folder}/fill-{number}")
    return outcome(True, f"{total} MiB")


def open_many_files(target):
    """Opens more files than AWS's 1,024, raising its own limit first where it may."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target["files"] + 100, target["files"] + 100))
    except (OSError, ValueError):
        pass
    opened = []
    try:
        while len(opened) < target["files"]:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for number in opened:
        os.close(number)
    return outcome(len(opened) >= target["files"], f"{len(opened)} files open")


def exhaust_watches(target):
    """Takes all the file watchers that the kernel gives one user; the host looks whether it still gets one."""
    held = []
    while len(held) < 1000:
        number = LIBC.inotify_init1(0)
        if number < 0:
            break
        held.append(number)
    time.sleep(target["hold_s"])
    for number in held:
        os.close(number)
    return outcome(False, f"held {len(held)} watchers; the host looks on")


def exhaust_signals(target):
    """Queues as many signals as the kernel keeps for one user; the host looks whether it can still make a timer."""
    def fill():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
        queued = 0
        while queued < target["signals"] and LIBC.sigqueue(os.getpid(), signal.SIGRTMIN, ctypes.c_void_p(0)) == 0:
            queued += 1
        time.sleep(target["hold_s"])
        return queued

    return outcome(False, f"queued {in_child(fill)} signals; the host looks on")


def flood_log(target):
    """Writes a gigabyte to the log, or as much as goes in a few seconds."""
    line, written, end = b"x" * 1023 + b"\n", 0, time.monotonic() + target["flood_s"]
    block = line * 64
    sys.stdout.flush()
    while written < target["flood_bytes"] and time.monotonic() < end:
        written += os.write(1, block)
    return outcome(False, f"wrote {written // MIB} MiB; the host looks on")
