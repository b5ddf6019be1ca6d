"""Gives the root logger the handler that AWS's runtime installs before the function's code is loaded.

Loaded when the function (or a library of it) first imports `logging`.
"""

import json
import sys
import time
import traceback

TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
# What separates the lines of one entry.
LINE_END = "\r"
JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"

# What a record has by itself; all else was given by `extra` and is part of the JSON line.
OWN_FIELDS = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created msecs"
    " relativeCreated thread threadName processName process aws_request_id tenant_id".split()
)


def attach(logging, bootstrap):
    from __main__ import variable

    log_format = (variable("AWS_LAMBDA_LOG_FORMAT") or "TEXT").upper()
    level = (variable("AWS_LAMBDA_LOG_LEVEL") or "").upper()

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            record.aws_request_id = bootstrap.request_id
            # One record is one entry of the log, however many lines it has.
            text = self.format(record).rstrip("\n").replace("\n", LINE_END)
            sys.stdout.write(text + "\n")

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            return json.dumps(json_fields(self, record), ensure_ascii=False, default=str) + "\n"

    def json_fields(formatter, record):
        levelno = min(50, max(0, record.levelno)) // 10 * 10
        plain = isinstance(record.msg, dict) and not record.args
        fields = {
            "timestamp": formatter.formatTime(record, JSON_TIME),
            "level": logging.getLevelName(levelno),
            "message": record.msg if plain else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, error, trace = record.exc_info
            fields["stackTrace"] = traceback.format_tb(trace)
            fields["errorType"] = kind.__name__ if kind else None
            fields["errorMessage"] = str(error)
        fields["requestId"] = bootstrap.request_id
        if record.exc_info:
            fields["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        fields["tenantId"] = bootstrap.tenant_id
        for name, value in record.__dict__.items():
            if name not in OWN_FIELDS:
                fields.setdefault(name, value)
        return {name: value for name, value in fields.items() if value is not None}

    logging.Formatter.converter = time.gmtime
    as_json = log_format == "JSON"
    if as_json or level:
        LambdaLoggerHandler.__name__ = LambdaLoggerHandler.__qualname__ = "LambdaLoggerHandlerWithFrameType"
    handler = LambdaLoggerHandler()
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(TEXT_FORMAT, TEXT_TIME))
    root = logging.getLogger()
    root.addHandler(handler)
    # Lambda's finest level has no name in Python.
    level = "DEBUG" if level == "TRACE" else level
    if level in logging._nameToLevel:
        root.setLevel(level)
