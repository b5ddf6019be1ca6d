"""Witnesses: what the host sees of attacks whose success does not show from inside.

Each is called while the attack runs in another thread, `running()` telling whether it still does, and gives back a text if
the attack succeeded. The same witness looks at the control.
"""

import ctypes
import os
import signal
import socket
import time
import urllib.request

from harness import host
from harness.waiting import POLL_S

LIBC = ctypes.CDLL(None, use_errno=True)
#: How long what is left of an attack may take to be gone or frozen; outside nothing ever comes to take it away.
GONE_DEADLINE_S, OUTSIDE_DEADLINE_S = 60, 1
GROWTH_LIMIT_BYTES = 300 << 20
#: How long an answer may take: from the server, on a busy machine; from the stand-in that is to be blocked.
ANSWER_DEADLINE_S, BLOCKED_S = 20, 4
#: Between two looks a process that computes uses some ticks (of 10 ms) even on a busy machine, a frozen one none.
LOOK_S = 0.4


def loses_watches(target, running):
    """Does root on the host still get a file watcher?"""
    while running():
        number = LIBC.inotify_init1(0)
        if number < 0:
            return "the host gets no watcher any more"
        os.close(number)
        time.sleep(POLL_S)
    return None


def loses_timers(target, running):
    """Can root on the host still make a timer (which takes a signal in advance)?"""
    while running():
        timer = ctypes.c_void_p()
        if LIBC.timer_create(time.CLOCK_MONOTONIC, None, ctypes.byref(timer)) != 0:
            return f"the host gets no timer any more: {os.strerror(ctypes.get_errno())}"
        LIBC.timer_delete(timer)
        time.sleep(POLL_S)
    return None


def sees_port(target, running):
    """Can the host connect to a port that the attack listens on?"""
    while running():
        for address in ("127.0.0.1", *target["host_addresses"]):
            try:
                with socket.create_connection((address, target["free_port"]), ANSWER_DEADLINE_S) as connection:
                    if target["secret"].encode() in connection.recv(4096):
                        return f"the host was served on {address}"
            except OSError:
                continue
        time.sleep(POLL_S)
    return None


def sees_daemon(target, running):
    """Is a process that the attack left behind still there?"""
    seen, gone_by = False, None
    deadline_s = OUTSIDE_DEADLINE_S if target.get("outside") else GONE_DEADLINE_S
    while True:
        left = host.named(target["mark"])
        seen = seen or bool(left)
        if not running():
            gone_by = gone_by or time.monotonic() + deadline_s
            if not left:
                assert seen, "the attack never got to leave a process behind"
                return None
            if time.monotonic() > gone_by:
                for process in left:
                    os.kill(process, signal.SIGKILL)
                return f"processes {left} live on"
        time.sleep(POLL_S)


def sees_computing(target, running):
    """Does a process that the attack left behind still use the processor, once it should be frozen?"""
    while running():
        time.sleep(POLL_S)
    left = host.named(target["mark"])
    assert left, "the attack never got to leave a process behind"
    end = time.monotonic() + (OUTSIDE_DEADLINE_S if target.get("outside") else GONE_DEADLINE_S)
    try:
        while True:
            before = sum(host.cpu_ticks(each) or 0 for each in left)
            time.sleep(LOOK_S)
            used = sum(host.cpu_ticks(each) or 0 for each in left) - before
            if used == 0:
                return None
            if time.monotonic() > end:
                return f"still used {used} ticks in {LOOK_S} s"
    finally:
        if target.get("outside"):
            for process in left:
                os.kill(process, signal.SIGKILL)


def sees_growth(target, running):
    """Does the attack fill the host's disk, or the server's memory?"""
    def sizes():
        return host.folder_bytes(target["grows"]), host.resident_bytes(target["server"]) if "server" in target else 0

    disk, memory = sizes()
    goes_on = True
    while goes_on:
        time.sleep(0.2)
        goes_on = running()  # asked first: what it wrote at its very end is looked at too
        for before, now, what in zip((disk, memory), sizes(), ("disk", "memory"), strict=True):
            if now - before > GROWTH_LIMIT_BYTES:
                return f"{(now - before) >> 20} MiB more {what}"
    return None


def misses_answers(target, running):
    """Does the server stop answering others?"""
    deadline_s = BLOCKED_S if target.get("outside") else ANSWER_DEADLINE_S
    while running():
        try:
            urllib.request.urlopen(target["health"], timeout=deadline_s).close()
        except OSError as problem:
            return f"no answer: {problem}"
        time.sleep(POLL_S)
    return None
