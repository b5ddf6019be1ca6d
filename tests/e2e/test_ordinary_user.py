"""The server without root: what it refuses, what it runs when told to do without, and that the walls hold there too.

As root, the real binary is started as a user that no host has; else as whoever runs the tests. The attacks are those of
`test_attacks.py`, where their positive controls are; here the victim, and one more canary, belong to the very user who runs the
server and whom the functions are outside.
"""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from harness import functions, host, rungs
from harness.account import Account
from harness.neighbour import Neighbour
from harness.remains import Before, Remains
from harness.server import Server
from harness.stage import Stage
from harness.waiting import wait_until
from test_attacks import ATTACKS, Scene, mark, watched

#: Normally a fraction of a second.
GONE_DEADLINE_S = 60
#: What this user cannot have on any host, as `serve` is told.
ALWAYS_WITHOUT = "--function-tmp memory"
#: Attacks that succeed where the protection is done without: memory is not limited, idle functions are not frozen.
NOT_CLAIMED = {"processes.compute_on": "freezer", "resources.take_heap": "memory limit",
               "resources.take_memory_file": "memory limit", "resources.take_shared_memory_file": "memory limit",
               "resources.take_memory_by_children": "memory limit", "resources.take_kernel_memory": "memory limit"}


@pytest.fixture(scope="module")
def account():
    """The ordinary user."""
    with Account() as account:
        yield account


@pytest.fixture(scope="module")
def findings(account):
    """What `doctor` found for him; skips where this kernel lets him make no environments."""
    findings = account.findings()
    for row in findings.values():
        if row["verdict"] == "missing":
            pytest.skip(f"{row['name']}: {row['detail']}")
    return findings


@pytest.fixture(scope="module")
def without(findings):
    """The words that `serve` needs here, one per protection."""
    return [row["flag"] for row in findings.values() if row["flag"]]


@pytest.fixture(scope="module")
def runtime(account):
    """A Python that he may run."""
    return account.newest("python3.") or pytest.skip("no Python runtime that an ordinary user may run is on this host")


@pytest.fixture
def start(account, without):
    """Starts servers as the user, and stops what the test leaves running."""
    made = []

    def start(name):
        made.append(Server(account.folder(name), arguments=" ".join(without).split(), account=account).start())
        return made[-1]

    yield start
    for server in made:
        if server.alive():
            server.stop()


def test_doctor_tells_for_each_protection(account, findings, without):
    """Enforced, needs a flag (which it names), or not possible, each with what to do."""
    for name in ("user namespaces", "seccomp", "process limit"):
        assert findings[name]["verdict"] == "good", findings[name]
    assert findings["/tmp on disk"]["flag"] == ALWAYS_WITHOUT
    assert findings["internet access"]["verdict"] == "degraded"
    for row in findings.values():
        assert bool(row["advice"]) == (row["verdict"] != "good"), row
        assert (row["verdict"] == "flag") == bool(row["flag"]), row
        assert not row["flag"] or f"`{row['flag']}`" in row["advice"], row
    told = account.run("doctor")
    assert told.returncode == 1, "what `serve` refuses is no success"
    command = told.stdout.strip().splitlines()[-1].strip()
    assert command.startswith("freehold serve ") and words(command) == words(" ".join(without))


def words(text):
    """Single words of a command line; lists taken apart."""
    return {word for each in text.replace("freehold serve", "").split() for word in each.split(",")}


def test_serve_refuses_without_the_words(account, without):
    """Nothing weaker than configured starts: the refusal names every word that is missing, and nothing is left running."""
    for left_out in [without, *([each] for each in without)]:
        given = " ".join(each for each in without if each not in left_out).split()
        refused = account.run("serve", "--listen", "127.0.0.1:0", "--data", account.home / "refused", *given)
        assert refused.returncode == 1 and not refused.stdout
        line = next(line for line in refused.stderr.splitlines() if "adding to `freehold serve`: " in line)
        assert words(line.split("`: ")[1]) == words(" ".join(left_out)), refused.stderr
        assert "as root" in refused.stderr
    assert not [each for each in host.processes() if str(account.home / "refused").encode() in host.read(f"/proc/{each}/cmdline")]


