"""Layers: published, given to functions at /opt, merged in order, deleted while they are used, opened to another account."""

import io
import json
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import functions
from harness.functions import EXECUTABLE, zip_of
from harness.waiting import wait_until

ACCOUNT, OTHER_ACCOUNT = "000000000000", "111122223333"
UNZIPPED_BYTES = 262_144_000
#: A function that says what it finds where a layer's files are.
READER = """
def handler(event, context):
    found = {}
    for path in event:
        try:
            with open(path) as file:
                found[path] = file.read()
        except OSError as problem:
            found[path] = type(problem).__name__
    return found
"""


@pytest.fixture
def publish(client, name):
    """`publish({path: content}, modes=None, …)` publishes a version of a layer (`to` names another): the answer."""
    made = []

    def publish(files, to="a", modes=None, **settings):
        published = client.publish_layer_version(
            LayerName=f"{name}-{to}", Content={"ZipFile": files if isinstance(files, bytes) else zip_of(files, modes)}, **settings)
        made.append(published)
        return published

    yield publish
    for each in made:
        client.delete_layer_version(LayerName=each["LayerArn"], VersionNumber=each["Version"])


def arns(*published):
    """The ARNs of layer versions."""
    return [each["LayerVersionArn"] for each in published]


def refused(code, call, **arguments):
    """The message with which a call is refused."""
    with pytest.raises(ClientError) as problem:
        call(**arguments)
    assert problem.value.response["Error"]["Code"] == code, problem.value
    return problem.value.response["Error"]["Message"]


def zeros(count, path="zeros"):
    """A small zip that is large unpacked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(path, "w") as entry:
        for start in range(0, count, 1 << 20):
            entry.write(b"\0" * min(1 << 20, count - start))
    return buffer.getvalue()


# --- what functions find ------------------------------------------------------------------------------------------------


def test_python_imports_from_layers(make, publish, python):
    """Modules in python/ and in site-packages are found, programs in bin/ too; the function's own module comes first."""
    site = f"python/lib/{python}/site-packages"
    layer = publish({
        "python/greeting/__init__.py": "from .words import HELLO\n", "python/greeting/words.py": "HELLO = 'hello'\n",
        f"{site}/deep.py": "VALUE = 7\n", "python/own.py": "WHOSE = 'layer'\n",
        "bin/tool": "#!/bin/sh\necho from the layer\n", "lib/libnothing.so": "x"}, modes={"bin/tool": EXECUTABLE})
    source = (
        "import os, subprocess\nimport greeting, deep, own\n"
        "def handler(event, context):\n"
        "    said = subprocess.run(['tool'], capture_output=True, text=True, check=True).stdout.strip()\n"
        "    return [greeting.HELLO, deep.VALUE, own.WHOSE, said, '/opt/lib' in os.environ['LD_LIBRARY_PATH'].split(':')]\n")
    function = make(python, "lambda_function.handler", {"lambda_function.py": source, "own.py": "WHOSE = 'function'\n"},
                    Layers=arns(layer))
    assert function.configuration["Layers"] == [
        {"Arn": layer["LayerVersionArn"], "CodeSize": layer["Content"]["CodeSize"]}]
    assert function().value() == ["hello", 7, "function", "from the layer", True]


@pytest.mark.parametrize("runtime", ["nodejs20.x", "nodejs22.x", "nodejs24.x"])
def test_node_requires_from_layers(make, publish, need, runtime):
    """Packages in nodejs/node_modules and in that of the release are found."""
    release = need(runtime).removeprefix("nodejs").removesuffix(".x")
    layer = publish({
        "nodejs/node_modules/greeter/index.js": "module.exports = (name) => `hello ${name}`;",
        f"nodejs/node{release}/node_modules/release/package.json": '{"main": "main.js"}',
        f"nodejs/node{release}/node_modules/release/main.js": f"exports.number = {release};"})
    source = "const greet = require('greeter');\nexports.handler = async (event) => [greet(event), require('release').number];"
    function = make(runtime, "index.handler", {"index.js": source}, Layers=arns(layer))
    assert function("you").value() == ["hello you", int(release)]


