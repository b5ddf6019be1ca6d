"""A thread in a network namespace of its own: what it starts and connects sees that namespace, the rest of us does not.

It has loopback, and an uplink that leads nowhere, so that a server which wants a way out finds one.
"""

import ctypes
import queue
import subprocess
import threading

CLONE_NEWNET = 0x4000_0000
#: The uplink: a pair whose other end answers nothing, with addresses of TEST-NET-1.
UPLINK = ("link add uplink type veth peer name nowhere", "link set nowhere up", "link set uplink up",
          "address add 192.0.2.2/24 dev uplink", "route add default via 192.0.2.1")


class NamespaceThread:
    """Runs functions, one after another, in a thread whose network is loopback, with `addresses` on it, and an uplink to nowhere."""

    def __init__(self, addresses=()):
        self._jobs, self._results = queue.Queue(), queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()
        self.call(self._enter, addresses)

    def _enter(self, addresses):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in addresses:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        for command in UPLINK:
            subprocess.run(["ip", *command.split()], check=True)

    def _run(self):
        while job := self._jobs.get():
            function, arguments = job
            try:
                self._results.put((function(*arguments), None))
            except BaseException as problem:
                self._results.put((None, problem))

    def call(self, function, *arguments):
        """Runs `function` there: its value, or its exception."""
        self._jobs.put((function, arguments))
        value, problem = self._results.get()
        if problem:
            raise problem
        return value

    def close(self):
        """Ends the thread."""
        self._jobs.put(None)
