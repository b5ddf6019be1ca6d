"""The main job as the README tells it: create and invoke the hello function with the real AWS CLI, and with our own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import functions
from harness import server as servers
from harness.waiting import wait_until

HELLO = '''def lambda_handler(event, context):
    name = event.get('name', 'World')
    return {'statusCode': 200, 'body': f"Hello, {name}!"}
'''
HELLO_ALICE = {"statusCode": 200, "body": "Hello, Alice!"}
QUICKSTART_TIMEOUT_S = 120
FUNCTION_ERROR_STATUS = 3


@pytest.fixture
def hello(tmp_path):
    """A folder with the README's function, zipped as the README says."""
    (tmp_path / "lambda_function.py").write_text(HELLO, encoding="utf-8")
    if shutil.which("zip"):
        subprocess.run(["zip", "-q", "function.zip", "lambda_function.py"], cwd=tmp_path, check=True)
    else:
        with zipfile.ZipFile(tmp_path / "function.zip", "w") as archive:
            archive.write(tmp_path / "lambda_function.py", "lambda_function.py")
    return tmp_path


def aws(server, words, folder):
    """Types an `aws` command in `folder` (a shell splits it, as on a terminal)."""
    program = Path(sys.executable).with_name("aws")
    return subprocess.run(["sh", "-c", f"{program} {words}"], cwd=folder, capture_output=True, text=True, timeout=120,
                          env=servers.client_environment(server.url), check=False)


def create_command(name, python):
    """The issue's first command."""
    return (f"lambda create-function --function-name {name} --runtime {python} --handler lambda_function.lambda_handler "
            "--zip-file fileb://function.zip --role arn:aws:iam::123456789012:role/lambda-exec-role")


def invoke_command(name):
    """The issue's second command."""
    return f"lambda invoke --function-name {name} --payload '{{\"name\": \"Alice\"}}' output.json"


def test_the_two_commands_and_a_killed_server(own_server, hello, python):
    """create-function and invoke back to back; after kill -9 and a restart the function is still there and answers."""
    server = own_server()
    name = "hello-world"

    created = aws(server, create_command(name, python), hello)
    invoked = aws(server, invoke_command(name), hello)

    assert created.returncode == 0, created.stderr
    assert json.loads(created.stdout)["FunctionName"] == name
    assert invoked.returncode == 0, invoked.stderr
    assert json.loads(invoked.stdout) == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert (hello / "output.json").read_text(encoding="utf-8") == '{"statusCode": 200, "body": "Hello, Alice!"}'

    server.kill()
    (hello / "output.json").unlink()
    again = own_server(data=server.data)
    invoked = aws(again, invoke_command(name), hello)
    assert invoked.returncode == 0, invoked.stderr
    assert json.loads((hello / "output.json").read_text(encoding="utf-8")) == HELLO_ALICE
    kept = again.client().get_function(FunctionName=name)["Configuration"]
    assert kept["CodeSha256"] == json.loads(created.stdout)["CodeSha256"]


def test_a_function_outlives_a_kill_right_after_its_creation(own_server, python):
    """What was acknowledged is on disk: killed in the very moment of the answer, the server still knows every function."""
    server = own_server()
    names = [f"kept-{number}" for number in range(5)]
    for name in names:
        functions.create(server.client(), name, python, "lambda_function.lambda_handler", {"lambda_function.py": HELLO})
    server.kill()
    again = own_server(data=server.data)
    listed = again.client().list_functions()["Functions"]
    assert [each["FunctionName"] for each in listed] == names
    answer = functions.Function(again.client(), names[-1], listed[-1])({"name": "Alice"})
    assert answer.value() == HELLO_ALICE


def test_the_aws_cli_knows_who_it_is(server, tmp_path):
    """`aws sts get-caller-identity` answers: many tools ask that first."""
    asked = aws(server, "sts get-caller-identity", tmp_path)
    assert asked.returncode == 0, asked.stderr
    identity = json.loads(asked.stdout)
    assert identity["Account"] == "000000000000"
    assert identity["Arn"].startswith("arn:aws:iam::000000000000:")
    assert identity["UserId"]


def test_the_aws_cli_lists_updates_and_deletes(server, hello, python, name):
    """The other commands that people type."""
    def run(words):
        done = aws(server, words, hello)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(create_command(name, python))
    assert name in run("lambda list-functions --query 'Functions[].FunctionName' --output text").split()
    assert name in run(f"lambda get-function --function-name {name}")
    run(f"lambda wait function-active-v2 --function-name {name}")
    run(f"lambda update-function-configuration --function-name {name} --timeout 7 --environment 'Variables={{KEY=b}}'")
    run(f"lambda wait function-updated-v2 --function-name {name}")
    assert json.loads(run(f"lambda get-function-configuration --function-name {name}"))["Timeout"] == 7
    run(f"lambda update-function-code --function-name {name} --zip-file fileb://function.zip")
    run(f"lambda delete-function --function-name {name}")
    gone = aws(server, f"lambda get-function --function-name {name}", hello)
    assert gone.returncode in (254, 255)  # version 2 of the CLI, version 1
    assert "ResourceNotFoundException" in gone.stderr