def test_a_layer_brings_the_program(make, publish, program):
    """/opt/bootstrap runs where the function has none; the function's own comes first."""
    layer = publish({"bootstrap": program})
    function = make("provided.al2023", "echo", {"nothing": "else"}, Layers=arns(layer))
    assert function({"a": 1}).value() == {"a": 1}
    bare = make("provided.al2023", "echo", {"nothing": "else"})
    assert bare().failure()[0] == "Runtime.InvalidEntrypoint"
    unmarked = publish({"bin/x": "", "bootstrap": program}, to="b", modes={"bootstrap": 0o644})
    kind, message = make("provided.al2023", "echo", {"nothing": "else"}, Layers=arns(unmarked))().failure()
    assert (kind, "/opt/bootstrap: permission denied" in message) == ("Runtime.InvalidEntrypoint", True)


def test_opt_cannot_be_written_to(make, publish, python):
    """/opt is read-only, and empty without layers."""
    source = ("import os\ndef handler(event, context):\n    try:\n        open('/opt/' + event, 'w')\n"
              "    except OSError as problem:\n        return [sorted(os.listdir('/opt')), problem.errno]\n")
    files = {"lambda_function.py": source}
    layers = [publish({"kept": "1"}), publish({"other": "1"}, to="b")]
    for given, expected in ((layers, ["kept", "other"]), (layers[:1], ["kept"]), ([], [])):
        function = make(python, "lambda_function.handler", files, Layers=arns(*given))
        for path in ("kept", "new"):
            shown, number = function(path).value()
            assert shown == expected
            assert number in (13, 30), "EACCES or EROFS"


def test_later_layers_win_file_by_file(make, publish, client, python):
    """Folders are joined and files replaced in the order of the list; a new order is what the next event meets."""
    first = publish({"shared/both": "first", "shared/first": "1", "turns": "first"})
    second = publish({"shared/both": "second", "shared/second": "2", "turns/into": "second"}, to="b")
    function = make(python, "lambda_function.handler", {"lambda_function.py": READER}, Layers=arns(first, second))
    paths = [f"/opt/{path}" for path in ("shared/both", "shared/first", "shared/second", "turns", "turns/into")]
    assert list(function(paths).value().values()) == ["second", "1", "2", "IsADirectoryError", "second"]
    client.update_function_configuration(FunctionName=function.name, Layers=arns(second, first))
    assert list(function(paths).value().values()) == ["first", "1", "2", "first", "NotADirectoryError"]
    client.update_function_configuration(FunctionName=function.name, Layers=arns(second))
    assert list(function(paths).value().values()) == ["second", "FileNotFoundError", "2", "IsADirectoryError", "second"]
    client.update_function_configuration(FunctionName=function.name, Layers=[])
    assert set(function(paths).value().values()) == {"FileNotFoundError"}
    assert "Layers" not in client.get_function_configuration(FunctionName=function.name)


def test_published_versions_keep_their_layers(make, publish, client, python):
    """A version runs with the layers that it was published with, whatever $LATEST and the layer become."""
    old, new = publish({"file": "old"}), publish({"file": "new"})
    assert (old["Version"], new["Version"]) == (1, 2)
    function = make(python, "lambda_function.handler", {"lambda_function.py": READER}, Layers=arns(old))
    version = client.publish_version(FunctionName=function.name)
    assert version["Layers"][0]["Arn"] == old["LayerVersionArn"]
    client.update_function_configuration(FunctionName=function.name, Layers=arns(new))
    client.delete_layer_version(LayerName=old["LayerArn"], VersionNumber=1)
    assert function(["/opt/file"]).value() == {"/opt/file": "new"}
    assert function(["/opt/file"], Qualifier=version["Version"]).value() == {"/opt/file": "old"}
    assert client.publish_version(FunctionName=function.name)["Version"] == "2", "layers are part of what has changed"


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_five_layers_and_no_more(make, publish, client, python):
    """Five layers are merged; six, two versions of one, and one that is not there are refused, and change nothing."""
    layers = [publish({f"{letter}": letter}, to=letter) for letter in "abcdef"]
    function = make(python, "lambda_function.handler", {"lambda_function.py": READER}, Layers=arns(*layers[:5]))
    before = client.get_function_configuration(FunctionName=function.name)["RevisionId"]
    twice = publish({"a": "2"}, to="a")
    for given, says in (
            (arns(*layers), "Cannot reference more than 5 layers."),
            (arns(layers[0], twice), "Two different versions of the same layer are not allowed to be referenced in the same function."),
            ([layers[0]["LayerArn"] + ":99"], f"Layer version {layers[0]['LayerArn']}:99 does not exist."),
            ([layers[0]["LayerVersionArn"].replace("us-east-1", "eu-west-1")],
             "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.")):
        message = refused("InvalidParameterValueException", client.update_function_configuration,
                          FunctionName=function.name, Layers=given)
        assert message.startswith(says)
    refused("ValidationException", client.update_function_configuration, FunctionName=function.name, Layers=[layers[0]["LayerArn"]])
    assert client.get_function_configuration(FunctionName=function.name)["RevisionId"] == before
    paths = [f"/opt/{letter}" for letter in "abcdef"]
    assert list(function(paths).value().values()) == ["a", "b", "c", "d", "e", "FileNotFoundError"]


