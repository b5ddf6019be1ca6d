"""Environments that begin from one image know nothing of each other, and are as good as booted ones."""

import itertools
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import functions, host, rungs
from harness.remains import Before, Remains
from harness.server import Server
from harness.waiting import wait_until

PROGRAMS = Path(__file__).parent / "programs"
SOURCES = {"python": ("lambda_function.py", "images.py"), "nodejs": ("lambda_function.js", "images.js")}
HANDLER = "lambda_function.handler"
NODE = "nodejs22.x"
#: How many environments are compared, and how long each of their events lasts: so that one does not serve two.
COPIES, PAUSE_S, AT_ONCE = 20, 1, 10
#: By how much the clocks of host and function may be apart on a machine that is busy.
CLOCK_S = 60
_numbers = itertools.count()


@pytest.fixture(scope="module")
def images(work_folder):
    """A server of this file's own."""
    with Server(work_folder / "images") as server:
        yield server


@pytest.fixture(params=["python", "nodejs"])
def runtime(request, images, python, need):
    """Python and Node.js, each with an image that is there."""
    return ready(images, python if request.param == "python" else need(NODE))


@pytest.fixture
def snake(images, python):
    """Python alone."""
    return ready(images, python)


_ready = set()


def ready(server, runtime):
    """The runtime, once environments begin from its image."""
    if (server.pid, runtime) not in _ready:
        rungs.image_of(server.client(), runtime, MemorySize=256)
        _ready.add((server.pid, runtime))
    return runtime


def trace():
    """A secret that nobody else has."""
    return f"trace-{secrets.token_hex(16)}"


def package(runtime, code):
    """The program of `programs/images.*` with a secret in its code."""
    name, source = SOURCES[rungs.family(runtime)]
    return functions.zip_of({name: (PROGRAMS / source).read_text(encoding="utf-8").replace("CODE_MARK", code)})


class Subject:
    """A function that tells of its environment, and what it keeps secret."""

    def __init__(self, server, runtime, copied=True, variables=None, **settings):
        self.copied = copied
        variables = {"VARIABLE": trace()} | (variables or {}) | ({} if copied else rungs.BOOTS[rungs.family(runtime)])
        settings = {"MemorySize": 256, "Timeout": 60} | settings
        self.function = functions.create(server.client(), f"image-{next(_numbers)}", runtime, HANDLER, package(runtime, trace()),
                                         Environment={"Variables": variables}, **settings)

    def whole(self, deed, how=None, **event):
        """The answer to an event with who gave it; it was given by a copy, or by none."""
        value = self.function({"do": deed} | event, tail=False, **(how or {})).value()
        assert (value["program"] == rungs.COPY) == self.copied, value["program"]
        return value

    def __call__(self, deed, how=None, **event):
        return self.whole(deed, how, **event)["answer"]


def apart(knowers):
    """Each of `{label: (own secrets, found secrets)}` finds its own and nobody else's."""
    for label, (own, found) in knowers.items():
        assert set(own) <= set(found), f"{label} did not even find its own: the search is blind"
        for other, (secret, _) in knowers.items():
            seen = (set(secret) - set(own)) & set(found)
            assert not seen, f"{label} sees of {other}: {seen}"


def test_functions_on_one_image_do_not_see_each_other(images, runtime):
    """Variables, credentials, code, globals and files of one are nowhere in another's memory, files and /proc."""
    subjects = {number: Subject(images, runtime) for number in range(3)}
    empty = {"/tmp": [], "/dev/shm": []}
    own = {}
    for number, subject in subjects.items():
        assert subject("files") == empty, "what others left"
        own[number] = subject("own")
    apart({number: (own[number], subject("search")) for number, subject in subjects.items()})
    late = Subject(images, runtime)
    assert late("files") == empty
    apart({number: (secret, own[number]) for number, secret in own.items()} | {"late": (late("own"), late("search"))})


def test_versions_do_not_see_each_other(images, runtime):
    """Two versions of one function, with other code and variables."""
    subject = Subject(images, runtime)
    first = {"Qualifier": rungs.publish(subject.function)}
    second = publish_another(subject, runtime)
    own = {each["Qualifier"]: subject("own", each) for each in (first, second)}
    apart({each["Qualifier"]: (own[each["Qualifier"]], subject("search", each)) for each in (first, second)})


