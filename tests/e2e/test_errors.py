"""Bad input: AWS's error code and status, a message that helps, nothing changed, and the server goes on answering."""

import base64
import json
import socket
import struct
import urllib.parse
import urllib.request

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import get_session

from harness import packages, wire
from harness.functions import ROLE, Function, create, zip_of
from harness.packages import GOOD
from harness.server import REGION

FUNCTIONS = "/2015-03-31/functions"
MIB = 1 << 20
SYNC_PAYLOAD_BYTES = 6_291_456
DAY_S = 86_400


@pytest.fixture(scope="module")
def lenient(server):
    """A Lambda client that sends what it is told, however wrong."""
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=60)
    session = get_session()
    session.set_credentials("test", "test")
    return session.create_client("lambda", region_name=REGION, endpoint_url=server.url, config=config)


@pytest.fixture(scope="module")
def victim(server, python):
    """The function that errors are tried on."""
    function = create(server.client(), "victim-of-errors", python, "lambda_function.handler", GOOD)
    assert function().value() == 1
    yield function
    server.client().delete_function(FunctionName=function.name)


@pytest.fixture(autouse=True)
def nothing_changes(request):
    """Around every test here: the functions are the same afterwards, and the server answers."""
    server = request.getfixturevalue("server")
    request.getfixturevalue("victim")

    def state():
        return server.client().list_functions()["Functions"]

    before = state()
    yield
    assert state() == before
    assert server.healthy()


def refused(call, codes, status, *words):
    """The call fails with one of these codes, this status, and a message with these words."""
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    codes = (codes,) if isinstance(codes, str) else codes
    assert response["Error"]["Code"] in codes, response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status, response
    message = response["Error"]["Message"]
    assert message, "the message helps nobody"
    for word in words:
        assert word in message, message
    return message


# --- who asks ---------------------------------------------------------------------------------------------------------

