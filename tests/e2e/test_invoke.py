"""Invoke: answers, errors, log lines, context and limits as AWS's Python runtime has them, and how environments live."""

import base64
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import functions
from harness.functions import END, REPORT, START
from harness.waiting import wait_until

SYNC_PAYLOAD_BYTES = 6_291_456
COUNTER = "import os, uuid\nidentity, count = str(uuid.uuid4()), 0\n"


def handler(body, before=""):
    """A module whose handler has this body."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"{before}\ndef handler(event, context):\n{lines}\n"


# --- what goes in and comes out ---------------------------------------------------------------------------------------

VALUES = [None, True, 0, -1.5, "text", "", [], {}, {"a": [1, {"b": None}]}, "grüße 東京 🦀 \u0000 \" \\ \n", 2**53, 1e300]


def test_every_json_value_goes_round(python_function):
    """What was sent comes back, unicode and all."""
    function = python_function(handler("return event"))
    for value in VALUES:
        assert function(value).value() == value


def test_the_answer_is_what_json_dumps_writes(python_function):
    """The payload's bytes are those of AWS's Python runtime: spaces, no ASCII escapes."""
    function = python_function(handler("return {'a': 1, 'b': ['ü', None, True]}"))
    assert function().raw.decode() == '{"a": 1, "b": ["ü", null, true]}'


def test_an_empty_payload_is_an_empty_event(python_function):
    """Without a payload the event is {}."""
    assert python_function(handler("return event")).invoke(b"").value() == {}


def test_six_megabytes_in_and_out(python_function):
    """The largest event and the largest answer pass; one byte more is Function.ResponseSizeTooLarge."""
    function = python_function(handler("return 'x' * event['answer']"), MemorySize=512)
    event = {"answer": SYNC_PAYLOAD_BYTES - 2, "padding": ""}
    event["padding"] = "y" * (SYNC_PAYLOAD_BYTES - len(json.dumps(event)))
    assert len(function(event).value()) == SYNC_PAYLOAD_BYTES - 2
    kind, message = function({"answer": SYNC_PAYLOAD_BYTES + 200}).failure()
    assert kind == "Function.ResponseSizeTooLarge"
    assert message.startswith("Response payload size exceeded maximum allowed payload size (6291556 bytes).")
    assert function({"answer": 1}).value() == "x"


UNSERIALISABLE = {
    "a set": ("return {1}", "Object of type set is not JSON serializable"),
    "a cycle": ("a = []\na.append(a)\nreturn a", "Circular reference detected"),
    "an object": ("return object()", "Object of type object is not JSON serializable"),
    "a very deep list": ("a = []\nfor _ in range(200_000): a = [a]\nreturn a", ""),
}


@pytest.mark.parametrize("case", UNSERIALISABLE)
def test_an_answer_that_is_no_json(python_function, case):
    """Runtime.MarshalError, and the environment lives on."""
    body, says = UNSERIALISABLE[case]
    function = python_function(handler(f"if event == 'well': return 1\n{body}"))
    kind, message = function().failure()
    assert kind == "Runtime.MarshalError"
    assert message.startswith("Unable to marshal response: ")
    assert says in message
    assert function("well").value() == 1


#: Answers that JSON does not have and that AWS's Python runtime gives all the same: Invoke passes on what it wrote.
UNSPEAKABLE = {
    "NaN": ("return {'value': float('nan')}", b'{"value": NaN}'),
    "a decimal NaN": ("import decimal\nreturn decimal.Decimal('NaN')", b"NaN"),
    "infinity": ("return [float('inf'), -float('inf')]", b"[Infinity, -Infinity]"),
    "bytes": ("return b'\\x00 no text \\xff'", b"\x00 no text \xff"),
    "bytes within": ("return {'body': b'text'}", b'{"body": "text"}'),
    "a decimal": ("import decimal\nreturn decimal.Decimal('1.10')", b"1.10"),
}


@pytest.mark.parametrize("case", UNSPEAKABLE)
def test_an_answer_that_python_writes_all_the_same(python_function, case):
    """NaN, infinity and bytes are no errors on AWS: its runtime writes NaN as it is, bytes raw or, within, as text."""
    body, written = UNSPEAKABLE[case]
    answer = python_function(handler(body))()
    assert (answer.error, answer.raw) == (None, written)


# --- errors of the function -------------------------------------------------------------------------------------------


def test_an_exception(python_function):
    """errorType, errorMessage, requestId, stackTrace; the log has the trace, the headers say Unhandled."""
    function = python_function(handler("inner()", before="def inner():\n    raise ValueError('boom ü')\n"))
    answer = function()
    assert (answer.status, answer.version) == (200, "$LATEST")
    assert answer.failure() == ("ValueError", "boom ü")
    assert set(answer.json) == {"errorType", "errorMessage", "requestId", "stackTrace"}
    assert answer.json["requestId"] == answer.report["id"]
    assert answer.json["stackTrace"] == [
        '  File "/var/task/lambda_function.py", line 5, in handler\n    inner()\n',
        '  File "/var/task/lambda_function.py", line 2, in inner\n    raise ValueError(\'boom ü\')\n']
    assert "[ERROR] ValueError: boom ü\nTraceback (most recent call last):\n" in answer.log.replace("\r", "\n")


def test_an_exception_of_its_own_class(python_function):
    """The class's bare name is the errorType, as on AWS."""
    function = python_function(handler("raise OrderFailed('no stock')", before="class OrderFailed(Exception):\n    pass\n"))
    assert function().failure() == ("OrderFailed", "no stock")


