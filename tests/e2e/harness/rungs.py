"""The rungs of the start ladder: how to have an environment begin on one of them, and the proof that it did.

    booted      a variable that the interpreter reads as it starts makes it boot
    copied      from the image of its runtime, once there is one
    restored    from the snapshot of its version (SnapStart)
    thawed      it has served an event, and the host has seen it frozen since
"""

import itertools
import json
import platform
import re
import secrets

import pytest

from harness import functions, host
from harness.waiting import wait_until

#: Images are of x86-64 processes; elsewhere everything boots.
COPIES = platform.machine() == "x86_64"
RUNGS = ("booted", "copied", "restored", "thawed") if COPIES else ("booted", "thawed")
#: A variable that each interpreter reads as it starts, and that changes nothing: who has it boots.
BOOTS = {"python": {"PYTHONDONTWRITEBYTECODE": "1"}, "nodejs": {"NODE_NO_WARNINGS": "1"}}
#: What a copy shows as its program, which is how it can tell.
COPY = "/memfd:runtime (deleted)"
SNAP_START = {"ApplyOn": "PublishedVersions"}
SNAP_START_RUNTIMES = ("python3.12", "python3.13", "python3.14")
#: The line by which an environment that may not live to answer tells where it is.
PLACE = re.compile(r"^RUNG (\{.*\})\s*$", re.M)
WHERE = {
    "python": {"lambda_function.py": "import os\ndef handler(event, context):\n    return os.readlink('/proc/self/exe')\n"},
    "nodejs": {"lambda_function.js": "exports.handler = async () => require('fs').readlinkSync('/proc/self/exe')\n"},
}
_numbers = itertools.count()


def family(runtime):
    """`python` or `nodejs`."""
    return re.match("[a-z]+", runtime).group()


def image_of(client, runtime, **settings):
    """Waits until new environments of a runtime begin from its image: the first ones boot, and set off its making."""
    if not COPIES:
        pytest.skip(f"there are no images of {platform.machine()} processes")

    def copied():
        function = functions.create(client, f"where-{next(_numbers)}-{secrets.token_hex(3)}", runtime, "lambda_function.handler",
                                    WHERE[family(runtime)], **{"Timeout": 60} | settings)
        try:
            return function(tail=False).value() == COPY
        finally:
            client.delete_function(FunctionName=function.name)

    wait_until(copied, f"environments of {runtime} begin from an image")


def publish(function):
    """Publishes a version and waits until it is active: the version."""
    version = function.client.publish_version(FunctionName=function.name)["Version"]

    def active():
        shown = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
        assert shown["State"] != "Failed", shown.get("StateReason")
        return shown["State"] == "Active"

    wait_until(active, "the version is active")
    return version


class Ladder:
    """Functions whose first event is served on a given rung."""

    def __init__(self, client, runtime):
        self.client, self.runtime = client, runtime
        if COPIES:
            image_of(client, runtime)

    def create(self, rung, name, handler, package, **settings):
        """A function, and what its invokes take besides the event; `thawed` means little before `freeze`."""
        settings = {"Timeout": 60} | settings
        variables = settings.pop("Environment", {}).get("Variables", {})
        if rung == "booted":
            variables |= BOOTS[family(self.runtime)]
        if rung == "restored":
            settings["SnapStart"] = SNAP_START
        function = functions.create(self.client, name, self.runtime, handler, package, Environment={"Variables": variables},
                                    **settings)
        return function, {"Qualifier": publish(function)} if rung == "restored" else {}


def freeze(name):
    """Waits until the host sees the environment whose process has given itself this name frozen."""
    def frozen():
        there = host.named(name)
        return there and all(host.frozen(process) for process in there)

    wait_until(frozen, "the idle environment is frozen")


def place_in(log):
    """What an environment said of itself in its log before it died."""
    said = PLACE.search(log)
    assert said, f"it never told where it is: {log}"
    return json.loads(said.group(1))


def prove(rung, place):
    """Fails unless `place` (what `attacks.run.place` tells) is of this rung."""
    assert (place["program"] == COPY) == (rung != "booted" and COPIES), place
    assert place["began"] == ("snap-start" if rung == "restored" else "on-demand"), place
    assert place["events"] == (2 if rung == "thawed" else 1), place