SIGNATURES = {
    "a wrong secret": ({"secret": "wrong"}, "InvalidSignatureException", 403, "signature"),
    "an unknown key": ({"key": "AKIAUNKNOWN"}, "UnrecognizedClientException", 403, "security token"),
    "20 minutes late": ({"skew_s": -20 * 60}, "InvalidSignatureException", 403, "Signature expired"),
    "20 minutes early": ({"skew_s": 20 * 60}, "InvalidSignatureException", 403, "Signature not yet current"),
    "a year late": ({"skew_s": -365 * DAY_S}, "InvalidSignatureException", 403, "Signature expired"),
    "the hash of another body": ({"body_hash": "0" * 64}, ("InvalidSignatureException", "XAmzContentSHA256Mismatch"), 403, ""),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_signature(server, victim, case):
    """A request that is not signed as it should be is refused before anything happens."""
    settings, codes, status, word = SIGNATURES[case]
    codes = (codes,) if isinstance(codes, str) else codes
    for method, path, body in (("GET", FUNCTIONS, b""), ("DELETE", f"{FUNCTIONS}/{victim.name}", b""),
                               ("POST", f"{FUNCTIONS}/{victim.name}/invocations", b"{}")):
        answer = wire.exchange(server, wire.request_bytes(server, method, path, body, **settings))
        assert (answer.status, answer.code in codes) == (status, True), answer.raw
        assert word in json.loads(answer.body).get("message", json.loads(answer.body).get("Message", "")), answer.raw


def test_within_the_allowed_skew(server):
    """Clocks may differ by 15 minutes."""
    for skew_s in (-14 * 60, 14 * 60):
        assert wire.exchange(server, wire.request_bytes(server, "GET", FUNCTIONS, skew_s=skew_s)).status == 200


AUTHORIZATIONS = {
    "none": None,
    "empty": "",
    "nonsense": "nonsense",
    "basic": "Basic dGVzdDp0ZXN0",
    "no signature": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host",
    "no credential": "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00",
    "a short scope": "AWS4-HMAC-SHA256 Credential=test/lambda, SignedHeaders=host, Signature=00",
    "no date": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00",
    "very long": "AWS4-HMAC-SHA256 " + "Credential=" * 1000,
    "odd bytes": "AWS4-HMAC-SHA256 Credential=\x80\xff/=,=,=;;",
    "another scheme": "AWS4-ECDSA-P256-SHA256 Credential=test/20260101/lambda/aws4_request, SignedHeaders=host, Signature=00",
}


@pytest.mark.parametrize("case", AUTHORIZATIONS)
def test_authorization_header(server, victim, case):
    """A malformed Authorization header is a client error with an AWS code."""
    value = AUTHORIZATIONS[case]
    headers = {"host": "localhost", "content-length": "0"} | ({} if value is None else {"authorization": value})
    sent = wire.head("DELETE", f"{FUNCTIONS}/{victim.name}", headers).decode().encode("latin-1", "replace")
    answer = wire.exchange(server, sent)
    assert answer.status in (400, 403), answer.raw
    assert answer.code in ("MissingAuthenticationTokenException", "IncompleteSignatureException", "InvalidSignatureException",
                           "MissingAuthenticationToken", "IncompleteSignature", "UnrecognizedClientException"), answer.raw


def test_the_body_is_part_of_the_signature(server, victim):
    """A changed body is noticed."""
    whole = wire.request_bytes(server, "POST", f"{FUNCTIONS}/{victim.name}/invocations", b'{"a": 1}')
    answer = wire.exchange(server, whole.replace(b'{"a": 1}', b'{"a": 2}'))
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")


def test_unsigned_payload_and_presigned_urls(server):
    """UNSIGNED-PAYLOAD passes; a presigned URL passes until it expires or is touched."""
    sent = wire.request_bytes(server, "GET", FUNCTIONS, body_hash="UNSIGNED-PAYLOAD")
    assert wire.exchange(server, sent).status == 200

    request = AWSRequest("GET", server.url + FUNCTIONS)
    SigV4QueryAuth(Credentials("test", "test"), "lambda", REGION, expires=60).add_auth(request)
    with urllib.request.urlopen(request.url, timeout=30) as answer:
        assert answer.status == 200
    touched = request.url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")
    parts = urllib.parse.urlsplit(touched)
    answer = wire.exchange(server, wire.head("GET", f"{parts.path}?{parts.query}", {"host": parts.netloc}))
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")


# --- bodies and bytes -------------------------------------------------------------------------------------------------


def test_a_truncated_body(server, victim):
    """A body that ends early is no request: a 4xx or a closed connection, and nothing ran."""
    for method, path in (("POST", f"{FUNCTIONS}/{victim.name}/invocations"), ("POST", FUNCTIONS)):
        whole = wire.request_bytes(server, method, path, b'{"name": "x"}' * 100)
        answer = wire.exchange(server, whole[:-300], half_close=True)
        assert answer.status is None or 400 <= answer.status < 500, answer.raw


def test_an_oversized_event(server, victim):
    """6 MB pass, one byte more is a 413 RequestTooLargeException."""
    fits = json.dumps("x" * (SYNC_PAYLOAD_BYTES - 2)).encode()
    assert victim.invoke(fits).value() == 1
    refused(lambda: victim.invoke(fits[:-1] + b'x"'), "RequestTooLargeException", 413, str(SYNC_PAYLOAD_BYTES))


def test_an_oversized_request_is_refused_unread(server, victim):
    """A huge Content-Length is refused before the body is sent (Expect: 100-continue), or at once without it."""
    for path in (FUNCTIONS, f"{FUNCTIONS}/{victim.name}/invocations"):
        for expect in ({"expect": "100-continue"}, {}):
            headers = wire.signed_headers("POST", server.url + path, body_hash="UNSIGNED-PAYLOAD")
            sent = wire.head("POST", path, headers | {"content-length": str(1 << 40)} | expect)
            answer = wire.exchange(server, sent + (b"" if expect else b"x" * 100_000))
            assert answer.status == 413, answer.raw
            assert answer.code in ("RequestTooLargeException", "RequestEntityTooLargeException"), answer.raw


def test_a_zip_over_50_mb(lenient, python):
    """A package larger than what may be uploaded directly."""
    import os

    big = zip_of({"lambda_function.py": "pass\n", "noise": os.urandom(51 * MIB)})
    refused(lambda: create(lenient, "too-big", python, "lambda_function.handler", big),
            ("RequestEntityTooLargeException", "RequestTooLargeException", "InvalidParameterValueException"), 413)


def post(server, path, body, method="POST"):
    """A signed request with any body."""
    return wire.exchange(server, wire.request_bytes(server, method, path, body))


BODIES = {
    "not JSON": b"this is no JSON", "cut off": b'{"FunctionName": "x"', "a list": b"[]", "a number": b"1", "nothing": b"",
    "not UTF-8": b'{"FunctionName": "\xff\xfe"}', "a wrong type": b'{"FunctionName": 7, "Timeout": "x"}',
    "very deep": b"[" * 100_000 + b"]" * 100_000, "very deep objects": b'{"Code":' * 50_000 + b"1" + b"}" * 50_000,
    "a deep member": b'{"FunctionName": "x", "Tags": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    "a zip that is not base64": b'{"FunctionName": "x", "Code": {"ZipFile": "%%%"}, "Role": "' + ROLE.encode() + b'"}',
    "a lone surrogate": b'{"FunctionName": "\\ud800"}', "trailing text": b'{"FunctionName": "x"} tail',
    "a huge number": b'{"FunctionName": "x", "Timeout": 1e400}', "a zero byte": b'{"FunctionName": "a\x00b"}',
}


@pytest.mark.parametrize("case", BODIES)
def test_the_body_of_an_operation(server, victim, case):
    """A body that is not what the operation takes: a 400 with an AWS code."""
    for method, path in (("POST", FUNCTIONS), ("PUT", f"{FUNCTIONS}/{victim.name}/code")):
        answer = post(server, path, BODIES[case], method)
        assert answer.status == 400, answer.raw
        assert answer.code in ("SerializationException", "InvalidRequestContentException", "ValidationException",
                               "InvalidParameterValueException"), answer.raw


EVENTS = {
    "not JSON": b"this is no JSON", "cut off": b'{"name": ', "not UTF-8": b'"\xff\xfe\x80"', "trailing text": b"{} x",
    "single quotes": b"{'name': 'x'}", "NaN": b"NaN", "a bare zero byte": b"\x00", "two values": b"1 2",
}


@pytest.mark.parametrize("case", EVENTS)
def test_an_event_that_is_not_json(victim, case):
    """InvalidRequestContentException (400), and the function does not run."""
    refused(lambda: victim.invoke(EVENTS[case]), "InvalidRequestContentException", 400, "Could not parse request body into json")


def test_a_very_deep_event(server, victim):
    """Valid JSON of any depth is either refused as content or reaches the function; it never takes the server down."""
    for depth in (500, 1_000, 100_000, 2_000_000):
        answer = post(server, f"{FUNCTIONS}/{victim.name}/invocations", b"[" * depth + b"]" * depth)
        assert answer.status == 200 or (answer.status, answer.code) == (400, "InvalidRequestContentException"), answer.raw[:500]
    assert victim().value() == 1


def test_bytes_that_are_no_http(server):
    """Nonsense on the wire is answered with a 400 or a closed connection."""
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100), b"GET\r\n\r\n", b"\r\n" * 1000, b"GET / HTTP/9.9\r\n\r\n",
                 b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
                 b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 \x00\x7f\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", b"GET /%zz%00 HTTP/1.1\r\nHost: x\r\n\r\n"):
        answer = wire.exchange(server, sent, half_close=True)
        assert answer.status is None or 400 <= answer.status < 500, (sent[:40], answer.raw[:200])


