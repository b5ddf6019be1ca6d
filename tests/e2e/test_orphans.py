"""Nothing survives its server: after kill -9 and after a stop no process, cgroup, mount, namespace or file is left."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from harness import functions, host
from harness.remains import Before, Remains
from harness.waiting import wait_until

#: What the helper of a killed server may take on a busy machine, and more.
GONE_DEADLINE_S = 60
#: Less than the ten seconds that one signal lets a busy function go on.
AT_ONCE_S = 8
SOURCE = '''import os, time
def handler(event, context):
    if event.get("daemon") and os.fork() == 0:
        os.setsid()
        while True: time.sleep(0.1)
    time.sleep(event.get("work_s", 0))
    return 1
'''


class Stage:
    """A server with environments in every state: frozen, warm, busy, and one that left a daemon behind."""

    def __init__(self, own_server, python, busy=True):
        self.before = Before()
        self.server = own_server()
        self.functions = {}
        client = self.server.client()
        for name in ("frozen", "busy", "daemon", "warm"):
            self.functions[name] = functions.create(client, name, python, "lambda_function.handler",
                                                    {"lambda_function.py": SOURCE}, Timeout=60)
        assert self.functions["frozen"]({}).value() == 1
        assert self.functions["daemon"]({"daemon": True}).value() == 1
        if busy:
            threading.Thread(target=self._work, daemon=True).start()
            wait_until(lambda: self._started("busy"), "the busy function starts")
        assert self.functions["warm"]({}).value() == 1
        self.remains = Remains(self.server, self.before)
        assert len(self.remains.processes) >= 4, "the environments' processes are found"
        assert self.remains.namespaces, "the environments' namespaces are found"
        assert self.remains.cgroups, "the environments' cgroups are found"
        self.files = tree(self.server.data)

    def _work(self):
        try:
            self.functions["busy"]({"work_s": 50}, tail=False)
        except (ClientError, BotoCoreError):
            pass  # the server goes away under it: that is the test

    def _started(self, name):
        log = self.server.command("logs", name, "--data", self.server.data).stdout
        return "START RequestId" in log or len(host.descendants(self.server.pid)) >= 4

    def gone(self):
        """Waits until nothing is left."""
        end = time.monotonic() + GONE_DEADLINE_S
        while left := self.remains.left():
            assert time.monotonic() < end, f"left behind: {left}"
            time.sleep(0.05)


def tree(folder):
    """Every file and folder below a folder."""
    return {str(path) for path in Path(folder).rglob("*")}


def test_the_scan_sees_what_there_is(own_server, python):
    """Positive control: while the server runs, the scan that must find nothing later finds everything."""
    stage = Stage(own_server, python)
    left = stage.remains.left()
    assert {"processes", "namespaces", "cgroups"} <= set(left)
    stage.server.kill()
    stage.gone()


def test_after_a_stop(own_server, python):
    """SIGTERM: the server ends with status 0 even though a function is busy, and nothing is left."""
    stage = Stage(own_server, python)
    assert stage.server.stop() == 0
    stage.gone()


def test_after_a_second_signal(own_server, python):
    """A second SIGTERM leaves at once, busy function or not, and nothing is left either."""
    stage = Stage(own_server, python)
    stage.server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "a second signal leaves at once" in stage.server.stderr_tail(), "the server begins to stop")
    started = time.monotonic()
    assert stage.server.stop() == 0
    assert time.monotonic() - started < AT_ONCE_S
    stage.gone()


def test_after_a_kill(own_server, python):
    """kill -9 of the server alone: all its environments are gone soon after, without a new start."""
    stage = Stage(own_server, python)
    stage.server.kill()
    stage.gone()


def test_after_a_kill_of_everything_and_a_new_start(own_server, python):
    """kill -9 of server and helper together: the next start on the same data removes what was left, and works."""
    stage = Stage(own_server, python)
    children = [each for each in host.descendants(stage.server.pid) if parent(each) == stage.server.pid]
    assert children, "the server has a helper"
    os.kill(stage.server.pid, signal.SIGSTOP)  # so that it cannot tidy up when its helper dies
    for child in children:
        kill(child)
    stage.server.kill()
    again = own_server(data=stage.server.data)
    wait_until(lambda: "processes" not in stage.remains.left(), "the processes of before are gone", GONE_DEADLINE_S)
    assert functions.Function(again.client(), "warm", None)({}).value() == 1
    assert functions.Function(again.client(), "frozen", None)({}).value() == 1
    assert again.stop() == 0
    stage.gone()  # only now: the new server's cgroups and mounts have the names of the old one's


def test_after_a_kill_of_the_helper(own_server, python):
    """kill -9 of the helper: the environments go with it, and the server says so, works again, or ends; it does not hang."""
    stage = Stage(own_server, python)
    for child in host.descendants(stage.server.pid):
        if parent(child) == stage.server.pid:
            kill(child)
    client = stage.server.client()
    try:
        answer = functions.Function(client, "warm", None)({})
        assert answer.error is None or answer.json["errorType"].startswith(("Runtime.", "Sandbox."))
    except (ClientError, BotoCoreError):
        pass  # a typed refusal, or the server ended: both are honest
    if stage.server.alive():
        stage.server.stop()
    try:
        stage.gone()
    finally:
        own_server(data=stage.server.data).stop()  # whatever was left, the next start takes away
        stage.gone()


def test_a_kill_in_the_middle_of_starts(own_server, python):
    """kill -9 while twenty environments are being made: nothing half made is left."""
    before = Before()
    server = own_server()
    client = server.client()
    for number in range(20):
        functions.create(client, f"burst-{number}", python, "lambda_function.handler", {"lambda_function.py": SOURCE}, Timeout=60)

    def ask(number):
        try:
            functions.Function(client, f"burst-{number}", None)({"work_s": 30}, tail=False)
        except (ClientError, BotoCoreError):
            pass  # the server goes away under it: that is the test

    for number in range(20):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    wait_until(lambda: len(host.descendants(server.pid)) >= 6, "some environments are under way")
    remains = Remains(server, before)
    server.kill()
    wait_until(lambda: not remains.left(), "nothing is left", GONE_DEADLINE_S)


def test_an_idle_server_keeps_no_stray_files(own_server, python):
    """What environments needed on disk is gone once the server has stopped: only state, code and logs stay."""
    stage = Stage(own_server, python, busy=False)
    assert stage.server.stop() == 0
    stage.gone()
    again = own_server(data=stage.server.data)
    assert again.stop() == 0
    sockets_and_pipes = [path for path in tree(stage.server.data) if not (os.path.isfile(path) or os.path.isdir(path))]
    links = [path for path in sockets_and_pipes if os.path.islink(path)]
    assert [path for path in sockets_and_pipes if path not in links] == []


def test_a_deleted_function_leaves_no_environment(own_server, python):
    """Deleting a function ends its environments; its code is gone from the disk in time."""
    stage = Stage(own_server, python, busy=False)
    client = stage.server.client()
    count = len(host.descendants(stage.server.pid))
    client.delete_function(FunctionName="frozen")
    client.delete_function(FunctionName="daemon")
    wait_until(lambda: len(host.descendants(stage.server.pid)) <= count - 3, "the environments of deleted functions end")


def test_hundreds_of_environments_leave_nothing_one_by_one(own_server, python):
    """Environments that end while the server lives leave nothing either: no cgroup, no zombie, no descriptor."""
    before = Before()
    server = own_server()
    function = functions.create(server.client(), "short-lived", python, "lambda_function.handler",
                                {"lambda_function.py": "import os\ndef handler(event, context):\n    os._exit(1)\n"})
    function({})
    descriptors, groups = len(os.listdir(f"/proc/{server.pid}/fd")), count_cgroups(server, before)
    for _ in range(25):
        assert function({}).failure()[0] == "Runtime.ExitError"

    def settled():
        zombies = [each for each in host.descendants(server.pid) if host.status_fields(each)[:1] == [b"Z"]]
        return (not zombies and len(os.listdir(f"/proc/{server.pid}/fd")) <= descriptors + 8
                and count_cgroups(server, before) <= groups + 8)

    wait_until(settled, "zombies, descriptors and cgroups of ended environments are gone")


def count_cgroups(server, before):
    """How many cgroups there are below the server's own."""
    trees = Remains(server, before).cgroup_trees
    return sum(1 for tree_ in trees for _ in os.walk(tree_))


def parent(process):
    """A process's parent."""
    fields = host.status_fields(process)
    return int(fields[1]) if fields else None


def kill(process):
    """SIGKILL to a child of a server that this test started."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pytest.fail("the helper was gone before it was killed")
