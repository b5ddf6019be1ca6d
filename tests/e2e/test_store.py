"""The store as its owner handles it: backed up while the server runs, restored, copied, checked."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from harness import functions
from harness import server as servers
from harness.waiting import wait_until

HANDLER = "def handler(event, context):\n    return %r\n"
FULL_DISK = "256m"
#: Backups that are made at most until something was written during one.
BACKUPS_MAX = 20


def freehold(*arguments, stdin=None, **options):
    """Runs `freehold ARGUMENTS…` without a server in mind: the completed process, bytes in and out."""
    return subprocess.run([servers.binary(), *map(str, arguments)], input=stdin, capture_output=True, timeout=120,
                          env=servers.clean_environment(), check=False, **options)


def done(completed):
    """Its stdout, if it worked."""
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def refused(completed):
    """Its stderr, if it said no."""
    assert completed.returncode == 1, (completed.returncode, completed.stdout, completed.stderr)
    text = completed.stderr if isinstance(completed.stderr, str) else completed.stderr.decode()
    assert text.startswith("error: ") and "panicked" not in text
    return text


def create(server, python, name, answer):
    """A function that answers with `answer`."""
    return functions.create(server.client(), name, python, "lambda_function.handler",
                            {"lambda_function.py": HANDLER % answer})


def invoke(server, name):
    """What a function answers."""
    return functions.Function(server.client(), name, None)({}).value()


class Writer(threading.Thread):
    """Creates functions and updates others, one after the other, and notes what was acknowledged."""

    def __init__(self, server, python):
        super().__init__(daemon=True)
        self.server, self.python = server, python
        self.acknowledged, self.steps = {}, 0
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        client = self.server.client(region_name="us-east-1")
        try:
            for number in range(10_000):
                if self.stopping.is_set():
                    return
                functions.create(client, f"made-{number}", self.python, "lambda_function.handler",
                                 {"lambda_function.py": HANDLER % f"made {number}"})
                self.acknowledged[f"made-{number}"] = {f"made {number}"}
                self.steps += 1
                if number % 3 == 0:
                    # While this is under way either answer is right.
                    self.acknowledged[f"made-{number}"] = {f"made {number}", f"updated {number}"}
                    client.update_function_code(
                        FunctionName=f"made-{number}",
                        ZipFile=functions.zip_of({"lambda_function.py": HANDLER % f"updated {number}"}))
                    self.acknowledged[f"made-{number}"] = {f"updated {number}"}
                    self.steps += 1
        except Exception as problem:  # pylint: disable=broad-except
            self.failure = problem

    def finish(self):
        self.stopping.set()
        self.join(120)
        assert self.failure is None, self.failure


def test_a_backup_of_a_running_server_restores_to_one_that_serves(own_server, python, tmp_path):
    """Under writes: each function acknowledged before the backup began is in it, and invokes from the restored store."""
    server = own_server()
    create(server, python, "steady", "steady")
    assert invoke(server, "steady") == "steady"
    writer = Writer(server, python)
    writer.start()
    wait_until(lambda: len(writer.acknowledged) >= 8 or writer.failure, "eight functions were created")
    for _ in range(BACKUPS_MAX):
        expected = {"steady": {"steady"}} | {name: set(answers) for name, answers in list(writer.acknowledged.items())}
        steps = writer.steps
        report = json.loads(done(server.command("store", "backup", tmp_path / "backup", "--force", "--data", server.data, "--json")))
        # On a busy machine a backup may have been quicker than the writer: then it is no test of anything.
        if writer.steps > steps or writer.failure:
            break
    writer.finish()
    assert writer.steps > steps, "nothing was written while a backup was made"
    assert report["missing_blobs"] == 0 and report["blobs"] >= len(expected)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600

    restored = json.loads(done(freehold("store", "restore", tmp_path / "backup", "--data", tmp_path / "new", "--json")))
    assert {key: restored[key] for key in ("keys", "sha256", "blobs")} == {
        key: report[key] for key in ("keys", "sha256", "blobs")}
    assert not (tmp_path / "new/code").exists(), "the packages come from the blobs alone"
    again = own_server(data=tmp_path / "new")
    for name, answers in expected.items():
        # One that was updated after this list was made may have either answer.
        number = name.removeprefix("made-")
        assert invoke(again, name) in answers | {f"updated {number}"}, name


def test_a_backup_file_is_whole_or_not_there(own_server, python, tmp_path):
    """Not overwritten unasked; through a pipe; damaged and cut ones change nothing when they are restored."""
    server = own_server()
    create(server, python, "kept", "kept")
    path = tmp_path / "backup"
    backup = ("store", "backup", path, "--data", server.data)
    text = done(server.command(*backup))
    assert "Backed up" in text and str(path) in text
    content = path.read_bytes()
    assert "already" in refused(server.command(*backup)) and path.read_bytes() == content
    done(server.command(*backup, "--force"))
    piped = freehold("store", "backup", "-", "--data", server.data)
    assert done(piped) == path.read_bytes() == content
    assert b"Backed up" in piped.stderr
    assert "cannot make a file" in refused(server.command("store", "backup", tmp_path / "no/backup", "--data", server.data))
    assert sorted(os.listdir(tmp_path)) == ["backup"], "nothing unfinished is left"

    new = tmp_path / "new"
    for position in (3, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:position])
        (tmp_path / "damaged").write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1:])
        assert f"byte {position}" in refused(freehold("store", "restore", tmp_path / "cut", "--data", new))
        assert "byte " in refused(freehold("store", "restore", tmp_path / "damaged", "--data", new))
    assert not new.exists()
    assert "byte 3" in refused(freehold("store", "restore", "-", "--data", new, stdin=content[:3]))
    done(freehold("store", "restore", "-", "--data", new, stdin=content))
    assert "not empty" in refused(freehold("store", "restore", path, "--data", new))


def test_stores_in_use_are_told_and_a_dead_servers_socket_is_no_obstacle(own_server, python, tmp_path):
    """restore and copy want the server stopped; after kill -9 a backup and the next server work."""
    server = own_server()
    create(server, python, "kept", "kept")
    control = server.data / "control"
    assert stat.S_ISSOCK(control.stat().st_mode) and stat.S_IMODE(control.stat().st_mode) == 0o600
    url = f"file:{server.data}/store"
    done(server.command("store", "backup", tmp_path / "one", "--data", server.data))
    assert "stop it" in refused(server.command("store", "restore", tmp_path / "one", "--data", server.data))
    for way in ((url, f"file:{tmp_path}/other"), (f"file:{tmp_path}/other", url)):
        assert "error" in refused(server.command("store", "copy", *way))
    assert "stop the server" in refused(server.command("store", "copy", url, f"file:{tmp_path}/other"))

    server.kill()
    assert control.exists()
    done(freehold("store", "backup", tmp_path / "two", "--data", server.data))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    copied = json.loads(done(freehold("store", "copy", url, f"file:{tmp_path}/copy/store", "--json")))
    assert copied["keys"] > 0 and copied["blobs"] == 1
    again = own_server(data=server.data)
    done(again.command("store", "backup", tmp_path / "three", "--data", again.data))
    assert again.stop() == 0
    assert not control.exists(), "a server that stops takes its socket away"
    moved = own_server(data=tmp_path / "copy")
    assert invoke(moved, "kept") == "kept"


def test_a_data_folder_deeper_than_a_sockets_address(own_server, tmp_path):
    """The control socket works where its path is longer than the 107 bytes that an address can hold."""
    server = own_server(data=tmp_path / ("deep/" * 30))
    assert len(str(server.data)) > 108
    done(server.command("store", "backup", tmp_path / "backup", "--data", server.data))
    assert "through the running server" in done(server.command("doctor", "--store", "--data", server.data))


def test_the_control_socket_bears_nonsense(own_server, tmp_path):
    """Silence, nonsense and commands that are cut off hold nobody up."""
    server = own_server()
    for request in (b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * 20_000 + b"\n", b"freehold-control 1 shred file:/\n",
                    f"freehold-control 1 shred file:{server.data}/store\n".encode()):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(15)
            client.connect(str(server.data / "control"))
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(1_000)
            assert answer[:1] in (b"", b"E", b"S"), request
    cut_off = subprocess.Popen([servers.binary(), "store", "backup", "-", "--data", str(server.data)],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=servers.clean_environment())
    cut_off.send_signal(signal.SIGKILL)
    cut_off.wait()
    cut_off.stdout.close()
    done(server.command("store", "backup", tmp_path / "backup", "--data", server.data))


def test_doctor_tells_a_whole_store_from_a_damaged_one(own_server, python, tmp_path):
    """Exit 0 and counts; exit 1 with the name of what is damaged, through the server and without; a typed error else."""
    server = own_server()
    create(server, python, "kept", "kept")
    check = ("doctor", "--store", "--data", server.data)
    text = done(server.command(*check))
    assert "lambda.function: 1 " in text and "The store is whole." in text
    report = json.loads(done(server.command(*check, "--json")))
    assert report["damaged"] == 0 and report["blobs"] == 1

    blob = next(path for path in (server.data / "store/blobs").rglob("*") if path.is_file())
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for running in (True, False):
        if not running:
            server.stop()
        found = freehold(*check)
        assert found.returncode == 1 and f"damaged   blob {blob.name}".encode() in found.stdout, found
        report = json.loads(freehold(*check, "--json").stdout)
        assert report["damaged"] == 1 and blob.name in report["findings"][0]["subject"]
    assert blob.name in refused(freehold("store", "backup", tmp_path / "backup", "--data", server.data))
    assert not (tmp_path / "backup").exists()

    (server.data / "store/format").write_text("freehold-store 99 other\n", encoding="utf-8")
    assert "freehold-store 99 other" in refused(freehold(*check))
    assert "no store" in refused(freehold("doctor", "--store", f"file:{tmp_path}/nothing"))
    assert not (tmp_path / "nothing").exists()


@pytest.fixture
def database():
    """The URL of an empty database in a PostgreSQL of its own, on a socket in a temporary folder."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not programs or os.geteuid() != 0:
        pytest.skip("a PostgreSQL of one's own needs Debian's package postgresql, and root to become its user")
    folder = Path(tempfile.mkdtemp(prefix="freehold-e2e-pg-"))
    shutil.chown(folder, "postgres")

    def run(program, *arguments):
        subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                        programs[-1].with_name(program), "-D", folder / "cluster", *arguments],
                       check=True, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    try:
        run("initdb", "--auth=trust", "--username=freehold", "--encoding=UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-w", "-l", folder / "log", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off", "start")
        yield f"postgres://freehold@/postgres?host={folder}"
        run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_a_store_moves_to_postgresql_and_back(own_server, python, database, tmp_path):
    """Copied there, served and backed up there, copied back: the function invokes wherever its store is."""
    server = own_server()
    create(server, python, "moved", "moved")
    server.stop()
    here, back = f"file:{server.data}/store", f"file:{tmp_path}/back/store"
    assert "name a folder" in refused(freehold("store", "copy", here, database))
    there = json.loads(done(freehold("store", "copy", here, database, "--to-blobs", tmp_path / "blobs", "--json")))
    assert there["keys"] > 0 and there["blobs"] == 1
    assert "not empty" in refused(freehold("store", "copy", here, database, "--to-blobs", tmp_path / "blobs"))
    place = ("--store", database, "--blobs", tmp_path / "blobs")
    with servers.Server(tmp_path / "there", arguments=map(str, place)) as serving:
        assert invoke(serving, "moved") == "moved"
        backup = ("store", "backup", tmp_path / "backup", "--data", serving.data, *place, "--json")
        assert json.loads(done(serving.command(*backup)))["blobs"] == 1
        assert "through the running server" in done(
            serving.command("doctor", f"--store={database}", "--data", serving.data, "--blobs", tmp_path / "blobs"))
    done(freehold("store", "restore", tmp_path / "backup", "--data", tmp_path / "restored"))
    returned = json.loads(done(freehold("store", "copy", database, back, "--from-blobs", tmp_path / "blobs", "--json")))
    assert returned["blobs"] == there["blobs"] and returned["keys"] >= there["keys"]
    again = own_server(data=tmp_path / "back")
    assert invoke(again, "moved") == "moved"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK}", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Takes every free byte."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 20))
        except OSError:
            pass
        try:
            while True:
                filler.write(b"x")
        except OSError:
            pass