def test_serve_refuses_internet_access(account, without):
    """Functions reach the internet only through what root makes."""
    arguments = " ".join(without).split() + ["--function-network", "internet"]
    refused = account.run("serve", "--listen", "127.0.0.1:0", "--data", account.home / "internet", *arguments)
    assert refused.returncode == 1 and "only where the server runs as root" in refused.stderr


def test_quickstart_says_what_is_weaker(account, findings, runtime):
    """It works, names each protection that is missing, and leaves nothing."""
    before = set(Path("/tmp").glob("freehold-quickstart-*"))
    shown = account.run("quickstart")
    assert shown.returncode == 0, shown.stderr
    assert "Hello, Alice!" in shown.stdout
    for row in findings.values():
        assert (f"no {row['name']} " in shown.stdout) == (row["verdict"] == "flag")
    assert set(Path("/tmp").glob("freehold-quickstart-*")) <= before


#: As who lives in a namespace of his own, he may turn its switches: no namespace more; /proc partly covered.
CLOSED = {
    "the kernel refuses new user namespaces": "echo 0 > /proc/sys/user/max_user_namespaces",
    "/proc cannot be mounted": "mount --bind /dev/null /proc/uptime",
}


@pytest.mark.parametrize("reason", CLOSED)
def test_a_host_that_forbids_namespaces_is_refused(account, without, reason):
    """Whatever flags are given: where the kernel lets this user make no environments, it says why and what to do."""
    def inside(*arguments):
        script = f'{CLOSED[reason]} && exec "$@"'
        command = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", script, "sh", account.program]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, cwd="/", check=False,
                              env=account.environment, **account.identity)

    told = inside("doctor")
    assert told.returncode == 1 and reason in told.stdout, told.stderr
    assert "This host cannot run functions as it is." in told.stdout
    data = account.home / f"closed-{len(reason)}"
    refused = inside("serve", "--listen", "127.0.0.1:0", "--data", data, *" ".join(without).split())
    assert refused.returncode == 1 and reason in refused.stderr and "as root" in refused.stderr, refused.stderr


SOURCE = '''import os, time
def handler(event, context):
    time.sleep(event.get("work_s", 0))
    if event.get("daemon") and os.fork() == 0:
        os.setsid()
        while True: time.sleep(0.1)
    if event.get("exit"): os._exit(1)
    return {"user": os.getuid(), "said": event.get("say"), "name": os.environ["NAME"]}
'''


def deploy(server, runtime, **settings):
    """A function on this server, whose processes bear a mark. They boot: the kernel shows no variables of copies."""
    variables = {"NAME": "ordinary", "MARK": mark()} | rungs.BOOTS["python"]
    function = functions.create(server.client(), "ordinary", runtime, "lambda_function.handler", {"lambda_function.py": SOURCE},
                                Environment={"Variables": variables}, **settings)
    function.mark = variables["MARK"]
    return function


def test_functions_run(start, runtime, account):
    """Created, invoked, warm, timed out, crashed, restarted: as anywhere else."""
    server = start("runs")
    function = deploy(server, runtime, Timeout=2)
    assert function({"say": "hello"}).value() == {"user": 993, "said": "hello", "name": "ordinary"}
    assert "Init Duration" not in function({}).log, "the second one is warm"
    assert function({"work_s": 30}).failure()[0] == "Sandbox.Timedout"
    assert function({"exit": True}).failure()[0] == "Runtime.ExitError"
    assert function({"say": "again"}).value()["said"] == "again"
    if account.identity:
        users = {os.stat(f"/proc/{each}/task").st_uid for each in host.with_variable(function.mark)}
        assert users == {account.number}, "outside, a function without a user of its own is the user"
    server.kill()
    again = Server(server.data, arguments=server.arguments, account=account).start()
    assert functions.Function(again.client(), "ordinary", None)({"say": "kept"}).value()["said"] == "kept"
    again.client().delete_function(FunctionName="ordinary")
    wait_until(lambda: not host.with_variable(function.mark), "its environments end")
    assert again.stop() == 0


def test_node_runs_in_little_memory(start, account):
    """Where only processes can be limited, Node.js and its threads still fit into the smallest function."""
    runtime = account.newest("nodejs") or pytest.skip("no Node.js runtime that an ordinary user may run is on this host")
    source = (
        "const {Worker} = require('worker_threads')\n"
        "exports.handler = async event => { const list = []\n"
        "for (let n = 0; n < 40; n++) list.push(Buffer.alloc(1 << 20, 1))\n"
        "return await new Promise(done => new Worker('require(\"worker_threads\").parentPort.postMessage(42)', {eval: true})"
        ".on('message', done)) }\n")
    function = functions.create(start("node").client(), "node", runtime, "index.handler", {"index.js": source}, MemorySize=128)
    assert function({}).value() == 42