def publish_another(subject, runtime):
    """Changes a subject's code and variables and publishes that: the qualifier."""
    client, name = subject.function.client, subject.function.name
    client.update_function_code(FunctionName=name, ZipFile=package(runtime, trace()))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"VARIABLE": trace()}})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return {"Qualifier": rungs.publish(subject.function)}


def test_versions_never_share_a_snapshot(images, snake):
    """SnapStart: what one version's Init made is in its own environments, and in no other version's."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    subject = Subject(images, snake, SnapStart=rungs.SNAP_START)
    first = {"Qualifier": rungs.publish(subject.function)}
    second = publish_another(subject, snake)
    own = {each["Qualifier"]: subject("own", each) for each in (first, second)}
    assert not set(own["1"]) & set(own["2"])
    apart({each["Qualifier"]: (own[each["Qualifier"]], subject("search", each)) for each in (first, second)})
    # Another function's copies of the runtime's image have nothing of it either, made before or after.
    other = Subject(images, snake)
    apart({"other": (other("own"), other("search"))} | {number: (each, each) for number, each in own.items()})


#: What Init may set, by name: how it does, how the handler looks at it, what it must see.
SET_IN_INIT = {
    "a variable": ("os.environ['SET'] = 'by init'", "os.environ.get('SET')", "by init"),
    "another value": ("os.environ['VARIABLE'] = 'by init'", "os.environ['VARIABLE']", "by init"),
    "no variable": ("del os.environ['VARIABLE']", "os.environ.get('VARIABLE')", None),
    "the folder": ("os.chdir('/tmp')", "os.getcwd()", "/tmp"),
    "the umask": ("os.umask(0o77)", "os.umask(0o77)", 0o77),
    "a signal handler": ("signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))",
                         "[os.kill(os.getpid(), signal.SIGUSR1), seen[:1]][1]", [1]),
    "blocked signals": ("signal.pthread_sigmask(signal.SIG_BLOCK, [12])", "[int(each) for each in signal.pthread_sigmask(0, [])]", [12]),
    "a limit": ("resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))", "list(resource.getrlimit(resource.RLIMIT_NOFILE))", [99, 99]),
    "the priority": ("os.nice(3)", "os.nice(0)", 3),
    "a thread": ("threading.Thread(target=event.wait, daemon=True).start()", "[event.set(), threading.active_count()][1]", 2),
}


@pytest.mark.parametrize("what", SET_IN_INIT)
def test_what_init_set_is_there_after_a_restore(images, snake, what):
    """A snapshot is of the process that ran Init: what that made of itself goes on, as on AWS and as in a booted environment."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    how, look, expected = SET_IN_INIT[what]
    source = ("import os, resource, signal, threading\nseen, event = [], threading.Event()\n"
              f"{how}\ndef handler(*_):\n    return [os.readlink('/proc/self/exe') == {rungs.COPY!r}, {look}]\n")
    subject = Subject(images, snake, SnapStart=rungs.SNAP_START)
    change(subject, source)
    assert subject.function(tail=False).value()[1] == expected, "the unpublished code, whose Init runs in each environment"
    restored = {"Qualifier": rungs.publish(subject.function)}
    assert subject.function(tail=False, **restored).value() == [True, expected]


