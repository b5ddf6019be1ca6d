"""Custom runtimes (provided.al2, provided.al2023): a static program, and the shell script of AWS's own tutorial."""

import json
import shutil

import pytest

RUNTIMES = ["provided.al2", "provided.al2023"]
#: AWS's tutorial, "Building a custom runtime", as it stands there.
TUTORIAL_BOOTSTRAP = r"""#!/bin/sh

set -euo pipefail

# Initialization - load function handler
source $LAMBDA_TASK_ROOT/"$(echo $_HANDLER | cut -d. -f1).sh"

# Processing
while true
do
  HEADERS="$(mktemp)"
  # Get an event. The HTTP request will block until one is received
  EVENT_DATA=$(curl -sS -LD "$HEADERS" "http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/next")

  # Extract request ID by scraping response headers received above
  REQUEST_ID=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$HEADERS" | tr -d '[:space:]' | cut -d: -f2)

  # Run the handler function from the script
  RESPONSE=$($(echo "$_HANDLER" | cut -d. -f2) "$EVENT_DATA")

  # Send the response
  curl "http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/$REQUEST_ID/response"  -d "$RESPONSE"
done
"""
TUTORIAL_FUNCTION = r"""function handler () {
  EVENT_DATA=$1
  echo "$EVENT_DATA" 1>&2;
  RESPONSE="Echoing request: '$EVENT_DATA'"

  echo $RESPONSE
}
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_program_answers(make, program, runtime):
    """Events go round and the program's output is in the log; the environment is kept."""
    function = make(runtime, "echo", {"bootstrap": program})
    for event in ({"a": "ü"}, [1, 2, 3], "x" * 100_000):
        answer = function(event)
        assert answer.value() == event
        assert f"event of {len(json.dumps(event).encode())} bytes" in answer.log
        assert answer.report["memory"] == "128"
    assert answer.report["init"] is None


def test_its_errors_are_its_own(make, program):
    """What the program reports is passed on."""
    assert make("provided.al2023", "fail", {"bootstrap": program})().failure() == ("Own.Error", "as told")
    assert make("provided.al2023", "init_fail", {"bootstrap": program})().failure() == ("Own.InitError", "cannot start")


def test_it_exits(make, program):
    """Runtime.ExitError with the program's status."""
    kind, message = make("provided.al2023", "exit", {"bootstrap": program})().failure()
    assert kind == "Runtime.ExitError"
    assert message.endswith("Error: Runtime exited with error: exit status 9")


def test_something_that_is_no_program(make):
    """A bootstrap that the kernel cannot run is Runtime.InvalidEntrypoint."""
    kind, message = make("provided.al2023", "x", {"bootstrap": b"\x00\x01 no program"})().failure()
    assert kind == "Runtime.InvalidEntrypoint"
    assert "bootstrap" in message


def test_the_script_of_the_tutorial(make):
    """AWS's tutorial works as it is written, where the host has bash and curl."""
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"this host has no {tool}, which the tutorial's script for provided.al2023 needs")
    script = TUTORIAL_BOOTSTRAP.replace("#!/bin/sh", "#!/bin/bash")  # Debian's sh knows neither pipefail nor source
    function = make("provided.al2023", "function.handler", {"bootstrap": script, "function.sh": TUTORIAL_FUNCTION}, Timeout=15)
    answer = function.invoke(b'{"text":"Hello"}')
    assert answer.error is None, answer.raw
    assert answer.raw.decode() == "Echoing request: '{\"text\":\"Hello\"}'"
    assert '{"text":"Hello"}' in answer.log
