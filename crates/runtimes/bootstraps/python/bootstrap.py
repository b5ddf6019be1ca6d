"""Runs a Python function: asks the Runtime API for events, calls the handler, posts what came of it.

    loaded handler --> next --> handler(event, context) --> response or error --> next --> ...

With the argument `--template` it first waits at its gate, where it is captured, before it knows any function; with `--snapshot`
it does so once the function's own code is loaded. What goes on from there are copies of it: see freehold_gate.

Every import and every line here stands in the way of a cold start. So this file uses what the interpreter has loaded
anyway or has built in (no os, json, socket, traceback, logging), and the parts that few events need are modules of
their own, loaded when they are needed: freehold_faults, freehold_json, freehold_logging.

What functions can observe (names, messages, formats, order) is AWS's.
"""

import sys
import time
import builtins

import _frozen_importlib
import _json
import _sitebuiltins
import _socket
import posix

API = "/2018-06-01/runtime/"

# The variables that this process began with.
GIVEN = dict(posix.environ)

# Up to this size, head and body go out in one write; beyond it, joining them costs more than a second write.
JOINED_BYTES = 64 * 1024
RECEIVE_BYTES = 64 * 1024
# Tells our host that the request for the next event is right behind an answer.
NEXT_FOLLOWS = b"Freehold-Next: follows\r\n"
# More than any head of the Runtime API; a client context alone may have 3,583 bytes before it is escaped.
HEAD_BYTES = 1024 * 1024


class Fault(Exception):
    """An error of the runtime's own, by AWS's name for it."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.trace = list(trace)


def variable(name):
    value = posix.environ.get(name.encode())
    return None if value is None else value.decode("utf-8", "surrogateescape")


def set_variable(name, value):
    """Sets or, with None, removes an environment variable, whether `os` has been imported or not."""
    os = sys.modules.get("os")
    if os is not None:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    elif value is None:
        if posix.environ.pop(name.encode(), None) is not None:
            posix.unsetenv(name.encode())
    else:
        # What `os.environ` will be made of.
        posix.environ[name.encode()] = value.encode("utf-8", "surrogateescape")
        posix.putenv(name.encode(), value.encode("utf-8", "surrogateescape"))


def take_variables(text):
    """Takes what has changed since this process began: `text` is the whole environment, `NAME=VALUE`s, each with a zero byte
    behind it. What the function's own code has set stays. (`os.environ` reads the same dictionary.)"""
    told = dict(line.split(b"=", 1) for line in text.split(b"\0") if b"=" in line)
    for name in GIVEN.keys() - told.keys():
        if posix.environ.pop(name, None) is not None:
            posix.unsetenv(name)
    for name, value in told.items():
        if GIVEN.get(name) != value:
            posix.environ[name] = value
            posix.putenv(name, value)