def test_a_client_that_goes_away(server, victim):
    """A connection reset in the middle of an invoke harms nobody."""
    sent = wire.request_bytes(server, "POST", f"{FUNCTIONS}/{victim.name}/invocations", b"{}")
    for _ in range(20):
        with socket.create_connection(server.address, 5) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert victim().value() == 1


def test_pipelining_and_100_continue(server, victim):
    """Two requests sent at once are answered in order; a client that waits for 100 gets it."""
    one = wire.request_bytes(server, "POST", f"{FUNCTIONS}/{victim.name}/invocations", b"{}")
    two = wire.request_bytes(server, "GET", "/2015-03-31/functions/nobody")
    with socket.create_connection(server.address, 10) as connection:
        connection.sendall(one + two)
        received = b""
        while received.count(b"HTTP/1.1 ") < 2 or not received.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, received
            received += piece
    assert received.index(b"HTTP/1.1 200") < received.index(b"HTTP/1.1 404")

    headers = wire.signed_headers("POST", f"{server.url}{FUNCTIONS}/{victim.name}/invocations", b"{}")
    headers |= {"content-length": "2", "expect": "100-continue"}
    with socket.create_connection(server.address, 10) as connection:
        connection.sendall(wire.head("POST", f"{FUNCTIONS}/{victim.name}/invocations", headers))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"{}")
        assert wire.read_response(connection).status == 200


