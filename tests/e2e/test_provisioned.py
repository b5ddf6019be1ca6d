"""Provisioned concurrency on the real server: environments that are there before the events, for a version or an alias."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import functions, host
from harness.functions import zip_of
from harness.server import REGION
from harness.waiting import wait_until

HANDLER = "lambda_function.handler"
#: Tells how its environment began, and can hold its event until somebody puts a file into its /tmp.
SOURCE = """
import os, time, uuid
identity = str(uuid.uuid4())
def handler(event, context):
    if event.get("hold"):
        open("/tmp/held", "w").close()
        while not os.path.exists("/tmp/go"):
            time.sleep(0.01)
        os.remove("/tmp/go")
        os.remove("/tmp/held")
    return {"began": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "version": context.function_version,
            "identity": identity, "mark": os.environ["MARK"]}
"""
BROKEN = {"lambda_function.py": "import nothing_of_this_name\ndef handler(event, context):\n    return 1\n"}
ACCOUNT = "000000000000"


def error_of(action):
    """Code, status and message of an action's refusal."""
    with pytest.raises(ClientError) as caught:
        action()
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def deploy(client, name, python, mark):
    """A function with version 1."""
    return functions.create(client, name, python, HANDLER, {"lambda_function.py": SOURCE}, Publish=True, Timeout=120,
                            Environment={"Variables": {"MARK": mark}})


def provision(client, name, qualifier, count):
    """Asks for so many environments: what was answered."""
    return client.put_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count)


def state(client, name, qualifier):
    """A configuration as it is."""
    shown = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    shown.pop("ResponseMetadata")
    return shown


def until(client, name, qualifier, status):
    """A configuration once it has this status."""
    def there():
        shown = state(client, name, qualifier)
        return shown if shown["Status"] == status else None
    return wait_until(there, f"{name}:{qualifier} is {status}")


def test_environments_are_there_before_the_events(own_server, python):
    """IN_PROGRESS, then READY; events find them initialised; beyond them on demand; after the deletion none is left."""
    client = own_server().client()
    function = deploy(client, "ready", python, "one")
    begun = provision(client, "ready", "1", 2)
    assert begun["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (begun["Status"], begun["RequestedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2)
    ready = until(client, "ready", "1", "READY")
    assert ready["AllocatedProvisionedConcurrentExecutions"] == ready["AvailableProvisionedConcurrentExecutions"] == 2
    assert ready["LastModified"] == begun["LastModified"]
    assert len(host.with_variable("MARK=one")) >= 2, "they run before any event"
    answer = function({}, Qualifier="1")
    assert (answer.value()["began"], answer.value()["version"]) == ("provisioned-concurrency", "1")
    assert answer.report["init"] is None, "no event waits for an Init phase"
    assert function({}).value()["began"] == "on-demand", "$LATEST has none"

    pool = ThreadPoolExecutor()
    held = [pool.submit(function, {"hold": True}, Qualifier="1") for _ in range(3)]

    def folders():
        roots = (Path(f"/proc/{process}/root/tmp") for process in host.with_variable("MARK=one"))
        return {str(root): root for root in roots if (root / "held").exists() and not (root / "go").exists()}

    wait_until(lambda: len(folders()) == 3, "all three events run at once")
    assert state(client, "ready", "1")["AvailableProvisionedConcurrentExecutions"] == 0
    for folder in folders().values():
        (folder / "go").touch()
    began = sorted(each.result().value()["began"] for each in held)
    assert began == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]

    client.delete_provisioned_concurrency_config(FunctionName="ready", Qualifier="1")
    code, status, message = error_of(lambda: state(client, "ready", "1"))
    assert (code, status) == ("ProvisionedConcurrencyConfigNotFoundException", 404)
    assert message == "No Provisioned Concurrency Config found for this function"
    assert client.list_provisioned_concurrency_configs(FunctionName="ready")["ProvisionedConcurrencyConfigs"] == []
    assert wait_until(lambda: function({}, Qualifier="1").value()["began"] == "on-demand", "none is kept")


