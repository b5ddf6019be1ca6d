"""Functions that try to get out or to hurt the host: none succeeds inside, each is seen to succeed outside.

The table ties attack, control and witness together. `test_control` runs an attack on the host as root (bounded, or in
namespaces of its own where it would do harm) and must see it succeed; `test_attack` runs the same code as a function and
must see it fail, while a neighbour keeps answering.
"""

import functools
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import functions, host, rungs, witness
from harness.neighbour import Neighbour
from harness.server import Server
from harness.stage import Greeter, Stage
from harness.waiting import wait_until

FOLDER = Path(__file__).parent
NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
#: What the kernel says of things that it was built without; a control that meets only these proves nothing and is skipped.
LACKING = ("ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ENODEV", "ENOPKG", "ENOENT", "ESOCKTNOSUPPORT", "ENXIO")
#: How an environment may end at an attacker's hands.
ENDS = ("Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "Runtime.Unknown")
CAP_SYS_RESOURCE = 24
NEIGHBOUR_SLOWEST_S = 20
CONTROL_TIMEOUT_S = 120
#: What a control's outcome may take, which names every process of the host: behind as much output as a flood writes.
OUTCOME_BYTES = 16 << 20


@dataclass(frozen=True)
class Attack:
    """A row of the table."""

    name: str
    #: Where the control runs: root, namespaces, neighbour (in its network), jail, nobody, terminal or descriptors.
    control: str = "root"
    #: Further target values, for both sides and for the control alone.
    target: dict = field(default_factory=dict)
    outside: dict = field(default_factory=dict)
    #: Looks at the attack from the host, where its success does not show from inside.
    witness: Callable | None = None
    #: Whether the control needs the real server and neighbour.
    scene: bool = False
    #: The function's settings; whether its environment may die of the attack.
    settings: dict = field(default_factory=dict)
    may_die: bool = False
    #: The capability (by number) without which even this host's root cannot show the control.
    capability: int | None = None
    #: Kill the control after so long, as a timeout would.
    cut_s: float | None = None
    #: Takes seconds each time: not on every rung.
    slow: bool = False


ATTACKS = [
    Attack("files.read_host_files"),
    Attack("files.read_host_accounts"),
    Attack("files.read_through_proc"),
    Attack("files.read_through_symlink"),
    Attack("files.read_by_handle"),
    Attack("files.use_inherited_descriptors", "descriptors"),
    Attack("files.read_data_folder", scene=True),
    Attack("files.find_neighbour_code", scene=True),
    Attack("files.read_neighbour_tmp", scene=True),
    Attack("files.read_shared_memory_file"),
    Attack("files.write_code"),
    Attack("files.write_system"),
    Attack("files.overwrite_programs"),
    Attack("files.run_setuid", "nobody"),
    Attack("files.make_device"),
    Attack("files.open_host_devices"),
    Attack("files.read_kernel_memory"),
    Attack("files.read_host_tables"),
    Attack("files.escape_chroot", "jail", outside={"folder": "/tmp"}),
    Attack("privileges.hold_capabilities"),
    Attack("privileges.become_root"),
    Attack("privileges.share_host_namespaces"),
    Attack("privileges.make_namespaces"),
    Attack("privileges.make_namespaces_by_clone"),
    Attack("privileges.join_host_namespaces"),
    Attack("privileges.mount_filesystems", "namespaces"),
    Attack("privileges.unmount_filesystems", "namespaces"),
    Attack("privileges.pivot_root", "namespaces"),
    Attack("privileges.write_kernel_switches"),
    Attack("privileges.write_cgroups", "namespaces"),
    Attack("privileges.load_kernel_module"),
    Attack("privileges.replace_kernel"),
    Attack("privileges.reboot_host", "namespaces"),
    Attack("privileges.swap_and_account"),
    Attack("privileges.load_bpf"),
    Attack("privileges.open_perf_events"),
    Attack("privileges.open_io_uring"),
    Attack("privileges.open_userfaultfd"),
    Attack("privileges.use_keyrings"),
    Attack("privileges.set_clock"),
    Attack("privileges.set_host_name", "namespaces"),
    Attack("privileges.use_ports"),
    Attack("privileges.inject_into_terminal", "terminal"),
    Attack("privileges.use_compat_system_calls", may_die=True),
    Attack("privileges.raise_priority"),
    Attack("privileges.escape_out_of_memory", capability=CAP_SYS_RESOURCE),
    Attack("privileges.raise_limits"),
    Attack("processes.see_host_processes"),
    Attack("processes.read_environments", scene=True),
    Attack("processes.read_memory", scene=True),
    Attack("processes.trace_processes"),
    Attack("processes.steal_descriptors"),
    Attack("processes.kill_by_number", target={"sacrifice": True}),
    Attack("processes.kill_everyone", "namespaces", may_die=True),
    Attack("processes.live_on", target={"work_s": 30}, witness=witness.sees_daemon, settings={"Timeout": 4}, may_die=True,
           cut_s=4, slow=True),
    Attack("processes.compute_on", witness=witness.sees_computing),
    Attack("processes.fork_bomb", target={"processes_wanted": 1200}, outside={"limit_s": 60}, may_die=True,
           settings={"MemorySize": 2048}, slow=True),
    Attack("processes.thread_bomb", target={"processes_wanted": 1200}, may_die=True, settings={"MemorySize": 512}),
    Attack("network.reach_host_loopback"),
    Attack("network.reach_host_addresses"),
    Attack("network.reach_neighbour", "neighbour", scene=True),
    Attack("network.serve_on_host_port", target={"listen_s": 1.5}, outside={"listen_s": 60},
           witness=witness.sees_port),
    Attack("network.open_raw_sockets"),
    Attack("network.open_strange_sockets"),
    Attack("network.open_vsock"),
    Attack("network.reconfigure_network", "namespaces"),
    Attack("network.reach_host_sockets"),
    Attack("network.read_host_shared_memory"),
    Attack("network.poison_runtime_api"),
    Attack("network.hoard_connections", target={"connections": 900, "hold_s": 1.5}, outside={"hold_s": 8},
           witness=witness.misses_answers, slow=True),
    Attack("resources.take_heap", target={"mib": 512}, settings={"MemorySize": 128}, may_die=True),
    Attack("resources.take_memory_file", target={"mib": 512}, settings={"MemorySize": 128}, may_die=True),
    Attack("resources.take_shared_memory_file", target={"mib": 512}, settings={"MemorySize": 128}, may_die=True),
    Attack("resources.take_memory_by_children", target={"mib": 512}, settings={"MemorySize": 128}, may_die=True),
    Attack("resources.take_kernel_memory", target={"mib": 384}, settings={"MemorySize": 128}, may_die=True),
    Attack("resources.fill_tmp", target={"mib": 544}),
    Attack("resources.open_many_files", target={"files": 1500}),
    Attack("resources.exhaust_watches", target={"hold_s": 1}, outside={"hold_s": 3}, witness=witness.loses_watches),
    Attack("resources.exhaust_signals", target={"hold_s": 1, "signals": 1_000_000}, outside={"hold_s": 3},
           witness=witness.loses_timers),
    Attack("resources.flood_log", target={"flood_bytes": 1 << 30, "flood_s": 4},
           outside={"flood_bytes": 400 << 20, "flood_s": 60}, witness=witness.sees_growth, slow=True),
]

#: Slow attacks meet what bounds a machine, however its process began: they run where processes are made in a new way.
LADDER = [(attack, rung) for attack in ATTACKS for rung in rungs.RUNGS
          if not (attack.slow and rungs.COPIES and rung in ("booted", "thawed"))]


@pytest.fixture(scope="module")
def stage():
    """The canaries on the host."""
    if os.geteuid() != 0:
        pytest.skip("the attack suite plants canaries and runs controls as root")
    with Stage() as stage:
        yield stage


class Scene:
    """A server of our own, with a neighbour who answers all the while."""

    def __init__(self, stage, server, neighbour, python):
        self.stage, self.server, self.neighbour, self.python = stage, server, neighbour, python
        package = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in (FOLDER / "attacks").glob("*.py")}
        package["setuid-sleep"] = Path("/bin/sleep").read_bytes()
        self.package = functions.zip_of(package, {"setuid-sleep": 0o4755})
        own = neighbour.target
        self.target = stage.target | own | {
            "data": str(server.data), "grows": str(server.data), "server": server.pid, "health": server.url + "/health",
            "processes": [stage.victim.pid, server.pid, *own["neighbours"]]}

    def run(self, attack, target, rung=None):
        """Runs an attack as a function, on a rung if one is asked for: its outcome, or how it ended."""
        name, settings = f"attack-{attack.name.replace('.', '-')}", {"MemorySize": 256, "Timeout": 60} | attack.settings
        if rung is None:
            function = functions.create(self.server.client(), name, self.python, "attacks.run.handler", self.package, **settings)
            return self.outcome(attack, function({"attack": attack.name, "target": target}, tail=False))[0]
        function, how = self.ladder.create(rung, f"{name}-{rung}", "attacks.run.handler", self.package, **settings)
        if rung == "thawed":
            name = mark()
            function({"attack": None, "name": name}, tail=False).value()
            rungs.freeze(name)
        answer = function({"attack": attack.name, "target": target}, tail=attack.may_die, **how)
        outcome, place = self.outcome(attack, answer)
        rungs.prove(rung, place or rungs.place_in(answer.log))
        return outcome

    @staticmethod
    def outcome(attack, answer):
        """An attack's outcome, and its environment's place where it lived to tell."""
        if answer.error is None:
            return answer.json, answer.json["place"]
        kind, message = answer.failure()
        assert attack.may_die and kind in ENDS, f"the attack is broken, not refused: {answer.raw.decode()}"
        return {"succeeded": False, "detail": f"{kind}: {message}"}, None

    @functools.cached_property
    def ladder(self):
        """Functions on each rung; the runtime's image is there once this is."""
        return rungs.Ladder(self.server.client(), self.python)


