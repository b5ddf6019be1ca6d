"""Functions under test: zips from dictionaries, what an invoke gave back, and the log lines that AWS prints."""

import base64
import io
import json
import re
import stat
import zipfile
from dataclasses import dataclass

ROLE = "arn:aws:iam::123456789012:role/lambda-exec-role"
EXECUTABLE = 0o755
PLAIN = 0o644

START = re.compile(r"^START RequestId: (?P<id>[0-9a-f-]{36}) Version: \$LATEST\s*$", re.M)
END = re.compile(r"^END RequestId: (?P<id>[0-9a-f-]{36})\s*$", re.M)
REPORT = re.compile(
    r"^REPORT RequestId: (?P<id>[0-9a-f-]{36})\tDuration: (?P<duration>\d+\.\d\d) ms\tBilled Duration: (?P<billed>\d+) ms"
    r"\tMemory Size: (?P<memory>\d+) MB\tMax Memory Used: (?P<used>\d+) MB"
    r"(\tInit Duration: (?P<init>\d+\.\d\d) ms)?(?P<rest>[^\n]*)$", re.M)


def zip_of(files, modes=None):
    """A zip of `{path: text or bytes}`; `modes` gives permission bits by path (a `bootstrap` is executable unasked)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            default = EXECUTABLE if path == "bootstrap" else PLAIN
            add_entry(archive, path, content, stat.S_IFREG | (modes or {}).get(path, default))
    return buffer.getvalue()


def add_entry(archive, path, content, mode):
    """One entry with exactly this path and Unix mode."""
    entry = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def folder_zip(folder, extra=None):
    """A zip of a folder's Python files, under the folder's own name, and of `extra` files beside it."""
    files = {f"{folder.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}
    return zip_of(files | (extra or {}))


@dataclass
class Answer:
    """What one Invoke gave back."""

    status: int
    error: str | None
    raw: bytes
    version: str
    log: str
    request_id: str

    @property
    def json(self):
        """The payload, parsed."""
        return json.loads(self.raw)

    @property
    def report(self):
        """The REPORT line's parts."""
        match = REPORT.search(self.log)
        assert match, f"no REPORT line as AWS writes it in: {self.log!r}"
        return match.groupdict()

    def value(self):
        """The payload of an answer that must not be an error."""
        assert self.error is None, f"the function failed: {self.raw[:2000]!r}\n{self.log}"
        return self.json

    def failure(self):
        """The payload of an answer that must be an error: `(errorType, errorMessage)`."""
        assert self.error == "Unhandled", f"expected X-Amz-Function-Error: Unhandled, got {self.error}: {self.raw[:500]!r}"
        return self.json.get("errorType"), self.json.get("errorMessage")


class Function:
    """A deployed function."""

    def __init__(self, client, name, configuration):
        self.client, self.name, self.configuration = client, name, configuration

    def __call__(self, event=None, **settings):
        """Invokes with an event that is written as JSON."""
        return self.invoke(json.dumps(event).encode(), **settings)

    def invoke(self, payload, tail=True, **settings):
        """Invokes with a payload as it is."""
        if tail:
            settings["LogType"] = "Tail"
        answer = self.client.invoke(**{"FunctionName": self.name, "Payload": payload} | settings)
        return Answer(
            status=answer["StatusCode"], error=answer.get("FunctionError"), raw=answer["Payload"].read(),
            version=answer.get("ExecutedVersion"), log=base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"),
            request_id=answer["ResponseMetadata"]["RequestId"])


def create(client, name, runtime, handler, files, modes=None, **settings):
    """CreateFunction from `{path: content}` (or ready-made zip bytes)."""
    package = files if isinstance(files, bytes) else zip_of(files, modes)
    configuration = client.create_function(**{
        "FunctionName": name, "Runtime": runtime, "Handler": handler, "Role": ROLE, "Code": {"ZipFile": package}} | settings)
    return Function(client, name, configuration)
