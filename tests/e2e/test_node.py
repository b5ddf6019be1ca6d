"""Invoke on Node.js: ES modules, CommonJS, async and callback handlers, and errors as AWS's Node runtime gives them."""

import re

import pytest

from harness.functions import REPORT

RUNTIMES = ["nodejs20.x", "nodejs22.x", "nodejs24.x"]


@pytest.fixture(params=RUNTIMES)
def node(request, need):
    """Each Node runtime that this host has."""
    return need(request.param)


@pytest.fixture
def newest_node(installed):
    """One Node runtime, for what does not depend on the version."""
    found = [each for each in RUNTIMES if installed.get(each, {}).get("installed")]
    if not found:
        pytest.skip(f"no Node runtime ({', '.join(RUNTIMES)}) is on this host")
    return found[-1]


#: How handlers are written: files, the handler's name.
SHAPES = {
    "CommonJS async": ({"index.js": "exports.handler = async (event) => ({ hello: event.name });"}, "index.handler"),
    "ES module": ({"index.mjs": "export const handler = async (event) => ({ hello: event.name });"}, "index.handler"),
    "ES module by package.json": ({"index.js": "export const handler = async (event) => ({ hello: event.name });",
                                   "package.json": '{"type": "module"}'}, "index.handler"),
    "top-level await": ({"index.mjs": "const late = await new Promise((done) => setTimeout(() => done('hello'), 5));\n"
                                      "export const handler = async (event) => ({ [late]: event.name });"}, "index.handler"),
    "default export of an object": ({"index.cjs": "module.exports = { handler: async (event) => ({ hello: event.name }) };"}, "index.handler"),
    "in a folder": ({"source/app.js": "exports.run = async (event) => ({ hello: event.name });"}, "source/app.run"),
    "a nested export": ({"index.js": "exports.api = { run: async (event) => ({ hello: event.name }) };"}, "index.api.run"),
    "not async": ({"index.js": "exports.handler = (event) => Promise.resolve({ hello: event.name });"}, "index.handler"),
    "with a module of its own": ({"index.js": "exports.handler = async (event) => require('./other').greet(event.name);",
                                  "other.js": "exports.greet = (name) => ({ hello: name });"}, "index.handler"),
    "with node_modules": ({"index.mjs": "import greet from 'greeter';\nexport const handler = async (event) => greet(event.name);",
                           "node_modules/greeter/index.js": "module.exports = (name) => ({ hello: name });"}, "index.handler"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_handler(make, node, shape):
    """Every way to write a handler answers."""
    files, handler = SHAPES[shape]
    answer = make(node, handler, files)({"name": "ümlaut"})
    assert answer.value() == {"hello": "ümlaut"}
    assert REPORT.search(answer.log)


def test_a_callback(make, node):
    """Callbacks answer and fail up to Node 22; AWS's Node 24 refuses a handler that takes one."""
    function = make(node, "index.handler", {
        "index.js": "exports.handler = (event, context, callback) => setTimeout(() => event.fail ? callback(new TypeError('no')) : callback(null, 7), 10);"})
    if node == "nodejs24.x":
        assert function({}).failure()[0] == "Runtime.CallbackHandlerDeprecated"
        return
    assert function({}).value() == 7
    assert function({"fail": True}).failure() == ("TypeError", "no")


def test_the_context(make, newest_node):
    """AWS's context object, in Node's spelling."""
    function = make(newest_node, "index.handler", {"index.mjs": (
        "export const handler = async (event, c) => ({ request: c.awsRequestId, name: c.functionName, version: c.functionVersion,\n"
        "  arn: c.invokedFunctionArn, memory: c.memoryLimitInMB, group: c.logGroupName, stream: c.logStreamName,\n"
        "  left: c.getRemainingTimeInMillis(), region: process.env.AWS_REGION, kind: process.env.AWS_EXECUTION_ENV });")})
    answer = function({})
    seen = answer.value()
    assert seen.pop("request") == answer.report["id"]
    assert 30_000 < seen.pop("left") <= 60_000
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen.pop("stream"))
    assert seen == {"name": function.name, "version": "$LATEST", "memory": "128", "group": f"/aws/lambda/{function.name}",
                    "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}", "region": "us-east-1",
                    "kind": f"AWS_Lambda_{newest_node}"}


ERRORS = {
    "an Error": ("throw new Error('boom');", "Error", "boom"),
    "a class of its own": ("class OrderFailed extends Error { constructor(m) { super(m); this.name = 'OrderFailed'; } }\nthrow new OrderFailed('no stock');",
                           "OrderFailed", "no stock"),
    "a TypeError": ("null.x;", "TypeError", "Cannot read properties of null (reading 'x')"),
    "a rejected text": ("return Promise.reject('just text');", "string", "just text"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error(make, newest_node, case):
    """errorType, errorMessage and trace."""
    body, kind, message = ERRORS[case]
    answer = make(newest_node, "index.handler", {"index.js": f"exports.handler = async () => {{ {body} }};"})({})
    assert answer.failure() == (kind, message)
    assert isinstance(answer.json["trace"], list)
    assert "ERROR\tInvoke Error" in answer.log


INITS = {
    "a missing module": ("require('nowhere-to-be-found');", "index.handler", "Runtime.ImportModuleError", "Cannot find module 'nowhere-to-be-found'"),
    "a missing file": ("", "other.handler", "Runtime.ImportModuleError", "Cannot find module 'other'"),
    "a missing handler": ("exports.x = 1;", "index.handler", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
    "a syntax error": ("exports.handler = (;", "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    "an error at import": ("throw new RangeError('too early');", "index.handler", "RangeError", "too early"),
    "a handler without a dot": ("", "handler", "Runtime.MalformedHandlerName", "Bad handler"),
}


@pytest.mark.parametrize("case", INITS)
def test_an_init_error(make, newest_node, case):
    """What goes wrong before the first event."""
    source, handler, kind, says = INITS[case]
    answer = make(newest_node, handler, {"index.js": source})({})
    assert answer.failure()[0] == kind, answer.raw
    assert says in answer.failure()[1]


ENDS = {
    "process.exit": ("process.exit(4);", "Runtime.ExitError", "exit status 4"),
    "exit(0)": ("process.exit(0);", "Runtime.ExitError", "Runtime exited without providing a reason"),
    "a timeout": ("while (true);", "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
    "out of memory": ("const a = []; while (true) a.push(Buffer.alloc(1 << 20, 1));", "Runtime.OutOfMemory", "signal: killed"),
}


@pytest.mark.parametrize("case", ENDS)
def test_an_end_of_the_environment(make, newest_node, case):
    """The process's ends have AWS's errors, and the next event gets a fresh one."""
    body, kind, says = ENDS[case]
    function = make(newest_node, "index.handler", {
        "index.js": f"let count = 0;\nexports.handler = async (event) => {{ count += 1; if (event.well) return count; {body} }};"},
        Timeout=3 if case == "a timeout" else 60)
    assert function({"well": True}).value() == 1
    failed = function({}).failure()
    assert kind is None or failed[0] == kind, failed
    assert says in failed[1]
    assert function({"well": True}).value() == 1


#: What nobody catches: the code, and how Node.js 20 and 22 report it. Node.js 24's client of AWS lets the process end instead.
UNCAUGHT = {
    "an exception": ("setTimeout(() => { throw new Error('late'); }, 1); await new Promise(() => setTimeout(() => {}, 9000));",
                     None, "late"),
    "a rejection": ("Promise.reject(new Error('nobody caught')); await new Promise((d) => setTimeout(d, 500));",
                    "Runtime.UnhandledPromiseRejection", "nobody caught"),
}


@pytest.mark.parametrize("case", UNCAUGHT)
def test_what_nobody_catches(make, node, case):
    """An exception outside of the handler's own flow fails the event and ends the environment."""
    body, kind, says = UNCAUGHT[case]
    if node == "nodejs24.x":
        kind, says = "Runtime.ExitError", "exit status 1"
    function = make(node, "index.handler", {
        "index.js": f"let count = 0;\nexports.handler = async (event) => {{ count += 1; if (event.well) return count; {body} }};"})
    failed = function({}).failure()
    assert kind is None or failed[0] == kind, failed
    assert says in failed[1]
    assert function({"well": True}).value() == 1


def test_answers_that_are_no_json(make, newest_node):
    """A cycle or a BigInt is an error; NaN and undefined are null, as JSON.stringify has it."""
    function = make(newest_node, "index.handler", {"index.js": (
        "exports.handler = async (event) => { const a = {}; a.a = a;\n"
        "  return { cycle: a, bigint: 1n, nan: NaN, undefined: undefined, date: new Date(0) }[event]; };")})
    for case in ("cycle", "bigint"):
        assert function(case).error == "Unhandled"
    assert function("nan").value() is None
    assert function("undefined").value() is None
    assert function("date").value() == "1970-01-01T00:00:00.000Z"


def test_console_lines(make, newest_node):
    """console.log writes time, request id and level, as on AWS."""
    answer = make(newest_node, "index.handler", {"index.js": (
        "exports.handler = async () => { console.log('a %s', 'b', { c: 1 }); console.error('wrong'); console.warn('careful'); };")})({})
    request = answer.report["id"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    for level, text in (("INFO", r"a b \{ c: 1 \}"), ("ERROR", "wrong"), ("WARN", "careful")):
        assert re.search(rf"^{stamp}\t{request}\t{level}\t{text}$", answer.log, re.M), answer.log


def test_state_is_kept(make, newest_node):
    """Module state lives from event to event."""
    function = make(newest_node, "index.handler", {"index.mjs": "let count = 0;\nexport const handler = async () => ++count;"})
    assert [function({}).value() for _ in range(3)] == [1, 2, 3]


def test_streams_fetch_and_workers_work(make, newest_node):
    """What a real handler uses: fetch to the platform's endpoint, worker threads, child processes, crypto."""
    function = make(newest_node, "index.handler", {"index.mjs": (
        "import { Worker } from 'node:worker_threads';\nimport { execFileSync } from 'node:child_process';\nimport { createHash } from 'node:crypto';\n"
        "export const handler = async () => {\n"
        "  const health = (await fetch(process.env.AWS_ENDPOINT_URL + '/health')).status;\n"
        "  const worker = await new Promise((done) => new Worker('require(\"worker_threads\").parentPort.postMessage(42)', { eval: true }).on('message', done));\n"
        "  const child = execFileSync(process.execPath, ['-p', '6*7']).toString().trim();\n"
        "  return [health, worker, child, createHash('md5').update('').digest('hex').slice(0, 8)];\n};")}, MemorySize=512)
    assert function({}).value() == [200, 42, "42", "d41d8cd9"]
