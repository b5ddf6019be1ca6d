"""The cases of Python, in the order of the documentation."""

from manners.table import Case, Init

CONTEXT = {"client": {"installation_id": "i-1", "app_title": "Shop", "app_version_name": "1", "app_version_code": "2",
                      "app_package_name": "com.shop"}, "custom": {"a": "b"}, "env": {"locale": "de"}}
BIG = 5 << 20
TOO_BIG = 7 << 20


CLIENT_FOLDER = "here AWS's client lies in `/var/task/aws` and its bootstrap names that folder; in AWS's image it is `/var/runtime`, as ours"
HOST_PACKAGES = "the host's own packages are no part of a function's world, and the folders of layers are searched, as in AWS's image; "
NO_WRAPPER = "AWS's client runs here as a custom runtime, for which AWS has no wrapper scripts"
INTERACTIVE = "`copyright`, `credits` and `license` are for people at a prompt, and would load `os` at each start"
REPORTED = "the error is the answer's: the event fails with it, and the environment need not end"
UPDATES = "AWS warns that it may have updated the runtime; Freehold never does that under a function"

#: What dispatches to the case that the event names.
HANDLER = "cases.handler"

CASES = {
    "Answers": [
        Case("the event, given back", "echo", {"text": "grüße 🦀", "list": [1, 2.5, None, True]}),
        Case("numbers, infinite ones too", "numbers"),
        Case("any letters", "unicode_text"),
        Case("half a surrogate pair", "lone_surrogate", differs=REPORTED, differs_on=("python3.12", "python3.13", "python3.14")),
        Case("bytes", "bytes_answer"),
        Case("bytes among the values", "bytes_inside"),
        Case("bytes that are no text", "bytes_not_text"),
        Case("decimals", "decimals"),
        Case("named tuples, enums, odd keys", "records"),
        Case("a set", "a_set"),
        Case("a class", "an_object"),
        Case("a cycle", "a_cycle"),
        Case("a generator", "a_generator"),
        Case("a coroutine", "a_coroutine"),
        Case("an event of 5 MB", "size_of", {"text": "x" * BIG}),
        Case("an answer of 5 MB", "large", {"size": BIG}, seen=lambda seen: len(seen["answer"]) if "answer" in seen else seen),
        Case("an answer of 7 MB", "large", {"size": TOO_BIG}),
        Case("an event that is no JSON object", "echo", payload=b"[1]"),
        Case("an event that is null", "echo", payload=b"null"),
        Case("white space around the event", "echo", payload=b' {"case": "echo"} '),
    ],
    "Context": [
        Case("its fields", "context_fields"),
        Case("its text", "context_repr"),
        Case("its members", "context_members"),
        Case("the remaining time", "remaining_time"),
        Case("the identity", "identity"),
        Case("no client context", "client_context"),
        Case("a client context", "client_context", client_context=CONTEXT),
        Case("an empty client context", "client_context", client_context={}),
        Case("the trace variable", "trace_variable"),
    ],
    "Errors": [
        Case("an exception", "fail"),
        Case("a class of the function's own", "fail_in_class_of_its_own"),
        Case("no message", "fail_without_message"),
        Case("any letters in the message", "fail_in_unicode"),
        Case("lines in the message", "fail_in_lines"),
        Case("a message that fails", "fail_without_words"),
        Case("an exception with a cause", "fail_with_cause"),
        Case("a group", "fail_in_group", only=("python3.11", "python3.12", "python3.13", "python3.14")),
        Case("in a library", "fail_in_library"),
        Case("an assertion", "fail_by_assertion"),
        Case("endless recursion", "fail_by_recursion"),
        Case("a syntax error at run time", "fail_at_run_time_syntax"),
        Case("in a thread", "fail_in_thread"),
        Case("`sys.exit(5)`", "exit_by_number"),
        Case("`sys.exit(0)`", "exit_by_zero"),
        Case("`sys.exit(text)`", "exit_by_text"),
        Case("`os._exit(3)`", "exit_at_once"),
        Case("`KeyboardInterrupt`", "interrupt"),
        Case("a `BaseException`", "base_exception"),
        Case("`SIGTERM` to itself", "terminate"),
        Case("`SIGTERM`, caught", "terminate_caught"),
        Case("`os.abort()`", "abort"),
        Case("a timeout", "too_slow", group="impatient"),
    ],
    "Output": [
        Case("`print`", "prints"),
        Case("stdout, stderr, descriptor 1", "writes"),
        Case("bytes that are no text", "writes_binary"),
        Case("a carriage return", "returns_carriage"),
        Case("a long line", "prints_a_long_line"),
        Case("a child's output", "runs_a_program"),
        Case("a flood of 20,000 lines", "floods", {"lines": 20_000}, seen=lambda seen: seen | {"log": seen.get("log", [])[-3:]}),
        Case("`warnings.warn`", "warns"),
    ],
    "Logging, text": [
        Case("the five levels", "logs"),
        Case("a level of the function's choice", "logs_at_debug", {"back_to": "WARNING"}),
        Case("a message of two lines", "logs_lines"),
        Case("an exception", "logs_exception"),
        Case("`extra`", "logs_extra"),
        Case("an object as the message", "logs_object"),
        Case("`basicConfig`", "logs_by_basic_config"),
        Case("`context.log`", "logs_by_the_context"),
    ],
    "Logging, JSON": [
        Case("the five levels at INFO", "logs", group="json"),
        Case("the five levels at ERROR", "logs", group="json at ERROR"),
        Case("the five levels at TRACE", "logs", group="json at TRACE"),
        Case("a message of two lines", "logs_lines", group="json"),
        Case("an exception", "logs_exception", group="json"),
        Case("`extra`", "logs_extra", group="json"),
        Case("an object as the message", "logs_object", group="json"),
        Case("`basicConfig`", "logs_by_basic_config", group="json"),
        Case("`print`", "prints", group="json"),
        Case("`print` of JSON with a level", "prints_json", group="json"),
        Case("`print` at ERROR", "prints", group="json at ERROR"),
        Case("the handler's exception", "fail", group="json"),
        Case("its variables", "reserved_variables", group="json"),
    ],
    "The world around": [
        Case("reserved variables", "reserved_variables"),
        Case("credentials", "credentials"),
        Case("search paths", "search_paths", differs=CLIENT_FOLDER),
        Case("`sys.path`", "module_paths", differs=HOST_PACKAGES + CLIENT_FOLDER),
        Case("variables of the function's own", "search_paths", group="own variables", differs=CLIENT_FOLDER),
        Case("a wrapper script", "echo", group="wrapped", differs=NO_WRAPPER),
        Case("folders", "folders"),
        Case("`/tmp` on the second event", "keeps_tmp", twice=True),
        Case("the time zone", "times"),
        Case("another time zone", "paris"),
        Case("the interpreter", "interpreter", differs=INTERACTIVE),
        Case("signals", "signals"),
    ],
}

INITS = [
    Init("in folders", "folder/inner/module.handler"),
    Init("in folders, with dots", "folder.inner.module.handler"),
    Init("a warning beside the error", "nothing_of_that_name.handler", differs=UPDATES, whole=True,
         seen=lambda seen: sorted({line.partition(":")[0] for line in seen["log"]})),
    Init("no such module", "nothing_of_that_name.handler"),
    Init("no such function", "cases.nothing_of_that_name"),
    Init("no dot", "handler"),
    Init("a built-in module", "sys.exit"),
    Init("two dots", "../cases.handler"),
    Init("a syntax error", "broken_syntax.handler"),
    Init("a module that is missing", "broken_import.handler"),
    Init("a name that is missing", "broken_inner_import.handler"),
    Init("an exception", "broken_run.handler"),
    Init("an exit", "broken_exit.handler"),
    Init("an empty module", "broken_nothing.handler"),
    Init("a number", "odd.number"),
    Init("a class", "odd.Service"),
    Init("a nested name", "odd.Methods.static"),
]