class RuntimeApi:
    """An HTTP/1.1 client for one server and one connection, which it keeps."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.tail = (" HTTP/1.1\r\nHost: %s\r\n" % address).encode()
        self.next_request = b"GET " + (API + "invocation/next").encode() + self.tail + b"\r\n"
        self.connection = None
        self.rest = b""
        # An answer's receipt, as it came last: all are alike, and need not be taken apart again.
        self.receipt = None

    def next(self):
        """Waits for the next event: its head's fields by lower-case name, and its body."""
        return self.event(*self.exchange(self.next_request))

    def event(self, status, fields, body):
        if status != 200:
            raise RuntimeError("the Runtime API answered %d to next: %s" % (status, bytes(body[:200])))
        return fields, body

    def post(self, path, body, content_type=b"application/json", error_type=None):
        head = b"POST " + (API + path).encode() + self.tail
        head += b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body))
        if error_type:
            error_type = "".join(letter if " " <= letter < "\x7f" else "?" for letter in error_type)
            head += b"Lambda-Runtime-Function-Error-Type: " + error_type.encode() + b"\r\n"
        status, _, answer = self.exchange(head + b"\r\n", body)
        # What is refused (4xx) is the server's to report, such as a response that is too large.
        if status >= 500:
            raise RuntimeError("the Runtime API answered %d to %s: %s" % (status, path, bytes(answer[:200])))

    def answer(self, path, body, content_type):
        """Posts an answer that is not large and waits for the next event, in one exchange: both requests go out
        together, and their answers come together."""
        if self.connection is None:
            self.post(path, body, content_type)
            return self.next()
        head = b"POST " + (API + path).encode() + self.tail
        head += b"Content-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (content_type, len(body), NEXT_FOLLOWS)
        try:
            self.connection.sendall(head + body + self.next_request)
            self.receive_receipt(path)
        except (ConnectionError, EOFError):
            self.connection = None
            self.post(path, body, content_type)
            return self.next()
        try:
            if self.connection is not None:
                return self.event(*self.receive())
        except (ConnectionError, EOFError):
            self.connection = None
        return self.next()

    def receive_receipt(self, path):
        received = self.rest or self.more()
        if self.receipt and received.startswith(self.receipt):
            self.rest = received[len(self.receipt):]
            return
        self.rest = received
        status, _, answer = self.receive()
        if status >= 500:
            raise RuntimeError("the Runtime API answered %d to %s: %s" % (status, path, bytes(answer[:200])))
        size = received.find(b"\r\n\r\n") + 4 + len(answer)
        came_whole = len(received) >= size and received[size:] == self.rest
        if status == 202 and came_whole and self.connection is not None:
            self.receipt = received[:size]

    def exchange(self, head, body=b""):
        kept = self.connection is not None
        try:
            return self.attempt(head, body)
        except (ConnectionError, EOFError):
            self.connection = None
            if not kept:
                raise
        # A kept connection may have been closed from the other side meanwhile: once more on a new one.
        return self.attempt(head, body)

    def attempt(self, head, body):
        connection = self.connection
        if connection is None:
            connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            connection.connect(self.address)
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self.connection, self.rest = connection, b""
        if len(body) <= JOINED_BYTES:
            connection.sendall(head + body)
        else:
            connection.sendall(head)
            connection.sendall(body)
        return self.receive()

    def receive(self):
        received = self.rest
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > HEAD_BYTES:
                raise RuntimeError("the Runtime API's answer has no end of its head")
            received += self.more()
        lines = received[:end].decode("utf-8", "replace").split("\r\n")
        self.rest = received[end + 4:]
        status = int(lines[0].split(" ", 2)[1])
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = self.receive_chunks()
        else:
            body = self.take(int(fields.get("content-length", "0")))
        if fields.get("connection", "").lower() == "close":
            self.connection.close()
            self.connection = None
        return status, fields, body

    def receive_chunks(self):
        chunks = []
        while True:
            size = int(self.take_line().split(b";")[0], 16)
            if size == 0:
                while self.take_line():
                    pass
                return b"".join(chunks)
            chunks.append(self.take(size))
            self.take_line()

    def take_line(self):
        while (end := self.rest.find(b"\r\n")) < 0:
            self.rest += self.more()
        line, self.rest = self.rest[:end], self.rest[end + 2:]
        return line

    def take(self, size):
        rest = self.rest
        if len(rest) >= size:
            self.rest = rest[size:]
            return rest[:size]
        body = bytearray(size)
        body[: len(rest)] = rest
        self.rest = b""
        filled, view = len(rest), memoryview(body)
        while filled < size:
            count = self.connection.recv_into(view[filled:])
            if count == 0:
                raise EOFError("the Runtime API closed the connection")
            filled += count
        return body

    def more(self):
        received = self.connection.recv(RECEIVE_BYTES)
        if not received:
            raise EOFError("the Runtime API closed the connection")
        return received