IMPORTS = {
    "a missing module": ({"lambda_function.py": "import nowhere_to_be_found\n"}, "lambda_function.handler",
                         "Runtime.ImportModuleError",
                         "Unable to import module 'lambda_function': No module named 'nowhere_to_be_found'"),
    "a missing file": ({"other.py": ""}, "lambda_function.handler", "Runtime.ImportModuleError",
                       "Unable to import module 'lambda_function': No module named 'lambda_function'"),
    "a missing handler": ({"lambda_function.py": "x = 1\n"}, "lambda_function.handler", "Runtime.HandlerNotFound",
                          "Handler 'handler' missing on module 'lambda_function'"),
    "a syntax error": ({"lambda_function.py": "def handler(:\n"}, "lambda_function.handler", "Runtime.UserCodeSyntaxError",
                       "Syntax error in module 'lambda_function': "),
    "a handler without a dot": ({"lambda_function.py": ""}, "handler", "Runtime.MalformedHandlerName",
                                "Bad handler 'handler': "),
    "an error at import": ({"lambda_function.py": "raise KeyError('missing setting')\n"}, "lambda_function.handler",
                           "KeyError", "'missing setting'"),
    "an exit at import": ({"lambda_function.py": "import sys\nsys.exit(3)\n"}, "lambda_function.handler",
                          "Runtime.ExitError", "Runtime exited with error: exit status 3"),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_an_init_error(make, python, case):
    """What goes wrong before the first event is AWS's error, each time again."""
    files, name, kind, says = IMPORTS[case]
    function = make(python, name, files)
    for _ in range(2):
        answer = function()
        assert answer.failure()[0] == kind, answer.raw
        assert says in answer.failure()[1]
        assert REPORT.search(answer.log), answer.log


def test_a_handler_in_a_folder(make, python):
    """`folder/module.handler` and `folder.module.handler` both name it."""
    for name in ("deep/inside/module.handler", "deep.inside.module.handler"):
        function = make(python, name, {"deep/inside/module.py": handler("return __name__"), "deep/__init__.py": "",
                                       "deep/inside/__init__.py": ""})
        assert function().value() == "deep.inside.module"


ENDS = {
    "exit(1)": ("import sys; sys.exit(1)", "Runtime.ExitError", "Runtime exited with error: exit status 1"),
    "exit(0)": ("import sys; sys.exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason"),
    "_exit(7)": ("import os; os._exit(7)", "Runtime.ExitError", "Runtime exited with error: exit status 7"),
    "abort": ("import os; os.abort()", "Runtime.ExitError", "Runtime exited with error: signal: aborted"),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", "Runtime.ExitError",
                             "Runtime exited with error: signal: segmentation fault"),
    "SIGKILL": ("import os; os.kill(os.getpid(), 9); import time; time.sleep(9)", "Runtime.ExitError",
                "Runtime exited with error: signal: killed"),
    "out of memory": ("a = []\nwhile True: a.append(b'x' * 1048576)", "Runtime.OutOfMemory",
                      "Runtime exited with error: signal: killed"),
    "a timeout": ("import time; time.sleep(60)", "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
    "a busy timeout": ("while True: pass", "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
}


@pytest.mark.parametrize("case", ENDS)
def test_an_end_of_the_environment(python_function, case):
    """Each end has AWS's error; the log is complete; the next event gets a fresh environment."""
    body, kind, says = ENDS[case]
    source = handler(f"global count\ncount += 1\nif event == 'well': return [identity, count]\nprint('before the end', flush=True)\n{body}",
                     before=COUNTER)
    function = python_function(source, Timeout=3 if "timeout" in case else 60)
    identity, count = function("well").value()
    assert count == 1

    answer = function("ill")

    request = answer.report["id"]
    assert answer.json == {"errorType": kind, "errorMessage": f"RequestId: {request} Error: {says}"}
    assert answer.error == "Unhandled"
    if kind == "Sandbox.Timedout":
        # AWS printed a line "Task timed out after …" until REPORT had a status.
        assert answer.report["rest"].strip() == "Status: timeout"
        assert float(answer.report["duration"]) == 3000
    else:
        assert answer.report["rest"].strip() == f"Status: error\tError Type: {kind}"
    assert "before the end" in answer.log
    assert answer.log.index("START") < answer.log.index("before the end") < answer.log.index("REPORT")
    fresh, count = function("well").value()
    assert (fresh != identity, count) == (True, 1), "the environment was used again"


def test_used_memory_is_reported(python_function):
    """Max Memory Used grows with what the function touches, and is at most its size."""
    function = python_function(handler("held = b'x' * (event << 20)\nreturn len(held)"), MemorySize=256)
    small = int(function(1).report["used"])
    large = int(function(100).report["used"])
    # A copy of its runtime's image is charged with what it changes of it.
    assert 1 <= small < 100 <= large <= 256


# --- the log ----------------------------------------------------------------------------------------------------------


def test_log_lines_are_those_of_aws(python_function):
    """START, what was printed, END, REPORT, in this order, one request id; Init Duration the first time alone."""
    function = python_function(handler("import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three')"))
    for turn in range(2):
        answer = function()
        request = answer.report["id"]
        assert START.search(answer.log).group("id") == request == END.search(answer.log).group("id")
        places = [answer.log.index(each) for each in ("START RequestId", "one\n", "two\n", "three\n", "END RequestId", "REPORT")]
        assert places == sorted(places), answer.log
        report = answer.report
        duration, billed = float(report["duration"]), int(report["billed"])
        init = float(report["init"]) if report["init"] else 0
        assert (init > 0) == (turn == 0), answer.log
        assert report["memory"] == "128"
        assert 0 < int(report["used"]) <= 128
        assert abs(billed - (duration + init)) <= 1.01, "billed is duration and init, rounded up to 1 ms"
        assert billed >= duration + init - 0.02


def test_the_tail_is_the_last_four_kilobytes(python_function):
    """LogResult ends with the REPORT line and is at most 4 KB; without LogType there is none."""
    function = python_function(handler("for number in range(2000): print(f'line {number} of a long log')"))
    answer = function()
    assert 3_500 <= len(answer.log.encode()) <= 4_096
    assert answer.log.rstrip().splitlines()[-1].startswith("REPORT RequestId")
    assert "line 1999 of a long log" in answer.log
    assert "START" not in answer.log
    assert function(tail=False).log == ""


def test_each_answer_has_its_own_log(python_function):
    """The tail of one invocation has nothing of another."""
    function = python_function(handler("print(f'event {event}')"))
    for number in range(5):
        log = function(number).log
        assert re.findall(r"event (\d)", log) == [str(number)], log


def test_logging_looks_as_on_aws(python_function):
    """The logging module's lines carry level, time and request id."""
    function = python_function(handler("import logging\nlogger = logging.getLogger()\nlogger.setLevel('INFO')\n"
                                       "logger.info('for your information')\nlogger.warning('careful')\nlogger.debug('hidden')"))
    answer = function()
    request = answer.report["id"]
    for level, text in (("INFO", "for your information"), ("WARNING", "careful")):
        assert re.search(rf"^\[{level}\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{request}\t{text}$", answer.log, re.M), answer.log
    assert "hidden" not in answer.log


def test_odd_output_harms_nobody(python_function):
    """Bytes that are no text, no newline at the end, carriage returns, a line of a megabyte."""
    function = python_function(handler("import os\nos.write(1, b'\\xff\\xfe\\x00\\r\\n')\nos.write(1, b'x' * (1 << 20) + b'\\n')\nos.write(1, b'no end')"))
    answer = function()
    assert answer.value() is None
    assert "no end" in answer.log
    assert REPORT.search(answer.log)


# --- context and environment ------------------------------------------------------------------------------------------


def test_the_context_object(client, python_function):
    """All that AWS's context tells."""
    function = python_function(handler(
        "c = context\n"
        "return {'request': c.aws_request_id, 'name': c.function_name, 'version': c.function_version, 'arn': c.invoked_function_arn,\n"
        "        'memory': c.memory_limit_in_mb, 'group': c.log_group_name, 'stream': c.log_stream_name,\n"
        "        'left': c.get_remaining_time_in_millis(), 'identity': [c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id],\n"
        "        'client': c.client_context}"), MemorySize=192)
    answer = function()
    seen = answer.value()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}"
    assert seen.pop("request") == answer.report["id"] == answer.request_id
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen.pop("stream"))
    assert 30_000 < seen.pop("left") <= 60_000
    assert seen == {"name": function.name, "version": "$LATEST", "arn": arn, "memory": "192",
                    "group": f"/aws/lambda/{function.name}", "identity": [None, None], "client": None}
    assert functions.Function(client, arn + ":$LATEST", None)().value()["arn"] == arn + ":$LATEST"


