"""The cases of Node.js, in the order of the documentation."""

from manners.table import Case, Init

CONTEXT = {"client": {"installation_id": "i-1", "app_title": "Shop"}, "custom": {"a": "b"}, "env": {"locale": "de"}}
BIG = 5 << 20
TOO_BIG = 7 << 20
BY_CALLBACK = ("nodejs20.x", "nodejs22.x")

SAYS_MORE = "AWS's client fails to describe such an error; ours still says what it was"
SAYS_WHERE = "ours also says where in the function's code, as AWS's later client does"
BY_REQUIRE = "ours loads CommonJS by `require`, so that the client ends the chain; AWS's later client imports it"
OWN_WORDS = "the same error in words of our own: AWS's speak of AWS's service"

#: What dispatches to the case that the event names.
HANDLER = "cases.handler"
STYLES = "styles.handler"

CASES = {
    "Answers": [
        Case("the event, given back", "echo", {"text": "grüße 🦀", "list": [1, 2.5, None, True]}),
        Case("numbers, infinite ones too", "numbers"),
        Case("any letters", "text"),
        Case("half a surrogate pair", "surrogate"),
        Case("nothing", "nothing"),
        Case("a function", "aFunction"),
        Case("a date", "aDate"),
        Case("a map, a set, a symbol", "aMap"),
        Case("a buffer", "aBuffer"),
        Case("a BigInt", "aBigInt"),
        Case("a cycle", "aCycle"),
        Case("`toJSON`", "itsOwnJson"),
        Case("a thenable", "thenable"),
        Case("a plain value", "plain"),
        Case("an event of 5 MB", "sizeOf", {"text": "x" * BIG}),
        Case("an answer of 5 MB", "large", {"size": BIG}, seen=lambda seen: len(seen["answer"]) if "answer" in seen else seen),
        Case("an answer of 7 MB", "large", {"size": TOO_BIG}),
        Case("an event that is null", "echo", payload=b"null"),
        Case("white space around the event", "echo", payload=b' {"case": "echo"} '),
        Case("work left behind", "leavesWork", group="alone", seen=lambda seen: seen["answer"]),
    ],
    "Context": [
        Case("its fields", "contextFields"),
        Case("its members", "contextMembers"),
        Case("the remaining time", "remainingTime"),
        Case("the identity", "identity"),
        Case("no client context", "clientContext"),
        Case("a client context", "clientContext", client_context=CONTEXT),
        Case("an empty client context", "clientContext", client_context={}),
        Case("older members", "waits"),
        Case("the trace variable", "traceVariable"),
    ],
    "Older ways to end": [
        Case(title, name, handler=STYLES, only=BY_CALLBACK) for title, name in [
            ("a callback", "callsBack"), ("a callback later", "callsBackLater"), ("a callback with an error", "callsBackError"),
            ("a callback with a text", "callsBackText"), ("two callbacks", "callsBackTwice"),
            ("work after the callback", "callsBackAndWorks"), ("`callbackWaitsForEmptyEventLoop = false`", "callsBackAndLeaves"),
            ("an exception", "throws"), ("a value without a promise", "returnsOnly"), ("work without a callback", "worksOnly"),
            ("`context.succeed`", "succeeds"), ("`context.fail`", "fails"), ("`context.fail()`", "failsWithNothing"),
            ("`context.done`", "isDone"), ("`context.done` with an error", "isDoneWithError"),
            ("an answer that cannot be written", "cannotBeWritten"), ("an exception after the callback", "throwsAfterCallback"),
        ]
    ],
    "Errors": [
        Case("an error", "fail"),
        Case("a class of the function's own", "failInClassOfItsOwn"),
        Case("an error with a cause", "failWithCause"),
        Case("lines in the message", "failInLines"),
        Case("any letters in the message", "failInUnicode"),
        Case("a text", "failWithText"),
        Case("an object", "failWithObject"),
        Case("nothing", "failWithNothing"),
        Case("a number", "failWithNumber"),
        Case("what looks like an error", "failLikeError"),
        Case("an error without a stack", "failWithoutStack", differs=SAYS_MORE, differs_on=BY_CALLBACK),
        Case("an aggregate", "failAggregate"),
        Case("a TypeError of the interpreter's", "failNull"),
        Case("a control character", "failDelete"),
        Case("not in a promise", "failAtOnce"),
        Case("a rejected promise", "rejects"),
        Case("an uncaught exception", "uncaught"),
        Case("an unhandled rejection", "unhandled"),
        Case("an unhandled rejection with a text", "unhandledText"),
        Case("`process.exit(4)`", "exits"),
        Case("`process.exit(0)`", "exitsWithZero"),
        Case("`process.abort()`", "aborts", seen=lambda seen: seen["error"]),
        Case("`SIGTERM` to itself", "terminates"),
        Case("`SIGTERM`, caught", "terminatesCaught"),
        Case("a promise that is never kept", "neverEnds"),
        Case("a timeout", "tooSlow", group="impatient"),
    ],
    "Output": [
        Case("all levels", "logs"),
        Case("formats", "logsFormats"),
        Case("errors", "logsErrors"),
        Case("a cycle", "logsCycle"),
        Case("the console's other functions", "logsOthers"),
        Case("stdout, stderr, descriptor 1", "writes"),
        Case("bytes that are no text", "writesBinary"),
        Case("a long line", "longLine", seen=lambda seen: seen["answer"]),
        Case("a child's output", "runsProgram"),
        Case("a flood of 20,000 lines", "floods", {"lines": 20_000}, seen=lambda seen: seen | {"log": seen.get("log", [])[-3:]}),
        Case("`process.emitWarning`", "emitsWarning"),
    ],
    "Logging, JSON": [
        Case("all levels at INFO", "logs", group="json"),
        Case("all levels at ERROR", "logs", group="json at ERROR"),
        Case("all levels at TRACE", "logs", group="json at TRACE"),
        Case("formats", "logsFormats", group="json"),
        Case("errors", "logsErrors", group="json"),
        Case("a cycle", "logsCycle", group="json"),
        Case("writing past the console", "writes", group="json"),
        Case("JSON with a level, past the console", "printsJson", group="json"),
        Case("writing past the console at ERROR", "writes", group="json at ERROR"),
        Case("the handler's error", "fail", group="json"),
        Case("a text as the error", "failWithText", group="json"),
        Case("its variables", "reservedVariables", group="json"),
    ],
    "The world around": [
        Case("reserved variables", "reservedVariables"),
        Case("search paths", "searchPaths"),
        Case("module paths", "modulePaths"),
        Case("variables of the function's own", "searchPaths", group="own variables"),
        Case("folders", "folders"),
        Case("`/tmp` on the second event", "keepsTmp", twice=True),
        Case("the time zone", "times"),
        Case("`awslambda.InvokeStore`", "invokeStore", only=("nodejs24.x",)),
        Case("the locale", "locale"),
        Case("the interpreter", "interpreter"),
        Case("listeners", "listeners"),
        Case("a module of `node_modules`", "usesModule"),
        Case("an ES module, required", "requiresModule"),
        Case("an ES module, required with `--experimental-require-module`", "requiresModule", group="modules",
             seen=lambda seen: seen["answer"]),
    ],
}

