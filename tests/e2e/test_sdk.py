"""The AWS SDKs that the Python and Node.js runtimes carry: fetched by `freehold runtimes install`, found by functions without
a word about where, and clients made without arguments reach Freehold itself. What is fetched is kept in target/."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import functions
from harness import server as servers

#: A data folder that holds nothing but fetched SDKs, for all runs of a checkout.
CACHE = Path(__file__).resolve().parents[2] / "target/sdk"
#: Fetching 20 MB takes seconds; a slow network gets minutes.
FETCH_DEADLINE_S = 600
NODES = ["nodejs20.x", "nodejs22.x", "nodejs24.x"]

PYTHON_SDK = """import boto3
def handler(event, context):
    names = [each["FunctionName"] for each in boto3.client("lambda").list_functions()["Functions"]]
    return {"names": names, "version": boto3.__version__, "file": boto3.__file__}
"""
NODE_SDK_CALLS = """
  const { Functions } = await new LambdaClient().send(new ListFunctionsCommand({}));
  return { names: Functions.map((each) => each.FunctionName) };
"""
NODE_SDK = {
    "an ES module": {"index.mjs": "import { LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';\n"
                                  "export const handler = async () => {" + NODE_SDK_CALLS + "};"},
    "CommonJS": {"index.js": "const { LambdaClient, ListFunctionsCommand } = require('@aws-sdk/client-lambda');\n"
                             "exports.handler = async () => {" + NODE_SDK_CALLS + "};"},
    "a module within": {"index.mjs": "import { list } from './inner/list.mjs';\nexport const handler = list;",
                        "inner/list.mjs": "import { LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';\n"
                                          "export const list = async () => {" + NODE_SDK_CALLS + "};"},
}


def install(data, runtime, *words, **variables):
    """Runs `freehold runtimes install RUNTIME`: the completed process."""
    return subprocess.run([servers.binary(), "runtimes", "install", runtime, "--data", data, *words], capture_output=True,
                          text=True, timeout=FETCH_DEADLINE_S, check=False, env=servers.clean_environment(**variables))


def listed(data):
    """What `freehold runtimes --json` says, by identifier."""
    output = subprocess.run([servers.binary(), "runtimes", "--json", "--data", data], capture_output=True, check=True,
                            timeout=60, env=servers.clean_environment()).stdout
    return {each["id"]: each for each in json.loads(output)}


@pytest.fixture(scope="session")
def fetched():
    """`fetched(runtime)`: fetches its SDK into the cache, unless it is there."""

    def fetch(runtime):
        done = install(CACHE, runtime, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[0]

    return fetch


@pytest.fixture(scope="module")
def server_with_sdks(work_folder):
    """A server whose data folder leads to the cache's SDKs."""
    data = work_folder / "sdk"
    data.mkdir(mode=0o700)
    (CACHE / "runtimes").mkdir(mode=0o700, parents=True, exist_ok=True)
    (data / "runtimes").symlink_to(CACHE / "runtimes")
    with servers.Server(data) as server:
        yield server


@pytest.fixture
def sdk_server(server_with_sdks, fetched):
    """`sdk_server(runtime)`: that server, once the runtime's SDK is there."""

    def start(runtime):
        fetched(runtime)
        return server_with_sdks

    return start