def test_the_client_context(python_function):
    """ClientContext reaches context.client_context."""
    function = python_function(handler(
        "c = context.client_context\nreturn [c.custom, c.env, c.client.installation_id, c.client.app_title]"))
    given = {"custom": {"key": "välue"}, "env": {"locale": "de"}, "client": {"installation_id": "i-1", "app_title": "App"}}
    answer = function(ClientContext=base64.b64encode(json.dumps(given).encode()).decode())
    assert answer.value() == [{"key": "välue"}, {"locale": "de"}, "i-1", "App"]


def test_the_environment_variables(python_function, python):
    """What AWS defines, what the function adds, and nothing of the server's."""
    function = python_function(handler("import os\nreturn dict(os.environ)"), MemorySize=256,
                               Environment={"Variables": {"OWN": "välue = x", "EMPTY": ""}})
    seen = function().value()
    expected = {
        "OWN": "välue = x", "EMPTY": "", "_HANDLER": "lambda_function.handler", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EXECUTION_ENV": f"AWS_Lambda_{python}", "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC",
    }
    assert {key: seen.get(key) for key in expected} == expected
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "AWS_ENDPOINT_URL",
                "AWS_LAMBDA_LOG_STREAM_NAME", "PATH", "LD_LIBRARY_PATH", "_X_AMZN_TRACE_ID", "LANG"):
        assert seen.get(key), key
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert not [key for key in seen if key.startswith(("FREEHOLD", "CARGO", "PYTEST"))]


