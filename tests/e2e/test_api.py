"""Every Lambda operation that exists so far, field by field: a client must not be able to tell it from AWS."""

import base64
import hashlib
import re
import threading
import urllib.request

import pytest
from botocore.exceptions import ClientError

from harness import functions
from harness.functions import ROLE, create, zip_of
from harness.waiting import wait_until

SOURCE = "def handler(event, context):\n    return {version}\n"
LAST_MODIFIED = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
ACCOUNT, REGION = "000000000000", "us-east-1"
#: Fields that ListFunctions leaves out (AWS: "use GetFunction").
NOT_LISTED = {"State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
              "LastUpdateStatusReasonCode", "RuntimeVersionConfig"}


def package(version=1):
    """A package whose handler answers `version`."""
    return zip_of({"lambda_function.py": SOURCE.format(version=version)})


def sha256(content):
    """AWS's CodeSha256."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def arn(name):
    """The function's ARN on this server."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


@pytest.fixture
def function(make, python):
    """A function with every default."""
    return make(python, "lambda_function.handler", package(), Timeout=None)


def active(client, name):
    """Waits until the function has settled, as `aws lambda wait function-active-v2` does: its configuration."""
    def settled():
        configuration = client.get_function_configuration(FunctionName=name)
        done = configuration["State"] == "Active" and configuration["LastUpdateStatus"] == "Successful"
        return configuration if done else None

    return wait_until(settled, f"{name} becomes active")


def without(response):
    """A response's own fields."""
    return {key: value for key, value in response.items() if key != "ResponseMetadata"}


def code_of(error):
    """Error code and HTTP status of what a `pytest.raises(ClientError)` caught."""
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_create_answers_every_field_that_aws_does(client, function, python):
    """CreateFunction with nothing but the necessary: AWS's defaults, and State Pending."""
    created = without(function.configuration)
    assert function.configuration["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert LAST_MODIFIED.match(created.pop("LastModified"))
    assert UUID.match(created.pop("RevisionId"))
    runtime = created.pop("RuntimeVersionConfig", {"RuntimeVersionArn": "arn:aws:lambda:"})
    assert runtime["RuntimeVersionArn"].startswith("arn:aws:lambda:")
    created.pop("ConfigSha256", None)
    code = package()
    assert created == {
        "FunctionName": function.name, "FunctionArn": arn(function.name), "Runtime": python, "Role": ROLE,
        "Handler": "lambda_function.handler", "CodeSize": len(code), "CodeSha256": sha256(code), "Description": "",
        "Timeout": 3, "MemorySize": 128, "Version": "$LATEST", "TracingConfig": {"Mode": "PassThrough"}, "State": "Pending",
        "StateReason": "The function is being created.", "StateReasonCode": "Creating", "PackageType": "Zip",
        "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.name}"},
    }


def test_a_function_becomes_active(client, function):
    """State Active and LastUpdateStatus Successful, without reasons."""
    configuration = active(client, function.name)
    assert not {"StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"} & set(configuration)


def test_create_with_settings(client, make, python):
    """Everything that can be set comes back as it was set."""
    settings = {
        "Description": "grüß dich", "Timeout": 900, "MemorySize": 10240, "Environment": {"Variables": {"KEY": "välue"}},
        "EphemeralStorage": {"Size": 10240}, "Architectures": ["x86_64"], "PackageType": "Zip", "Tags": {"team": "one"},
        "TracingConfig": {"Mode": "PassThrough"},
    }
    function = make(python, "lambda_function.handler", package(), **settings)
    tags = settings.pop("Tags")
    configuration = active(client, function.name)
    assert {key: configuration[key] for key in settings} == settings
    assert client.get_function(FunctionName=function.name)["Tags"] == tags


