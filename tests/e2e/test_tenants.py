"""Functions that keep tenants apart: an environment never serves two of them, and the header is as AWS has it."""

import json
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

HANDLER = "lambda_function.handler"
PER_TENANT = {"TenantIsolationMode": "PER_TENANT"}
#: Keeps what it sees where the next event of its environment finds it: in memory, in /tmp, in the environment's variables.
TRACES = """
import os, time, uuid
identity = str(uuid.uuid4())
seen = []

def handler(event, context):
    seen.append(context.tenant_id)
    with open("/tmp/seen", "a") as file:
        file.write(context.tenant_id + "\\n")
    os.environ["SEEN"] = os.environ.get("SEEN", "") + context.tenant_id + "\\n"
    time.sleep(event.get("seconds", 0))
    with open("/tmp/seen") as file:
        on_disk = file.read().split("\\n")[:-1]
    return {"identity": identity, "memory": list(seen), "disk": on_disk, "variable": os.environ["SEEN"].split("\\n")[:-1]}
"""
NODE_TRACES = """
const seen = []
exports.handler = async (event, context) => { seen.push(context.tenantId); return seen }
"""
ECHO = {"lambda_function.py": "def handler(event, context):\n    return event\n"}


def refusal(action):
    """Code, status, message and type of an action's refusal."""
    with pytest.raises(ClientError) as caught:
        action()
    response = caught.value.response
    return (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"],
            response.get("Type"))


def test_the_header_is_asked_for_where_tenants_are_kept_apart_and_only_there(client, make, python):
    """Missing, surplus and malformed: AWS's answers, for versions and dry runs too."""
    function = make(python, HANDLER, ECHO, TenancyConfig=PER_TENANT, Publish=True)
    shown = client.get_function_configuration(FunctionName=function.name)
    assert shown["TenancyConfig"] == PER_TENANT
    missing = ("InvalidParameterValueException", 400, "The invoked function is enabled with tenancy configuration. Add a valid "
               "tenant ID in your request and try again.", "User")
    assert refusal(lambda: function({})) == missing
    assert refusal(lambda: function({}, Qualifier="1")) == missing
    assert refusal(lambda: function({}, InvocationType="DryRun", tail=False)) == missing
    assert function({"a": 1}, TenantId="blue").value() == {"a": 1}
    assert function({"a": 1}, TenantId="b l/u:e_=+-@.1", Qualifier="1").value() == {"a": 1}
    for wrong in ("a,b", "t" * 257, "what?"):
        code, status, message, _ = refusal(lambda wrong=wrong: function({}, TenantId=wrong))
        assert (code, status) == ("ValidationException", 400)
        assert "'tenantId' failed to satisfy constraint" in message
    plain = make(python, HANDLER, ECHO)
    assert refusal(lambda: plain({}, TenantId="blue")) == (
        "InvalidParameterValueException", 400, "The invoked function is not enabled with tenancy configuration. Remove the tenant "
        "ID from your request and try again.", "User")
    assert plain({"a": 1}).value() == {"a": 1}


def test_what_goes_with_tenants_is_as_on_aws(client, make, python, need):
    """Neither SnapStart nor provisioned concurrency."""
    function = make(python, HANDLER, ECHO, TenancyConfig=PER_TENANT, Publish=True)
    code, status, message, _ = refusal(lambda: client.put_provisioned_concurrency_config(
        FunctionName=function.name, Qualifier="1", ProvisionedConcurrentExecutions=1))
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert "tenant" in message
    code, status, _, _ = refusal(lambda: make(need("python3.12"), HANDLER, ECHO, TenancyConfig=PER_TENANT,
                                              SnapStart={"ApplyOn": "PublishedVersions"}))
    assert (code, status) == ("InvalidParameterValueException", 400)


def test_no_tenant_ever_sees_what_another_left(make, python):
    """Many at once, several events each: memory, disk and variables of an environment have known one tenant alone, and a
    tenant's next event finds its own environment again."""
    function = make(python, HANDLER, {"lambda_function.py": TRACES}, TenancyConfig=PER_TENANT)
    tenants = [f"tenant-{number}" for number in range(6)]
    answers, lock = defaultdict(list), threading.Lock()

    def send(tenant):
        answer = function({"seconds": 0.02}, TenantId=tenant).value()
        with lock:
            answers[tenant].append(answer)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(send, tenant) for _ in range(12) for tenant in tenants]:
            done.result()
    environments = {}
    for tenant, its in answers.items():
        assert len(its) == 12
        for answer in its:
            for trace in ("memory", "disk", "variable"):
                assert set(answer[trace]) == {tenant}, f"{tenant} sees {answer[trace]}"
            assert environments.setdefault(answer["identity"], tenant) == tenant
        assert len({answer["identity"] for answer in its}) < len(its), "environments are used again"
    assert len(environments) >= len(tenants)


def test_one_after_another_share_nothing_either(make, python):
    """An idle environment of one tenant is not taken for another."""
    function = make(python, HANDLER, {"lambda_function.py": TRACES}, TenancyConfig=PER_TENANT)
    first = [function({}, TenantId=tenant).value() for tenant in ("blue", "green", "red")]
    again = [function({}, TenantId=tenant).value() for tenant in ("blue", "green", "red")]
    assert [each["memory"] for each in first] == [["blue"], ["green"], ["red"]]
    assert [each["memory"] for each in again] == [["blue"] * 2, ["green"] * 2, ["red"] * 2]
    assert [each["identity"] for each in first] == [each["identity"] for each in again]


def test_node_keeps_them_apart_too(make, need):
    """The tenant's id is in Node's context, and in no other tenant's environment."""
    function = make(need("nodejs20.x"), "index.handler", {"index.js": NODE_TRACES}, TenancyConfig=PER_TENANT)
    for tenant in ("blue", "green", "blue"):
        assert set(function({}, TenantId=tenant).value()) == {tenant}


def test_the_aws_cli_names_tenants(server, make, python, tmp_path):
    """`aws lambda invoke --tenant-id`."""
    function = make(python, HANDLER, {"lambda_function.py": TRACES}, TenancyConfig=PER_TENANT)
    program = Path(sys.executable).with_name("aws")
    output = tmp_path / "answer.json"
    done = server.command("lambda", "invoke", "--function-name", function.name, "--tenant-id", "blue", "--payload", "{}",
                          output, program=program)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["memory"] == ["blue"]