def test_what_a_function_sees_of_its_machine(python_function):
    """AWS's folders: code read-only as the working folder, /tmp writable and empty, a small /etc, certificates, name lookup."""
    function = python_function(handler(
        "import os, socket, ssl, tempfile, zoneinfo\n"
        "with tempfile.NamedTemporaryFile() as file: file.write(b'x')\n"
        "return {'cwd': os.getcwd(), 'task': sorted(os.listdir('/var/task')), 'tmp': os.listdir('/tmp'), 'uid': os.getuid(),\n"
        "        'hosts': socket.gethostbyname('localhost'), 'certificates': len(ssl.create_default_context().get_ca_certs()) >= 0,\n"
        "        'null': open('/dev/null').read(), 'random': len(open('/dev/urandom', 'rb').read(8)), 'cpus': os.cpu_count(),\n"
        "        'free': os.statvfs('/tmp').f_bavail * os.statvfs('/tmp').f_frsize >> 20}"))
    seen = function().value()
    assert seen.pop("cpus") >= 1
    assert seen.pop("uid") != 0
    assert 512 <= seen.pop("free") <= 514, "as much as was asked for can be written"
    assert seen == {"cwd": "/var/task", "task": ["lambda_function.py"], "tmp": [], "hosts": "127.0.0.1", "certificates": True,
                    "null": "", "random": 8}


