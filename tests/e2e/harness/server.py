"""One running `freehold serve`, with its own data folder and a free port."""

import os
import re
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from harness.waiting import PATIENCE_S, wait_until

REGION = "us-east-1"
START_DEADLINE_S = STOP_DEADLINE_S = PATIENCE_S
STDERR_TAIL_BYTES = 8_000
ADDRESS = re.compile(r"https?://[\w.\[\]:-]+:\d+")

#: All servers that run now, so that a failing test can show what they said.
running = []


def binary():
    """The program under test: FREEHOLD_BIN, else the newest build in target/."""
    if path := os.environ.get("FREEHOLD_BIN"):
        return str(Path(path).resolve())
    target = Path(__file__).resolve().parents[3] / "target"
    builds = [path for path in (target / "release/freehold", target / "debug/freehold") if path.exists()]
    if not builds:
        raise RuntimeError("no freehold binary: build one (cargo build) or set FREEHOLD_BIN")
    return str(max(builds, key=lambda path: path.stat().st_mtime))


def clean_environment(**extra):
    """This process's environment without anything that would point an AWS client elsewhere."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("AWS_", "FREEHOLD_")) or key == "FREEHOLD_RUNTIME_FOLDERS"}
    for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        kept.pop(key, None)
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"} | extra


def client_environment(url, **extra):
    """What `aws` and `freehold` need in order to talk to the server at `url` with the development key."""
    return clean_environment(
        AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION=REGION,
        AWS_CONFIG_FILE="/nonexistent", AWS_SHARED_CREDENTIALS_FILE="/nonexistent", **extra)


class Server:
    """`freehold serve` on `data`; a context manager that stops it politely."""

    def __init__(self, data, variables=None, arguments=(), account=None):
        self.data = Path(data)
        #: Who runs it, where that is not the user of the tests (`harness.account.Account`).
        self.account = account
        self.variables = variables or {}
        self.arguments = list(arguments)
        self.process = None
        self.url = None
        self._clients = {}

    def start(self):
        """Starts the program and returns once /health answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.stderr_path = self.data.with_name(self.data.name + ".stderr")
        program, environment, identity = binary(), clean_environment(), {}
        if self.account:
            program, environment, identity = self.account.program, self.account.environment, self.account.identity
        command = [program, "serve", "--listen", "127.0.0.1:0", "--data", str(self.data), *self.arguments]
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL,
                                            env=environment | self.variables, start_new_session=True, **identity)
        running.append(self)
        try:
            self.url = self._address()
            wait_until(self.healthy, "/health answers 200", START_DEADLINE_S)
        except BaseException as problem:
            self.kill()
            raise RuntimeError(f"freehold did not start: {problem}\n{self.stderr_tail()}") from problem
        self._clients.clear()
        return self

    def _address(self):
        """The URL in the line that the server prints once it listens; the rest of its stdout is drained."""
        found, lines = threading.Event(), []

        def read():
            for line in self.process.stdout:
                lines.append(line.decode(errors="replace"))
                if ADDRESS.search(lines[-1]):
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        found.wait(START_DEADLINE_S)
        match = ADDRESS.search("".join(lines))
        if not match:
            raise RuntimeError(f"no address on stdout: {lines!r}, exit status {self.process.poll()}")
        return match.group()

    @property
    def pid(self):
        """The server's process id."""
        return self.process.pid

    @property
    def address(self):
        """Host and port as a tuple, for raw sockets."""
        host, port = self.url.split("//")[1].rsplit(":", 1)
        return host, int(port)

    def alive(self):
        """Whether the process still runs."""
        return self.process is not None and self.process.poll() is None

    def healthy(self):
        """Whether /health answers 200."""
        if not self.alive():
            raise RuntimeError(f"the server ended with status {self.process.returncode}")
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=PATIENCE_S) as answer:
                return answer.status == 200
        except OSError:
            return False

    def client(self, service="lambda", **settings):
        """A boto3 client of this server that never retries; those without settings of their own are shared."""
        key = None if settings else service
        if key is None or key not in self._clients:
            options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION} | settings
            config = Config(retries={"total_max_attempts": 1}, read_timeout=120, connect_timeout=PATIENCE_S,
                            max_pool_connections=64, s3={"addressing_style": "path"}, inject_host_prefix=False,
                            proxies={})
            made = boto3.session.Session().client(service, endpoint_url=self.url, config=config, **options)
            if key is None:
                return made
            self._clients[key] = made
        return self._clients[key]

    def stop(self):
        """SIGTERM and a deadline: the status that it exited with."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"freehold did not stop within {STOP_DEADLINE_S} s of SIGTERM") from None
        self._forget()
        return self.process.returncode

    def kill(self):
        """SIGKILL to the server process alone."""
        if self.alive():
            self.process.kill()
        self.process.wait()
        self._forget()

    def _forget(self):
        if self in running:
            running.remove(self)
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def stderr_tail(self):
        """The end of what it wrote to stderr."""
        content = self.stderr_path.read_bytes() if self.stderr_path.exists() else b""
        return content[-STDERR_TAIL_BYTES:].decode(errors="replace")

    def command(self, *arguments, program=None, stdin=None, timeout_s=2 * PATIENCE_S, cwd=None, **variables):
        """Runs `freehold ARGUMENTS…` (or another program) against this server: the completed process, text in and out."""
        return subprocess.run([program or binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True,
                              timeout=timeout_s, cwd=cwd, env=client_environment(self.url, **variables), check=False)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
