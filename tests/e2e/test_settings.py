"""Settings of functions and of the account beside code and configuration: kept, shown, and with the effect that AWS gives them."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import functions, host
from harness.functions import ROLE, zip_of
from harness.waiting import wait_until

HANDLER = "lambda_function.handler"
#: Waits until somebody puts a file into its /tmp.
HELD = """
import os, time, uuid
identity = str(uuid.uuid4())
def handler(event, context):
    if event.get("hold"):
        open("/tmp/held", "w").close()
        while not os.path.exists("/tmp/go"):
            time.sleep(0.01)
        os.remove("/tmp/go")
        os.remove("/tmp/held")
    return identity
"""
ECHO = {"lambda_function.py": "def handler(event, context):\n    return event\n"}
PUBLISHER = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/profile/abcdefghij"
WAIT_S = 60


def error_of(action):
    """Code, status, message and reason of an action's refusal."""
    with pytest.raises(ClientError) as caught:
        action()
    response = caught.value.response
    return (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"],
            response.get("Reason"))


class Held:
    """A function each of whose events waits to be let go, seen from the host."""

    def __init__(self, client, name, runtime):
        self.mark = f"MARK={uuid.uuid4()}"
        mark = {"MARK": self.mark.removeprefix("MARK=")}
        self.function = functions.create(client, name, runtime, HANDLER, {"lambda_function.py": HELD}, Timeout=WAIT_S * 2,
                                         Environment={"Variables": mark})
        self.pool = ThreadPoolExecutor()

    def folders(self):
        """/tmp of each environment that holds an event."""
        roots = (Path(f"/proc/{process}/root/tmp") for process in host.with_variable(self.mark))
        return [root for root in roots if (root / "held").exists()]

    def start(self):
        """Begins an event and returns when it is held: what will be its answer."""
        answer = self.pool.submit(self.function, {"hold": True})
        wait_until(lambda: self.folders() or answer.done(), "the event is held", WAIT_S)
        assert not answer.done(), answer.result()
        return answer

    def let_go(self):
        """Ends the events that are held."""
        for folder in self.folders():
            (folder / "go").touch()


def throttled(function):
    """The reason of the throttle that an event of this function meets."""
    code, status, message, reason = error_of(lambda: function({}))
    assert (code, status, message) == ("TooManyRequestsException", 429, "Rate Exceeded.")
    return reason


def test_reserved_concurrency_is_all_that_a_function_gets(own_server, python):
    """One event at a time, none with 0, as many as there are without; at once, after a restart too, in the same environment."""
    server = own_server()
    client = server.client()
    held = Held(client, "held", python)
    client.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=1)
    first = held.start()
    assert throttled(held.function) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    client.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=2)
    identities = {held.function({}).value()}
    held.let_go()
    identities.add(first.result(WAIT_S).value())
    assert len(identities) == 2

    client.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=0)
    assert throttled(held.function) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert client.get_function(FunctionName="held")["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    client.delete_function_concurrency(FunctionName="held")
    assert "Concurrency" not in client.get_function(FunctionName="held")
    # Which of the two is used last, and so next, is up to them.
    assert held.function({}).value() in identities, "its environments stay over all of this"

    client.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=1)
    server.stop()
    again = own_server(server.data)
    client = again.client()
    assert client.get_function_concurrency(FunctionName="held")["ReservedConcurrentExecutions"] == 1
    held.function.client = client
    first = held.start()
    assert throttled(held.function) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    held.let_go()
    first.result(WAIT_S)


def test_a_stopped_function_stays_stopped_over_a_kill(own_server, python):
    """0 was acknowledged: no event runs after kill -9."""
    server = own_server()
    client = server.client()
    functions.create(client, "stopped", python, HANDLER, ECHO)
    client.put_function_concurrency(FunctionName="stopped", ReservedConcurrentExecutions=0)
    server.kill()
    client = own_server(server.data).client()
    function = functions.Function(client, "stopped", None)
    assert throttled(function) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    client.delete_function_concurrency(FunctionName="stopped")
    assert function({"a": 1}).value() == {"a": 1}