def test_tmp_is_as_large_as_configured_and_not_memory(python_function):
    """A function of 128 MB writes 500 MB to its /tmp of 512 and reads it back."""
    function = python_function(handler(
        "block = bytes(range(256)) * 4096\nwith open('/tmp/big', 'wb') as file:\n    for _ in range(500): file.write(block)\n"
        "total = 0\nwith open('/tmp/big', 'rb') as file:\n    while piece := file.read(1 << 20): total += len(piece)\nreturn total >> 20"),
        Timeout=120)
    assert function().value() == 500


# --- the life of environments -----------------------------------------------------------------------------------------


def test_an_environment_is_kept(python_function):
    """Init runs once; globals, /tmp and background state are there at the next event."""
    function = python_function(handler(
        "global count\ncount += 1\nseen = open('/tmp/kept').read() if os.path.exists('/tmp/kept') else None\n"
        "open('/tmp/kept', 'w').write(str(count))\nreturn [identity, count, seen]", before=COUNTER + "print('init ran')\n"))
    first, second, third = (function().value() for _ in range(3))
    assert first[0] == second[0] == third[0]
    assert [each[1:] for each in (first, second, third)] == [[1, None], [2, "1"], [3, "2"]]


def test_concurrent_events_get_environments_of_their_own(python_function):
    """Ten events at once run in ten environments, at the same time; afterwards those are used again."""
    function = python_function(handler(
        "import time\nbegan = time.monotonic()\ntime.sleep(event)\nreturn identity, began, time.monotonic()", before=COUNTER))
    with ThreadPoolExecutor(10) as pool:
        # So long that the last of ten starts is over before the first event is, or that would be served by the same one.
        answers = [answer.value() for answer in pool.map(lambda _: function(8, tail=False), range(10))]
    identities = {identity for identity, _, _ in answers}
    assert len(identities) == 10
    assert max(began for _, began, _ in answers) < min(ended for _, _, ended in answers), "they ran one after another"
    assert function(0).value()[0] in identities


def test_an_environment_is_never_shared(make, python):
    """Another function with the same code has environments, a /tmp and a memory of its own; so has one of the same name later."""
    source = {"lambda_function.py": handler("seen = os.listdir('/tmp')\nopen('/tmp/mine', 'w').close()\nreturn [identity, seen]", before=COUNTER)}
    one, two = make(python, "lambda_function.handler", source), make(python, "lambda_function.handler", source)
    assert one().value()[1] == two().value()[1] == []
    assert one().value()[0] != two().value()[0]
    one.client.delete_function(FunctionName=one.name)
    again = functions.create(one.client, one.name, python, "lambda_function.handler", source)
    assert again().value()[1] == []


def test_a_frozen_environment_wakes_up(python_function, server):
    """A background thread stands still between events and goes on in the next one."""
    function = python_function(handler(
        "end = ticks[0] + event\nwhile ticks[0] < end: time.sleep(0.01)\nreturn ticks[0]",
        before="import threading, time\nticks = [0]\ndef tick():\n    while True:\n        time.sleep(0.01)\n        ticks[0] += 1\n"
               "threading.Thread(target=tick, daemon=True).start()\n"))
    before = function(0).value()
    assert function(10).value() >= before + 10