INITS = [
    Init("in folders", "folder/inner/module.handler"),
    Init("a nested name", "folder/inner/module.api.v1.run"),
    Init("`.mjs`", "module.handler"),
    Init("`.js` by package.json", "esm/index.handler"),
    Init("`.cjs`", "plain.handler"),
    Init("no extension", "extensionless.handler"),
    Init("`.js` with an ES module's syntax", "detected.handler", differs=SAYS_WHERE, differs_on=BY_CALLBACK),
    Init("the default export", "default.handler"),
    Init("top-level await", "waits.handler"),
    Init("no such module", "nothing_of_that_name.handler"),
    Init("no such function", "cases.nothing_of_that_name"),
    Init("no dot", "handler"),
    Init("two dots", "../cases.handler"),
    Init("a syntax error", "broken_syntax.handler", differs=SAYS_WHERE, differs_on=BY_CALLBACK),
    Init("a module that is missing", "broken_import.handler", differs=BY_REQUIRE, differs_on=("nodejs24.x",)),
    Init("a module that is missing, imported", "broken_import_esm.handler"),
    Init("an exception", "broken_run.handler"),
    Init("a text as the exception", "broken_text.handler"),
    Init("an exit", "broken_exit.handler"),
    Init("an unhandled rejection", "broken_reject.handler"),
    Init("an uncaught exception", "broken_later.handler"),
    Init("an empty module", "broken_nothing.handler"),
    Init("a number", "folder/inner/module.number"),
    Init("a class", "folder/inner/module.Service"),
    Init("a handler with three arguments", "styles.handler", differs=OWN_WORDS, differs_on=("nodejs24.x",)),
]
