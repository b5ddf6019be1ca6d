"""Logging configuration: the format and levels of a function's log, its group, and what the runtime is told of them."""

import json

from harness.waiting import wait_until

SOURCE = """
import json, logging, os

logging.getLogger().debug("at import")

def handler(event, context):
    log = logging.getLogger()
    log.debug("fine")
    log.info("plain")
    log.error("bad")
    print("printed")
    if event == "fail":
        raise ValueError("boom")
    return [os.environ.get("AWS_LAMBDA_LOG_FORMAT"), os.environ.get("AWS_LAMBDA_LOG_LEVEL")]
"""


def kinds(answer):
    """What the lines of a log are: the system's by type, the function's by level, others as they are."""
    found = []
    for line in answer.log.splitlines():
        try:
            parsed = json.loads(line)
            found.append(parsed.get("type") or parsed["level"])
        except ValueError:
            found.append(line.split(" ")[0].split("\t")[0])
    return found


def test_text_is_the_default(python_function):
    """Without a configuration the log is text, and the runtime is told nothing."""
    answer = python_function(SOURCE)()
    assert answer.value() == [None, None]
    assert kinds(answer) == ["START", "[ERROR]", "printed", "END", "REPORT"]


def test_json_at_the_default_levels(python_function):
    """INFO for both: the system's start and report, the function's lines from INFO on, print as INFO."""
    answer = python_function(SOURCE, LoggingConfig={"LogFormat": "JSON"})()
    assert answer.value() == ["JSON", "INFO"]
    assert kinds(answer) == ["platform.initStart", "platform.start", "INFO", "ERROR", "printed", "platform.report"]
    record = json.loads(answer.log.splitlines()[-1])["record"]
    assert record["requestId"] == answer.request_id
    assert record["status"] == "success"
    assert set(record["metrics"]) == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}


def test_json_at_the_finest_levels(python_function):
    """Everything, in the order in which it happened."""
    levels = {"LogFormat": "JSON", "ApplicationLogLevel": "TRACE", "SystemLogLevel": "DEBUG"}
    answer = python_function(SOURCE, LoggingConfig=levels)()
    assert answer.value() == ["JSON", "TRACE"]
    assert kinds(answer) == ["platform.initStart", "DEBUG", "platform.initRuntimeDone", "platform.initReport", "platform.start",
                             "DEBUG", "INFO", "ERROR", "printed", "platform.runtimeDone", "platform.report"]


def test_json_at_the_coarsest_levels(python_function):
    """Only what is worth a warning of the system, and a fatal line of the function: nothing of an event that went well."""
    levels = {"LogFormat": "JSON", "ApplicationLogLevel": "FATAL", "SystemLogLevel": "WARN"}
    assert kinds(python_function(SOURCE, LoggingConfig=levels)()) == []


def test_a_changed_configuration_counts_at_once(client, python_function):
    """From text to JSON and back, on the next event."""
    function = python_function(SOURCE)
    assert kinds(function())[0] == "START"
    client.update_function_configuration(FunctionName=function.name, LoggingConfig={"LogFormat": "JSON"})
    assert "platform.start" in kinds(function())
    client.update_function_configuration(FunctionName=function.name, LoggingConfig={"LogFormat": "Text"})
    assert kinds(function())[0] == "START"


def test_an_error_in_json(python_function):
    """The handler's exception is one object, with AWS's members."""
    answer = python_function(SOURCE, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"})("fail")
    assert answer.failure() == ("ValueError", "boom")
    lines = [json.loads(line) for line in answer.log.splitlines()]
    line = next(line for line in lines if "errorType" in line)
    assert (line["level"], line["errorType"], line["errorMessage"]) == ("ERROR", "ValueError", "boom")
    assert line["requestId"] == answer.request_id
    assert line["stackTrace"]


def test_a_group_of_its_own(server, make, name, python):
    """What two functions write to one group is found there."""
    group = f"/shared/{name}"
    source = "import os\ndef handler(event, context):\n    print('from', event)\n    return os.environ['AWS_LAMBDA_LOG_GROUP_NAME']\n"
    functions = [make(python, "lambda_function.handler", {"lambda_function.py": source}, LoggingConfig={"LogGroup": group}) for _ in range(2)]
    for number, function in enumerate(functions):
        assert function(number).value() == group

    def written():
        text = server.command("logs", functions[0].name, "--group", group, "--data", server.data).stdout
        return "from 0" in text and "from 1" in text

    wait_until(written, "both functions' lines are in the group")
    assert not server.command("logs", functions[0].name, "--data", server.data).stdout