def test_a_long_computation_in_many_threads(python_function):
    """Threads, subprocesses and sockets of its own work inside."""
    function = python_function(handler(
        "import subprocess, sys, threading, socket, multiprocessing\n"
        "out = subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout.strip()\n"
        "found = []\nthreads = [threading.Thread(target=found.append, args=(n,)) for n in range(50)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "server = socket.create_server(('127.0.0.1', 0))\nclient = socket.create_connection(server.getsockname())\n"
        "parent, child = multiprocessing.Pipe()\n"
        "process = multiprocessing.get_context('fork').Process(target=child.send, args=('sent',))\nprocess.start(); process.join()\n"
        "return [out, sorted(found) == list(range(50)), client.getpeername()[0], parent.recv()]"), MemorySize=512)
    assert function().value() == ["42", True, "127.0.0.1", "sent"]


def test_a_timeout_that_comes_during_many(python_function):
    """One event that times out does not touch another one that runs at the same time."""
    function = python_function(handler("import time\ntime.sleep(event)\nreturn event"), Timeout=6)
    with ThreadPoolExecutor(2) as pool:
        slow, fine = pool.submit(function, 60), pool.submit(function, 1)
        assert fine.result().value() == 1
        assert slow.result().failure()[0] == "Sandbox.Timedout"


def test_a_client_that_leaves_does_not_stop_its_event(server, python_function):
    """Whoever hangs up has still caused the event to run to its end."""
    import socket
    import struct

    from harness import wire

    function = python_function(handler("import time\nprint('begun')\ntime.sleep(1)\nprint('to its end')"))
    sent = wire.request_bytes(server, "POST", f"/2015-03-31/functions/{function.name}/invocations", b"{}")
    with socket.create_connection(server.address, 5) as connection:
        connection.sendall(sent)
        wait_until(lambda: "begun" in log(server, function.name), "the event begins")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: "to its end" in log(server, function.name), "the abandoned event has run to its end")


def log(server, name):
    """What a function has written so far."""
    return server.command("logs", name, "--data", server.data).stdout


# --- the platform's endpoint ------------------------------------------------------------------------------------------


def test_the_endpoint_from_inside(make, python):
    """AWS_ENDPOINT_URL answers inside: /health, and a signed GetCallerIdentity says that one is the execution role."""
    source = handler(
        "import os, urllib.request\nurl = os.environ['AWS_ENDPOINT_URL']\nhealth = urllib.request.urlopen(url + '/health', timeout=30).status\n"
        "body = b'Action=GetCallerIdentity&Version=2011-06-15'\n"
        "headers = wire.signed_headers('POST', url + '/', body, service='sts', key=os.environ['AWS_ACCESS_KEY_ID'],\n"
        "    secret=os.environ['AWS_SECRET_ACCESS_KEY'], token=os.environ['AWS_SESSION_TOKEN'],\n"
        "    headers={'content-type': 'application/x-www-form-urlencoded'})\n"
        "answer = urllib.request.urlopen(urllib.request.Request(url + '/', body, headers), timeout=30)\n"
        "return [health, answer.status, answer.read().decode()]", before="import wire\n")
    own_wire = (Path(__file__).parent / "harness/wire.py").read_text(encoding="utf-8")
    function = make(python, "lambda_function.handler", {"lambda_function.py": source, "wire.py": own_wire})
    health, status, text = function().value()
    assert (health, status) == (200, 200)
    assert re.search(rf"<Arn>arn:aws:sts::\d{{12}}:assumed-role/lambda-exec-role/{function.name}</Arn>", text), text


def test_many_at_once(python_function):
    """Two hundred events from sixteen clients: each gets its own answer."""
    function = python_function(handler("return event * 2"))
    wrong = []

    def ask(start):
        for number in range(start, start + 13):
            if function(number, tail=False).value() != number * 2:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number * 13,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
