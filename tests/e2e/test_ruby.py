"""Functions in Ruby. Where this host has no Ruby of AWS's releases (3.2 to 3.4), the system's own stands in for 3.2: what is
tested is how Freehold starts it and what its bootstrap does, not the release."""

import json
import subprocess
from pathlib import Path

import pytest

from harness import functions
from harness.waiting import wait_until

RUNTIMES = ["ruby3.2", "ruby3.3", "ruby3.4"]
SYSTEM_RUBY = Path("/usr/bin/ruby")
OLDEST_STAND_IN = (3, 1)
WARM_DEADLINE_S = 60


def stand_in(folder):
    """A folder with a `ruby3.2` that says it is 3.2 and leads to the system's Ruby, or nothing."""
    if not SYSTEM_RUBY.exists():
        return None
    version = subprocess.run([SYSTEM_RUBY, "-e", "print RUBY_VERSION"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.split(".")[:2])) < OLDEST_STAND_IN:
        return None
    answer = {"implementation": "ruby", "version": "3.2.0", "executable": str(SYSTEM_RUBY.resolve()), "prefix": "/usr", "libraries": []}
    folder.mkdir()
    script = folder / "ruby3.2"
    script.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def ruby(installed, work_folder, tmp_path_factory):
    """A server that has a Ruby, and the runtime's identifier."""
    from harness import server as servers

    found = [each for each in RUNTIMES if installed[each]["installed"]]
    variables = {}
    if not found:
        folder = stand_in(work_folder / "stand-in")
        if folder is None:
            pytest.skip("no Ruby for ruby3.2, ruby3.3 or ruby3.4 is on this host, nor a system Ruby from 3.1 on")
        found, variables = ["ruby3.2"], {"FREEHOLD_RUNTIME_FOLDERS": str(folder)}
    with servers.Server(work_folder / "ruby", variables) as server:
        yield server.client(), found[-1]


@pytest.fixture
def make_ruby(ruby, name):
    """`make_ruby(handler, files)`: a Ruby function."""
    client, runtime = ruby
    return lambda handler, files, **settings: functions.create(client, name, runtime, handler, files, **settings)


def test_a_handler(make_ruby):
    """It answers, keeps its state, sees AWS's variables, and its log is in the tail."""
    function = make_ruby("lambda_function.lambda_handler", {"lambda_function.rb": (
        "require 'greeter'\n$count = 0\ndef lambda_handler(event:, context:)\n  $count += 1\n  puts \"event #{$count}\"\n"
        "  { hello: Greeter.greet(event['name']), count: $count, left: context.get_remaining_time_in_millis,\n"
        "    gems: ENV['GEM_PATH'], kind: ENV['AWS_EXECUTION_ENV'], request: context.aws_request_id }\nend\n"),
        "greeter.rb": "module Greeter\n  def self.greet(name) = \"Hello, #{name}!\"\nend\n"}, Timeout=9)
    answer = function({"name": "ümlaut"})
    value = answer.value()
    assert (value["hello"], value["count"]) == ("Hello, ümlaut!", 1)
    assert 0 < value["left"] <= 9_000
    assert value["request"] == answer.report["id"]
    runtime = function.configuration["Runtime"]
    release = runtime.removeprefix("ruby")
    assert value["kind"] == f"AWS_Lambda_{runtime}"
    assert value["gems"] == f"/var/task/vendor/bundle/ruby/{release}.0:/opt/ruby/gems/{release}.0"
    assert "event 1" in answer.log and answer.report["init"] is not None
    wait_until(lambda: function({"name": "x"}).value()["count"] > 1, "an event finds the program running", WARM_DEADLINE_S)


def test_its_errors(make_ruby):
    """An error, one that ends the program, and what comes after."""
    function = make_ruby("f.Shop::Handler.run", {"f.rb": (
        "module Shop\n  class OutOfStock < StandardError; end\n  class Handler\n    def self.run(event:, context:)\n"
        "      raise OutOfStock, 'none left' if event == 'stock'\n      nil.nope if event == 'broken'\n      event\n    end\n  end\nend\n")})
    answer = function("stock")
    assert answer.failure() == ("Function<Shop::OutOfStock>", "none left")
    assert answer.json["stackTrace"][0].startswith("/var/task/f.rb:5:in ")
    assert "Error raised from handler method" in answer.log
    assert function("broken").failure()[0] == "Function<NoMethodError>"
    assert function("well").value() == "well"


def test_it_cannot_start(make_ruby):
    """A missing gem is told by the runtime."""
    answer = make_ruby("f.handler", {"f.rb": "require 'nowhere'\n"})({})
    assert answer.failure() == ("Init<LoadError>", "cannot load such file -- nowhere")