def test_tenants_do_not_see_each_other(images, snake):
    """What one tenant's events brought, and its credentials, are in its own environment alone."""
    subject = Subject(images, snake, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    tenants = {name: {"TenantId": name} for name in ("blue", "green")}
    given = {name: trace() for name in tenants}
    for name, how in tenants.items():
        assert subject("files", how) == {"/tmp": [], "/dev/shm": []}
        subject("own", how, given=given[name])
    # Code and variable are the same for both; `given` and what init made are not.
    own = {name: subject("own", how) for name, how in tenants.items()}
    apart({name: (own[name], subject("search", how)) for name, how in tenants.items()})
    assert all(given[name] in own[name] for name in tenants)


def test_a_copy_has_the_walls_of_a_booted_one(images, runtime):
    """Rights, filters, limits, signals, descriptors, mounts and place among processes are the same."""
    booted, copied = Subject(images, runtime, copied=False)("walls"), Subject(images, runtime)("walls")
    assert booted["Seccomp"] == "2" and booted["NoNewPrivs"] == "1"
    differs = {name: (booted[name], copied[name]) for name in booted if booted[name] != copied[name]}
    assert not differs


def test_a_restored_version_has_the_walls_of_a_booted_one(images, snake):
    """The same for SnapStart."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    booted, subject = Subject(images, snake, copied=False)("walls"), Subject(images, snake, SnapStart=rungs.SNAP_START)
    copied = subject("walls", {"Qualifier": rungs.publish(subject.function)})
    differs = {name: (booted[name], copied[name]) for name in booted if booted[name] != copied[name]}
    assert not differs


def drawn(subject, how=None):
    """What many environments of a function drew first, by environment."""
    found = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        def several():
            answers = [pool.submit(subject.whole, "pause", how, seconds=PAUSE_S) for _ in range(AT_ONCE)]
            for answer in answers:
                value = answer.result()
                found.setdefault(value["environment"], value["answer"])
            return len(found) > AT_ONCE // 2

        wait_until(several, "enough environments answer")
    return list(found.values())


def all_differ(draws):
    """No source gave two environments the same."""
    repeat = {source: [each[source] for each in draws] for source in draws[0]
              if len({str(each[source]) for each in draws}) < len(draws)}
    assert not repeat, f"repeats between copies: {repeat}"


def test_random_numbers_of_copies_differ(images, runtime):
    """Every source of randomness, over copies of one image that serve several functions."""
    draws = []
    while len(draws) < COPIES:
        draws += drawn(Subject(images, runtime))
    all_differ(draws)


def change(subject, source):
    """Gives a Python subject other code."""
    client, name = subject.function.client, subject.function.name
    client.update_function_code(FunctionName=name, ZipFile=functions.zip_of({"lambda_function.py": source}))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def test_random_numbers_of_restored_versions_differ(images, snake):
    """Also where Init has drawn from every source before the snapshot."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    subject = Subject(images, snake, SnapStart=rungs.SNAP_START)
    source = (PROGRAMS / "images.py").read_text(encoding="utf-8") + "\n\ndraw({})\n"
    change(subject, source)
    all_differ(drawn(subject, {"Qualifier": rungs.publish(subject.function)}))


def test_keys_of_restored_versions_differ(images, snake):
    """What `multiprocessing` made in Init for its processes to know each other by."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    subject = Subject(images, snake, SnapStart=rungs.SNAP_START)
    source = (PROGRAMS / "images.py").read_text(encoding="utf-8") + "\n\nkey({})\ndraw = lambda event: {'key': key(event)}\n"
    change(subject, source)
    all_differ(drawn(subject, {"Qualifier": rungs.publish(subject.function)}))


def test_keys_of_copies_differ(images, snake):
    """The same where it is the handler that imports it."""
    values = [Subject(images, snake)("key") for _ in range(4)]
    assert len(set(values)) == len(values)


@pytest.mark.xfail(strict=True, reason="V8's own generator, which seeds `Math.random` of further contexts, is that of the image")
def test_random_numbers_of_contexts_differ(images, need):
    """`Math.random` in a context that the function makes (`vm`)."""
    node = ready(images, need(NODE))
    values = [Subject(images, node)("context") for _ in range(4)]
    assert len(set(values)) == len(values)


def test_random_numbers_of_workers_differ(images, need):
    """Node's worker threads have generators of their own."""
    node = ready(images, need(NODE))
    values = [Subject(images, node)("worker") for _ in range(4)]
    assert len(set(values)) == len(values)


def test_a_copy_works_as_a_process_should(images, runtime):
    """Number, threads, children, signals and clocks."""
    told = Subject(images, runtime)("work")
    assert len(set(told["number"])) == 1, told["number"]
    assert all(told["goes on"])
    assert abs(told["now"] - time.time()) < CLOCK_S
    if rungs.family(runtime) == "python":
        assert (told["caught"], told["threads"], told["sent"]) == ([10, 14], list(range(30)), "sent")
    else:
        assert told["caught"] == "SIGUSR2"


#: What a version's Init may do to whoever captures it: what it maps, opens and starts, and what it says at the gate itself.
HOSTILE_INITS = {
    "many mappings": "for n in range(30000): keep.append(mmap.mmap(-1, 4096, prot=1 + 2 * (n % 2)))",
    "much address space": "keep.append(mmap.mmap(-1, 1 << 37, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000))",
    "shared memory": "keep.append(mmap.mmap(-1, 1 << 20))",
    "a memory file": "keep.append(os.memfd_create('x')); os.ftruncate(keep[-1], 1 << 40)",
    "a file that is gone": "keep.append(open('/tmp/x', 'w+')); os.unlink('/tmp/x')",
    "sockets": "keep += socket.socketpair(); keep.append(socket.create_server(('127.0.0.1', 0)))",
    "many descriptors": "[keep.append(os.open('/dev/null', 0)) for _ in range(900)]",
    "a child": "os.fork() or os.execv('/bin/sleep', ['sleep', '1000'])",
    "many threads": "[threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for _ in range(200)]",
    "a busy thread": "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()",
    "a false gate": "[write(n, b'here') for n in range(3, 30)]",
    "a false gate, waiting": "[write(n, b'here') for n in range(3, 30)]; time.sleep(1000)",
    "a closed gate": "os.closerange(3, 100)",
    "another at the gate": "[dup(n) for n in range(3, 10)]",
    "not to be dumped": "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)",
    "much memory": "keep.append(b'x' * (400 << 20))",
}


@pytest.mark.parametrize("what", HOSTILE_INITS)
def test_an_init_that_resists_being_captured_harms_itself_alone(images, snake, what):
    """Its version becomes Failed or works; server, other versions and the runtime's image go on as they were."""
    if snake not in rungs.SNAP_START_RUNTIMES:
        pytest.skip(f"{snake} has no SnapStart")
    client = images.client()
    neighbour = Subject(images, snake)
    before = neighbour.whole("own")["environment"]
    source = ("import ctypes, mmap, os, socket, threading, time\nkeep = []\n"
              "def write(number, text):\n    try: os.write(number, text)\n    except OSError: pass\n"
              "def dup(number):\n    try: os.dup2(os.open('/dev/null', 2), number)\n    except OSError: pass\n"
              f"{HOSTILE_INITS[what]}\ndef handler(event, context):\n    return event\n")
    function = functions.create(client, f"image-{next(_numbers)}", snake, HANDLER, {"lambda_function.py": source}, Timeout=5,
                                MemorySize=256, SnapStart=rungs.SNAP_START)
    version = client.publish_version(FunctionName=function.name)["Version"]

    def settled():
        shown = client.get_function_configuration(FunctionName=function.name, Qualifier=version)
        return shown if shown["State"] in ("Active", "Failed") else None

    shown = wait_until(settled, "the version is Active or Failed")
    if shown["State"] == "Failed":
        assert shown["StateReason"] and shown["StateReasonCode"]
    else:
        answer = function(7, tail=False, Qualifier=version)
        # Who says at the gate that Init is over, though it is not, gets environments that are in the middle of it.
        lied = what.startswith("a false gate") and answer.error and answer.failure()[0] in ("Sandbox.Timedout", "Runtime.ExitError")
        assert lied or (answer.error is None and answer.json == 7), answer.raw
    assert images.healthy()
    assert neighbour.whole("own")["environment"] == before, "the neighbour's environment lives on"
    Subject(images, snake)("own")  # still a copy


def test_what_a_function_does_to_shared_modules_is_its_own(images, runtime):
    """Patched modules, variables, the working folder and the umask are as ever in the next environment."""
    before = Subject(images, runtime)("unspoilt")
    spoiler = Subject(images, runtime)
    assert spoiler("spoil") == "spoilt"
    after = Subject(images, runtime)("unspoilt")
    assert before == after
    assert after == ([[1], True, None, "/var/task", "0o22", "/tmp"] if rungs.family(runtime) == "python"
                     else [True, True, True, True, "/var/task"])


def test_the_image_cannot_be_changed(images, snake):
    """Its memory is sealed: no copy writes to it, makes it longer, or locks others out of it."""
    told = Subject(images, snake)("write_image")
    assert told["refused"] and not told["done"], told


def test_copies_keep_the_memory_limit(images, runtime):
    """More than the function has is Runtime.OutOfMemory, for the function alone, and the next environment is fine."""
    subject, neighbour = Subject(images, runtime), Subject(images, runtime)
    before = neighbour.whole("own")["environment"]
    answer = subject.function({"do": "take", "mib": 1024}, tail=False)
    assert answer.failure()[0] == "Runtime.OutOfMemory", answer.raw
    assert subject("files") == {"/tmp": [], "/dev/shm": []}
    assert neighbour.whole("own")["environment"] == before


#: Variables that interpreters read as they start: source that shows their effect, what it answers with and without.
READ_AT_START = {
    "TZ": ("python", "XYZ-3", "import time; return time.timezone", -10800, 0),
    "PYTHONHASHSEED": ("python", "0", "return hash('a') == hash_with_seed_0()", True, False),
    "PYTHONUTF8": ("python", "1", "import sys; return sys.flags.utf8_mode", 1, None),
    "PYTHONOPTIMIZE": ("python", "1", "import sys; return sys.flags.optimize", 1, 0),
    "LANG": ("python", "C", "import os; return os.environ['LANG']", "C", "C.UTF-8"),
    "NODE_OPTIONS": ("nodejs", "--stack-trace-limit=7", "return Error.stackTraceLimit", 7, 10),
    "NODE TZ": ("nodejs", "XYZ-3", "return new Date().getTimezoneOffset()", -180, 0),
}


@pytest.mark.parametrize("variable", READ_AT_START)
def test_variables_that_interpreters_read_have_their_effect(images, python, need, variable):
    """A function that sets one boots; one that does not is a copy, and has the usual."""
    kind, value, body, with_it, without = READ_AT_START[variable]
    runtime = ready(images, python if kind == "python" else need(NODE))
    if kind == "python":
        body = body.replace("hash_with_seed_0()", "int(__import__('subprocess').run([__import__('sys').executable, '-c',"
                            " 'print(hash(\"a\"))'], env={**__import__('os').environ, 'PYTHONHASHSEED': '0'}, capture_output=True).stdout)")
        source = f"def inner():\n    {body}\ndef handler(event, context):\n    import os\n    return [os.readlink('/proc/self/exe'), inner()]\n"
    else:
        source = f"const inner = () => {{ {body} }};\nexports.handler = async () => [require('fs').readlinkSync('/proc/self/exe'), inner()];\n"
    file = SOURCES[kind][0]

    def answer(variables):
        function = functions.create(images.client(), f"image-{next(_numbers)}", runtime, HANDLER, {file: source}, Timeout=60,
                                    MemorySize=256, Environment={"Variables": variables})
        return function(tail=False).value()

    program, seen = answer({variable.split()[-1]: value})
    assert program != rungs.COPY and seen == with_it, (program, seen)
    program, seen = answer({})
    assert program == rungs.COPY and (without is None or seen == without), (program, seen)


def test_nothing_of_copies_outlives_the_server(own_server, python, need):
    """kill -9 of the server: the copies, their namespaces and cgroups go, and so does whatever made the images."""
    before = Before()
    server = own_server()
    for runtime in (python, need(NODE)):
        ready(server, runtime)
        for _ in range(3):
            Subject(server, runtime)("own")
    remains = Remains(server, before)
    assert len(remains.processes) >= 6 and remains.namespaces and remains.cgroups
    assert any(b"/memfd:runtime" in readlink(process) for process in host.descendants(server.pid)), "the host sees copies"
    server.kill()
    wait_until(lambda: not remains.left(), "nothing is left")


def readlink(process):
    """A process's program."""
    try:
        return str(Path(f"/proc/{process}/exe").readlink()).encode()
    except OSError:
        return b""