class ScannerSettings:
    """What `json.loads` gives its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


scan = _json.make_scanner(ScannerSettings())
# From 3.12 on, AWS's runtime no longer escapes what is not ASCII.
encode_string = _json.encode_basestring if sys.version_info >= (3, 12) else _json.encode_basestring_ascii


def from_json(text):
    try:
        value, end = scan(text, 0)
        if end == len(text) or not text[end:].strip(" \t\n\r"):
            return value
    except (StopIteration, ValueError):
        pass
    # White space before the value, or an error, which the real thing words.
    import json

    return json.loads(text)


class Unusual(Exception):
    """The value is none that the interpreter's own encoder knows."""


def unusual(value):
    raise Unusual


# What is no record and holds none.
PLAIN = {str, int, float, bool, type(None)}
# Values of a dictionary that are looked at one by one, instead of at all types that there are.
FEW = 16


class Encoder:
    """Writes JSON as AWS's runtime does. The interpreter's encoder does it, unless something unusual is met."""

    def __init__(self):
        self.known_types = -1
        self.has_records = False
        self.encoder = None

    def encode(self, value):
        if isinstance(value, str):
            return encode_string(value).encode()
        if not self.is_plain(value) and self.may_hold_records():
            return self.encode_unusual(value).encode()
        # One that has failed remembers what it was at, and is not used again.
        encoder, self.encoder = self.encoder, None
        if encoder is None:
            encoder = _json.make_encoder({}, unusual, encode_string, None, ": ", ", ", False, False, True)
        try:
            text = "".join(encoder(value, 0))
        except (Unusual, TypeError):
            text = self.encode_unusual(value)
        else:
            self.encoder = encoder
        return text.encode()

    def is_plain(self, value):
        if type(value) is not dict or len(value) > FEW:
            return False
        for item in value.values():
            if type(item) not in PLAIN:
                return False
        return True

    def encode_unusual(self, value):
        import freehold_json

        return freehold_json.encode(value, encode_string)

    def may_hold_records(self):
        """Whether a named tuple can be among the values: it becomes an object, and the interpreter's encoder makes an
        array of it. Only those types count that are not the standard library's own."""
        types = tuple.__subclasses__()
        if len(types) != self.known_types:
            self.known_types = len(types)
            self.has_records = any(
                hasattr(kind, "_asdict") and kind.__module__.partition(".")[0] not in sys.stdlib_module_names
                for kind in types
            )
        return self.has_records


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]


class Client:
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]


class ClientContext:
    __slots__ = ["custom", "env", "client"]


def describe(record):
    """How AWS's small records print themselves."""
    fields = ",".join("%s=%s" % (name, getattr(record, name)) for name in record.__slots__)
    return "%s([%s])" % (type(record).__name__, fields)


CognitoIdentity.__repr__ = Client.__repr__ = ClientContext.__repr__ = describe


def record_of(kind, values):
    if values is None:
        return None
    record = kind()
    for name in kind.__slots__:
        setattr(record, name, values.get(name))
    return record


class LambdaContext:
    """The second argument of every handler."""

    def __init__(self, fields):
        self.aws_request_id = fields["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = fields.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = fields.get("lambda-runtime-aws-tenant-id")
        self.function_name = LambdaContext.function_name
        self.function_version = LambdaContext.function_version
        self.memory_limit_in_mb = LambdaContext.memory_limit_in_mb
        self.log_group_name = LambdaContext.log_group_name
        self.log_stream_name = LambdaContext.log_stream_name
        self._epoch_deadline_time_in_ms = int(fields.get("lambda-runtime-deadline-ms") or 0)
        client = self._parse(fields, "lambda-runtime-client-context", "Client Context")
        self._trace = client.pop("w3c", None) if isinstance(client, dict) else None
        self.client_context = record_of(ClientContext, client)
        if client is not None:
            self.client_context.client = record_of(Client, self.client_context.client)
        identity = self._parse(fields, "lambda-runtime-cognito-identity", "Cognito Identity") or {}
        self.identity = CognitoIdentity()
        self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
        self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")

    @staticmethod
    def _parse(fields, field, title):
        text = fields.get(field)
        if not text:
            return None
        try:
            return from_json(text)
        except Exception as error:
            message = "Unable to parse %s JSON: %s" % (title, error)
            raise Fault("Runtime.LambdaContextUnmarshalError", message) from None

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self):
        trace = self._trace if isinstance(self._trace, dict) else {}
        names = ("traceparent", "tracestate", "baggage")
        return {name: trace[name] for name in names if isinstance(trace.get(name), str)}

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        names = ["aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb"]
        names += ["function_version", "invoked_function_arn", "client_context", "identity", "tenant_id"]
        fields = ",".join("%s=%s" % (name, getattr(self, name)) for name in names)
        return "LambdaContext([%s])" % fields


