"""What the attacks stand on: raw system calls, attempts in a child of their own, and how an outcome is told."""

import ctypes
import errno
import json
import os
import platform
import signal
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

NUMBERS = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
        "reboot": 169, "sethostname": 170, "iopl": 172, "ioperm": 173, "init_module": 175, "pivot_root": 155,
        "syslog": 103, "clock_settime": 227, "kexec_load": 246, "add_key": 248, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428,
        "fsopen": 430, "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "ptrace": 101, "sched_setscheduler": 144,
    },
    "aarch64": {
        "shmget": 194, "shmat": 196, "acct": 89, "settimeofday": 170, "mount": 40, "umount2": 39, "swapon": 224,
        "reboot": 142, "sethostname": 161, "init_module": 105, "pivot_root": 41, "syslog": 116, "clock_settime": 112,
        "kexec_load": 104, "add_key": 217, "keyctl": 219, "unshare": 97, "perf_event_open": 241,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "bpf": 280,
        "userfaultfd": 282, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "clone3": 435,
        "pidfd_getfd": 438, "ptrace": 117, "sched_setscheduler": 119,
    },
}


def syscall(name, *arguments):
    """A system call by name; raises OSError as the `os` module would."""
    number = NUMBERS[platform.machine()].get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name} does not exist on this machine")
    plain = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = LIBC.syscall(ctypes.c_long(number), *plain)
    if answer == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return answer


def past_permission(call, *after):
    """Whether `call` got past the permission check: it worked, or failed with an error that is only raised `after` it."""
    try:
        call()
    except OSError as problem:
        if problem.errno in after:
            return f"permitted ({errno.errorcode[problem.errno]})"
        raise
    return "permitted"


def in_child(action):
    """Runs `action` in a forked child and gives back its (JSON) value; its OSError, or its death by a signal, is raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                told = {"value": action()}
                json.dumps(told)
            except OSError as problem:
                told = {"errno": problem.errno or 0, "text": str(problem)}
            except BaseException:
                told = {"broken": traceback.format_exc()}
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told and os.WIFSIGNALED(status):
        raise OSError(errno.EPERM, f"the attempt was ended by {signal.Signals(os.WTERMSIG(status)).name}")
    told = json.loads(told)
    if "broken" in told:
        raise RuntimeError(told["broken"])
    if "errno" in told:
        raise OSError(told["errno"], told["text"])
    return told["value"]


def tried(attempts, isolated=True):
    """Makes every attempt (`{label: callable}`); one that gives a true value has succeeded, an OSError is a refusal."""
    succeeded, detail = False, {}
    for label, attempt in attempts.items():
        try:
            value = in_child(attempt) if isolated else attempt()
            detail[label] = str(value)[:200]
            succeeded = succeeded or bool(value)
        except OSError as problem:
            detail[label] = errno.errorcode.get(problem.errno, str(problem.errno)) + ": " + str(problem)[:120]
    return outcome(succeeded, detail)


def outcome(succeeded, detail):
    """What every attack gives back."""
    return {"succeeded": bool(succeeded), "detail": detail}


def contains(path, secret):
    """Whether the file at `path` can be read and holds `secret`."""
    with open(path, "rb") as file:
        return path if secret.encode() in file.read(1 << 20) else None


def visible_processes():
    """The ids of all processes in /proc but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def set_name(name):
    """Names this process so that the host can find it: what /proc/<pid>/comm shows."""
    LIBC.prctl(15, name.encode()[:15], 0, 0, 0)  # PR_SET_NAME
