"""Functions in Rust on AWS's own crate `lambda_runtime`, as a project outside of this workspace has them."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.waiting import wait_until

HERE = Path(__file__).resolve().parent
PROJECT = HERE / "programs/rust"
TARGET = HERE.parents[1] / "target/programs"
#: Compiling its sixty crates for the first time takes half a minute; a busy machine gets ten times that.
BUILD_DEADLINE_S = 600
WARM_DEADLINE_S = 60


@pytest.fixture(scope="session")
def program():
    """The function's program, built once per checkout."""
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if cargo is None:
        pytest.skip("no cargo to build a Rust function for provided.al2023")
    subprocess.run([cargo, "build", "-q", "--locked", "--manifest-path", PROJECT / "Cargo.toml", "--target-dir", TARGET],
                   check=True, timeout=BUILD_DEADLINE_S)
    return (TARGET / "debug/bootstrap").read_bytes()


@pytest.fixture
def function(make, program):
    """The function, deployed as its author would."""
    return make("provided.al2023", "unused", {"bootstrap": program}, Timeout=5, MemorySize=256)


def test_it_answers_and_is_kept(function):
    """Events go round; the program stays for the next ones; what it prints is in the log."""
    first = function({"do": "echo", "value": {"a": "ü", "list": [1, 2.5, None]}})
    assert first.value() == {"a": "ü", "list": [1, 2.5, None]}
    assert "a Rust function starts" in first.log and first.report["init"] is not None
    assert function({"do": "echo", "value": "x" * 500_000}).value() == "x" * 500_000
    # An event that comes before the program has asked for it starts another.
    wait_until(lambda: function({"do": "echo"}).report["init"] is None, "an event finds the program running", WARM_DEADLINE_S)


def test_what_it_is_told(function):
    """Deadline, names, trace and the client's context, as the crate reads them from the Runtime API."""
    client_context = {"client": {"installation_id": "i", "app_title": "t", "app_version_name": "1", "app_version_code": "2",
                                 "app_package_name": "p"}, "custom": {"a": "b"}, "env": {"c": "d"}}
    answer = function({"do": "tell"}, ClientContext=base64.b64encode(json.dumps(client_context).encode()).decode())
    told = answer.value()
    assert told["request_id"] == answer.report["id"]
    assert told["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}"
    assert (told["name"], told["memory"], told["version"]) == (function.name, 256, "$LATEST")
    assert 0 < told["left_ms"] <= 5_000
    assert told["trace"].startswith("Root=1-")
    assert told["client_context"]["custom"] == {"a": "b"}


def test_its_errors(function):
    """An error's message and type, an event that it cannot read, and a panic, after which it goes on."""
    assert function({"do": "fail"}).failure() == ("OutOfStock", "0 left")
    assert function({"do": "fly"}).failure() == ("NoSuchDeed", "fly")
    kind, message = function({"value": 1}).failure()
    assert "missing field `do`" in message, message
    kind, message = function({"do": "panic"}).failure()
    assert "on purpose" in message, message
    assert function({"do": "echo", "value": 1}).value() == 1


def test_it_cannot_start(make, program):
    """Its `main` fails: the process has ended, and the log says why."""
    function = make("provided.al2023", "unused", {"bootstrap": program}, Environment={"Variables": {"FAIL": "no database"}})
    answer = function({"do": "echo"})
    kind, message = answer.failure()
    assert (kind, message.endswith("Error: Runtime exited with error: exit status 1")) == ("Runtime.ExitError", True), answer.raw
    assert "no database" in answer.log
