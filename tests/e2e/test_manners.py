"""Runtimes' manners, case by case: the same functions on our runtime clients and on AWS's own, with the same events.

What differs must be listed as deliberate in the tables of `manners/`, with the reason; `docs/manners.md` shows what was seen
on both sides, and must say what this test has seen (FREEHOLD_WRITE_MANNERS=1 writes it).
"""

import itertools
import os
from pathlib import Path

import pytest

from harness import functions
from manners import clients, document, node_table, python_table
from manners.table import Init, difference, observe

PYTHONS = ["python3.10", "python3.11", "python3.12", "python3.13", "python3.14"]
NODES = ["nodejs20.x", "nodejs22.x", "nodejs24.x"]
TABLES = {"python": python_table, "nodejs": node_table}
DOCUMENT = Path(__file__).parents[2] / "docs" / "manners.md"
GROUPS = {
    "text": {},
    "alone": {},
    "impatient": {"Timeout": 1},
    "json": {"LoggingConfig": {"LogFormat": "JSON"}},
    "json at ERROR": {"LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"}},
    "json at TRACE": {"LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "TRACE", "SystemLogLevel": "DEBUG"}},
    "own variables": {"Environment": {"Variables": {
        "LD_LIBRARY_PATH": "/var/task/lib", "PYTHONPATH": "/var/task/vendor", "NODE_PATH": "/var/task/vendor", "PATH": "/var/task/bin:/usr/bin:/bin"}}},
    "wrapped": {"Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/exec-wrapper"}}},
    "modules": {"Environment": {"Variables": {"NODE_OPTIONS": "--experimental-require-module --experimental-detect-module"}}},
}
DEFAULTS = {"Timeout": 9, "MemorySize": 512}
numbers = itertools.count()


@pytest.fixture(scope="module", params=PYTHONS + NODES)
def runtime(request, need):
    """Each runtime that this host has."""
    return need(request.param)


class Bench:
    """The functions of one runtime on both clients, made as they are needed."""

    def __init__(self, client, runtime, executable):
        self.client, self.runtime = client, runtime
        self.table = next(table for name, table in TABLES.items() if runtime.startswith(name))
        self.package = clients.Package(runtime, executable)
        self.made = {}

    def pair(self, handler, group):
        """The function on our client and on AWS's."""
        key = handler, group
        if key not in self.made:
            settings = DEFAULTS | GROUPS[group]
            name = lambda: f"manners-{self.runtime.replace('.', '')}-{next(numbers)}"  # noqa: E731
            self.made[key] = [make(self.client, name(), handler, **settings) for make in (self.package.ours, self.package.theirs)]
        return self.made[key]

    def seen(self, case):
        """What both show of a case."""
        if isinstance(case, Init):
            group, handler, arguments, times = "text", case.handler, {"payload": b'{"a": 1}'}, 1
        else:
            group, handler, arguments, times = case.group, case.handler or self.table.HANDLER, case.arguments(), 2 if case.twice else 1
        both = []
        for function in self.pair(handler, group):
            for _ in range(times):
                answer = function.invoke(**arguments)
            seen = observe(answer, whole=isinstance(case, Init) and case.whole)
            both.append(case.seen(seen) if case.seen else seen)
        return both

    def documented(self):
        """Whether the documentation shows this runtime as it is here: its Python is the system's."""
        return self.runtime in document.RUNTIMES and (self.package.custom or self.table is node_table)

    def delete(self):
        """Deletes the functions."""
        for function in itertools.chain.from_iterable(self.made.values()):
            self.client.delete_function(FunctionName=function.name)


@pytest.fixture(scope="module")
def bench(runtime, client, installed):
    """The bench of a runtime."""
    try:
        made = Bench(client, runtime, installed[runtime].get("executable", ""))
    except clients.Unavailable as problem:
        pytest.skip(f"AWS's client for {runtime} cannot be installed here: {problem}")
    yield made
    made.delete()


def sections(table):
    """The cases by heading, those of loading a handler last."""
    return table.CASES | {"Handlers": table.INITS}


def test_manners(bench):
    """Every case is the same on both clients, or differs as its table says; the documentation shows what was seen."""
    wrong, seen = [], {}
    for heading, cases in sections(bench.table).items():
        seen[heading] = []
        for case in cases:
            if case.only and bench.runtime not in case.only:
                continue
            ours, theirs = bench.seen(case)
            seen[heading].append((case, ours, theirs))
            differs = case.differs and (not case.differs_on or bench.runtime in case.differs_on)
            if ours != theirs and not differs:
                wrong.append(f"{heading} / {case.title}\n{difference(ours, theirs)}")
            if ours == theirs and differs:
                wrong.append(f"{heading} / {case.title}: is the same now, the reason for a difference is out of date")
    assert not wrong, f"{len(wrong)} cases on {bench.runtime}:\n" + "\n".join(wrong)
    if bench.documented():
        if os.environ.get("FREEHOLD_WRITE_MANNERS"):
            document.write(DOCUMENT, bench.runtime, seen)
        assert document.section(DOCUMENT, bench.runtime) == document.render(bench.runtime, seen)
