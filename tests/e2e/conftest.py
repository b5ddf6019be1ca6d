"""Fixtures: one server for the whole session, functions on it, and the runtimes that this host has."""

import itertools
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import functions
from harness import server as servers

PREFERRED_PYTHON = "python3.12"
#: How long functions may take that are no test of that, in seconds: AWS's three are few on a machine that is busy.
FUNCTION_TIMEOUT_S = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows what the running servers said."""
    report = (yield).get_result()
    if report.failed:
        for server in servers.running:
            report.sections.append((f"stderr of freehold {server.pid}", server.stderr_tail()))


@pytest.fixture(scope="session")
def work_folder():
    """A folder for servers' data, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="freehold-e2e-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(work_folder):
    """The server that tests share when they do no harm to it."""
    with servers.Server(work_folder / "shared") as shared:
        yield shared


@pytest.fixture
def own_server(work_folder, request):
    """Makes servers that one test has for itself (and may kill); what it leaves running is stopped."""
    made = []

    def make(data=None, **settings):
        folder = data or work_folder / f"{safe_name(request.node.name)}-{len(made)}"
        made.append(servers.Server(folder, **settings).start())
        return made[-1]

    yield make
    for each in made:
        if each.alive():
            each.stop()


@pytest.fixture(scope="session")
def client(server):
    """The boto3 Lambda client of the shared server."""
    return server.client()


@pytest.fixture(scope="session")
def installed():
    """What `freehold runtimes --json` found: `{id: {"installed": …, "version": …}}`."""
    output = subprocess.run([servers.binary(), "runtimes", "--json"], capture_output=True, check=True, timeout=120,
                            env=servers.clean_environment()).stdout
    return {each["id"]: each for each in json.loads(output)}


@pytest.fixture(scope="session")
def need(installed):
    """`need("nodejs20.x")` gives the id back, or skips the test with a reason that names the runtime."""

    def need(runtime):
        if not installed.get(runtime, {}).get("installed"):
            pytest.skip(f"runtime {runtime} is not on this host")
        return runtime

    return need


@pytest.fixture(scope="session")
def python(installed):
    """The Python that tests run on: python3.12, else the newest that this host has."""
    found = sorted((each for each, state in installed.items() if each.startswith("python") and state["installed"]),
                   key=lambda each: [int(part) for part in each.removeprefix("python").split(".")])
    if not found:
        pytest.skip("no Python runtime (python3.10 to python3.14) is on this host")
    return PREFERRED_PYTHON if PREFERRED_PYTHON in found else found[-1]


_numbers = itertools.count()


def safe_name(text):
    """A text that a function or a folder can be called."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text)[:50].strip("-")


@pytest.fixture
def name(request):
    """A function name that no other test has."""
    return f"{safe_name(request.node.name)}-{next(_numbers)}"


@pytest.fixture
def make(client, name):
    """`make(runtime, handler, files, **settings)` deploys a function for this test alone; `Timeout=None` leaves AWS's own."""
    made = []

    def make(runtime, handler, files, modes=None, Timeout=FUNCTION_TIMEOUT_S, **settings):
        if Timeout is not None:
            settings["Timeout"] = Timeout
        try:
            function = functions.create(client, f"{name}-{len(made)}", runtime, handler, files, modes, **settings)
        except ClientError as error:
            if "was not found on this host" in str(error):
                pytest.skip(f"runtime {runtime} is not on this host")
            raise
        made.append(function)
        return function

    yield make
    for function in made:
        try:
            client.delete_function(FunctionName=function.name)
        except ClientError:
            pass  # the test deleted it itself


@pytest.fixture
def python_function(make, python):
    """`python_function(source, **settings)`: a function whose lambda_function.py is `source`, called by `handler`."""

    def deploy(source, **settings):
        return make(python, "lambda_function.handler", {"lambda_function.py": source}, **settings)

    return deploy


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The C bootstrap, compiled without a dependency on anything inside."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build a bootstrap for provided.al2 and provided.al2023")
    built = tmp_path_factory.mktemp("bootstrap") / "bootstrap"
    source = Path(__file__).parent / "programs/bootstrap.c"
    subprocess.run([compiler, "-static", "-O1", "-w", "-D_GNU_SOURCE", "-o", built, source], check=True)
    subprocess.run(["strip", built], check=False)
    return built.read_bytes()