# --- packages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", packages.REFUSED)
def test_a_package_that_is_refused(lenient, victim, python, case):
    """InvalidParameterValueException at create and at update, and no file of it is left anywhere."""
    maker, word = packages.REFUSED[case]
    content = maker()
    refused(lambda: create(lenient, "bad-package", python, "lambda_function.handler", content),
            ("InvalidParameterValueException", "ValidationException"), 400, word)
    refused(lambda: lenient.update_function_code(FunctionName=victim.name, ZipFile=content),
            ("InvalidParameterValueException", "ValidationException"), 400, word)
    assert victim().value() == 1


def test_a_link_inside_the_package_is_fine(server, python, name):
    """Symbolic links that stay inside work, and lead where they say."""
    source = "import os\ndef handler(event, context):\n    return [open('/var/task/link.txt').read(), os.readlink('/var/task/up/down')]\n"
    package = packages.with_entries(packages.file("folder/real.txt", "content"), packages.link("link.txt", "folder/real.txt"),
                                    packages.link("up/down", "../folder"), packages.file("reader.py", source))
    function = create(server.client(), name, python, "reader.handler", package)
    assert function().value() == ["content", "../folder"]
    server.client().delete_function(FunctionName=name)


def test_a_bootstrap_that_is_not_executable(server, name):
    """A bootstrap without its x-bit fails as on AWS, at the first invoke, and says which file it is."""
    function = create(server.client(), name, "provided.al2023", "x", {"bootstrap": "#!/bin/sh\n"}, modes={"bootstrap": 0o644})
    kind, message = function().failure()
    assert kind == "Runtime.InvalidEntrypoint"
    assert message.endswith("Error: fork/exec /var/task/bootstrap: permission denied")
    server.client().delete_function(FunctionName=name)


def test_a_missing_bootstrap(server, name):
    """A provided function without its program says where it was looked for."""
    function = create(server.client(), name, "provided.al2", "x", GOOD)
    kind, message = function().failure()
    assert kind == "Runtime.InvalidEntrypoint"
    assert "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]" in message
    server.client().delete_function(FunctionName=name)


# --- parameters -------------------------------------------------------------------------------------------------------