def test_health_says_that_the_server_is_ready(server):
    """/health needs no signature."""
    import urllib.request

    with urllib.request.urlopen(server.url + "/health", timeout=30) as answer:
        assert answer.status == 200
        assert answer.headers.get_content_type() == "application/json"
        json.load(answer)


def test_serve_stops_politely(own_server, python):
    """SIGTERM: whoever asked before gets the answer, whoever comes later is refused, and the status is 0."""
    server = own_server()
    # Long enough for all that is to happen meanwhile, and well within the ten seconds that a stop waits.
    source = "import time\ndef handler(event, context):\n    print('begun')\n    time.sleep(6)\n    return 'done'\n"
    function = functions.create(server.client(), "slow", python, "lambda_function.handler", {"lambda_function.py": source},
                                Timeout=60)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(function)
        wait_until(lambda: "begun" in server.command("logs", "slow", "--data", server.data).stdout, "the function has begun")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(server.address), "the server accepts nobody any more")
        assert not asked.done(), "the function still runs"
        assert asked.result().value() == "done"
    assert server.stop() == 0


def refuses(address):
    """Whether a new connection is refused."""
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_two_servers_do_not_share(server, tmp_path):
    """A second server on the same data or port is told why it cannot start, and the first one does not notice."""
    for words, says in ((["--listen", "127.0.0.1:0", "--data", server.data], "in use"),
                        (["--listen", server.url[7:], "--data", tmp_path / "other"], server.url[7:])):
        done = server.command("serve", *words)
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
        assert server.healthy()
        server.client().list_functions()


def test_settings_that_are_none(server, tmp_path):
    """An unknown FREEHOLD_ variable, an unknown key in the file and an unknown store are refused by name."""
    (tmp_path / "settings.toml").write_text("frobnicate = 1\n", encoding="utf-8")
    for words, variables, says in (([], {"FREEHOLD_FROBNICATE": "1"}, "FREEHOLD_FROBNICATE"),
                                   (["--config", tmp_path / "settings.toml"], {}, "frobnicate"),
                                   (["--store", "nonsense:x"], {}, "nonsense"),
                                   (["--store", "postgres://user:hidden@host/name"], {}, "postgres")):
        done = server.command("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data", *words, **variables)
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
        assert "hidden" not in done.stderr, "a password is shown"


# --- freehold's own commands ------------------------------------------------------------------------------------------


@pytest.fixture
def deployed(server, hello, python, name):
    """The hello function, put there by `freehold deploy`."""
    (hello / "function.zip").unlink()
    done = server.command("deploy", hello, "--name", name, "--runtime", python)
    assert done.returncode == 0, done.stderr
    yield name
    server.command("delete", name)