def learn_context():
    """Takes from the environment's variables what the contexts of all events have in common."""
    LambdaContext.function_name = variable("AWS_LAMBDA_FUNCTION_NAME")
    LambdaContext.function_version = variable("AWS_LAMBDA_FUNCTION_VERSION")
    LambdaContext.memory_limit_in_mb = variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    LambdaContext.log_group_name = variable("AWS_LAMBDA_LOG_GROUP_NAME")
    LambdaContext.log_stream_name = variable("AWS_LAMBDA_LOG_STREAM_NAME")


class LoggingHook:
    """Waits for the first import of `logging`, then gives its root logger AWS's handler: functions that never log do
    not pay for it."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self.loader, spec.loader = spec.loader, self
                return spec
        return None

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        if hasattr(module, "getLogger"):
            import freehold_logging

            freehold_logging.attach(module, self.bootstrap)


def load_handler(name):
    """The handler that `pkg/module.function` or `pkg.module.function` names."""
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, error)) from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % module_name
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        module = import_module(module_name.replace("/", "."))
    except ImportError as error:
        import freehold_faults

        message = "Unable to import module '%s': %s%s" % (module_name, error, freehold_faults.advice(error))
        raise Fault("Runtime.ImportModuleError", message) from None
    except SyntaxError as error:
        trace = '  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)
        message = "Syntax error in module '%s': %s" % (module_name, error)
        raise Fault("Runtime.UserCodeSyntaxError", message, [trace]) from None
    try:
        return getattr(module, function_name)
    except AttributeError:
        message = "Handler '%s' missing on module '%s'" % (function_name, module_name)
        raise Fault("Runtime.HandlerNotFound", message) from None


def sdk_folders():
    """Where the AWS SDK is, if this machine has it: without its mark, the folder holds the host's packages."""
    folder = "/var/lang/lib/python%d.%d/site-packages" % sys.version_info[:2]
    try:
        posix.stat(folder + "/.freehold-sdk")
    except OSError:
        return []
    return [folder]


def import_module(name):
    if name.startswith("."):
        import importlib

        return importlib.import_module(name)
    return _frozen_importlib._gcd_import(name)


