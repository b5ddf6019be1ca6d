"""Resource-based policies and tags, as boto3 and the AWS CLI see them."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import functions
from harness import server as servers

SOURCE = {"lambda_function.py": "def handler(event, context):\n    return 'in'\n"}
ACCOUNT, REGION = "000000000000", "us-east-1"


@pytest.fixture
def function(make, python):
    """A function that answers `in`."""
    return make(python, "lambda_function.handler", SOURCE)


def arn(name):
    """The function's ARN on this server."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def add(client, name, sid, **settings):
    """AddPermission for S3; the statement."""
    settings = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"} | settings
    return json.loads(client.add_permission(FunctionName=name, StatementId=sid, **settings)["Statement"])


def statement(name, **members):
    """A statement of a policy document on the function."""
    return {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": arn(name)} | members


def document(*statements):
    """A policy document as text."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def policy(client, name, **settings):
    """GetPolicy: the document and the revision."""
    answer = client.get_policy(FunctionName=name, **settings)
    return json.loads(answer["Policy"]), answer["RevisionId"]


def sids(client, name):
    """The names of the policy's statements."""
    return [each["Sid"] for each in policy(client, name)[0]["Statement"]]


def refused(call, **settings):
    """The code, status and text of an answer that must be an error."""
    with pytest.raises(ClientError) as caught:
        call(**settings)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def test_a_permission_is_added_shown_and_removed(client, function):
    """The whole life of two permissions, field by field."""
    name = function.name
    first = add(client, name, "bucket", SourceArn="arn:aws:s3:::pictures", SourceAccount=ACCOUNT)
    assert first == {
        "Sid": "bucket", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction",
        "Resource": arn(name),
        "Condition": {"StringEquals": {"AWS:SourceAccount": ACCOUNT}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::pictures"}},
    }
    second = add(client, name, "friend", Principal="123456789012", Action="lambda:GetFunction")
    assert second["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    shown, revision = policy(client, name)
    assert shown == {"Version": "2012-10-17", "Id": "default", "Statement": [first, second]}
    assert revision == client.get_function_configuration(FunctionName=name)["RevisionId"]
    assert refused(client.remove_permission, FunctionName=name, StatementId="bucket", RevisionId="old")[:2] == (
        "PreconditionFailedException", 412)
    client.remove_permission(FunctionName=name, StatementId="bucket", RevisionId=revision)
    client.remove_permission(FunctionName=name, StatementId="friend")
    assert refused(client.get_policy, FunctionName=name) == (
        "ResourceNotFoundException", 404, "The resource you requested does not exist.")
    assert refused(client.remove_permission, FunctionName=name, StatementId="friend") == (
        "ResourceNotFoundException", 404, "No policy is associated with the given resource.")


def test_each_version_and_alias_has_its_own(client, function):
    """A policy on a qualifier names it and goes with it."""
    name = function.name
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        assert add(client, name, "same", Qualifier=qualifier)["Resource"] == f"{arn(name)}:{qualifier}"
        assert refused(client.add_permission, FunctionName=f"{name}:{qualifier}", StatementId="same", Principal="*",
                       Action="lambda:InvokeFunction")[0] == "ResourceConflictException"
    client.delete_alias(FunctionName=name, Name="live")
    assert refused(client.get_policy, FunctionName=name, Qualifier="live")[0] == "ResourceNotFoundException"
    assert policy(client, name, Qualifier="1")[0]["Statement"][0]["Sid"] == "same"


def test_of_many_permissions_at_once_none_is_lost(client, function):
    """Eight clients add three permissions each."""
    names = [f"s{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda sid: add(client, function.name, sid), names))
    assert sorted(sids(client, function.name)) == sorted(names)


def test_a_full_policy_says_so(client, function):
    """20 KB and no more, as AWS words it."""
    source = "arn:aws:s3:::" + "b" * 9_000
    for sid in ("a", "b"):
        add(client, function.name, sid, SourceArn=source)
    code, status, text = refused(client.add_permission, FunctionName=function.name, StatementId="c", Principal="s3.amazonaws.com",
                                 Action="lambda:InvokeFunction", SourceArn=source)
    assert (code, status) == ("PolicyLengthExceededException", 400)
    assert text.startswith("The final policy size (2") and text.endswith(") is bigger than the limit (20480).")
    assert sids(client, function.name) == ["a", "b"]


def test_a_document_replaces_permissions_and_they_edit_it(client, function):
    """Put, get, delete a whole document; AddPermission appends to it."""
    name = function.name
    add(client, name, "old")
    put = client.put_resource_policy(ResourceArn=arn(name), Policy=document(statement(name, Principal={"AWS": "123456789012"})))
    kept = json.loads(put["Policy"])
    assert kept["Statement"] == [statement(name, Principal={"AWS": "arn:aws:iam::123456789012:root"})]
    got = client.get_resource_policy(ResourceArn=arn(name))
    assert (got["Policy"], got["RevisionId"]) == (put["Policy"], put["RevisionId"])
    add(client, name, "more")
    assert sids(client, name) == ["s", "more"]
    assert refused(client.put_resource_policy, ResourceArn=arn(name), Policy=put["Policy"], RevisionId=put["RevisionId"])[1] == 412
    client.delete_resource_policy(ResourceArn=arn(name))
    assert refused(client.get_resource_policy, ResourceArn=arn(name))[1] == 404


def test_whom_a_document_denies_is_kept_out(client, function):
    """A Deny has effect on the next invocation, and is gone with the policy."""
    name = function.name
    assert function().value() == "in"
    client.put_resource_policy(ResourceArn=arn(name), Policy=document(statement(name, Effect="Deny")))
    code, status, text = refused(client.invoke, FunctionName=name)
    assert (code, status) == ("AccessDeniedException", 403)
    assert text == (f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:InvokeFunction on resource: "
                    f"{arn(name)} with an explicit deny in a resource-based policy")
    client.delete_resource_policy(ResourceArn=arn(name))
    assert function().value() == "in"


def test_a_document_that_cannot_be_kept_is_refused(client, function):
    """What is wrong, or could not be honoured, is named."""
    name = function.name
    for text, reason in [
        ("{", "The policy is not valid"),
        (document(statement(name, Resource=arn("other"))), f"is not {arn(name)}"),
        (document(statement(name, Principal={"AWS": "me"})), "The provided principal was invalid"),
        (document(statement(name, Effect="Deny", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
         "does not support the condition operator IpAddress"),
    ]:
        code, status, message = refused(client.put_resource_policy, ResourceArn=arn(name), Policy=text)
        assert (code, status) == ("InvalidParameterValueException", 400)
        assert reason in message
    assert refused(client.get_policy, FunctionName=name)[1] == 404


def test_tags_are_added_changed_and_removed(client, make, python):
    """Tags are seen by GetFunction and ListTags, and move the revision alone."""
    function = make(python, "lambda_function.handler", SOURCE, Tags={"a": "1"})
    name, resource = function.name, arn(function.name)
    before = client.get_function_configuration(FunctionName=name)
    client.tag_resource(Resource=resource, Tags={"b": "2", "with space": "é/+-@=:._"})
    client.untag_resource(Resource=resource, TagKeys=["a", "none"])
    expected = {"b": "2", "with space": "é/+-@=:._"}
    assert client.list_tags(Resource=resource)["Tags"] == expected
    assert client.get_function(FunctionName=name)["Tags"] == expected
    after = client.get_function_configuration(FunctionName=name)
    assert after.pop("RevisionId") != before.pop("RevisionId")
    assert {key: after[key] for key in after if key != "ResponseMetadata"} == {
        key: before[key] for key in before if key != "ResponseMetadata"}
    assert refused(client.tag_resource, Resource=f"{resource}:1", Tags={"a": "1"}) == (
        "InvalidParameterValueException", 400,
        "Tags on function aliases and versions are not supported. Please specify a function ARN.")
    many = {f"k{number}": "v" for number in range(49)}
    assert refused(client.tag_resource, Resource=resource, Tags=many)[2] == "Number of tags exceeds resource tag limit."
    assert client.list_tags(Resource=resource)["Tags"] == expected


def test_policies_and_tags_outlive_a_kill_and_end_with_the_function(own_server, python):
    """What was acknowledged is on disk; a function of the same name begins without them."""
    server = own_server()
    function = functions.create(server.client(), "kept", python, "lambda_function.handler", SOURCE)
    add(server.client(), function.name, "s3")
    server.client().tag_resource(Resource=arn("kept"), Tags={"a": "1"})
    server.kill()
    client = own_server(data=server.data).client()
    assert sids(client, "kept") == ["s3"]
    assert client.list_tags(Resource=arn("kept"))["Tags"] == {"a": "1"}
    client.delete_function(FunctionName="kept")
    functions.create(client, "kept", python, "lambda_function.handler", SOURCE)
    assert refused(client.get_policy, FunctionName="kept")[1] == 404
    assert client.list_tags(Resource=arn("kept"))["Tags"] == {}


def test_the_aws_cli_permits_and_tags(server, function, tmp_path):
    """What people type."""
    def aws(*words):
        program = Path(sys.executable).with_name("aws")
        done = subprocess.run([program, "lambda", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              env=servers.client_environment(server.url), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    added = aws("add-permission", "--function-name", function.name, "--statement-id", "sns", "--action", "lambda:InvokeFunction",
                "--principal", "sns.amazonaws.com", "--source-arn", f"arn:aws:sns:{REGION}:{ACCOUNT}:topic")
    assert json.loads(json.loads(added)["Statement"])["Sid"] == "sns"
    assert "sns.amazonaws.com" in aws("get-policy", "--function-name", function.name, "--output", "text")
    aws("remove-permission", "--function-name", function.name, "--statement-id", "sns")
    aws("tag-resource", "--resource", arn(function.name), "--tags", "team=blue")
    assert json.loads(aws("list-tags", "--resource", arn(function.name)))["Tags"] == {"team": "blue"}