def test_code_and_layers_share_250_mb(make, publish, client, python):
    """Code and layers together may have 262,144,000 bytes unpacked, and not one more."""
    half = UNZIPPED_BYTES // 2
    layers = [publish(zeros(half), to="a"), publish(zeros(half - 1_000), to="b")]
    source = b"def handler(event, context):\n    return 1\n"
    fits = zip_of({"lambda_function.py": source.decode(), "fill": "x" * (1_000 - len(source))})
    over = zip_of({"lambda_function.py": source.decode(), "fill": "x" * (1_001 - len(source))})
    function = make(python, "lambda_function.handler", fits, Layers=arns(*layers))
    text = f"Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is {UNZIPPED_BYTES + 1} bytes."
    assert refused("InvalidParameterValueException", client.update_function_code, FunctionName=function.name, ZipFile=over) == text
    assert function().value() == 1
    assert refused("InvalidParameterValueException", client.create_function, FunctionName=function.name + "-b", Runtime=python,
                   Handler="lambda_function.handler", Role=functions.ROLE, Code={"ZipFile": over}, Layers=arns(*layers)) == text
    assert refused("InvalidParameterValueException", publish, files=zeros(UNZIPPED_BYTES), to="c") == \
        "Unzipped size must be smaller than 262144000 bytes"


# --- how long a layer lives ---------------------------------------------------------------------------------------------


def test_a_deleted_layer_outlives_kill_and_restart(own_server, python, name):
    """A function goes on with deleted layers, also after a kill -9 and without the unpacked folders; nobody else gets them."""
    server = own_server()
    client = server.client()
    layers = [client.publish_layer_version(LayerName=f"{name}-{each}", Content={"ZipFile": zip_of({each: each})}) for each in "ab"]
    function = functions.create(client, name, python, "lambda_function.handler", {"lambda_function.py": READER}, Layers=arns(*layers))
    paths, expected = ["/opt/a", "/opt/b"], {"/opt/a": "a", "/opt/b": "b"}
    assert function(paths).value() == expected
    for each in layers:
        client.delete_layer_version(LayerName=each["LayerArn"], VersionNumber=1)
        refused("ResourceNotFoundException", client.get_layer_version, LayerName=each["LayerArn"], VersionNumber=1)
    assert client.list_layers()["Layers"] == []
    server.kill()
    for folder in (server.data / "code").iterdir():
        folder.rename(folder.with_name(".partial-" + folder.name))  # as good as removed: the next start removes these
    again = own_server(server.data)
    function.client = client = again.client()
    assert function(paths).value() == expected
    assert client.get_function_configuration(FunctionName=name)["Layers"][0]["Arn"] == layers[0]["LayerVersionArn"]
    refused("InvalidParameterValueException", client.update_function_configuration, FunctionName=name, Layers=arns(*layers))
    third = client.publish_layer_version(LayerName=f"{name}-a", Content={"ZipFile": zip_of({"a": "again"})})
    assert third["Version"] == 2, "numbers are not given twice"
    # Without the function, the start after it finds nothing that needs them.
    client.delete_function(FunctionName=name)
    client.delete_layer_version(LayerName=third["LayerArn"], VersionNumber=2)
    again.kill()
    last = own_server(server.data)
    wait_until(lambda: not list((last.data / "code").iterdir()), "unused packages are collected")


def test_layers_count_as_code_of_the_account(own_server, name):
    """Each version counts with its zip until it is deleted, also over a kill -9."""
    server = own_server()
    client = server.client()
    published = [client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of({"file": content})})
                 for content in ("x", "x", "longer")]
    sizes = [each["Content"]["CodeSize"] for each in published]
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": sum(sizes), "FunctionCount": 0}
    client.delete_layer_version(LayerName=name, VersionNumber=2)
    server.kill()
    client = own_server(server.data).client()
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": sizes[0] + sizes[2], "FunctionCount": 0}
    for number in (1, 3):
        client.delete_layer_version(LayerName=name, VersionNumber=number)
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}


