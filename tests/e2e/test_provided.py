"""Custom runtimes (provided.al2, provided.al2023): a static program, and shell scripts, AWS's own tutorial among them."""

import base64
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
#: A runtime in shell that does what AWS's own clients do: it reports errors, and says when it cannot start.
REPORTING_BOOTSTRAP = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
if [ -n "$CANNOT_START" ]; then
  curl -sS -o /dev/null "$api/init/error" -H 'Lambda-Runtime-Function-Error-Type: Shell.NoStart' \
    -d "{\"errorMessage\": \"$CANNOT_START\", \"errorType\": \"Shell.NoStart\", \"stackTrace\": []}"
  exit 1
fi
while event=$(curl -sS -D /tmp/head "$api/invocation/next"); do
  field() { sed -n "s/^$1: *//Ip" /tmp/head | tr -d '\r'; }
  id=$(field lambda-runtime-aws-request-id)
  echo "event of $id: $event"
  if [ "$event" = '"fail"' ]; then
    curl -sS -o /dev/null "$api/invocation/$id/error" -H 'Lambda-Runtime-Function-Error-Type: Shell.Failed' \
      -d '{"errorMessage": "as asked", "errorType": "Shell.Failed", "stackTrace": ["here"]}'
  else
    curl -sS -o /dev/null "$api/invocation/$id/response" -d "{\"now\": $(date +%s%3N), \"deadline\": $(field lambda-runtime-deadline-ms),
      \"arn\": \"$(field lambda-runtime-invoked-function-arn)\", \"client\": $(field lambda-runtime-client-context | grep . || echo null)}"
  fi
done
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
    need_tools("bash", "curl")
    script = TUTORIAL_BOOTSTRAP.replace("#!/bin/sh", "#!/bin/bash")  # Debian's sh knows neither pipefail nor source
    function = make("provided.al2023", "function.handler", {"bootstrap": script, "function.sh": TUTORIAL_FUNCTION})
    answer = function.invoke(b'{"text":"Hello"}')
    assert answer.error is None, answer.raw
    assert answer.raw.decode() == "Echoing request: '{\"text\":\"Hello\"}'"
    assert '{"text":"Hello"}' in answer.log


def need_tools(*tools):
    """Skips a test of a script for provided.al2023 whose tools the host lacks."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"this host has no {tool}, which a script for provided.al2023 needs")


def test_a_script_is_told_and_reports(make):
    """A shell runtime reads deadline and client context from the headers, reports an error, and goes on."""
    need_tools("curl", "sed", "grep")
    function = make("provided.al2023", "unused", {"bootstrap": REPORTING_BOOTSTRAP}, Timeout=7)
    answer = function("fail")
    assert answer.failure() == ("Shell.Failed", "as asked")
    assert answer.json["stackTrace"] == ["here"]
    client = {"custom": {"a": "b"}}
    answer = function({"x": 1}, ClientContext=base64.b64encode(json.dumps(client).encode()).decode())
    told = answer.value()
    assert told["client"] == client
    assert told["arn"] == function.configuration["FunctionArn"]
    assert 0 < told["deadline"] - told["now"] <= 7_000
    assert f"event of {answer.report['id']}: " in answer.log


def test_a_script_cannot_start(make):
    """What it says before its first event is the answer, and the next event tries again."""
    need_tools("curl")
    function = make("provided.al2023", "unused", {"bootstrap": REPORTING_BOOTSTRAP}, Timeout=7,
                    Environment={"Variables": {"CANNOT_START": "no database"}})
    for _ in range(2):
        assert function({}).failure() == ("Shell.NoStart", "no database")