def test_get_function_gives_configuration_and_code(client, function):
    """GetFunction: the configuration, where the code is, no tags or concurrency where there are none."""
    active(client, function.name)
    answer = without(client.get_function(FunctionName=function.name))
    assert set(answer) == {"Configuration", "Code"}
    assert answer["Configuration"] == without(client.get_function_configuration(FunctionName=function.name))
    assert answer["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(answer["Code"]["Location"], timeout=10) as download:
        assert sha256(download.read()) == function.configuration["CodeSha256"]


def test_every_way_to_name_a_function(client, function):
    """Name, partial ARN, ARN; each with $LATEST as part of the name or as Qualifier."""
    active(client, function.name)
    for reference in (function.name, f"{ACCOUNT}:function:{function.name}", f"function:{function.name}", arn(function.name)):
        for settings in ({}, {"Qualifier": "$LATEST"}):
            if reference.startswith("function:"):
                continue  # botocore's own model forbids it in some operations
            got = client.get_function(FunctionName=reference, **settings)["Configuration"]
            assert got["FunctionName"] == function.name
            # AWS shows the ARN with the qualifier that was asked for
            assert got["FunctionArn"] == arn(function.name) + (":$LATEST" if settings else "")
            assert client.get_function_configuration(FunctionName=reference, **settings)["FunctionName"] == function.name
            invoked = client.invoke(FunctionName=reference, **settings)
            assert (invoked["ExecutedVersion"], invoked["Payload"].read()) == ("$LATEST", b"1")
        qualified = client.get_function(FunctionName=f"{reference}:$LATEST")["Configuration"]
        assert qualified["FunctionArn"] == arn(function.name) + ":$LATEST"
        assert client.update_function_configuration(FunctionName=reference, Description=reference)["Description"] == reference
        active(client, function.name)
        assert client.update_function_code(FunctionName=reference, ZipFile=package())["FunctionName"] == function.name
        active(client, function.name)


def test_a_function_is_created_under_its_arn(client, python, name):
    """CreateFunction takes a partial or full ARN as the name."""
    for number, form in enumerate((f"{ACCOUNT}:function:{{}}", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}")):
        bare = f"{name}-{number}"
        created = create(client, form.format(bare), python, "lambda_function.handler", package()).configuration
        assert (created["FunctionName"], created["FunctionArn"]) == (bare, arn(bare))
        client.delete_function(FunctionName=form.format(bare))


def test_list_functions_page_by_page(own_server, python):
    """ListFunctions is ordered by name, leaves out what AWS leaves out, and its markers lead through all pages."""
    client = own_server().client()
    names = [f"function-{number:02}" for number in range(7)]
    for name in reversed(names):
        create(client, name, python, "lambda_function.handler", package())
    everything = client.list_functions()
    assert [each["FunctionName"] for each in everything["Functions"]] == names
    assert "NextMarker" not in everything
    assert not NOT_LISTED & set(everything["Functions"][0])
    assert {"CodeSha256", "CodeSize", "LastModified", "RevisionId", "Version", "PackageType"} <= set(everything["Functions"][0])

    pages, marker = [], {}
    while True:
        page = client.list_functions(MaxItems=3, **marker)
        pages.append([each["FunctionName"] for each in page["Functions"]])
        if not page.get("NextMarker"):
            break
        marker = {"Marker": page["NextMarker"]}
    assert pages == [names[:3], names[3:6], names[6:]]

    paginator = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    assert [each["FunctionName"] for page in paginator for each in page["Functions"]] == names

    # What is deleted between two pages neither breaks the marker nor shows.
    first = client.list_functions(MaxItems=3)
    client.delete_function(FunctionName=names[2])
    client.delete_function(FunctionName=names[3])
    rest = client.list_functions(Marker=first["NextMarker"])
    assert [each["FunctionName"] for each in rest["Functions"]] == names[4:]
    versions = client.list_functions(FunctionVersion="ALL")["Functions"]
    assert {each["Version"] for each in versions} == {"$LATEST"}
    assert versions[0]["FunctionArn"] in (arn(names[0]), arn(names[0]) + ":$LATEST")


def test_update_code(client, function):
    """UpdateFunctionCode: new hash, size, revision and time; the next answer is the new code's."""
    before = active(client, function.name)
    assert function().value() == 1
    updated = client.update_function_code(FunctionName=function.name, ZipFile=package(2222))
    assert updated["CodeSha256"] == sha256(package(2222)) != before["CodeSha256"]
    assert updated["CodeSize"] == len(package(2222))
    assert updated["RevisionId"] != before["RevisionId"]
    assert updated["LastModified"] >= before["LastModified"]
    assert updated["LastUpdateStatus"] in ("InProgress", "Successful")
    if updated["LastUpdateStatus"] == "InProgress":
        assert updated["LastUpdateStatusReasonCode"] == "Creating"
    active(client, function.name)
    assert function().value() == 2222


def test_update_code_dry_run_changes_nothing(client, function):
    """DryRun validates and answers, and that is all."""
    before = active(client, function.name)
    answer = client.update_function_code(FunctionName=function.name, ZipFile=package(2), DryRun=True)
    assert answer["CodeSha256"] in (sha256(package(2)), before["CodeSha256"])
    assert without(active(client, function.name)) == without(before)
    assert function().value() == 1


def test_update_configuration(client, function):
    """UpdateFunctionConfiguration changes what it names and nothing else."""
    before = active(client, function.name)
    changes = {"Description": "new", "Timeout": 9, "MemorySize": 256, "Environment": {"Variables": {"KEY": "1"}},
               "EphemeralStorage": {"Size": 1024}, "Handler": "lambda_function.other"}
    updated = without(client.update_function_configuration(FunctionName=function.name, **changes))
    assert {key: updated[key] for key in changes} == changes
    assert updated["RevisionId"] != before["RevisionId"]
    after = active(client, function.name)
    moving = {"RevisionId", "LastModified", "ResponseMetadata", "ConfigSha256", *changes}
    assert {key: value for key, value in after.items() if key not in moving} == {
        key: value for key, value in before.items() if key not in moving}
    client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {}}, Description="")
    cleared = active(client, function.name)
    assert cleared.get("Environment", {"Variables": {}}) == {"Variables": {}}
    assert cleared["Description"] == ""
    assert cleared["Timeout"] == 9