def test_a_hundred_stay_unreserved(own_server, python):
    """AWS's text; what is left is shown by GetAccountSettings, as what there is."""
    client = own_server().client()
    made = [functions.create(client, name, python, HANDLER, ECHO, Publish=True) for name in ("a", "b")]
    size = sum(each.configuration["CodeSize"] for each in made)
    client.put_function_concurrency(FunctionName="a", ReservedConcurrentExecutions=900)
    code, status, message, _ = error_of(
        lambda: client.put_function_concurrency(FunctionName="b", ReservedConcurrentExecutions=1))
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert message == ("Specified ReservedConcurrentExecutions for function decreases account's "
                       "UnreservedConcurrentExecution below its minimum value of [100].")
    settings = client.get_account_settings()
    assert settings["AccountLimit"] == {
        "TotalCodeSize": 80530636800, "CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800, "ConcurrentExecutions": 1000,
        "UnreservedConcurrentExecutions": 100}
    assert settings["AccountUsage"] == {"TotalCodeSize": 2 * size, "FunctionCount": 2}
    client.delete_function(FunctionName="a")
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": size, "FunctionCount": 1}
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_runtime_management_and_recursion(client, make, python):
    """Defaults as AWS's, and what was put is what is got."""
    function = make(python, HANDLER, ECHO)
    name = function.name
    assert client.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "Auto"
    own = client.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]["RuntimeVersionArn"]
    put = client.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Manual", RuntimeVersionArn=own)
    got = client.get_runtime_management_config(FunctionName=name)
    for answer in (put, got):
        assert (answer["UpdateRuntimeOn"], answer["RuntimeVersionArn"]) == ("Manual", own)
        assert answer["FunctionArn"] == function.configuration["FunctionArn"]
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    assert client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"


def test_code_signing(client, make, python):
    """A configuration that warns lets an unsigned package through, one that enforces does not."""
    made = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [PUBLISHER]})["CodeSigningConfig"]
    arn = made["CodeSigningConfigArn"]
    function = make(python, HANDLER, ECHO, CodeSigningConfigArn=arn)
    bound = client.get_function_code_signing_config(FunctionName=function.name)
    assert (bound["CodeSigningConfigArn"], bound["FunctionName"]) == (arn, function.name)
    listed = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]
    assert listed == [function.configuration["FunctionArn"]]
    assert error_of(lambda: client.delete_code_signing_config(CodeSigningConfigArn=arn))[:2] == ("ResourceConflictException", 409)

    client.update_code_signing_config(CodeSigningConfigArn=arn,
                                      CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"})
    package = zip_of({"lambda_function.py": "def handler(event, context):\n    return 'new'\n"})
    code, status, message, _ = error_of(lambda: client.update_function_code(FunctionName=function.name, ZipFile=package))
    assert (code, status) == ("CodeVerificationFailedException", 400)
    assert "signature" in message
    code, _, _, _ = error_of(lambda: client.create_function(
        FunctionName="unsigned", Runtime=python, Handler=HANDLER, Role=ROLE, Code={"ZipFile": package}, CodeSigningConfigArn=arn))
    assert code == "CodeVerificationFailedException"
    assert function({"a": 1}).value() == {"a": 1}, "what was deployed before still runs"

    client.delete_function_code_signing_config(FunctionName=function.name)
    assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName=function.name)
    client.update_function_code(FunctionName=function.name, ZipFile=package)
    assert function({}).value() == "new"
    client.delete_code_signing_config(CodeSigningConfigArn=arn)
    code, status, _, _ = error_of(lambda: client.get_code_signing_config(CodeSigningConfigArn=arn))
    assert (code, status) == ("ResourceNotFoundException", 404)


def test_snap_start_is_kept(client, make, need):
    """ApplyOn is shown, of versions too; not with more than 512 MB of storage."""
    function = make(need("python3.12"), HANDLER, ECHO, SnapStart={"ApplyOn": "PublishedVersions"}, Publish=True)
    for qualifier in ("$LATEST", "1"):
        shown = client.get_function_configuration(FunctionName=function.name, Qualifier=qualifier)["SnapStart"]
        assert shown["ApplyOn"] == "PublishedVersions"
    code, status, message, _ = error_of(
        lambda: client.update_function_configuration(FunctionName=function.name, EphemeralStorage={"Size": 513}))
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert "SnapStart" in message
    assert function({"a": 1}).value() == {"a": 1}


def test_a_host_without_room_for_functions_throttles(own_server, python):
    """Memory that is to stay free is not given to a function: the event meets AWS's 429, and the server lives."""
    server = own_server(arguments=["--memory-floor-mib", str(1 << 40)])
    client = server.client()
    function = functions.create(client, "large", python, HANDLER, ECHO)
    assert throttled(function) == "ConcurrentInvocationLimitExceeded"
    server.stop()
    function.client = own_server(server.data).client()
    assert function({"a": 1}).value() == {"a": 1}
