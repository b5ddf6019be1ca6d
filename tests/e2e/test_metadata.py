"""The cloud's metadata address, made to exist: in a network namespace where 169.254.169.254 answers, no function reaches it."""

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import functions
from harness.netns import NamespaceThread
from harness.server import Server
from harness.stage import Greeter

FOLDER = Path(__file__).parent
ADDRESSES = ("169.254.169.254", "169.254.170.2", "169.254.170.23")


@pytest.fixture
def namespace():
    """A network with the metadata addresses in it."""
    if shutil.which("ip") is None:
        pytest.skip("no ip program (iproute2) to make the metadata address exist")
    thread = NamespaceThread(ADDRESSES)
    yield thread
    thread.close()


@pytest.mark.parametrize("network", ["isolated", "internet"])
def test_metadata_addresses(namespace, work_folder, python, network):
    """A process of the host gets the metadata service's greeting, a function does not, whatever network it has."""
    secret = secrets.token_hex(8)
    target = {"secret": secret}
    server = Server(work_folder / f"metadata-{network}", arguments=["--function-network", network])

    def story():
        greeters = [Greeter((address, 80), secret) for address in ADDRESSES]
        control = subprocess.run([sys.executable, "-m", "attacks.run", "network.reach_metadata", "root"], cwd=FOLDER,
                                 input=json.dumps(target), capture_output=True, text=True, check=True).stdout
        try:
            with server:
                package = functions.folder_zip(FOLDER / "attacks")
                function = functions.create(server.client(), "metadata", python, "attacks.run.handler", package, Timeout=15)
                return json.loads(control.splitlines()[-1]), function({"attack": "network.reach_metadata", "target": target}).value()
        finally:
            for greeter in greeters:
                greeter.close()

    try:
        control, inside = namespace.call(story)
    except RuntimeError as problem:
        if network == "internet" and "not supported yet" in str(problem):
            pytest.skip("functions with access to the internet are not supported yet")
        raise
    assert control["succeeded"], control
    assert not inside["succeeded"], inside