def link_or_copy(source, target):
    """A hard link where that is possible: nothing writes to what was fetched."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def create(server, name, runtime, files, **settings):
    """A function on this server, with room for an SDK."""
    handler = "index.handler" if runtime.startswith("node") else "lambda_function.handler"
    return functions.create(server.client(), name, runtime, handler, files, Timeout=30, MemorySize=512, **settings)


def test_boto3_reaches_this_server(sdk_server, python, name):
    """A client made without arguments lists the functions of this very server."""
    server = sdk_server(python)
    function = create(server, name, python, {"lambda_function.py": PYTHON_SDK})
    value = function().value()
    sdk = listed(server.data)[python]["sdk"]
    assert name in value["names"] and value["version"] == sdk["version"]
    assert value["file"] == f"/var/lang/lib/{python}/site-packages/boto3/__init__.py"
    assert sdk["name"] == "boto3" and sdk["current"]


def test_the_function_s_own_boto3_comes_first(sdk_server, python, name):
    """A package of the same name in the function's own wins, and would in a layer; botocore is still the runtime's."""
    function = create(sdk_server(python), name, python, {
        "lambda_function.py": "import sys, boto3, botocore\ndef handler(event, context): return [boto3.__version__, botocore.__file__, sys.path]\n",
        "boto3/__init__.py": "__version__ = 'mine'\n"})
    version, file, path = function().value()
    assert (version, file.startswith("/var/lang/")) == ("mine", True)
    places = ["/var/task", f"/opt/python/lib/{python}/site-packages", "/opt/python", f"/var/lang/lib/{python}/site-packages"]
    assert [each for each in path if each in places] == places


def test_nothing_can_change_it(sdk_server, python, name):
    """It is mounted read-only: what one function did to it would be seen by all."""
    function = create(sdk_server(python), name, python, {"lambda_function.py": (
        "import os, boto3\ndef handler(event, context):\n  folder = os.path.dirname(boto3.__file__)\n  try:\n"
        "    open(folder + '/mine.py', 'w')\n  except OSError as error:\n    return error.strerror\n")})
    assert function().value() in ("Read-only file system", "Permission denied")


@pytest.mark.parametrize("shape", NODE_SDK)
@pytest.mark.parametrize("runtime", NODES)
def test_the_node_sdk_reaches_this_server(sdk_server, need, name, runtime, shape):
    """The same with the AWS SDK for JavaScript v3, in each way to load it."""
    function = create(sdk_server(need(runtime)), name, runtime, NODE_SDK[shape])
    assert name in function({}).value()["names"]


def test_without_it_the_function_runs_and_the_import_says_what_to_do(own_server, python, name):
    """No SDK on this machine: what does not need it works, an import fails as on AWS, with advice."""
    server = own_server()
    function = create(server, name, python, {"lambda_function.py": (
        "def handler(event, context):\n  if event: import boto3\n  return 'fine'\n")})
    assert function(False).value() == "fine"
    advice = f"run `freehold runtimes install {python}`, or put it into the package"
    kind, message = function(True).failure()
    assert kind == "ModuleNotFoundError"
    assert message == f"No module named 'boto3'. The runtime's AWS SDK is not on this machine: {advice}"
    at_start = create(server, name + "-init", python, {"lambda_function.py": PYTHON_SDK})
    kind, message = at_start().failure()
    assert kind == "Runtime.ImportModuleError"
    assert message.startswith("Unable to import module 'lambda_function': No module named 'boto3'. ") and advice in message


@pytest.mark.parametrize("runtime", NODES)
def test_without_it_node_says_what_to_do(own_server, need, name, runtime):
    """The same in Node.js, for both kinds of modules."""
    server = own_server()
    for number, shape in enumerate(("an ES module", "CommonJS")):
        answer = create(server, f"{name}-{number}", need(runtime), NODE_SDK[shape])({})
        message = answer.failure()[1]
        assert "'@aws-sdk/client-lambda'" in message
        assert f"run `freehold runtimes install {runtime}`, or put it into the function's package" in message


def test_a_client_that_is_not_among_them(sdk_server, need, name):
    """Another advice where the SDK is there, but not all of it."""
    runtime = need("nodejs22.x")
    function = create(sdk_server(runtime), name, runtime, {"index.js": "exports.handler = async () => require('@aws-sdk/client-groundstation');"})
    assert function({}).failure()[1].endswith("put it into the function's package.")


def test_fetched_while_the_server_runs(own_server, python, name, fetched):
    """A running server gives it to the environments that it starts afterwards, without a word to it."""
    fetched(python)
    server = own_server()
    function = create(server, name, python, {"lambda_function.py": PYTHON_SDK})
    assert function().failure()[0] == "Runtime.ImportModuleError"
    assert listed(server.data)[python]["sdk"] is None
    shutil.copytree(CACHE / "runtimes" / python, server.data / "runtimes" / python, symlinks=True, copy_function=link_or_copy)
    assert function().value()["names"] == [name]
    done = install(server.data, python)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "Already there"), done.stderr


def test_a_fetch_that_fails_leaves_nothing(work_folder, python):
    """Without network: an error that says what pip said, and nothing that an environment would be shown."""
    data = work_folder / "no-network"
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    done = install(data, python, **offline)
    assert done.returncode == 1
    assert "pip could not fetch boto3" in done.stderr and "boto3" in done.stderr.split("could not fetch")[1]
    assert listed(data)[python]["sdk"] is None
    assert [path for path in (data / "runtimes" / python).iterdir()] == []


def test_bytes_that_are_not_the_pinned_ones_are_refused(work_folder, python, tmp_path):
    """A mirror that serves something else under the right name and version."""
    data = work_folder / "wrong-hash"
    wheel = tmp_path / "boto3-1.44.5-py3-none-any.whl"
    wheel.write_bytes(functions.zip_of({"boto3/__init__.py": "", "boto3-1.44.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: boto3\nVersion: 1.44.5\n",
                                        "boto3-1.44.5.dist-info/WHEEL": "Wheel-Version: 1.0\n", "boto3-1.44.5.dist-info/RECORD": ""}))
    done = install(data, python, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert "HASH" in done.stderr.upper(), done.stderr
    assert listed(data)[python]["sdk"] is None


def test_runtimes_that_carry_none(work_folder):
    """A clear refusal."""
    done = install(work_folder / "none", "provided.al2023")
    assert done.returncode == 1
    assert "carries no AWS SDK" in done.stderr


def test_the_sdk_for_javascript_is_a_client_from_outside(sdk_server, need, name, tmp_path):
    """A deployment tool's work with AWS's SDK for JavaScript v3, its waiters and paginators, against the server."""
    runtime = need("nodejs22.x")
    server = sdk_server(runtime)
    source = (
        "export const handler = async (event) => {\n"
        "  let kept = null;\n"
        "  try { kept = (await import('kept')).value; } catch {}\n"
        "  return [event.from, process.env.STAGE ?? null, kept];\n};\n")
    (tmp_path / "code.zip").write_bytes(functions.zip_of({"index.mjs": source}))
    (tmp_path / "layer.zip").write_bytes(functions.zip_of({
        "nodejs/node_modules/kept/package.json": '{"type": "module", "exports": "./index.js"}',
        "nodejs/node_modules/kept/index.js": "export const value = 'from the layer';"}))
    node = listed(server.data)[runtime]["executable"]
    program = Path(__file__).with_name("programs") / "client.mjs"
    modules = CACHE / "runtimes/nodejs/current/node_modules"
    done = server.command(program, name, runtime, tmp_path / "code.zip", tmp_path / "layer.zip", program=node,
                          timeout_s=120, NODE_PATH=str(modules), AWS_REGION="us-east-1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "second": "2", "policy": {"Service": "s3.amazonaws.com"},
        "answers": {"1": [200, "1", ["javascript", None, None]],
                    "live": [200, "2", ["javascript", "two", "from the layer"]]},
        "versions": ["$LATEST", "1", "2"], "tags": {"made": "by-javascript"},
        "errors": {"GetFunction": ["ResourceNotFoundException", 404],
                   "CreateAlias": ["ResourceConflictException", 409],
                   "UpdateAlias": ["PreconditionFailedException", 412],
                   "DeleteFunction": ["ResourceConflictException", 409]},
    }