VALIDATION, PARAMETER = "ValidationException", "InvalidParameterValueException"
#: Settings that CreateFunction (and, where it has them, UpdateFunctionConfiguration) refuses: codes, word in the message.
SETTINGS = {
    "memory 127": ({"MemorySize": 127}, VALIDATION, "128"),
    "memory 10,241": ({"MemorySize": 10_241}, (VALIDATION, PARAMETER), "10240"),
    "memory 0": ({"MemorySize": 0}, VALIDATION, "128"),
    "timeout 0": ({"Timeout": 0}, VALIDATION, "1"),
    "timeout 901": ({"Timeout": 901}, (VALIDATION, PARAMETER), "900"),
    "timeout -1": ({"Timeout": -1}, VALIDATION, "1"),
    "a long description": ({"Description": "x" * 257}, VALIDATION, "256"),
    "a long handler": ({"Handler": "x" * 129}, VALIDATION, "128"),
    "a handler with spaces": ({"Handler": "a b.c"}, VALIDATION, "handler"),
    "an unknown runtime": ({"Runtime": "python9.9"}, PARAMETER, "python9.9"),
    "a runtime that AWS gave up": ({"Runtime": "python2.7"}, PARAMETER, "python2.7"),
    "a runtime that is not here yet": ({"Runtime": "dotnet8"}, PARAMETER, "dotnet8"),
    "a role that is no ARN": ({"Role": "admin"}, VALIDATION, "role"),
    "a role of another service": ({"Role": "arn:aws:s3:::bucket"}, VALIDATION, "role"),
    "a role of a bad account": ({"Role": "arn:aws:iam::12:role/x"}, VALIDATION, "role"),
    "env over 4 KB": ({"Environment": {"Variables": {"KEY": "x" * 4096}}}, PARAMETER, "4KB"),
    "many env over 4 KB": ({"Environment": {"Variables": {f"KEY_{n}": "x" * 40 for n in range(100)}}}, PARAMETER, "4KB"),
    "a reserved env key": ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, PARAMETER, "AWS_REGION"),
    "another reserved env key": ({"Environment": {"Variables": {"_HANDLER": "x"}}}, (PARAMETER, VALIDATION), ""),
    "a reserved env key of ours": ({"Environment": {"Variables": {"AWS_LAMBDA_RUNTIME_API": "x"}}}, PARAMETER,
                                   "AWS_LAMBDA_RUNTIME_API"),
    "an env key with a dash": ({"Environment": {"Variables": {"A-B": "x"}}}, (VALIDATION, PARAMETER), ""),
    "an env key that starts with a digit": ({"Environment": {"Variables": {"1A": "x"}}}, (VALIDATION, PARAMETER), ""),
    "an env key of one letter": ({"Environment": {"Variables": {"A": "x"}}}, VALIDATION, "[a-zA-Z]([a-zA-Z0-9_])+"),
    "an empty env key": ({"Environment": {"Variables": {"": "x"}}}, (VALIDATION, PARAMETER), ""),
    "ephemeral storage 511": ({"EphemeralStorage": {"Size": 511}}, VALIDATION, "512"),
    "ephemeral storage 10,241": ({"EphemeralStorage": {"Size": 10_241}}, (VALIDATION, PARAMETER), "10240"),
    "a number as text": ({"Timeout": "ten"}, "SerializationException", ""),
    "an unknown package type": ({"PackageType": "Tar"}, VALIDATION, "packageType"),
    "a bad tracing mode": ({"TracingConfig": {"Mode": "Sometimes"}}, VALIDATION, "mode"),
}
#: What AWS can do and we cannot yet, and what would change what runs: refused, not ignored.
UNSUPPORTED = {
    "a container image": ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "mage"),
    "another architecture": ({"Architectures": ["arm64"]}, "arm64"),
    "a VPC": ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, "VpcConfig"),
    "a file system": ({"FileSystemConfigs": [{"Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0",
                                              "LocalMountPath": "/mnt/x"}]}, "FileSystemConfigs"),
    "a dead-letter queue": ({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}}, "DeadLetterConfig"),
    "code in S3": ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "S3"),
    "durable functions": ({"DurableConfig": {"ExecutionTimeout": 10, "RetentionPeriodInDays": 1}}, "DurableConfig"),
}
#: Members that UpdateFunctionConfiguration does not have.
CREATE_ONLY = {"PackageType", "Architectures", "Publish", "Code"}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_is_refused(lenient, victim, python, case):
    """At create and at update: AWS's code, the limit in the message, and nothing changed."""
    settings, codes, word = SETTINGS[case]
    arguments = {"FunctionName": "bad-setting", "Runtime": python, "Handler": "lambda_function.handler", "Role": ROLE,
                 "Code": {"ZipFile": zip_of(GOOD)}}
    refused(lambda: lenient.create_function(**arguments | settings), codes, 400, word)
    if not CREATE_ONLY & set(settings):
        refused(lambda: lenient.update_function_configuration(FunctionName=victim.name, **settings), codes, 400, word)


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_a_feature_that_is_not_there_yet(lenient, victim, python, case):
    """A typed error that names the feature, at create and at update."""
    settings, word = UNSUPPORTED[case]
    arguments = {"FunctionName": "unsupported", "Runtime": python, "Handler": "lambda_function.handler", "Role": ROLE,
                 "Code": {"ZipFile": zip_of(GOOD)}}
    refused(lambda: lenient.create_function(**arguments | settings), (PARAMETER, VALIDATION), 400, word)
    if not CREATE_ONLY & set(settings):
        refused(lambda: lenient.update_function_configuration(FunctionName=victim.name, **settings), (PARAMETER, VALIDATION),
                400, word)


def test_several_wrong_settings_are_all_named(lenient, python):
    """AWS counts them: `2 validation errors detected`."""
    message = refused(lambda: create(lenient, "bad", python, "lambda_function.handler", GOOD, MemorySize=1, Timeout=0), VALIDATION, 400)
    assert message.startswith("2 validation errors detected: ")
    assert "memorySize" in message
    assert "timeout" in message


MISSING_MEMBERS = {"Role": "role", "Code": "code", "FunctionName": "functionName", "Runtime": "Runtime", "Handler": "Handler"}


@pytest.mark.parametrize("member", MISSING_MEMBERS)
def test_a_missing_member(lenient, python, member):
    """Each member that a zip function needs is asked for."""
    arguments = {"FunctionName": "incomplete", "Runtime": python, "Handler": "lambda_function.handler", "Role": ROLE,
                 "Code": {"ZipFile": zip_of(GOOD)}}
    del arguments[member]
    message = refused(lambda: lenient.create_function(**arguments), (VALIDATION, PARAMETER), 400)
    assert MISSING_MEMBERS[member].lower() in message.lower()