def test_an_alias_takes_its_environments_to_another_version(own_server, python):
    """The version that it leads to then is the one that is kept ready."""
    client = own_server().client()
    function = deploy(client, "moved", python, "moved")
    client.update_function_configuration(FunctionName="moved", MemorySize=256)
    assert client.publish_version(FunctionName="moved")["Version"] == "2"
    client.create_alias(FunctionName="moved", Name="live", FunctionVersion="1")
    provision(client, "moved", "live", 1)
    until(client, "moved", "live", "READY")
    first = function({}, Qualifier="live").value()
    assert (first["began"], first["version"]) == ("provisioned-concurrency", "1")
    code, status, message = error_of(lambda: provision(client, "moved", "1", 1))
    assert (code, status, message) == ("ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias")

    client.update_alias(FunctionName="moved", Name="live", FunctionVersion="2")
    second = wait_until(lambda: there if (there := function({}, Qualifier="live").value())["began"] != "on-demand" else None,
                        "version 2 is provisioned")
    assert (second["began"], second["version"]) == ("provisioned-concurrency", "2")
    until(client, "moved", "live", "READY")
    listed = client.list_provisioned_concurrency_configs(FunctionName="moved")["ProvisionedConcurrencyConfigs"]
    assert [each["FunctionArn"] for each in listed] == [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:moved:live"]


def test_what_is_provisioned_is_there_again_after_a_restart(own_server, python):
    """Acknowledged is kept, over a kill and over a stop: the environments come back by themselves."""
    server = own_server()
    client = server.client()
    deploy(client, "kept", python, "kept")
    begun = provision(client, "kept", "1", 2)
    for end in ("kill", "stop"):
        getattr(server, end)()
        server = own_server(server.data)
        client = server.client()
        ready = until(client, "kept", "1", "READY")
        assert ready["AllocatedProvisionedConcurrentExecutions"] == 2
        assert ready["LastModified"] == begun["LastModified"]
        answer = functions.Function(client, "kept", None)({}, Qualifier="1")
        assert answer.value()["began"] == "provisioned-concurrency", end


def test_a_function_that_cannot_start_fails_with_a_reason(own_server, python):
    """FAILED, a reason, and nothing else of the server suffers; a version that starts is READY beside it."""
    client = own_server().client()
    functions.create(client, "broken", python, HANDLER, BROKEN, Publish=True)
    provision(client, "broken", "1", 1)
    failed = until(client, "broken", "1", "FAILED")
    assert failed["StatusReason"]
    assert failed["AllocatedProvisionedConcurrentExecutions"] == 0
    client.update_function_code(FunctionName="broken", ZipFile=zip_of({"lambda_function.py": SOURCE}))
    client.update_function_configuration(FunctionName="broken", Environment={"Variables": {"MARK": "mended"}})
    client.publish_version(FunctionName="broken")
    provision(client, "broken", "2", 1)
    until(client, "broken", "2", "READY")


def test_what_cannot_be_provisioned_is_refused(own_server, python):
    """AWS's texts, and the account's concurrency as it is set for this server."""
    client = own_server(arguments=["--account-concurrency", "150", "--scaling-burst", "10"]).client()
    deploy(client, "limited", python, "limited")
    limits = client.get_account_settings()["AccountLimit"]
    assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (150, 150)
    invalid = ("InvalidParameterValueException", 400)
    assert error_of(lambda: provision(client, "limited", "$LATEST", 1)) == (
        *invalid, "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    assert error_of(lambda: provision(client, "limited", "1", 51)) == (
        *invalid, "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
                  "minimum value of [100].")
    client.put_function_concurrency(FunctionName="limited", ReservedConcurrentExecutions=2)
    assert error_of(lambda: provision(client, "limited", "1", 3)) == (
        *invalid, "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
    provision(client, "limited", "1", 2)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 148
    until(client, "limited", "1", "READY")
    client.delete_function(FunctionName="limited")
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 150
    assert wait_until(lambda: not host.with_variable("MARK=limited"), "a deleted function keeps nothing ready")


def test_the_aws_cli_provisions(own_server, python):
    """`aws lambda put-provisioned-concurrency-config` and its siblings."""
    server = own_server()
    deploy(server.client(), "cli", python, "cli")

    def aws(*arguments):
        program = Path(sys.executable).with_name("aws")
        done = server.command("lambda", *arguments, "--function-name", "cli", program=program)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "{}")

    put = aws("put-provisioned-concurrency-config", "--qualifier", "1", "--provisioned-concurrent-executions", "1")
    assert put["Status"] == "IN_PROGRESS"
    until(server.client(), "cli", "1", "READY")
    got = aws("get-provisioned-concurrency-config", "--qualifier", "1")
    assert (got["Status"], got["LastModified"]) == ("READY", put["LastModified"])
    assert len(aws("list-provisioned-concurrency-configs")["ProvisionedConcurrencyConfigs"]) == 1
    aws("delete-provisioned-concurrency-config", "--qualifier", "1")
    assert aws("list-provisioned-concurrency-configs")["ProvisionedConcurrencyConfigs"] == []
