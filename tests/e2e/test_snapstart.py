"""SnapStart: published versions that start from a snapshot of themselves, and what they are until it is there."""

import pytest
from botocore.exceptions import ClientError, WaiterError

from harness import functions
from harness.functions import zip_of

HANDLER = "lambda_function.handler"
SNAP_START = {"ApplyOn": "PublishedVersions"}
SOURCE = """
import os, random, time, uuid
identity = str(uuid.uuid4())

def handler(event, context):
    time.sleep(event.get("seconds", 0))
    return {"identity": identity, "began": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "random": random.random(),
            "uuid": str(uuid.uuid4()), "bytes": os.urandom(16).hex()}
"""
BROKEN = "import nothing_of_this_name\ndef handler(event, context):\n    return 1\n"


@pytest.fixture
def client(own_server):
    """A server of one's own: `client.server` is the server."""
    server = own_server()
    made = server.client()
    made.server = server
    return made


def shown(client, qualifier):
    """State, reason's code and whether SnapStart is on."""
    configuration = client.get_function_configuration(FunctionName="snap", Qualifier=qualifier)
    return configuration.get("State"), configuration.get("StateReasonCode"), configuration["SnapStart"]["OptimizationStatus"]


@pytest.fixture
def published(client, need):
    """`published(source)` creates `snap` and publishes version 1; skips where the server takes no snapshots."""

    def published(source):
        function = functions.create(client, "snap", need("python3.12"), HANDLER, zip_of({"lambda_function.py": source}),
                                    SnapStart=SNAP_START, Timeout=60)
        version = client.publish_version(FunctionName="snap")
        if version["SnapStart"]["OptimizationStatus"] == "Off":
            assert version["State"] == "Active", "without snapshots it starts as any other"
            assert function({}, Qualifier="1").status == 200
            pytest.skip("SnapStart: this server takes no snapshots")
        assert (version["State"], version["StateReasonCode"]) == ("Pending", "Creating")
        return function

    return published


def test_runtimes_that_cannot_are_refused(client, need):
    """As on AWS: Node.js has no SnapStart."""
    with pytest.raises(ClientError) as caught:
        functions.create(client, "node", need("nodejs20.x"), "index.handler", {"index.js": "exports.handler = async () => 1"},
                         SnapStart=SNAP_START)
    assert caught.value.response["Error"] == {
        "Code": "InvalidParameterValueException", "Message": "nodejs20.x is not supported for SnapStart enabled functions."}


def test_a_version_is_active_once_its_snapshot_is_made(client, published):
    """AWS's waiter; then every environment goes on from the one Init phase, with randomness of its own."""
    function = published(SOURCE)
    client.get_waiter("published_version_active").wait(FunctionName="snap", Qualifier="1", WaiterConfig={"Delay": 1})
    assert shown(client, "1") == ("Active", None, "On")
    assert shown(client, "$LATEST") == ("Active", None, "Off")
    first = function({}, Qualifier="1").value()
    assert first["began"] == "snap-start"
    client.server.stop()
    client.server.start()
    function.client = client.server.client()
    second = function({}, Qualifier="1").value()
    for member in ("random", "uuid", "bytes"):
        assert first[member] != second[member]


def test_a_version_whose_init_fails_has_failed(client, published):
    """Failed, with a reason; the waiter says so, and it takes no events."""
    function = published(BROKEN)
    with pytest.raises(WaiterError):
        client.get_waiter("published_version_active").wait(FunctionName="snap", Qualifier="1", WaiterConfig={"Delay": 1})
    configuration = client.get_function_configuration(FunctionName="snap", Qualifier="1")
    assert (configuration["State"], bool(configuration["StateReason"])) == ("Failed", True)
    with pytest.raises(ClientError) as caught:
        function({}, Qualifier="1")
    assert caught.value.response["Error"]["Code"] == "ResourceConflictException"