class Bootstrap:
    def __init__(self):
        learn_context()
        self.request_id = ""
        self.tenant_id = None
        self.api = RuntimeApi(variable("AWS_LAMBDA_RUNTIME_API"))
        self.encoder = Encoder()
        self.stdout = sys.stdout

    def prepare(self):
        """Makes the interpreter look as on AWS: search path, output, logging, the names that `site` would bring."""
        task_root, runtime_dir = variable("LAMBDA_TASK_ROOT"), sys.path[0]
        layer = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
        first = [task_root, layer, "/opt/python", runtime_dir]
        sys.path[:] = first + [folder for folder in sys.path if folder not in first]
        sys.path += sdk_folders()
        builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
        builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
        builtins.help = _sitebuiltins._Helper()
        self.stdout.reconfigure(line_buffering=True)
        if "logging" in sys.modules:
            import freehold_logging

            freehold_logging.attach(sys.modules["logging"], self)
        else:
            sys.meta_path.insert(0, LoggingHook(self))

    def run(self, is_snapshot=False):
        self.prepare()
        try:
            handler = load_handler(variable("_HANDLER"))
            if is_snapshot:
                self.before_snapshot()
        except Exception as error:
            self.give_up(error, "init/error")
        if is_snapshot:
            try:
                self.wait_for_restore()
            except Exception as error:
                self.give_up(error, "restore/error")
        fields, body = self.api.next()
        while True:
            answer, content_type = self.handle(handler, fields, body)
            # Nothing of an event is kept while the next one is waited for.
            fields = body = None
            path = "invocation/%s/response" % self.request_id
            if answer is None:
                fields, body = self.api.next()
            elif len(answer) <= JOINED_BYTES:
                fields, body = self.api.answer(path, answer, content_type)
            else:
                self.api.post(path, answer, content_type)
                answer = None
                fields, body = self.api.next()

    def give_up(self, error, path):
        fault = self.report(error)
        self.api.post(path, self.encoder.encode(fault), error_type=fault["errorType"])
        sys.exit(1)

    def before_snapshot(self):
        import freehold_gate

        freehold_gate.run_hooks("before_snapshot", "Runtime.BeforeSnapshotError", Fault)

    def wait_for_restore(self):
        """From here on, this is one of many copies of the process that loaded the function."""
        import freehold_gate

        self.flush()
        freehold_gate.wait(take_variables)
        learn_context()
        self.api = RuntimeApi(variable("AWS_LAMBDA_RUNTIME_API"))
        freehold_gate.run_hooks("after_restore", "Runtime.AfterRestoreError", Fault)

    def handle(self, handler, fields, body):
        """Runs one event: its answer and the type of that; of a failure, which is posted here, none."""
        self.request_id = fields["lambda-runtime-aws-request-id"]
        self.tenant_id = fields.get("lambda-runtime-aws-tenant-id")
        set_variable("_X_AMZN_TRACE_ID", fields.get("lambda-runtime-trace-id"))
        content_type = b"application/json"
        try:
            context = LambdaContext(fields)
            event = self.event_of(fields, body)
            response = handler(event, context)
            if isinstance(response, bytes):
                answer, content_type = response, b"application/unknown"
            else:
                answer = self.answer_of(response)
        except Exception as error:
            fault = self.report(error)
            answer = self.encoder.encode(fault)
            path = "invocation/%s/error" % self.request_id
            self.flush()
            self.api.post(path, answer, error_type=fault["errorType"])
            return None, None
        self.flush()
        return answer, content_type

    def event_of(self, fields, body):
        if fields.get("content-type", "application/json") != "application/json":
            return bytes(body)
        try:
            return from_json(str(body, "utf-8"))
        except Exception as error:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None

    def answer_of(self, response):
        try:
            return self.encoder.encode(response)
        except Exception as error:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from None

    def report(self, error):
        """Writes the error to the log and gives the object that describes it."""
        import freehold_faults

        fault = freehold_faults.fault_of(error, self.request_id, Fault)
        sys.stdout.write(freehold_faults.log_line(fault, self.encoder, variable("AWS_LAMBDA_LOG_FORMAT")))
        self.flush()
        return fault

    def flush(self):
        """What was printed must be out before the answer is: afterwards the environment may be frozen."""
        try:
            sys.stdout.flush()
            if sys.stdout is not self.stdout:
                self.stdout.flush()
        except (AttributeError, ValueError):
            # The function replaced or closed it.
            pass


def main():
    way = sys.argv.pop() if len(sys.argv) > 1 else None
    if way == "--template":
        import freehold_gate

        freehold_gate.preload()
        freehold_gate.wait(take_variables)
    Bootstrap().run(is_snapshot=way == "--snapshot")


if __name__ == "__main__":
    main()