def test_a_name_that_is_taken(client, victim, python):
    """ResourceConflictException (409), whatever else differs."""
    refused(lambda: create(client, victim.name, python, "other.handler", zip_of({"other.py": "pass"})),
            "ResourceConflictException", 409, "already exist", victim.name)


BAD_NAMES = ["with space", "ümlaut", "a/b", "x" * 65, "a:b:c", "arn:aws:lambda:us-east-1:12:function:x",
             "arn:aws:s3:::bucket", "arn:aws:sqs:us-east-1:000000000000:queue", "../../etc/passwd", "a%00b", "name:", "$LATEST"]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_name_that_is_none(lenient, python, bad):
    """A malformed name or ARN is a 400 in every operation."""
    codes = (VALIDATION, PARAMETER)
    refused(lambda: create(lenient, bad, python, "lambda_function.handler", GOOD), codes, 400)
    refused(lambda: lenient.get_function(FunctionName=bad), codes, 400)
    refused(lambda: lenient.invoke(FunctionName=bad), codes, 400)
    refused(lambda: lenient.delete_function(FunctionName=bad), codes, 400)


def test_functions_that_are_not_there(client, victim):
    """ResourceNotFoundException (404) with the ARN that was meant; so for a version or alias that is not there."""
    arn = "arn:aws:lambda:us-east-1:000000000000:function"
    for reference, settings, shown in (
            ("nobody", {}, f"{arn}:nobody"), (f"{arn}:nobody", {}, f"{arn}:nobody"),
            (victim.name, {"Qualifier": "7"}, f"{arn}:{victim.name}:7"), (f"{victim.name}:PROD", {}, f"{arn}:{victim.name}:PROD"),
            (victim.name, {"Qualifier": "PROD"}, f"{arn}:{victim.name}:PROD")):
        refused(lambda: client.get_function(FunctionName=reference, **settings), "ResourceNotFoundException", 404, shown)
        refused(lambda: client.get_function_configuration(FunctionName=reference, **settings), "ResourceNotFoundException", 404, shown)
        refused(lambda: client.invoke(FunctionName=reference, **settings), "ResourceNotFoundException", 404, shown)


def test_qualifiers_that_contradict(client, victim):
    """A qualifier in the name and another one beside it."""
    refused(lambda: client.invoke(FunctionName=f"{victim.name}:$LATEST", Qualifier="7"),
            (PARAMETER, VALIDATION, "ResourceNotFoundException"), 400)


def test_updates_of_what_is_not_there(client):
    """Updating or deleting nothing is a 404."""
    for call in (lambda: client.update_function_configuration(FunctionName="nobody", Timeout=3),
                 lambda: client.update_function_code(FunctionName="nobody", ZipFile=zip_of(GOOD)),
                 lambda: client.delete_function(FunctionName="nobody")):
        refused(call, "ResourceNotFoundException", 404, "nobody")


def test_a_function_of_another_region_or_account(client, victim):
    """An ARN of elsewhere is not answered with the function of the same name here."""
    for reference in (f"arn:aws:lambda:eu-west-1:000000000000:function:{victim.name}",
                      f"arn:aws:lambda:us-east-1:999999999999:function:{victim.name}", f"999999999999:function:{victim.name}"):
        with pytest.raises(ClientError) as error:
            client.invoke(FunctionName=reference)
        response = error.value.response
        assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) in (
            ("ResourceNotFoundException", 404), ("AccessDeniedException", 403)), response


PAGES = {"MaxItems 0": {"MaxItems": 0}, "MaxItems 10,001": {"MaxItems": 10_001}, "MaxItems text": {"MaxItems": "x"},
         "a made-up Marker": {"Marker": "made up"}, "a bad FunctionVersion": {"FunctionVersion": "SOME"}}


@pytest.mark.parametrize("case", PAGES)
def test_bad_paging(lenient, case):
    """Wrong paging parameters are a 400."""
    refused(lambda: lenient.list_functions(**PAGES[case]), (VALIDATION, PARAMETER, "SerializationException"), 400)


