"""SnapStart: published versions that start from a snapshot of themselves, and what they are until it is there."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, WaiterError

from harness import functions
from harness.functions import zip_of
from harness.waiting import wait_until

HANDLER = "lambda_function.handler"
SNAP_START = {"ApplyOn": "PublishedVersions"}
SOURCE = """
import os, random, time, uuid
identity = str(uuid.uuid4())

def handler(event, context):
    time.sleep(event.get("seconds", 0))
    return {"identity": identity, "environment": context.log_stream_name, "began": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "random": random.random(),
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
    pool = ThreadPoolExecutor(3)

    def at_once():
        """The answers of several environments, by environment."""
        events = [pool.submit(function, {"seconds": 0.5}, Qualifier="1") for _ in range(3)]
        answers = [event.result().value() for event in events]
        by_environment = {each["environment"]: each for each in answers}
        return by_environment if len(by_environment) > 1 else None

    answers = list(wait_until(at_once, "several environments answer").values())
    assert {each["began"] for each in answers} == {"snap-start"}
    assert len({each["identity"] for each in answers}) == 1, "all go on from one Init phase"
    for member in ("random", "uuid", "bytes"):
        assert len({each[member] for each in answers}) == len(answers), f"{member} is each environment's own"


def test_a_version_answers_after_a_restart_too(client, published):
    """It stays Active; its snapshot is made again, from an Init phase of its own, and environments start from it again."""
    function = published(SOURCE)
    client.get_waiter("published_version_active").wait(FunctionName="snap", Qualifier="1", WaiterConfig={"Delay": 1})
    before = function({}, Qualifier="1").value()
    client.server.kill()
    client.server.start()
    function.client = client.server.client()
    assert shown(function.client, "1") == ("Active", None, "On")
    after = function({}, Qualifier="1").value()
    assert after["identity"] != before["identity"], "nothing of a snapshot outlives its server"
    for member in ("random", "uuid", "bytes"):
        assert before[member] != after[member]


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
