"""Invoke on every Python: what AWS's runtimes have in common, and where the older ones differ."""

import pytest

from harness.functions import REPORT

RUNTIMES = ["python3.10", "python3.11", "python3.12", "python3.13", "python3.14"]
#: The runtimes that write what is not ASCII as escapes; since 3.12 it is written as it is.
ESCAPING = {"python3.10", "python3.11"}


@pytest.fixture(params=RUNTIMES)
def version(request, need):
    """Each Python runtime that this host has."""
    return need(request.param)


def test_hello(make, version):
    """The README's function, cold and warm, on the Python that was asked for."""
    source = ("import os, sys\ndef lambda_handler(event, context):\n    name = event.get('name', 'World')\n"
              "    return {'statusCode': 200, 'body': f\"Hello, {name}!\", 'version': sys.version_info[:2],\n"
              "            'kind': os.environ['AWS_EXECUTION_ENV']}\n")
    function = make(version, "lambda_function.lambda_handler", {"lambda_function.py": source})
    numbers = [int(part) for part in version.removeprefix("python").split(".")]
    for cold in (True, False):
        answer = function({"name": "Alice"})
        assert answer.value() == {"statusCode": 200, "body": "Hello, Alice!", "version": numbers, "kind": f"AWS_Lambda_{version}"}
        assert REPORT.search(answer.log)
        assert bool(answer.report["init"]) == cold


def test_text_that_is_not_ascii(make, version):
    """Events, logs and answers with any letters; whether the answer has escapes depends on the version."""
    source = "def handler(event, context):\n    print(event)\n    return event\n"
    answer = make(version, "lambda_function.handler", {"lambda_function.py": source})("grüße 🦀")
    assert answer.raw.decode() == ('"gr\\u00fc\\u00dfe \\ud83e\\udd80"' if version in ESCAPING else '"grüße 🦀"')
    assert "grüße 🦀\n" in answer.log


def test_what_comes_with_python(make, version):
    """The whole standard library is there, with what it is built on."""
    modules = "asyncio, bz2, ctypes, curses, decimal, hashlib, lzma, multiprocessing, sqlite3, ssl, uuid, xml.etree.ElementTree, zoneinfo"
    source = (f"import {modules}\nimport zlib\ndef handler(event, context):\n    database = sqlite3.connect('/tmp/database')\n"
              "    return [ssl.OPENSSL_VERSION.split()[0], database.execute('select 6 * 7').fetchone()[0], hashlib.sha256(b'').hexdigest()[:8]]\n")
    function = make(version, "lambda_function.handler", {"lambda_function.py": source}, MemorySize=256)
    assert function().value() == ["OpenSSL", 42, "e3b0c442"]


def test_errors(make, version):
    """An exception, a module that is missing and an exit."""
    source = "import sys\ndef handler(event, context):\n    if event == 'exit': sys.exit(5)\n    raise ValueError('boom')\n"
    function = make(version, "lambda_function.handler", {"lambda_function.py": source})
    assert function().failure() == ("ValueError", "boom")
    kind, message = function("exit").failure()
    assert (kind, message.endswith("Error: Runtime exited with error: exit status 5")) == ("Runtime.ExitError", True)
    missing = make(version, "lambda_function.handler", {"lambda_function.py": "import nowhere_to_be_found\n"})
    assert missing().failure() == ("Runtime.ImportModuleError",
                                   "Unable to import module 'lambda_function': No module named 'nowhere_to_be_found'")
