"""A function that looks for traces of others in everything that it can see of itself, and tells what differs between copies."""

import os
import re
import secrets
import socket
import tempfile

#: In the code, in a variable, made by init, given by an event: where functions keep secrets. Credentials know themselves by their form.
CODE = "CODE_MARK"
GLOBAL = "trace-" + secrets.token_hex(16)
given = []
TRACE = re.compile(rb"trace-[0-9a-f]{32}|ASIA[A-Z0-9]{16}")
STEP_BYTES, OVERLAP_BYTES = 1 << 20, 64
FOLDERS = ("/tmp", "/dev/shm", "/var/task", "/run", "/var/tmp")


def handler(event, context):
    """One deed of the ones below, and who did it."""
    return {"program": os.readlink("/proc/self/exe"), "environment": context.log_stream_name,
            "answer": globals()[event["do"]](event)}


def own(event):
    """What this environment alone may know; leaves it where the next one of this machine would find it."""
    if "given" in event:
        given.append(event["given"])
    found = [CODE, GLOBAL, os.environ.get("VARIABLE"), os.environ["AWS_ACCESS_KEY_ID"], *given]
    for folder in ("/tmp", "/dev/shm"):
        with open(f"{folder}/traces", "w", encoding="ascii") as file:
            file.write(" ".join(filter(None, found)))
    return [each for each in found if each]


def files(event):
    """The names in the folders that an environment may write to."""
    return {folder: sorted(os.listdir(folder)) for folder in ("/tmp", "/dev/shm")}


def search(event):
    """Every trace in the own memory, the own program, files and /proc."""
    found = set(memory())
    for path in ("/proc/self/exe", *paths()):
        try:
            with open(path, "rb") as file:
                found |= set(TRACE.findall(file.read(64 << 20)))
        except OSError:
            continue
    return sorted({each.decode() for each in found})


def paths():
    """Files that may hold something: those of the folders, and what processes tell of themselves."""
    for folder in FOLDERS:
        for parent, _, names in os.walk(folder):
            yield from (f"{parent}/{name}" for name in names)
    for process in (name for name in os.listdir("/proc") if name.isdigit()):
        yield from (f"/proc/{process}/{name}" for name in ("environ", "cmdline", "maps", "mountinfo", "cgroup", "comm"))


def memory():
    """Traces in all that this process has mapped and may read."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    place = os.open("/proc/self/mem", os.O_RDONLY)
    for line in lines:
        span, mode = line.split()[:2]
        if not mode.startswith("r"):
            continue
        start, end = (int(each, 16) for each in span.split("-"))
        for at in range(start, end, STEP_BYTES):
            try:
                yield from TRACE.findall(os.pread(place, min(STEP_BYTES + OVERLAP_BYTES, end - at), at))
            except (OSError, OverflowError):
                break
    os.close(place)


def walls(event):
    """What the kernel says of this process's rights, limits and belongings, without what differs from start to start."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kept = ("Umask Uid Gid Groups Threads SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp"
            " Seccomp_filters Cpus_allowed Mems_allowed TracerPid CoreDumping THP_enabled").split()
    told = {name: status.get(name) for name in kept}
    for name in ("limits", "oom_score_adj", "timerslack_ns", "mountinfo", "personality"):
        try:
            with open(f"/proc/self/{name}", encoding="utf-8") as file:
                told[name] = mounts(file) if name == "mountinfo" else file.read()
        except OSError as problem:
            told[name] = problem.strerror
    numbers = [number for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")]
    told["descriptors"] = {number: re.sub(r"\[.*", "", os.readlink(f"/proc/self/fd/{number}")) for number in numbers}
    told["flags"] = {number: flags(number) for number in numbers}
    told["others"] = [os.getppid(), os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid(), os.getcwd(), os.nice(0),
                      os.sched_getscheduler(0), socket.gethostname()]
    return told


def flags(number):
    """A descriptor's flags."""
    with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith("flags"))


def mounts(lines):
    """Where things are mounted and how, without numbers and the host's paths."""
    return sorted([line.split()[4], line.split()[5]] for line in lines)


def draw(event):
    """Something from every source of randomness."""
    import email.utils
    import random
    import ssl
    import uuid

    return {
        "random": random.random(), "bits": random.getrandbits(128), "instance": random.Random().random(),
        "system": random.SystemRandom().random(), "shuffle": random.sample(range(10 ** 9), 4), "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()), "secrets": secrets.token_hex(16), "tls": ssl.RAND_bytes(16).hex(), "urandom": os.urandom(16).hex(),
        "file": os.path.basename(tempfile.mktemp()), "message": email.utils.make_msgid(domain="x"),
    }


def key(event):
    """What processes of `multiprocessing` prove to each other that they belong together with."""
    import multiprocessing

    return bytes(multiprocessing.current_process().authkey).hex()


def pause(event):
    """The above, and then some time, so that others are needed for the events that come meanwhile."""
    import time

    drawn = draw(event)
    time.sleep(event["seconds"])
    return drawn


def work(event):
    """What a process expects of itself: its number, threads, children, signals, clocks."""
    import multiprocessing
    import signal
    import subprocess
    import sys
    import threading
    import time

    caught, done = [], []
    before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    signal.signal(signal.SIGALRM, lambda number, _: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    signal.pause()
    threads = [threading.Thread(target=done.append, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getppid())"], capture_output=True, text=True, check=True)
    reading, writing = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=writing.send, args=("sent",))
    other.start()
    other.join()
    clocks = time.time(), time.monotonic()
    time.sleep(0.05)
    return {"number": [os.getpid(), int(os.readlink("/proc/self")), int(child.stdout), threading.main_thread().native_id],
            "caught": caught, "threads": sorted(done), "sent": reading.recv(), "now": clocks[0],
            "goes on": [time.time() > clocks[0], time.monotonic() > clocks[1]], "uid": os.getuid()}


def spoil(event):
    """Changes what the image's modules are, as only this environment may notice."""
    import json
    import random

    json.dumps = json.loads = None
    random.random = lambda: 4
    os.environ["SPOILT"] = "yes"
    os.getcwd = lambda: "/spoilt"
    os.umask(0)
    os.chdir("/tmp")
    tempfile.tempdir = "/spoilt"
    return "spoilt"


def unspoilt(event):
    """Whether all that is as it should be."""
    import json
    import random

    return [json.loads("[1]"), random.random() != 4, os.environ.get("SPOILT"), os.getcwd(), oct(os.umask(0o22)), tempfile.gettempdir()]


def take(event):
    """Takes memory until there is no more."""
    held = []
    for _ in range(event["mib"] // 16):
        held.append(b"\xa5" * (16 << 20))
    return len(held)


def write_image(event):
    """Tries to change the image that this environment shares with others; tells what the kernel answered."""
    import mmap

    def write(path):
        with open(path, "r+b", buffering=0) as file:
            file.write(b"x")

    def extend(path):
        os.truncate(path, 1 << 30)

    def share(path):
        place = os.open(path, os.O_RDONLY)
        mmap.mmap(place, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def change_mode(path):
        os.chmod(path, 0)

    backed = ["/proc/self/exe"]
    for name in os.listdir("/proc/self/map_files") if os.access("/proc/self/map_files", os.R_OK) else []:
        backed.append(f"/proc/self/map_files/{name}")
    refused, done = [], []
    for path in backed:
        for deed in (write, extend, share, change_mode):
            try:
                deed(path)
                done.append(f"{deed.__name__} {path} {os.readlink(path)}")
            except OSError as problem:
                refused.append(f"{deed.__name__}: {problem.strerror}")
    return {"done": done, "refused": sorted(set(refused))}