def test_new_configuration_reaches_the_function(client, python_function):
    """After an update no old environment answers any more."""
    function = python_function("import os\ndef handler(event, context):\n    return os.environ.get('GENERATION')\n",
                               Environment={"Variables": {"GENERATION": "one"}})
    assert function().value() == "one"
    client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {"GENERATION": "two"}})
    active(client, function.name)
    assert function().value() == "two"


@pytest.mark.parametrize("update", ["code", "configuration"])
def test_a_stale_revision_is_refused(client, function, update):
    """RevisionId guards updates: 412 PreconditionFailedException, nothing changed; the right one passes."""
    before = active(client, function.name)
    change = {
        "code": lambda **guard: client.update_function_code(FunctionName=function.name, ZipFile=package(2), **guard),
        "configuration": lambda **guard: client.update_function_configuration(
            FunctionName=function.name, Description="changed", **guard),
    }[update]
    with pytest.raises(ClientError) as refused:
        change(RevisionId="00000000-0000-4000-8000-000000000000")
    assert code_of(refused) == ("PreconditionFailedException", 412)
    assert without(active(client, function.name)) == without(before)
    assert change(RevisionId=before["RevisionId"])["RevisionId"] != before["RevisionId"]


def test_delete(client, python, name):
    """DeleteFunction, then nothing knows the function any more; its name is free again and its code is new."""
    create(client, name, python, "lambda_function.handler", package())
    status = client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"]
    assert status in (200, 204)  # 204 for years, 200 in the newer model
    calls = [lambda: client.get_function(FunctionName=name), lambda: client.get_function_configuration(FunctionName=name),
             lambda: client.delete_function(FunctionName=name), lambda: client.invoke(FunctionName=name),
             lambda: client.update_function_configuration(FunctionName=name, Timeout=4),
             lambda: client.update_function_code(FunctionName=name, ZipFile=package())]
    for call in calls:
        with pytest.raises(ClientError) as missing:
            call()
        assert code_of(missing) == ("ResourceNotFoundException", 404)
        assert arn(name) in str(missing.value)
    again = create(client, name, python, "lambda_function.handler", package(3))
    assert again().value() == 3
    client.delete_function(FunctionName=name)


