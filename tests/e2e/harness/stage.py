"""What the attacks aim at on the host: canary files, services, sockets, shared memory and a process to hurt.

All of it is ours, made for the suite and removed after it. The same target serves the attack inside and its control outside.
"""

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from attacks.files import handle_of
from harness import host

CANARY_FOLDERS = ("/root", "/etc", "/home", "/var/lib", "/tmp", "/run", "/opt", "/usr/local")
SHM_BYTES = 4096
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p


class Greeter:
    """A service that greets whoever connects with a secret."""

    def __init__(self, address, secret, family=socket.AF_INET):
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        self.listener.listen(64)
        self.secret = secret.encode()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self):
        """The port that it listens on."""
        return self.listener.getsockname()[1]

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(self.secret)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(4096)
                except OSError:
                    continue

    def close(self):
        """Stops listening."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Stage:
    """Everything on the host that an attack may aim at; a context manager."""

    def __enter__(self):
        self.secret = f"canary-{secrets.token_hex(12)}"
        tag = self.secret[-8:]
        self.folder = Path(tempfile.mkdtemp(prefix="freehold-stage-"))
        self.folder.chmod(0o755)
        self.canaries = [self._canary(folder, tag) for folder in CANARY_FOLDERS if os.access(folder, os.W_OK)]
        self.shm_file = self._canary("/dev/shm", tag)
        self.shm_key, self.shm_id = self._shared_memory()
        self.mark = f"stage-mark-{tag}"
        self.victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", self.mark],
                                       env={"SECRET": self.secret}, stdin=subprocess.DEVNULL)
        unix_path, abstract = f"/run/freehold-canary-{tag}.sock", f"freehold-canary-{tag}"
        self.greeters = {
            "loopback": Greeter(("127.0.0.1", 0), self.secret), "open": Greeter(("0.0.0.0", 0), self.secret),
            "unix": Greeter(unix_path, self.secret, socket.AF_UNIX),
            "abstract": Greeter("\0" + abstract, self.secret, socket.AF_UNIX),
        }
        os.chmod(unix_path, 0o777)
        self.unix_path = unix_path
        self._surroundings()
        self.target = {
            "secret": self.secret, "canaries": self.canaries, "shm_file": self.shm_file, "shm_key": self.shm_key,
            "victim": self.victim.pid, "processes": [self.victim.pid], "server_mark": self.mark,
            "environment_secret": self.secret, "handle": handle_of(self.canaries[0]),
            "namespaces": host.namespaces("self"), "setuid": "/var/task/setuid-sleep",
            "loopback_port": self.greeters["loopback"].port, "open_port": self.greeters["open"].port,
            "host_addresses": host.addresses(), "free_port": free_port(), "unix_path": unix_path, "abstract_name": abstract,
            "data": str(self.folder / "data"), "neighbours": [], "neighbour_request": "neighbour",
        }
        return self

    def outside(self):
        """What differs in a control's target: folders of ours in place of the environment's."""
        return {
            "outside": True, "folder": str(self.folder / "free"), "task": str(self.folder / "task"),
            "root": str(self.folder / "root"), "programs": [str(self.folder / "task/program")],
            "mounts": ["/proc"], "jail": str(self.folder / "jail"), "setuid": str(self.folder / "setuid-sleep"),
        }

    def _surroundings(self):
        """Stand-ins for /tmp, /var/task and the root, for controls."""
        for name in ("free", "task/attacks", "root", "jail/tmp", "data"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "task/function.py").write_text("pass\n", encoding="utf-8")
        shutil.copy(sys.executable, self.folder / "task/program")
        for name in ("usr/bin", "usr/lib", "etc"):
            (self.folder / "root" / name).mkdir(parents=True)
        shutil.copy("/bin/sleep", self.folder / "setuid-sleep")
        (self.folder / "setuid-sleep").chmod(0o4755)

    def _canary(self, folder, tag):
        path = f"{folder}/.freehold-canary-{tag}"
        Path(path).write_text(self.secret, encoding="utf-8")
        return path

    def _shared_memory(self):
        key = secrets.randbelow(1 << 30) + 1
        identity = LIBC.shmget(key, SHM_BYTES, 0o1666)  # IPC_CREAT, open to all
        place = LIBC.shmat(identity, None, 0)
        ctypes.memmove(place, self.secret.encode(), len(self.secret))
        return key, identity

    def __exit__(self, *_):
        for greeter in self.greeters.values():
            greeter.close()
        self.victim.kill()
        self.victim.wait()
        LIBC.shmctl(self.shm_id, 0, None)  # IPC_RMID
        for path in (*self.canaries, self.shm_file, self.unix_path):
            Path(path).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]
