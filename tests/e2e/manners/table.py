"""What a case is, and what is seen of it: the answer and the log, without what differs from event to event."""

import base64
import difflib
import json
import re
from dataclasses import dataclass, field

#: How much of a cell of the documentation's table is shown.
CELL_CHARACTERS = 220
#: How much of a difference is shown where it is unexpected.
DIFFERENCE_LINES = 40
#: The system's own lines, which both clients have from the same executor.
SYSTEM_LINES = re.compile(r"^(START|END|REPORT|INIT_REPORT) |^\{\"time\":\"[^\"]+\",\"type\":\"platform\.")
#: A frame of the client itself in a trace, and of what it is started with.
CLIENT_FRAME = re.compile(r'^[ \u00a0]*(File "(/var/runtime/|/var/task/aws/|<frozen runpy>|[^"]*/runpy.py|[^"]*/importlib/__init__.py)'
                          r"|at .*(/var/runtime/|/var/task/aws/|node:|new Promise \(<anonymous>\)))")
#: The same as a member of a list in JSON, within a line of the log.
CLIENT_FRAME_JSON = re.compile(r'(,"|\\n)[ ]+at (?:(?!\\n|").)*?(/var/runtime/|/var/task/aws/|node:|new Promise \(<anonymous>\))'
                               r'(?:(?!\\n|").)*(?P<end>"?)')
#: How AWS's client for Python begins a warning at each error of an Init phase: AWS may have updated the runtime.
WARNING = "LAMBDA_WARNING: Unhandled exception."
#: What differs from event to event, and what it is called in the table.
VARYING = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<request>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z"), "<time>"),
    (re.compile(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}"), "<stream>"),
    (re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]"), "<trace>"),
    (re.compile(r"manners-[a-z0-9]+-\d+"), "<function>"),
    (re.compile(r"0x[0-9a-f]{8,}"), "<address>"),
    (re.compile(r"\bThread-\d+\b"), "<thread>"),
    (re.compile(r"\(node:\d+\)"), "(node)"),
    (re.compile(r"\b(C|en_US)\.UTF-8\b"), "<locale>"),
    (re.compile(r"(?<=Previous line repeated )\d+"), "<count>"),
    (re.compile(r"x{100,}"), "xxx…"),
    (re.compile(r"/var/task/aws/index.mjs|/var/runtime/bootstrap.cjs"), "<client>"),
]


@dataclass
class Case:
    """One thing that a function can do: the case function's name, what the event holds beside it, the group of settings
    that its function has. `differs` is why ours differs from AWS's client on purpose; `seen` cuts what both gave down to
    what can be compared."""

    title: str
    name: str
    event: dict = field(default_factory=dict)
    group: str = "text"
    client_context: object = None
    payload: bytes | None = None
    handler: str | None = None
    twice: bool = False
    differs: str | None = None
    differs_on: tuple = ()
    only: tuple = ()
    seen: object = None

    def arguments(self):
        """What Invoke is called with."""
        payload = self.payload if self.payload is not None else json.dumps({"case": self.name} | self.event).encode()
        if self.client_context is None:
            return {"payload": payload}
        return {"payload": payload, "ClientContext": base64.b64encode(json.dumps(self.client_context).encode()).decode()}


@dataclass
class Init:
    """One way in which a handler is named, or fails to load."""

    title: str
    handler: str
    differs: str | None = None
    differs_on: tuple = ()
    only: tuple = ()
    seen: object = None
    whole: bool = False


def observe(answer, whole=False):
    """What is seen of an answer; without what only AWS's client does, and always does, unless the `whole` is asked for."""
    try:
        payload = json.loads(answer.raw)
    except ValueError:
        payload = {"raw": answer.raw.decode(errors="replace")}
    lines = [line for line in answer.log.split("\n") if not SYSTEM_LINES.match(line)]
    while lines and not lines[-1]:
        lines.pop()
    seen = {"error": payload} if answer.error else {"answer": payload}
    if not whole:
        lines = without_client(line for line in without_last_words(lines) if WARNING not in line)
        if answer.error and isinstance(payload.get("stackTrace"), list):
            payload["stackTrace"] = [entry for entry in payload["stackTrace"] if not CLIENT_FRAME.match(entry)]
        if answer.error and isinstance(payload.get("trace"), list):
            payload["trace"] = without_client(payload["trace"])
    return settle(seen | ({"log": lines} if lines else {}))


def without_last_words(lines):
    """The lines without what Node.js itself prints as AWS's later client ends by an error that it has reported: whether that is
    printed before the environment is removed is chance."""
    kept, talking = [], False
    for line in lines:
        talking = talking or line.startswith(("node:internal/process/", "file:///var/task/aws/"))
        if not talking:
            kept.append(line)
        talking = talking and not line.startswith("Node.js v")
    return kept


def without_frame(match):
    """What is left of a frame in JSON: nothing of a list's member, the end of a text that it ended."""
    return "" if match[1] == ',"' else match["end"]


def without_client(lines):
    """The lines without the client's own frames, and without what Python shows of the code below each."""
    kept, below = [], None
    for line in lines:
        depth = len(line) - len(line.lstrip(" \u00a0"))
        if CLIENT_FRAME.match(line):
            below = depth
            continue
        if below is not None and depth > below:
            continue
        below = None
        kept.append(CLIENT_FRAME_JSON.sub(without_frame, line))
    return kept


def settle(value):
    """The value without what differs from event to event."""
    if isinstance(value, str):
        for pattern, name in VARYING:
            value = pattern.sub(name, value)
        return value
    if isinstance(value, list):
        return [settle(each) for each in value]
    if isinstance(value, dict):
        return {settle(key): settle(each) for key, each in value.items()}
    return value


def cell(seen):
    """An observation as a cell of a table in Markdown."""
    text = json.dumps(seen, ensure_ascii=False)
    if len(text) > CELL_CHARACTERS:
        text = text[:CELL_CHARACTERS] + "…"
    text = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def difference(ours, theirs):
    """Where two observations differ, line by line."""
    pages = [json.dumps(seen, ensure_ascii=False, indent=1).split("\n") for seen in (ours, theirs)]
    lines = [line[:400] for line in difflib.unified_diff(*pages, "ours", "AWS's", n=1, lineterm="")]
    return "\n".join(lines[2:DIFFERENCE_LINES])


def row(case, ours, theirs):
    """A row of the documentation's table."""
    if ours == theirs:
        return f"| {case.title} | {cell(ours)} | the same | yes |"
    return f"| {case.title} | {cell(ours)} | {cell(theirs)} | no: {case.differs} |"