def test_dry_run_invoke_runs_nothing(client, python_function):
    """InvocationType DryRun: 204, no payload, and the function did not run."""
    function = python_function("count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count\n")
    answer = client.invoke(FunctionName=function.name, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert answer["Payload"].read() == b""
    assert "FunctionError" not in answer
    assert function().value() == 1


def test_every_answer_carries_a_request_id(client, function):
    """x-amzn-RequestId is a UUID, and JSON answers say that they are JSON."""
    for answer in (client.list_functions(), client.get_function(FunctionName=function.name)):
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert UUID.match(headers["x-amzn-requestid"])
        assert headers["content-type"].startswith("application/json")


def test_concurrent_updates_leave_one_consistent_state(client, function):
    """Sixteen threads update one function: each is done whole or refused with AWS's error, and the end is one of them."""
    active(client, function.name)
    done, problems, start = [], [], threading.Barrier(16)

    def update(number):
        start.wait()
        for turn in range(4):
            mark = f"{number}-{turn}"
            try:
                client.update_function_configuration(
                    FunctionName=function.name, Description=mark, Environment={"Variables": {"MARK": mark}})
                done.append(mark)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code not in ("ResourceConflictException", "TooManyRequestsException"):
                    problems.append(str(error))

    threads = [threading.Thread(target=update, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    after = active(client, function.name)
    assert after["Description"] in done
    assert after["Environment"]["Variables"] == {"MARK": after["Description"]}
    assert function().value() == 1


def test_a_guarded_update_wins_once(client, function):
    """Eight threads with the same RevisionId: exactly one succeeds."""
    revision = active(client, function.name)["RevisionId"]
    outcomes, start = [], threading.Barrier(8)

    def update(number):
        start.wait()
        try:
            client.update_function_configuration(FunctionName=function.name, Description=str(number), RevisionId=revision)
            outcomes.append("done")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=update, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("done") == 1
    assert set(outcomes) <= {"done", "PreconditionFailedException", "ResourceConflictException"}


def test_one_name_is_created_once(client, python, name):
    """Eight threads create the same function: one 201, the others 409."""
    outcomes, start = [], threading.Barrier(8)

    def attempt():
        start.wait()
        try:
            create(client, name, python, "lambda_function.handler", package())
            outcomes.append("created")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ResourceConflictException"] * 7 + ["created"]
    client.delete_function(FunctionName=name)


def test_invoking_while_updating_never_fails(client, function):
    """An update in full flow: every answer is the old one or the new one, none is an error."""
    active(client, function.name)
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answers.append(function(tail=False).value())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: answers, "version 1 answers")
        for version in (2, 3, 4):
            client.update_function_code(FunctionName=function.name, ZipFile=package(version))
            active(client, function.name)
            wait_until(lambda version=version: version in answers[-4:], f"version {version} answers")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {1, 2, 3, 4}
    assert function().value() == 4


def test_a_missing_runtime_says_what_to_install(client, installed, name):
    """A runtime that this host lacks is refused when the function is made, with advice."""
    lacking = [runtime for runtime, state in installed.items() if not state["installed"]]
    if not lacking:
        pytest.skip("this host has every runtime")
    with pytest.raises(ClientError) as refused:
        functions.create(client, name, lacking[0], "index.handler", package())
    assert code_of(refused) == ("InvalidParameterValueException", 400)
    assert lacking[0] in str(refused.value)
    assert "nstall" in str(refused.value)
