"""Functions in Java, whose packages bring the runtime interface client along. AWS's own comes from a registry that tests do
not reach: a stand-in under its name (`programs/java`) speaks the Runtime API, so that what is tested is how Freehold finds and
starts a Java function, not AWS's client."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import functions
from harness.waiting import wait_until

RUNTIMES = ["java8.al2", "java11", "java17", "java21", "java25"]
SOURCES = Path(__file__).parent / "programs/java"
CLIENT = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class"
HANDLER = "example.Handler::handle"
#: The oldest language level that the sources need.
RELEASE = "11"
WARM_DEADLINE_S = 60


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """The compiled classes: `{path: bytes}`."""
    compiler = shutil.which("javac")
    if compiler is None:
        pytest.skip("no Java compiler (javac) to build a function for java11 to java25")
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run([compiler, "-nowarn", "--release", RELEASE, "-d", folder, *SOURCES.rglob("*.java")], check=True, timeout=300)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.class")}


@pytest.fixture(params=RUNTIMES[1:])
def java(request, need):
    """Each Java runtime that this host has and the stand-in can run on."""
    return need(request.param)


@pytest.fixture
def newest(installed):
    """One of them."""
    found = [each for each in RUNTIMES[1:] if installed[each]["installed"]]
    if not found:
        pytest.skip(f"no Java runtime ({', '.join(RUNTIMES[1:])}) is on this host")
    return found[-1]


def test_unpacked_classes(make, java, classes):
    """Client and handler as class files: it answers, is kept, and has AWS's share of the memory as its heap."""
    function = make(java, HANDLER, classes, Timeout=30, MemorySize=512)
    answer = function({"a": "ü"})
    value = answer.value()
    assert (value["event"], value["count"], value["digest"]) == ({"a": "ü"}, 1, 32)
    assert (value["kind"], value["folder"]) == (f"AWS_Lambda_{java}", "/var/task")
    assert value["java"] == java.removeprefix("java")
    assert 0.7 < value["heap"] / (512 << 20) <= 0.85
    assert "event 1" in answer.log
    wait_until(lambda: function(2).value()["count"] > 1, "an event finds the program running", WARM_DEADLINE_S)


def test_jars(make, newest, classes):
    """Client and handler in jars in lib/, whatever they are called; an error is told, and the next event is served."""
    jars = {"lib/all.jar": functions.zip_of({CLIENT: classes[CLIENT]}),
            "lib/mine.jar": functions.zip_of({path: content for path, content in classes.items() if path != CLIENT})}
    function = make(newest, HANDLER, jars, Timeout=30, MemorySize=512)
    assert function("fail").failure() == ("java.lang.IllegalStateException", "as asked")
    assert function("well").value()["event"] == "well"


def test_a_handler_that_is_not_there(make, newest, classes):
    """What the client says before its first event."""
    function = make(newest, "example.Nobody::handle", classes, Timeout=30, MemorySize=512)
    assert function({}).failure() == ("java.lang.ClassNotFoundException", "example.Nobody")


def test_without_the_client(make, newest, classes):
    """A clear error that says what to put into the package."""
    function = make(newest, HANDLER, {path: content for path, content in classes.items() if path != CLIENT})
    kind, message = function({}).failure()
    assert kind == "Runtime.InvalidEntrypoint"
    assert "add the dependency com.amazonaws:aws-lambda-java-runtime-interface-client" in message
