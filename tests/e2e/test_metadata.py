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
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} program: the metadata address cannot be made to exist, or not be guarded")
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
                function = functions.create(server.client(), "metadata", python, "attacks.run.handler", package, Timeout=60)
                return json.loads(control.splitlines()[-1]), function({"attack": "network.reach_metadata", "target": target}).value()
        finally:
            for greeter in greeters:
                greeter.close()

    control, inside = namespace.call(story)
    assert control["succeeded"], control
    assert not inside["succeeded"], inside