def test_deploy_and_invoke(server, deployed):
    """The answer is alone on stdout; the log, REPORT line included, is on stderr."""
    done = server.command("invoke", deployed, '{"name": "Alice"}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == HELLO_ALICE
    assert functions.REPORT.search(done.stderr), done.stderr


def test_invoke_takes_its_event_from_everywhere(server, deployed, tmp_path):
    """No event, a file, stdin."""
    (tmp_path / "event.json").write_text('{"name": "Alice"}', encoding="utf-8")
    cases = [([], None, "World"), ([f"@{tmp_path}/event.json"], None, "Alice"), (["-"], '{"name": "Bob"}', "Bob")]
    for words, stdin, who in cases:
        done = server.command("invoke", deployed, *words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["body"] == f"Hello, {who}!"


def test_deploy_infers_what_it_can(server, hello, name):
    """A folder with lambda_function.py needs neither runtime nor handler; a second deploy updates."""
    first = server.command("--json", "deploy", hello, "--name", name)
    assert first.returncode == 0, first.stderr
    (hello / "lambda_function.py").write_text(HELLO.replace("Hello", "Good day"), encoding="utf-8")
    second = server.command("deploy", hello, "--name", name, "--timeout", "9", "--memory", "256", "--env", "KEY=b")
    assert second.returncode == 0, second.stderr
    assert json.loads(server.command("invoke", name, "{}").stdout)["body"] == "Good day, World!"
    configuration = server.client().get_function_configuration(FunctionName=name)
    assert (configuration["Timeout"], configuration["MemorySize"]) == (9, 256)
    assert configuration["Environment"]["Variables"] == {"KEY": "b"}
    assert server.command("delete", name).returncode == 0


def test_deploy_takes_a_zip(server, hello, python, name):
    """A ready-made zip is deployed as it is."""
    done = server.command("deploy", hello / "function.zip", "--name", name, "--runtime", python)
    assert done.returncode == 0, done.stderr
    assert json.loads(server.command("invoke", name).stdout)["body"] == "Hello, World!"
    assert server.command("delete", name).returncode == 0


def test_list_and_delete(server, deployed):
    """What is there is listed, for people and for programs; what was deleted is not."""
    assert deployed in server.command("list").stdout
    listed = json.loads(server.command("list", "--json").stdout)
    assert deployed in [each["FunctionName"] for each in listed]
    assert server.command("delete", deployed).returncode == 0
    assert deployed not in server.command("list").stdout


def test_logs(server, deployed):
    """What the function printed is there after a moment, in order."""
    server.command("invoke", deployed, "{}")

    def log():
        done = server.command("logs", deployed, "--data", server.data)
        return done.stdout if functions.REPORT.search(done.stdout.replace("\r", "")) or "REPORT" in done.stdout else None

    text = wait_until(log, "the log shows the REPORT line")
    assert text.index("START RequestId") < text.index("END RequestId") < text.index("REPORT RequestId")


def test_logs_are_followed(server, deployed):
    """--follow prints what comes until it is interrupted."""
    follower = subprocess.Popen([servers.binary(), "logs", deployed, "--follow", "--data", server.data], stdout=subprocess.PIPE,
                                text=True, env=servers.client_environment(server.url))
    try:
        server.command("invoke", deployed, "{}")
        seen = ""
        while "REPORT RequestId" not in seen:
            line = follower.stdout.readline()
            assert line, "the follower ended"
            seen += line
        assert follower.poll() is None
    finally:
        follower.terminate()  # not SIGINT, which whoever runs the tests in the background has ignored
        follower.communicate(timeout=60)


def test_a_function_error_has_its_own_exit_code(server, tmp_path, python, name):
    """The error JSON is on stdout and the exit status is 3."""
    (tmp_path / "lambda_function.py").write_text("def lambda_handler(event, context):\n    raise ValueError('boom')\n",
                                                 encoding="utf-8")
    assert server.command("deploy", tmp_path, "--name", name, "--runtime", python).returncode == 0
    done = server.command("invoke", name)
    assert done.returncode == FUNCTION_ERROR_STATUS
    assert json.loads(done.stdout)["errorType"] == "ValueError"
    server.command("delete", name)


@pytest.mark.parametrize(("words", "status", "says"), [
    (["invoke", "no-such-function"], 1, "ResourceNotFoundException"),
    (["delete", "no-such-function"], 1, "ResourceNotFoundException"),
    (["deploy", "/nonexistent"], 1, "/nonexistent"),
    (["invoke", "x", "{broken"], 1, ""),
    (["frobnicate"], 2, "frobnicate"),
    (["serve", "--listen", "nonsense"], 2, "nonsense"),
    (["serve", "--listen", "0.0.0.0:0"], 1, "loopback"),
    (["serve", "--frobnicate"], 2, "frobnicate"),
], ids=lambda value: "-".join(value) if isinstance(value, list) else str(value))
def test_what_goes_wrong_is_said_and_has_an_exit_code(server, words, status, says):
    """Errors go to stderr, name what was wrong, and set the exit status."""
    done = server.command(*words)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_a_server_that_is_not_there_is_named(tmp_path):
    """A refused connection says which address and what to do."""
    done = subprocess.run([servers.binary(), "list"], capture_output=True, text=True, timeout=60, check=False,
                          env=servers.client_environment("http://127.0.0.1:9"))
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "serve" in done.stderr


@pytest.mark.parametrize("word", ["serve", "quickstart", "deploy", "invoke", "list", "delete", "logs", "runtimes", "doctor"])
def test_every_command_has_help(word):
    """--help works and says something for each command."""
    done = subprocess.run([servers.binary(), word, "--help"], capture_output=True, text=True, timeout=60, check=False,
                          env=servers.clean_environment())
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_runtimes_and_doctor(server):
    """Both speak to people and to programs, and the doctor finds nothing missing where these suites run."""
    runtimes = json.loads(server.command("runtimes", "--json").stdout)
    assert {"python3.12", "nodejs22.x", "provided.al2023"} <= {each["id"] for each in runtimes}
    for each in runtimes:
        assert each["installed"] in (True, False)
    assert "python3.12" in server.command("runtimes").stdout
    for words in (["doctor"], ["doctor", "--json"]):
        done = server.command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(server.command("doctor", "--json").stdout)
    assert findings


def test_quickstart_in_one_go(tmp_path):
    """The README's first command, apart from the build: hello cold and warm, REPORT, latencies, next steps, no trace left."""
    place, folder = tmp_path / "tmp", tmp_path / "here"
    place.mkdir()
    folder.mkdir()
    done = subprocess.run([servers.binary(), "quickstart"], capture_output=True, text=True, timeout=QUICKSTART_TIMEOUT_S,
                          env=servers.clean_environment(TMPDIR=str(place)), cwd=folder, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "Hello, " in text
    assert "REPORT RequestId" in text
    assert "Init Duration" in text
    for word in ("cold", "warm", "serve", "deploy", "aws"):
        assert word in text.lower(), word
    assert (os.listdir(place), os.listdir(folder)) == ([], [])
