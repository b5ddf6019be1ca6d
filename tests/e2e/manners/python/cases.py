"""What a Python function can do and see, case by case. Each case is a function; `handler` calls the one that the event names."""

import collections
import decimal
import enum
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

log = logging.getLogger()
Point = collections.namedtuple("Point", "x y")
Colour = enum.IntEnum("Colour", "RED")


class OrderFailed(Exception):
    """An error of the function's own."""


class Unspeakable(Exception):
    """An error that cannot be turned into text."""

    def __str__(self):
        raise ValueError("no words")


def handler(event, context):
    return globals()[event["case"]](event, context)


# --- answers

def echo(event, context):
    return event


def numbers(event, context):
    return [1, 2.5, 1e100, -0.0, 10**30, float("inf"), float("nan"), True, None]


def unicode_text(event, context):
    return {"grüße": "🦀 \u2028 \x7f \x01"}


def lone_surrogate(event, context):
    return "\ud800"


def bytes_answer(event, context):
    return b"{\"raw\": true}"


def bytes_inside(event, context):
    return {"a": b"text", b"key": 1}


def bytes_not_text(event, context):
    return {"a": b"\xff\xfe"}


def decimals(event, context):
    return [decimal.Decimal("1.10"), decimal.Decimal("NaN"), decimal.Decimal("1E+3")]


def records(event, context):
    return {"point": Point(1, 2), "tuple": (1, 2), "colour": Colour.RED, 1: "int key", None: "none key", True: "bool key"}


def a_set(event, context):
    return {1}


def an_object(event, context):
    return object


def a_cycle(event, context):
    value = []
    value.append(value)
    return value


def a_generator(event, context):
    yield 1


async def a_coroutine(event, context):
    return 1


def size_of(event, context):
    return len(event["text"])


def large(event, context):
    return "x" * event["size"]


# --- the context

def context_fields(event, context):
    names = ["aws_request_id", "function_name", "function_version", "invoked_function_arn", "log_group_name",
             "log_stream_name", "memory_limit_in_mb", "tenant_id"]
    return {name: getattr(context, name) for name in names}


def context_repr(event, context):
    return repr(context)


def context_members(event, context):
    return sorted(name for name in dir(context) if not name.startswith("_"))


def remaining_time(event, context):
    left = context.get_remaining_time_in_millis()
    return [type(left).__name__, 0 < left <= 9000]


def identity(event, context):
    return [type(context.identity).__name__, context.identity.cognito_identity_id, repr(context.identity)]


def client_context(event, context):
    found = context.client_context
    return found and [found.custom, found.env, repr(found), found.client and found.client.app_title]


# --- errors

def fail(event, context):
    raise ValueError("boom")


def fail_in_class_of_its_own(event, context):
    raise OrderFailed("no stock", 7)


def fail_without_message(event, context):
    raise RuntimeError


def fail_in_unicode(event, context):
    raise ValueError("grüße 🦀")


def fail_in_lines(event, context):
    raise ValueError("first\nsecond\n  third")


def fail_without_words(event, context):
    raise Unspeakable


def fail_with_cause(event, context):
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise LookupError("outer") from error


def fail_in_group(event, context):
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def fail_in_library(event, context):
    import json
    json.loads("{")


def fail_by_assertion(event, context):
    assert event == 1, "expected one"


def fail_by_recursion(event, context):
    return fail_by_recursion(event, context)


def fail_at_run_time_syntax(event, context):
    exec("def broken(:")


def fail_in_thread(event, context):
    thread = threading.Thread(target=fail, args=(event, context), name="worker")
    thread.start()
    thread.join()
    return "alive"


def exit_by_number(event, context):
    sys.exit(5)


def exit_by_zero(event, context):
    sys.exit(0)


def exit_by_text(event, context):
    sys.exit("goodbye")


def exit_at_once(event, context):
    os._exit(3)


def interrupt(event, context):
    raise KeyboardInterrupt


def base_exception(event, context):
    raise BaseException("base")


def terminate(event, context):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    return "alive"


def terminate_caught(event, context):
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return seen


def abort(event, context):
    os.abort()


def too_slow(event, context):
    print("before")
    time.sleep(60)


# --- output

def prints(event, context):
    print("one")
    print("two\nthree")
    print("grüße 🦀")
    print("a", 1, None, sep="|", end="!\n")
    print()
    print("last without end", end="")


