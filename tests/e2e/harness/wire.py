"""Requests made by hand: signed at any time with any key, sent byte by byte. Standard library only: functions use it too."""

import hashlib
import hmac
import json
import socket
import time
import urllib.parse
from datetime import datetime, timedelta, timezone

SIGNED_AS = "AWS4-HMAC-SHA256"
#: How long an answer may take, on a busy machine. (Not the harness's own: functions have this file alone.)
PATIENCE_S = 60


def signed_headers(method, url, body=b"", service="lambda", key="test", secret="test", token=None, region="us-east-1",
                   skew_s=0, headers=None, body_hash=None):
    """The headers of a request with SigV4's Authorization among them."""
    parts = urllib.parse.urlsplit(url)
    stamp = (datetime.now(timezone.utc) + timedelta(seconds=skew_s)).strftime("%Y%m%dT%H%M%SZ")
    digest = body_hash or hashlib.sha256(body).hexdigest()
    signed = {"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    if token:
        signed["x-amz-security-token"] = token
    signed |= {name.lower(): value for name, value in (headers or {}).items()}
    names = ";".join(sorted(signed))
    query = "&".join(sorted(urllib.parse.quote(name, safe="-_.~") + "=" + urllib.parse.quote(value, safe="-_.~")
                            for name, value in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)))
    path = urllib.parse.quote(parts.path or "/", safe="/-_.~")
    canonical = "\n".join([method, path, query, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, digest])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([SIGNED_AS, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signing_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.new(signing_key, part.encode(), "sha256").digest()
    signature = hmac.new(signing_key, text.encode(), "sha256").hexdigest()
    return signed | {"authorization": f"{SIGNED_AS} Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"}


def head(method, path, headers):
    """A request's line and headers as bytes."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def request_bytes(server, method, path, body=b"", **settings):
    """A whole signed request as bytes."""
    headers = signed_headers(method, server.url + path, body, **settings)
    return head(method, path, headers | {"content-length": str(len(body))}) + body


class Response:
    """What came back on a raw connection."""

    def __init__(self, raw):
        self.raw = raw
        start, _, rest = raw.partition(b"\r\n\r\n")
        lines = start.decode(errors="replace").split("\r\n")
        self.status = int(lines[0].split()[1]) if raw.startswith(b"HTTP/") else None
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.body = rest

    @property
    def code(self):
        """AWS's error code, from wherever the protocol puts it."""
        named = self.headers.get("x-amzn-errortype", "")
        if not named and self.body.startswith(b"{"):
            named = json.loads(self.body).get("__type", "")
        return named.split(":")[0].split("#")[-1]


def exchange(server, sent, half_close=False, timeout_s=PATIENCE_S):
    """Sends bytes on a connection of its own and reads one whole response (or what came before the end)."""
    with socket.create_connection(server.address, timeout_s) as connection:
        try:
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was read: the answer is there to be read all the same
        return read_response(connection)


def read_response(connection):
    """One response from a connection."""
    received = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
        if b"\r\n\r\n" in received:
            response = Response(received)
            if response.status == 100:
                received = received.partition(b"\r\n\r\n")[2]
                continue
            if len(response.body) >= int(response.headers.get("content-length", 0)):
                return response
    return Response(received)
