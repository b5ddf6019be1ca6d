"""Runtimes that misbehave on the Runtime API itself: each gets AWS's answer, harms its own event at most, and no neighbour.

What the handler of a good runtime can do to its machine is the attack suite's: daemons deaf to SIGTERM, gigabytes of log,
fork bombs, exhausted memory (test_attacks.py), and ends of all kinds (test_invoke.py).
"""

import pytest

from harness import rungs

#: A runtime of its own: the module that should hold the handler never gives control back. `BODY` sees `event` and `id`.
RUNTIME = """
import http.client, json, os, socket, sys
assert os.readlink("/proc/self/exe") == "/memfd:runtime (deleted)" or os.uname().machine != "x86_64", "no copy"
HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
VERSION = "/2018-06-01/runtime/"

def call(method, path, body=None):
    connection = http.client.HTTPConnection(HOST, int(PORT))
    connection.request(method, VERSION + path, body)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Lambda-Runtime-Aws-Request-Id"), answer.read()

def answer(id, value):
    status, _, body = call("POST", "invocation/" + id + "/response", value if isinstance(value, bytes) else json.dumps(value))
    return status, json.loads(body).get("errorType")

def half_an_answer(id):
    with socket.create_connection((HOST, int(PORT))) as connection:
        connection.sendall(b"POST " + VERSION.encode() + b"invocation/" + id.encode() +
                           b"/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000\\r\\n\\r\\n{\\"half")

seen = []
while True:
    _, id, event = call("GET", "invocation/next")
    event = json.loads(event)
BODY
"""


@pytest.fixture(autouse=True)
def image(client, python):
    """They begin from their runtime's image, as most do; `RUNTIME` makes sure of it."""
    if rungs.COPIES:
        rungs.image_of(client, python)


@pytest.fixture
def runtime(python_function):
    """`runtime(body)` deploys a function that is a runtime with this body."""
    def deploy(body, **settings):
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        return python_function(RUNTIME.replace("BODY", indented), **settings)
    return deploy


@pytest.fixture
def neighbour(python_function):
    """A good function, asked once before and once after."""
    function = python_function("import os\nhandler = lambda event, context: [event, os.getpid()]")
    first = function(1).value()
    yield function
    assert function(2).value() == [2, first[1]], "the neighbour's environment did not live on"


def test_answers_twice(runtime, neighbour):
    """The second answer to an event is refused and changes nothing, also when the next event is there."""
    function = runtime("""
seen = [answer(id, seen), answer(id, "again"), answer(id, "and again")]
""")
    assert function().value() == []
    assert function().value() == [[202, None], [403, "InvalidStateTransition"], [403, "InvalidStateTransition"]]


def test_answers_for_another_event(runtime, neighbour):
    """An id that is not the running event's is refused; the right answer still counts."""
    function = runtime("""
first = answer("00000000-0000-4000-8000-000000000000", "wrong")
old = answer(seen[0], "old") if seen else None
seen = [id]
answer(id, [first, old])
""")
    assert function().value() == [[400, "InvalidRequestID"], None]
    assert function().value() == [[400, "InvalidRequestID"], [400, "InvalidRequestID"]]


def test_closes_the_connection_within_its_answer(runtime, neighbour):
    """Half an answer counts for nothing: one that follows is taken, and one that does not is a timeout."""
    function = runtime("""
half_an_answer(id)
if event == "go on":
    answer(id, "whole")
elif event == "exit":
    os._exit(9)
else:
    import time
    time.sleep(60)
""", Timeout=3)
    assert function("go on").value() == "whole"
    assert function("exit").failure()[0] == "Runtime.ExitError"
    kind, message = function("stall").failure()
    assert (kind, "Task timed out after 3.00 seconds" in message) == ("Sandbox.Timedout", True)
    assert function("go on").value() == "whole"


def test_sends_seven_megabytes(runtime, neighbour):
    """413 for the runtime, AWS's error for the caller, and the environment lives on."""
    function = runtime("""
if event == "large":
    seen = [os.getpid(), *answer(id, b'"' + b"x" * 7_340_030 + b'"')]
else:
    answer(id, [os.getpid(), seen])
""", MemorySize=512)
    assert function("large").failure() == (
        "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
    process, seen = function("small").value()
    assert seen == [process, 413, "RequestEntityTooLarge"]


def test_never_asks_again(runtime, neighbour):
    """It has answered, so the caller is content; its environment ends with the event's time, and holds up no other event."""
    function = runtime("""
answer(id, os.getpid())
import time
time.sleep(1000)
""", Timeout=2)
    assert function().error is None
    assert function().error is None


def test_ends_between_events(runtime, neighbour):
    """An environment that ends after its answer costs no event: the next ones run elsewhere."""
    function = runtime("""
answer(id, event)
os._exit(0)
""")
    for number in range(10):
        assert function(number).value() == number


def test_leaks_memory_slowly(python_function, neighbour):
    """Each event leaks; the one that finds no memory left has failed with AWS's error, and the next starts afresh."""
    function = python_function(
        "leak = []\ndef handler(event, context):\n    leak.append(bytearray(12 << 20))\n    return len(leak)", MemorySize=128)
    counts, used = [], []
    for _ in range(40):
        answer = function()
        if answer.error:
            assert answer.failure()[0] == "Runtime.OutOfMemory"
            break
        counts.append(answer.value())
        used.append(int(answer.report["used"]))
    else:
        raise AssertionError(f"it never ran out: {counts}")
    assert counts == list(range(1, len(counts) + 1)), "one environment all the while"
    assert used == sorted(used) and used[-1] > 60
    assert function().value() == 1