@pytest.fixture(scope="module")
def scene(stage, work_folder, python):
    """The server whose functions attack, and the neighbour who must not notice."""
    with Server(work_folder / f"attacked-{stage.mark}", variables={"SECRET": stage.secret}) as server:
        neighbour = Neighbour(server.client(), python, stage.secret)
        try:
            yield Scene(stage, server, neighbour, python)
        finally:
            neighbour.stop()


def watched(attack, target, run):
    """Runs `run` while the attack's witness looks on: the outcome, the witness's word included."""
    if attack.witness is None:
        return run()
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run()))
    thread.start()
    seen = attack.witness(target, thread.is_alive)
    thread.join()
    assert outcomes, "the attack did not run (see the thread's traceback)"
    if seen:
        return {"succeeded": True, "detail": seen}
    return outcomes[0]


def mark():
    """A name for processes, short enough for the kernel, that nobody else has."""
    return f"fh{secrets.token_hex(6)}"


@pytest.mark.parametrize("attack, rung", LADDER, ids=lambda each: getattr(each, "name", each))
def test_attack(attack, rung, scene):
    """An attack fails inside, wherever the environment began, and neither server, victim nor neighbour takes harm."""
    if rung == "restored" and scene.python not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{scene.python} has no SnapStart")
    target = scene.target | {"mark": mark()} | attack.target
    failures = len(scene.neighbour.failures)

    outcome = watched(attack, target, lambda: scene.run(attack, target, rung))

    assert not outcome["succeeded"], outcome["detail"]
    assert scene.server.healthy(), "the server still answers"
    assert scene.stage.victim.poll() is None, "a process of the host was killed"
    assert scene.neighbour.failures[failures:] == [], "the neighbour failed meanwhile"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_control(attack, stage, request, tmp_path):
    """The same attack is seen to succeed outside the sandbox: its failure inside is the sandbox's doing."""
    base = request.getfixturevalue("scene").target if attack.scene else stage.target
    stand_ins = {"mark": mark(), "grows": str(tmp_path)} | stand_in(attack, request)
    target = base | stage.outside() | stand_ins | attack.target | attack.outside
    if target.pop("sacrifice", False):
        target["victim"] = sacrifice(request).pid

    outcome = watched(attack, target, lambda: run_control(attack, target, tmp_path))

    reasons = set(outcome["detail"].values()) if isinstance(outcome["detail"], dict) else set()
    if attack.capability and not host.capabilities("self") >> attack.capability & 1:
        pytest.skip(f"root on this host lacks capability {attack.capability}, which the control of {attack.name} needs")
    if not outcome["succeeded"] and reasons and all(str(each).startswith(LACKING) for each in reasons):
        pytest.skip(f"this kernel was built without what {attack.name} needs: {sorted(map(str, reasons))}")
    assert outcome["succeeded"], outcome["detail"]


