"""Extensions in layers: what they see of a function's life, what they hear of its log, and how little harm they can do."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import urllib3

from harness.functions import EXECUTABLE, zip_of
from harness.waiting import wait_until

#: An external extension on AWS's documented protocol; what it does is the function's variable MODE. `PYTHON` is replaced.
EXTENSION = r'''#!/usr/bin/env PYTHON
import http.client, http.server, json, os, socketserver, sys, threading, time

NAME, MODE = os.path.basename(__file__), os.environ.get("MODE", "follow")
identity, heard, arrived = {}, [], threading.Condition()


def say(*words):
    print(NAME, *words, flush=True)


def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | identity
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null"), answer.headers


def note(events):
    with arrived:
        heard.extend(events)
        arrived.notify_all()


class Requests(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        note(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            note([json.loads(line)])


def listen(protocol):
    kind = {"http": (http.server.ThreadingHTTPServer, Requests), "tcp": (socketserver.ThreadingTCPServer, Lines)}[protocol]
    server = kind[0](("sandbox.localdomain", 8089), kind[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    destination = {"http": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8089"}, "tcp": {"protocol": "TCP", "port": 8089}}
    status, answer, _ = call("PUT", "/2022-07-01/telemetry", {
        "schemaVersion": "2022-12-13", "types": ["platform", "function"], "buffering": {"timeoutMs": 25},
        "destination": destination[protocol]})
    say("subscribed", status, answer)


def wait_for(wanted):
    with arrived:
        arrived.wait_for(lambda: any(wanted(event) for event in heard))
        return [event["type"] for event in heard]


if MODE == "die":
    sys.exit(7)
if MODE == "mute":
    time.sleep(1000)
say("begins in", os.getcwd(), "without" if "_HANDLER" not in os.environ else "with", "the handler")
with open("/tmp/made-by-" + NAME, "w") as file:
    file.write("before the function")
status, answer, headers = call("POST", "/2020-01-01/extension/register", {"events": ["INVOKE", "SHUTDOWN"]},
                               Lambda_Extension_Name=NAME, Lambda_Extension_Accept_Feature="accountId")
identity["Lambda-Extension-Identifier"] = headers["Lambda-Extension-Identifier"]
say("registered", status, json.dumps(answer, sort_keys=True))
if MODE in ("http", "tcp"):
    listen(MODE)
if MODE == "fail":
    call("POST", "/2020-01-01/extension/init/error", {}, Lambda_Extension_Function_Error_Type="Extension.NoConfig")
    sys.exit(1)
while True:
    status, event, _ = call("GET", "/2020-01-01/extension/event/next")
    if event["eventType"] == "SHUTDOWN":
        say("sees SHUTDOWN because of", event["shutdownReason"])
        sys.exit(0)
    say("sees INVOKE", event["requestId"], event["invokedFunctionArn"].rsplit(":", 1)[1])
    if MODE == "crash":
        os._exit(3)
    if MODE == "hang":
        time.sleep(1000)
    if MODE == "flood":
        for _ in range(50):
            sys.stdout.write("flood " * 10_000 + "\n")
    if MODE in ("http", "tcp"):
        done = lambda event, wanted: event["type"] == "platform.runtimeDone" and event["record"]["requestId"] == wanted
        say("heard", *wait_for(lambda each: done(each, event["requestId"])))
'''
#: An internal extension that people use: all it does is to register, so that the function hears SIGTERM.
PUBLISHED = "lambda-sigterm==0.1.2"
#: A function that answers what extensions have left for it, and has a manner of ending.
FUNCTION = """
import os, signal, sys
FOUND = sorted(name for name in os.listdir("/tmp") if name.startswith("made-by-"))
def end(*_):
    print("the function hears SIGTERM", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
def handler(event, context):
    print("the handler runs")
    if event == "wait":
        while True: pass
    return FOUND
"""


@pytest.fixture
def extended(make, client, name, python):
    """`extended(mode, count=1, **settings)` deploys a function with external extensions e-0, e-1, …"""
    layers = []

    def extended(mode, count=1, content=None, **settings):
        files = {f"extensions/e-{number}": content or EXTENSION.replace("PYTHON", python) for number in range(count)}
        layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of(files, dict.fromkeys(files, EXECUTABLE))})
        layers.append(layer)
        return make(python, "lambda_function.handler", {"lambda_function.py": FUNCTION}, Layers=[layer["LayerVersionArn"]],
                    Environment={"Variables": {"MODE": mode}}, **settings)

    yield extended
    for layer in layers:
        client.delete_layer_version(LayerName=layer["LayerArn"], VersionNumber=layer["Version"])


@pytest.fixture
def log_of(server):
    """`log_of(function)`: everything that it has written so far."""
    return lambda function: server.command("logs", function.name, "--data", server.data).stdout


def retire(client, function):
    """Has the function's environments removed."""
    client.update_function_configuration(FunctionName=function.name, Description="another")


def test_an_extension_lives_through_all_phases(extended, client, log_of):
    """It comes before the function, follows events, sees the end; the runtime gets SIGTERM before."""
    function = extended("follow", count=2)
    first, second = function(), function()
    assert first.value() == second.value() == ["made-by-e-0", "made-by-e-1"]
    for answer in (first, second):
        assert answer.report["id"] == answer.request_id
        assert answer.log.count(f"sees INVOKE {answer.request_id} {function.name}") == 2, answer.log
    retire(client, function)
    log = wait_until(lambda: (log := log_of(function)).count("sees SHUTDOWN because of spindown") == 2 and log, "both see it")
    assert "e-0 begins in / without the handler" in log
    about = {"accountId": "000000000000", "functionName": function.name, "functionVersion": "$LATEST",
             "handler": "lambda_function.handler"}
    assert f"e-1 registered 200 {json.dumps(about, sort_keys=True)}" in log
    assert "EXTENSION\tName: e-0\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in log
    assert log.index("the function hears SIGTERM") < log.index("sees SHUTDOWN")


def test_a_function_without_extensions_is_killed_at_once(make, client, python, log_of):
    """Nobody gets SIGTERM where there are no extensions: AWS's shutdown phase lasts 0 ms then."""
    function = make(python, "lambda_function.handler", {"lambda_function.py": FUNCTION})
    assert function().value() == []
    retire(client, function)
    assert function().value() == []
    assert "SIGTERM" not in log_of(function)


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_telemetry(extended, protocol):
    """A subscriber hears of the environment's life and of the function's lines, in order."""
    function = extended(protocol)
    answer = function()
    assert answer.value() == ["made-by-e-0"]
    assert "e-0 subscribed 200 OK" in answer.log
    assert "TELEMETRY\tName: e-0\tState: Subscribed\tTypes: [Platform, Function]" in answer.log
    heard = next(line for line in answer.log.splitlines() if line.startswith("e-0 heard")).split()[2:]
    assert heard == ["platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension",
                     "platform.initReport", "platform.start", "function", "platform.runtimeDone"]
    again = function()
    heard = next(line for line in again.log.splitlines() if line.startswith("e-0 heard")).split()[2:]
    assert heard[-4:] == ["platform.report", "platform.start", "function", "platform.runtimeDone"]


@pytest.mark.parametrize(("mode", "kind", "message"), [
    ("die", "Extension.Crash", "exit status 7"),
    ("fail", "Extension.InitError", "Extension.NoConfig"),
])
def test_an_extension_that_fails_in_init(extended, mode, kind, message):
    """The event has failed with AWS's error, and the log says which extension it was."""
    answer = extended(mode)()
    error_type, text = answer.failure()
    assert (error_type, text.split("Error: ")[1]) == (kind, message)
    assert answer.report["rest"].endswith(f"Status: error\tError Type: {kind}")


def test_programs_that_cannot_run(extended, client, name, make, python):
    """What is no program, and what is not marked as one."""
    answer = extended("follow", content="this is no program")()
    kind, text = answer.failure()
    assert (kind, text.split("Error: ")[1]) == ("Extension.LaunchError", "fork/exec /opt/extensions/e-0: exec format error")
    layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of({"extensions/plain": "#!/bin/sh\n"})})
    answer = make(python, "lambda_function.handler", {"lambda_function.py": FUNCTION}, Layers=[layer["LayerVersionArn"]])()
    kind, text = answer.failure()
    assert (kind, text.split("Error: ")[1]) == ("Extension.LaunchError", "fork/exec /opt/extensions/plain: permission denied")


