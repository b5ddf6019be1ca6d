"""Versions and aliases on the real server: each runs its own code and configuration, and survives a kill."""

import json
import sys
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness.functions import Function, zip_of

SOURCE = """
import os

def handler(event, context):
    return {
        "code": %s, "memory": context.memory_limit_in_mb, "version": context.function_version,
        "variable": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "arn": context.invoked_function_arn,
        "stream": context.log_stream_name,
    }
"""


def package(number):
    """A package whose handler tells its number."""
    return zip_of({"lambda_function.py": SOURCE % number})


@pytest.fixture
def versioned(make, python):
    """A function with versions 1 and 2 (of code 1 and 2, 128 and 256 MB), whose $LATEST has code 3."""
    function = make(python, "lambda_function.handler", package(1))
    publish(function)
    function.client.update_function_code(FunctionName=function.name, ZipFile=package(2))
    function.client.update_function_configuration(FunctionName=function.name, MemorySize=256)
    publish(function)
    function.client.update_function_code(FunctionName=function.name, ZipFile=package(3))
    return function


def publish(function, **settings):
    """The number of the version that is published."""
    return function.client.publish_version(FunctionName=function.name, **settings)["Version"]


def test_each_version_runs_its_own_code_and_configuration(versioned):
    """Versions are frozen; the environment, the context, the log stream and the answer tell which one ran."""
    for qualifier, code, memory in [("1", 1, "128"), ("2", 2, "256"), ("$LATEST", 3, "256")]:
        answer = versioned({}, Qualifier=qualifier)
        told = answer.value()
        assert answer.version == told["version"] == told["variable"] == qualifier
        assert (told["code"], str(told["memory"])) == (code, memory)
        assert told["arn"].endswith(f":function:{versioned.name}:{qualifier}")
        assert f"[{qualifier}]" in told["stream"]
        assert f"Version: {qualifier}" in answer.log
    unqualified = versioned({}).value()
    assert (unqualified["code"], unqualified["arn"].rsplit(":", 1)[1]) == (3, versioned.name)


def test_an_alias_moves_and_shares(versioned):
    """An alias leads where it was last pointed; with a weight, both versions are seen."""
    client, name = versioned.client, versioned.name
    created = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    live = Function(client, created["AliasArn"], created)
    assert live({}).value()["code"] == 1
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    answer = live({})
    assert (answer.value()["code"], answer.version) == (2, "2")
    assert answer.value()["arn"] == created["AliasArn"]
    client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})
    # That 60 events all go one way happens once in 2^59 runs.
    assert {live({}).version for _ in range(60)} == {"1", "2"}
    assert client.get_function(FunctionName=name, Qualifier="live")["Configuration"]["Version"] == "2"


def test_the_aws_cli_publishes_and_points_aliases(server, versioned):
    """The commands that people type."""
    def run(*words):
        done = server.command("lambda", *words, program=str(Path(sys.executable).with_name("aws")))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    name = versioned.name
    published = run("publish-version", "--function-name", name, "--description", "third")
    assert (published["Version"], published["Description"]) == ("3", "third")
    run("create-alias", "--function-name", name, "--name", "prod", "--function-version", "1",
        "--routing-config", "AdditionalVersionWeights={2=0.1}")
    alias = run("get-alias", "--function-name", name, "--name", "prod")
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    versions = run("list-versions-by-function", "--function-name", name, "--page-size", "2")["Versions"]
    assert [each["Version"] for each in versions] == ["$LATEST", "1", "2", "3"]
    aliases = run("list-aliases", "--function-name", name)["Aliases"]
    assert [each["Name"] for each in aliases] == ["prod"]
    run("delete-alias", "--function-name", name, "--name", "prod")
    run("delete-function", "--function-name", name, "--qualifier", "3")
    assert [each["Version"] for each in client_versions(versioned)] == ["$LATEST", "1", "2"]


def client_versions(function):
    """All versions, page by page."""
    pages = function.client.get_paginator("list_versions_by_function").paginate(FunctionName=function.name)
    return [version for page in pages for version in page["Versions"]]


def test_clients_that_publish_at_once_leave_no_gap(make, python):
    """Sixteen clients change and publish at once: numbers are given once each, without a gap."""
    function = make(python, "lambda_function.handler", package(0))
    given, barrier = [], threading.Barrier(16)

    def work(number):
        barrier.wait(30)
        try:
            function.client.update_function_configuration(FunctionName=function.name, MemorySize=128 + number)
        except ClientError as error:
            # Another client's update was under way: what AWS says, too.
            assert error.response["Error"]["Code"] == "ResourceConflictException"
        try:
            given.append(int(publish(function)))
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ResourceConflictException"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = [each["Version"] for each in client_versions(function)]
    assert versions == ["$LATEST"] + [str(number) for number in range(1, len(versions))]
    assert {str(number) for number in given} <= set(versions) and given


def test_versions_and_aliases_survive_a_kill(own_server, python):
    """What was acknowledged is there after kill -9, and runs."""
    server = own_server()
    client = server.client()
    client.create_function(FunctionName="f", Runtime=python, Handler="lambda_function.handler", Publish=True,
                           Role="arn:aws:iam::123456789012:role/r", Code={"ZipFile": package(1)})
    client.update_function_code(FunctionName="f", ZipFile=package(2), Publish=True)
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    server.kill()
    client = own_server(data=server.data).client()
    live = Function(client, "f:live", None)
    assert live({}).value()["code"] == 1
    assert Function(client, "f:2", None)({}).value()["code"] == 2
    client.delete_alias(FunctionName="f", Name="live")
    with pytest.raises(ClientError) as error:
        live({})
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_events_in_flight_keep_their_version(make, python):
    """While code is updated over and over, every event is answered by some version, and none fails."""
    function = make(python, "lambda_function.handler", package(0))
    answers, stop = [], threading.Event()

    def invoke():
        while not stop.is_set():
            answers.append(function({}).value()["code"])

    threads = [threading.Thread(target=invoke) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 9):
            function.client.update_function_code(FunctionName=function.name, ZipFile=package(number))
            assert function({}).value()["code"] == number
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert answers and set(answers) <= set(range(9))