def run_control(attack, target, folder):
    """Runs an attack on the host: its outcome."""
    if attack.control != "neighbour":
        return run_outside(attack, target, folder, NAMESPACES if attack.control == "namespaces" else [])
    # A slow machine may have made the neighbour a second environment: all but the one used last are frozen, and mute.
    places = host.with_variable(target["neighbour_mark"])
    outcomes = [run_outside(attack, target, folder, ["nsenter", f"--net=/proc/{process}/ns/net"]) for process in places]
    return next((outcome for outcome in outcomes if outcome["succeeded"]), outcomes[0])


def run_outside(attack, target, folder, wrapper):
    """Runs an attack in a process of its own: the last line that it prints is its outcome."""
    command = [*wrapper, sys.executable, "-m", "attacks.run", attack.name, attack.control]
    output = folder / "control.out"
    with open(output, "wb") as stdout, open(folder / "control.err", "wb") as stderr:
        process = subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        process.stdin.write(json.dumps(target).encode())
        process.stdin.close()
        try:
            process.wait(attack.cut_s or CONTROL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            assert attack.cut_s, f"the control of {attack.name} did not end"
            return {"succeeded": False, "detail": "cut off, as by a timeout"}
    problem = (folder / "control.err").read_text(encoding="utf-8")
    assert process.returncode == 0, f"the control is broken: {problem}"
    with open(output, "rb") as file:
        file.seek(max(0, output.stat().st_size - OUTCOME_BYTES))
        return json.loads(file.read().rsplit(b"\n", 2)[-2])


def sacrifice(request):
    """A process that a control may kill."""
    process = subprocess.Popen(["sleep", "60"])
    request.addfinalizer(process.wait)
    request.addfinalizer(process.kill)
    return process


def stand_in(attack, request):
    """What a control talks to in place of the sandbox's own services."""
    if attack.name == "network.poison_runtime_api":
        greeter = Greeter(("127.0.0.1", 0), "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    elif attack.name == "network.hoard_connections":
        greeter = SlowServer()
    else:
        return {}
    request.addfinalizer(greeter.close)
    url = f"http://127.0.0.1:{greeter.port}"
    return {"runtime_api": url[7:], "endpoint": url, "health": url + "/health"}


class SlowServer(Greeter):
    """A server that waits for one client to end its request before it looks at the next: easily blocked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), "")

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                received = b""
                while b"\r\n\r\n" not in received and (more := connection.recv(4096)):
                    received += more
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_neighbour_kept_answering(scene):
    """Through all the attacks the neighbour always got its answers, and never waited long."""
    answers = scene.neighbour.answers
    wait_until(lambda: scene.neighbour.answers > answers, "the neighbour answers after the attacks")
    assert scene.neighbour.failures == []
    assert scene.neighbour.slowest_s < NEIGHBOUR_SLOWEST_S
    print(f"{scene.neighbour.answers} answers, the slowest after {scene.neighbour.slowest_s:.2f} s")


def test_neighbour_answers_while_others_compute(scene):
    """Three functions that use all the processor they get do not starve a fourth."""
    source = ("import os, time\ndef handler(event, context):\n    children = []\n    end = time.monotonic() + 2\n"
              "    for _ in range(4):\n        child = os.fork()\n        if child == 0:\n"
              "            while time.monotonic() < end: pass\n            os._exit(0)\n        children.append(child)\n"
              "    for child in children: os.waitpid(child, 0)\n")
    function = functions.create(scene.server.client(), "spinner", scene.python, "lambda_function.handler",
                                {"lambda_function.py": source}, MemorySize=128, Timeout=30)
    failures, answers = len(scene.neighbour.failures), scene.neighbour.answers
    spinners = [threading.Thread(target=function) for _ in range(3)]
    for spinner in spinners:
        spinner.start()
    for spinner in spinners:
        spinner.join()
    assert scene.neighbour.failures[failures:] == []
    assert scene.neighbour.answers > answers