def test_a_store_that_stopped_says_so(own_server, python, small_disk, tmp_path):
    """On a full disk: writes get a ServiceException that says why, the log has it once, doctor reports it through the
    server; after a restart with room everything that was acknowledged is there."""
    server = own_server(data=tmp_path / "data", arguments=["--store", f"file:{small_disk}/store"])
    client = server.client()
    create(server, python, "kept", "kept")
    fill(small_disk)
    acknowledged = 0
    for number in range(200_000):
        try:
            client.update_function_configuration(FunctionName="kept", Description=f"{number} " + "x" * 200)
            acknowledged = number
        except client.exceptions.ServiceException as error:
            failure = error
            break
    else:
        pytest.fail("the disk never filled")
    for _ in range(2):
        assert failure.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        message = failure.response["Error"]["Message"]
        assert "stopped accepting work because a write failed" in message and "restart" in message
        with pytest.raises(client.exceptions.ServiceException) as caught:
            client.update_function_configuration(FunctionName="kept", Description="after")
        failure = caught.value
    place = ("--data", server.data, "--store", f"file:{small_disk}/store")
    found = freehold("doctor", "--data", server.data, "--store", f"file:{small_disk}/store")
    assert found.returncode == 1 and b"stopped accepting work because a write failed" in found.stdout, found
    assert "stopped accepting work" in refused(freehold("store", "backup", tmp_path / "backup", *place))
    told = [line for line in server.stderr_path.read_text(encoding="utf-8").splitlines()
            if "ERROR" in line and "freehold_store" in line]
    assert len(told) == 1 and "stopped accepting work" in told[0], told
    server.stop()

    (small_disk / "filler").unlink()
    again = own_server(data=server.data, arguments=["--store", f"file:{small_disk}/store"])
    kept = again.client().get_function_configuration(FunctionName="kept")
    assert int(kept["Description"].split()[0]) in (acknowledged, acknowledged + 1)
    assert "The store is whole." in done(again.command("doctor", *place))
