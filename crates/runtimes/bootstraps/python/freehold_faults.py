"""Describes a failure as AWS's runtime does: the JSON object that the caller gets, and the lines in the log.

Loaded at the first failure only: `traceback` alone takes longer to load than the whole bootstrap.
"""

import sys
import time
import traceback

# Leading blanks would be lost on the way to the log, so they are written as this one.
BLANK = "\u00a0"
# One entry of the log may have several lines: they are separated by this instead of a line feed, which ends the entry.
LINE_END = "\r"



def fault_of(error, request_id, runtime_fault):
    if isinstance(error, runtime_fault):
        return fault(error.kind, error.message, error.trace, request_id)
    frames = traceback.extract_tb(error.__traceback__)
    while frames and (frames[0].filename.startswith(OUR_FOLDER) or frames[0].filename == "<bootstrap>"):
        frames.pop(0)
    trace = traceback.format_list([(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames])
    return fault(type(error).__name__, str(error) + advice(error), trace, request_id)


# What AWS's runtime carries, and ours once it was fetched.
SDK_PACKAGES = ("boto3", "botocore", "s3transfer")


def advice(error):
    """What to do about an import of the AWS SDK that failed."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in SDK_PACKAGES:
        return ""
    command = "freehold runtimes install python%d.%d" % sys.version_info[:2]
    return ". The runtime's AWS SDK is not on this machine: run `%s`, or put it into the package" % command


# Where the bootstrap was compiled, which is what its frames say.
OUR_FOLDER = fault_of.__code__.co_filename.rpartition("/")[0] + "/"


def fault(kind, message, trace, request_id):
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log_line(fault, encoder, log_format):
    if log_format and log_format.upper() == "JSON":
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return encoder.encode({"timestamp": stamp, "level": "ERROR", **fault}).decode() + "\n"
    lines = ["[ERROR] " + ": ".join(part for part in (fault["errorType"], fault["errorMessage"]) if part)]
    lines.append("Traceback (most recent call last):")
    for entry in fault["stackTrace"]:
        for line in entry.splitlines():
            text = line.lstrip(" ")
            lines.append(BLANK * (len(line) - len(text)) + text)
    return LINE_END.join(lines) + "\n"