def test_another_account_needs_the_policy(own_server, python, name):
    """One store served for two accounts, one after the other: the layer is usable where its policy says so."""
    server = own_server()
    client = server.client()
    published = client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of({"file": "shared"})})
    arn = published["LayerVersionArn"]
    create = {"FunctionName": name, "Runtime": python, "Handler": "lambda_function.handler", "Role": functions.ROLE,
              "Code": {"ZipFile": zip_of({"lambda_function.py": READER})}, "Layers": [arn]}
    server.stop()

    other = own_server(server.data, arguments=["--account", OTHER_ACCOUNT])
    client = other.client()
    denied = f"is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action"
    assert denied in refused("AccessDeniedException", client.create_function, **create)
    assert denied in refused("AccessDeniedException", client.get_layer_version_by_arn, Arn=arn)
    other.stop()

    own = own_server(server.data)
    added = own.client().add_layer_version_permission(
        LayerName=name, VersionNumber=1, StatementId="other", Action="lambda:GetLayerVersion", Principal=OTHER_ACCOUNT)
    assert json.loads(added["Statement"])["Principal"] == {"AWS": f"arn:aws:iam::{OTHER_ACCOUNT}:root"}
    own.stop()

    other = own_server(server.data, arguments=["--account", OTHER_ACCOUNT])
    client = other.client()
    client.create_function(**create)
    assert functions.Function(client, name, None)(["/opt/file"]).value() == {"/opt/file": "shared"}
    location = client.get_layer_version_by_arn(Arn=arn)["Content"]["Location"]
    with urllib.request.urlopen(location, timeout=10) as answer:
        assert zipfile.ZipFile(io.BytesIO(answer.read())).read("file") == b"shared"
    assert client.list_layers()["Layers"] == [], "each account lists its own"


# --- the AWS CLI --------------------------------------------------------------------------------------------------------


def test_the_aws_cli(server, python, name, tmp_path):
    """Published, opened, attached, listed and deleted as AWS's own guides do it."""
    program = Path(sys.executable).with_name("aws")
    if not program.exists():
        pytest.skip("the AWS CLI (awscli) is not in this virtual environment")

    def aws(*words):
        done = server.command("lambda", *words, "--output", "json", program=program)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    (tmp_path / "layer.zip").write_bytes(zip_of({"python/shared.py": "NAME = 'layer'\n"}))
    (tmp_path / "function.zip").write_bytes(
        zip_of({"lambda_function.py": "import shared\ndef handler(event, context):\n    return shared.NAME\n"}))
    published = aws("publish-layer-version", "--layer-name", name, "--description", "shared", "--license-info", "MIT",
                    "--zip-file", f"fileb://{tmp_path}/layer.zip", "--compatible-runtimes", python, "--compatible-architectures", "x86_64")
    arn = published["LayerVersionArn"]
    assert arn == f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:{name}:1"
    statement = aws("add-layer-version-permission", "--layer-name", name, "--version-number", "1", "--statement-id", "all",
                    "--principal", "*", "--action", "lambda:GetLayerVersion")
    policy = aws("get-layer-version-policy", "--layer-name", name, "--version-number", "1")
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(statement["Statement"])]
    aws("remove-layer-version-permission", "--layer-name", name, "--version-number", "1", "--statement-id", "all",
        "--revision-id", policy["RevisionId"])
    aws("create-function", "--function-name", name, "--runtime", python, "--handler", "lambda_function.handler", "--role",
        functions.ROLE, "--zip-file", f"fileb://{tmp_path}/function.zip", "--layers", arn)
    aws("invoke", "--function-name", name, str(tmp_path / "answer.json"))
    assert json.loads((tmp_path / "answer.json").read_text()) == "layer"
    by_arn = aws("get-layer-version-by-arn", "--arn", arn)
    assert (by_arn["Version"], by_arn["LicenseInfo"], by_arn["CompatibleRuntimes"]) == (1, "MIT", [python])
    with urllib.request.urlopen(by_arn["Content"]["Location"], timeout=10) as answer:
        assert answer.read() == (tmp_path / "layer.zip").read_bytes()
    listed = aws("list-layers", "--compatible-runtime", python)["Layers"]
    assert [each["LatestMatchingVersion"]["LayerVersionArn"] for each in listed if each["LayerName"] == name] == [arn]
    assert aws("list-layer-versions", "--layer-name", name)["LayerVersions"][0]["Description"] == "shared"
    aws("delete-layer-version", "--layer-name", name, "--version-number", "1")
    assert aws("list-layer-versions", "--layer-name", name)["LayerVersions"] == []
    aws("delete-function", "--function-name", name)