def test_eleven_are_too_many(extended):
    """Ten extensions run; of eleven none does."""
    assert len(extended("follow", count=10, MemorySize=1024)().value()) == 10
    assert extended("follow", count=11)().failure()[0] == "Extension.LaunchError"


def test_an_extension_that_crashes_during_an_event(extended):
    """The event that was under way has failed; a neighbour and the next event have not."""
    function, neighbour = extended("crash"), extended("follow")
    assert neighbour().value() == ["made-by-e-0"]
    kind, text = function("wait").failure()
    assert (kind, text.split("Error: ")[1]) == ("Extension.Crash", "exit status 3")
    assert neighbour().value() == ["made-by-e-0"]


def test_an_extension_that_hangs(extended, log_of):
    """The caller has its answer at once; the environment is over when the event's time is."""
    function, neighbour = extended("hang", Timeout=5), extended("follow")
    answer = function.invoke(b"null", tail=False)
    assert answer.value() == ["made-by-e-0"]
    assert neighbour().value() == ["made-by-e-0"]
    log = wait_until(lambda: "REPORT" in (log := log_of(function)) and log, "the event is over")
    assert "Duration: 5000.00 ms" in log and "Status: timeout" in log


def test_an_extension_that_floods(extended):
    """Thirty megabytes of log in each event: the function answers, and so does its neighbour."""
    function, neighbour = extended("flood"), extended("follow")
    threads = [threading.Thread(target=function.invoke, args=(b"null",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert neighbour().value() == ["made-by-e-0"]
    for thread in threads:
        thread.join()
    assert function().value() == ["made-by-e-0"]


def test_an_extension_that_never_registers(extended):
    """It costs the ten seconds of Init, then the event's own time."""
    function = extended("mute", Timeout=3)
    assert function().failure()[0] == "Sandbox.Timedout"


def test_a_published_internal_extension(make, client, python, log_of, tmp_path):
    """The package lambda-sigterm from PyPI, unchanged: the function hears SIGTERM because of it."""
    fetched = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, PUBLISHED], capture_output=True,
                             text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"pip could not fetch {PUBLISHED}: {fetched.stderr[-200:]}")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.py")}
    packages = Path(urllib3.__file__).parents[1]  # what it needs and does not say
    files |= {str(path.relative_to(packages)): path.read_bytes() for path in (packages / "urllib3").rglob("*.py")}
    function = make(python, "lambda_function.handler", files | {
        "lambda_function.py": "import lambda_sigterm\nlambda_sigterm.register()\n" + FUNCTION})
    first, second = function(), function()
    assert first.value() == second.value() == []
    assert "EXTENSION\tName: lambda-sigterm\tState: Ready\tEvents: []" in first.log
    retire(client, function)
    wait_until(lambda: "the function hears SIGTERM" in log_of(function), "SIGTERM is heard")
