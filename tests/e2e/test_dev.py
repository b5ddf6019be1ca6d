"""`freehold dev`: what is saved is deployed at once, and the test event's answer is shown."""

import json
import queue
import subprocess
import threading

import pytest

from harness.server import binary, client_environment

SOURCE = "def lambda_handler(event, context):\n    print('working on', event)\n    return {answer}\n"
DEADLINE_S = 60


class Dev:
    """A running `freehold dev`, and what it says."""

    def __init__(self, server, folder, *words):
        self.process = subprocess.Popen(
            [binary(), "dev", str(folder), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=client_environment(server.url, FREEHOLD_DATA=str(server.data)))
        self.answers, self.said = queue.Queue(), queue.Queue()
        for stream, lines in ((self.process.stdout, self.answers), (self.process.stderr, self.said)):
            threading.Thread(target=self.read, args=(stream, lines), daemon=True).start()

    @staticmethod
    def read(stream, lines):
        """Puts every line of a stream aside."""
        for line in stream:
            lines.put(line.rstrip("\n"))

    def answer(self):
        """The next answer."""
        return json.loads(self.answers.get(timeout=DEADLINE_S))

    def until(self, text):
        """The first line of stderr from now on that contains `text`."""
        while True:
            line = self.said.get(timeout=DEADLINE_S)
            if text in line:
                return line


@pytest.fixture
def folder(tmp_path, name):
    """A function's folder with a test event."""
    place = tmp_path / name
    place.mkdir()
    (place / "lambda_function.py").write_text(SOURCE.format(answer="'one'"))
    (place / "event.json").write_text('{"name": "first"}')
    return place


@pytest.fixture
def dev(server, folder, client):
    """`dev(*words)` starts the command; it is ended afterwards, and its function deleted."""
    made = []

    def start(*words):
        made.append(Dev(server, folder, *words))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
    client.delete_function(FunctionName=folder.name)


def test_saves_are_deployed_and_tried(dev, folder, client):
    """A save of the code, of the event, of a broken file and of a repaired one; another's invoke shows in the log."""
    running = dev()
    running.until("Created")
    assert running.answer() == "one"
    running.until("Watching")
    (folder / "lambda_function.py").write_text(SOURCE.format(answer="'two'"))
    running.until("Updated")
    assert running.answer() == "two"
    (folder / "event.json").write_text('{"name": "second"}')
    running.until("working on {'name': 'second'}")
    assert running.answer() == "two"
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context:\n")
    running.until("Failed")
    assert running.answer()["errorType"] == "Runtime.UserCodeSyntaxError"
    (folder / "lambda_function.py").write_text(SOURCE.format(answer="event['name']"))
    assert running.answer() == "second"
    client.invoke(FunctionName=folder.name, Payload=b'{"name": "somebody else"}')
    running.until("working on {'name': 'somebody else'}")
    # The test event is no part of the package.
    code = client.get_function(FunctionName=folder.name)["Configuration"]
    (folder / "event.json").write_text('{"name": "third"}')
    assert running.answer() == "third"
    assert client.get_function(FunctionName=folder.name)["Configuration"]["CodeSha256"] == code["CodeSha256"]


def test_a_new_folder_and_an_event_elsewhere_are_watched_too(dev, folder, tmp_path):
    """Modules in folders made later count; so does an event that lies outside."""
    event = tmp_path / "elsewhere" / "try.json"
    event.parent.mkdir()
    event.write_text("1")
    running = dev("--event", str(event))
    assert running.answer() == "one"
    (folder / "inner").mkdir()
    (folder / "inner" / "__init__.py").write_text("VALUE = 'inner'\n")
    (folder / "lambda_function.py").write_text("from inner import VALUE\n" + SOURCE.format(answer="[VALUE, event]"))
    while (answer := running.answer()) != ["inner", 1]:
        assert answer in ("one",) or "errorType" in answer, "what was half saved"
    event.write_text("2")
    assert running.answer() == ["inner", 2]