def writes(event, context):
    sys.stdout.write("out\n")
    sys.stderr.write("err\n")
    os.write(1, b"raw\n")
    print("flushed", flush=True)


def writes_binary(event, context):
    sys.stdout.buffer.write(b"caf\xe9 \x00\x01\n")
    sys.stdout.flush()


def returns_carriage(event, context):
    print("50%\r100%")


def logs(event, context):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("a %s", level)
    print("root level", log.level, len(log.handlers), type(log.handlers[0]).__name__)


def logs_at_debug(event, context):
    log.setLevel(logging.DEBUG)
    logging.getLogger("app.db").debug("query")
    log.setLevel(event["back_to"])


def logs_lines(event, context):
    log.warning("first\nsecond")


def logs_exception(event, context):
    try:
        fail(event, context)
    except ValueError:
        log.exception("it failed")


def logs_extra(event, context):
    log.warning("paid %d", 7, extra={"order": 12, "nested": {"a": [1]}, "odd": Point(1, 2), "path": {3}})


def logs_object(event, context):
    log.warning({"order": 12})


def logs_by_basic_config(event, context):
    logging.basicConfig(level=logging.DEBUG, format="%(message)s")
    log.debug("still not shown")
    log.warning("still in the runtime's format")


def logs_by_the_context(event, context):
    context.log("by the context\n")


def warns(event, context):
    warnings.warn("old")


def runs_a_program(event, context):
    print("before")
    subprocess.run(["sh", "-c", "echo from the child; echo its error >&2"], check=True)
    print("after")


def floods(event, context):
    for number in range(event["lines"]):
        print("line", number, "x" * 100)
    return number


def prints_a_long_line(event, context):
    print("x" * 300_000 + "end")


def prints_json(event, context):
    print('{"timestamp": "2026-11-24T00:00:00Z", "level": "DEBUG", "message": "by hand"}')
    print('{"timestamp": "2026-11-24T00:00:00Z", "level": "ERROR", "message": "by hand"}')


# --- the world around

RESERVED = """_HANDLER _X_AMZN_TRACE_ID AWS_DEFAULT_REGION AWS_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_NAME
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE AWS_LAMBDA_LOG_GROUP_NAME
    AWS_LAMBDA_LOG_STREAM_NAME AWS_LAMBDA_RUNTIME_API LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR TZ LANG
    AWS_XRAY_CONTEXT_MISSING AWS_LAMBDA_LOG_FORMAT AWS_LAMBDA_LOG_LEVEL""".split()


def reserved_variables(event, context):
    return {name: os.environ.get(name) for name in RESERVED}


def credentials(event, context):
    return [len(os.environ["AWS_ACCESS_KEY_ID"]), len(os.environ["AWS_SECRET_ACCESS_KEY"]), bool(os.environ["AWS_SESSION_TOKEN"])]


def search_paths(event, context):
    return {name: os.environ.get(name) for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PWD", "SHLVL")}


def module_paths(event, context):
    return sys.path


def folders(event, context):
    return [os.getcwd(), os.access("/var/task", os.W_OK), os.access("/tmp", os.W_OK), os.getuid(), os.getgid()]


def keeps_tmp(event, context):
    found = os.path.exists("/tmp/kept")
    open("/tmp/kept", "w").close()
    return found


def times(event, context):
    return [time.tzname, time.timezone, time.strftime("%Z")]


def paris(event, context):
    os.environ["TZ"] = "Europe/Paris"
    time.tzset()
    name = time.strftime("%Z", time.localtime(0))
    os.environ["TZ"] = ":UTC"
    time.tzset()
    return name


def interpreter(event, context):
    import locale
    return {"utf8": sys.getfilesystemencoding(), "locale": locale.getpreferredencoding(False),
            "stdout": [sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty()], "stdin": sys.stdin.read(),
            "recursion": sys.getrecursionlimit(), "optimize": sys.flags.optimize,
            "threads": [thread.name for thread in threading.enumerate()], "main": hasattr(sys.modules["__main__"], "__file__"),
            "builtins": [name for name in ("exit", "quit", "help", "copyright", "credits", "license") if name in dir(__builtins__)
                         or name in __builtins__]}


def signals(event, context):
    names = ("SIGTERM", "SIGINT", "SIGPIPE", "SIGHUP")
    return {name: str(signal.getsignal(getattr(signal, name))) for name in names}


def trace_variable(event, context):
    return os.environ["_X_AMZN_TRACE_ID"]