@pytest.mark.parametrize("end", ["stop", "kill", "kill with the helper"])
def test_nothing_is_left(start, runtime, end):
    """After a stop and after kill -9, of the server alone or with its helper, no process, namespace or mount is left."""
    before = Before()
    server = start(f"ends-{end.replace(' ', '-')}")
    assert deploy(server, runtime)({"daemon": True}).error is None
    remains = Remains(server, before)
    assert len(remains.processes) >= 3 and remains.namespaces
    if end == "stop":
        assert server.stop() == 0
    elif end == "kill":
        server.kill()
    else:
        helpers = [each for each in host.descendants(server.pid) if host.status_fields(each)[1:2] == [str(server.pid).encode()]]
        assert helpers
        os.kill(server.pid, signal.SIGSTOP)  # it must not start another helper
        for helper in helpers:
            os.kill(helper, signal.SIGKILL)
        server.kill()
    wait_until(remains.gone, "nothing is left", GONE_DEADLINE_S)


class OrdinaryScene(Scene):
    """A server of the user's, whose functions attack him."""

    def __init__(self, stage, server, neighbour, runtime, account):
        super().__init__(stage, server, neighbour, runtime)
        self.victim = account.sleeper(stage.mark, stage.secret)
        canary = account.home / ".private-canary"
        canary.write_text(stage.secret, encoding="utf-8")
        os.chown(canary, account.number, -1)
        processes = [self.victim.pid, server.pid, *neighbour.target["neighbours"]]
        self.target |= {"victim": self.victim.pid, "processes": processes, "canaries": [str(canary), *stage.canaries]}


@pytest.fixture(scope="module")
def scene(account, without, runtime):
    """A user's server, a neighbour, and the user's own processes and files as targets."""
    if os.geteuid() != 0:
        pytest.skip("the attacks' targets are planted as root")
    with Stage() as stage:
        arguments = " ".join(without).split()
        data = account.folder("attacked")
        with Server(data, {"SECRET": stage.secret}, arguments, account) as server:
            neighbour = Neighbour(server.client(), runtime, stage.secret)
            scene = OrdinaryScene(stage, server, neighbour, runtime, account)
            try:
                yield scene
            finally:
                neighbour.stop()
                scene.victim.kill()
                scene.victim.wait()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack, scene, findings):
    """Every attack fails here too, but for what the words on the command line name."""
    protection = NOT_CLAIMED.get(attack.name)
    if protection and findings[protection]["verdict"] != "good":
        pytest.skip(f"{attack.name} as an ordinary user: done without {protection}, as the server was told")
    target = scene.target | {"mark": mark()} | attack.target
    failures = len(scene.neighbour.failures)

    outcome = watched(attack, target, lambda: scene.run(attack, target))

    assert not outcome["succeeded"], outcome["detail"]
    assert scene.server.healthy(), "the server still answers"
    assert scene.victim.poll() is None, "a process of the user's was killed"
    assert scene.neighbour.failures[failures:] == [], "the neighbour failed meanwhile"


def test_the_user_can_still_start_processes_beside_a_fork_bomb(scene, account):
    """What the kernel counts per user is shared with the functions, but they cannot take all of it."""
    source = ("import os, time\ndef handler(event, context):\n    count = 0\n    try:\n        while True:\n"
              "            if os.fork() == 0: time.sleep(60)\n            count += 1\n    except OSError: time.sleep(event['hold_s'])\n"
              "    return count\n")
    bomb = functions.create(scene.server.client(), "bomb", scene.python, "lambda_function.handler", {"lambda_function.py": source},
                            Timeout=30)
    counts = []
    thread = threading.Thread(target=lambda: counts.append(bomb({"hold_s": 2}).value()))
    thread.start()
    started = 0
    while thread.is_alive():
        subprocess.run(["/bin/true"], cwd="/", check=True, **account.identity)
        started += 1
    thread.join()
    assert counts and 900 < counts[0] < 1024 and started, "it was bounded by AWS's 1,024, and the user went on"
