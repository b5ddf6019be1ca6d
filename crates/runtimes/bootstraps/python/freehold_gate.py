"""The gate: where the process is captured, so that others begin where it was.

    template or snapshot --> wait: "here" --> (captured, and gone)
                                    \--> a copy: reads its variables, takes new random numbers, goes on
"""

import gc
import posix
import sys

GATE = 3
RECEIVE_BYTES = 64 * 1024

# What functions commonly import, as far as it is Python's own code or built in: each library that an extension module is would have
# to be mapped in every copy. Loaded once, and shared by all copies until they change it.
PRELOADED = (
    "abc ast base64 binascii bisect collections collections.abc contextlib contextvars copy dataclasses datetime email.message"
    " email.parser enum functools hashlib heapq hmac html http.client importlib inspect io ipaddress itertools json keyword"
    " logging math numbers operator os os.path pathlib platform queue random re select selectors signal socket ssl stat string"
    " struct subprocess textwrap threading time traceback types typing urllib.error urllib.parse warnings weakref zlib"
    " freehold_faults freehold_json freehold_logging"
).split()


def preload():
    for name in PRELOADED:
        try:
            __import__(name)
        except ImportError:
            # Built without it; a function that wants it is told so when it asks.
            pass


def wait(take_variables):
    """Waits at the gate. Returns in copies only."""
    gc.collect()
    # What is there now stays: collecting it again would only copy pages that are shared.
    gc.freeze()
    before = posix.getpid()
    posix.write(GATE, b"here")
    told = []
    while part := posix.read(GATE, RECEIVE_BYTES):
        told.append(part)
    posix.close(GATE)
    take_variables(b"".join(told))
    renew(posix.getpid() - before)


def renew(apart):
    """No two copies may have the same random numbers to come. OpenSSL sees to itself, since the process has another number."""
    modules = sys.modules
    if (threading := modules.get("threading")) is not None:
        for thread in threading.enumerate():
            thread._native_id += apart
    if (random := modules.get("random")) is not None:
        random.seed()
    if (tempfile := modules.get("tempfile")) is not None:
        tempfile._name_sequence = None
    if (process := modules.get("multiprocessing.process")) is not None:
        process.current_process().authkey = posix.urandom(32)
    if (uuid := modules.get("uuid")) is not None:
        uuid._last_timestamp = None


def run_hooks(which, error_type, Fault):
    """Runs what the function has registered with AWS's `snapshot_restore_py`: before the snapshot the newest first, after the
    restore the oldest first."""
    module = sys.modules.get("snapshot_restore_py")
    if module is None:
        return
    hooks = getattr(module, "get_" + which)()
    if which == "before_snapshot":
        hooks = list(reversed(hooks))
    for hook, arguments, named in hooks:
        try:
            hook(*arguments, **named)
        except Exception as error:
            raise Fault(error_type, "%s: %s" % (type(error).__name__, error)) from error