INVOKES = {
    "an asynchronous invoke": ({"InvocationType": "Event"}, None, None, "Event"),
    "an unknown invocation type": ({"InvocationType": "Sometimes"}, (VALIDATION, PARAMETER), 400, "nvocationType"),
    "an unknown log type": ({"LogType": "Head"}, (VALIDATION, PARAMETER), 400, "ogType"),
    "a client context over 3,583 bytes": ({"ClientContext": base64.b64encode(b'"' + b"x" * 3583 + b'"').decode()},
                                          (PARAMETER, VALIDATION, "InvalidRequestContentException", "RequestTooLargeException"), None, "3583"),
    "a client context that is not base64": ({"ClientContext": "%%%"}, (PARAMETER, "InvalidRequestContentException"), 400, "lient"),
    "a client context that is not JSON": ({"ClientContext": base64.b64encode(b"no json").decode()},
                                          (PARAMETER, "InvalidRequestContentException"), 400, "lient"),
}


@pytest.mark.parametrize("case", INVOKES)
def test_an_invoke_that_is_refused(lenient, victim, case):
    """Headers of Invoke that are wrong, or that are not supported yet."""
    settings, codes, status, word = INVOKES[case]
    with pytest.raises(ClientError) as error:
        lenient.invoke(FunctionName=victim.name, **settings)
    response = error.value.response
    assert codes is None or response["Error"]["Code"] in codes, response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == (status or response["ResponseMetadata"]["HTTPStatusCode"])
    assert 400 <= response["ResponseMetadata"]["HTTPStatusCode"] < 502
    assert word in response["Error"]["Message"], response


# --- what does not exist ----------------------------------------------------------------------------------------------

UNKNOWN_OPERATIONS = [
    ("lambda", "list_event_source_mappings", {}, "ListEventSourceMappings"),
    ("lambda", "create_function_url_config", {"FunctionName": "victim-of-errors", "AuthType": "NONE"},
     "CreateFunctionUrlConfig"),
    ("lambda", "get_function_event_invoke_config", {"FunctionName": "victim-of-errors"}, "GetFunctionEventInvokeConfig"),
    ("lambda", "list_capacity_providers", {}, "ListCapacityProviders"),
    ("lambda", "get_function_scaling_config", {"FunctionName": "victim-of-errors", "Qualifier": "1"}, "GetFunctionScalingConfig"),
    ("sqs", "list_queues", {}, "ListQueues"),
    ("dynamodb", "list_tables", {}, "ListTables"),
    ("events", "list_rules", {}, "ListRules"),
    ("logs", "describe_log_groups", {}, "DescribeLogGroups"),
    ("sns", "list_topics", {}, "ListTopics"),
    ("iam", "list_users", {}, "ListUsers"),
    ("sts", "get_session_token", {}, "GetSessionToken"),
    ("scheduler", "list_schedules", {}, ""),
    ("s3", "list_buckets", {}, ""),
]


@pytest.mark.parametrize(("service", "operation", "arguments", "named"), UNKNOWN_OPERATIONS,
                         ids=lambda value: value if isinstance(value, str) and value.islower() else "")
def test_an_operation_that_does_not_exist_yet(server, service, operation, arguments, named):
    """UnknownOperationException (404), or the protocol's own form of it, naming the operation."""
    with pytest.raises(ClientError) as error:
        getattr(server.client(service), operation)(**arguments)
    response = error.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] in (404, 400, 501), response
    # The query protocol says InvalidAction, S3 says NotImplemented.
    assert response["Error"]["Code"] in ("UnknownOperationException", "InvalidAction", "NotImplemented"), response
    assert named in response["Error"]["Message"], response


def test_routes_that_nobody_has(server):
    """Paths and methods outside of AWS's model are 404s, whatever they look like."""
    for method, path in (("GET", "/"), ("PATCH", FUNCTIONS), ("GET", "/2015-03-31/functionz"), ("GET", "/2015-03-31/functions/a/b/c/d"),
                         ("POST", "/2015-03-31/functions/%2e%2e%2f%2e%2e/invocations"), ("GET", "//"), ("DELETE", "/health"),
                         ("GET", "/2015-03-31/functions//configuration")):
        answer = wire.exchange(server, wire.request_bytes(server, method, path))
        assert answer.status is not None and 400 <= answer.status < 500, (method, path, answer.raw)


def test_a_function_keeps_its_answers(victim):
    """After all of the above the function is what it was."""
    assert Function(victim.client, victim.name, None)().value() == 1
